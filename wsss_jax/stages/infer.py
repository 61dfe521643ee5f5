"""Stage `infer_cam`: class activation maps of a split, one file per picture."""

import io
import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from wsss_jax.data.lists import sha256, split_name
from wsss_jax.errors import RunError
from wsss_jax.files import write_json, write_whole
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, Prediction, Predictor, plan_batches
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.stages.context import Run, given_classes
from wsss_jax.stages.networks import result_variables

_WRITERS = 4


def infer_cam(run: Run) -> None:
    """Computes the CAMs that are not there yet; a batch is done when all its files are.

    Raises:
      RunError: the folder holds CAMs of other weights or settings.
    """
    ids = run.ids(run.config.dataset.infer_split)
    split = split_name(run.config.dataset.infer_split)
    variables, weights = result_variables(run)
    settings = inference_settings(run.config)
    record_settings(run, cam_settings(run, ids, weights))
    batches = plan_batches(run.source, ids, settings)[jax.process_index() :: jax.process_count()]
    todo = [batch for batch in batches if not _done(run, batch)]
    run.say(
        f"infer_cam {split}: {len(ids)} images, {settings.class_filter} classes, scales {settings.scales}"
    )
    if not todo:
        return run.say(f"infer_cam {split}: done already")
    predictor = Predictor(run.method, run.local_mesh, settings)
    line = Progress("infer_cam", _images(batches), _images(batches) - _images(todo))
    done = _images(batches) - _images(todo)
    with ThreadPoolExecutor(_WRITERS) as pool:
        writing: list[Future[None]] = []
        for predictions in predictor.predict(variables, run.source, todo, wanted_classes(run, ids)):
            _finish(writing)
            writing = [pool.submit(_write, run, p) for p in predictions]
            done += len(predictions)
            line.update(done)
            stop_here(f"infer_cam has written {done} of {_images(batches)} images")
        _finish(writing)
    line.end()
    run.say(
        f"infer_cam {split}: {line.rate():.1f} images/s, {predictor.program.compiled} compiled program(s)"
    )


def inference_settings(config: ConfigDict) -> InferenceSettings:
    """Section `cam` of the configuration."""
    return InferenceSettings(
        scales=tuple(config.cam.scales),
        flip=config.cam.flip,
        class_filter=config.cam.class_filter,
        batch_size=config.cam.batch_size,
        max_buckets=config.cam.max_buckets,
        workers=config.loader.workers,
        threads=config.loader.threads,
    )


def wanted_classes(run: Run, ids: Sequence[str]) -> dict[str, tuple[int, ...]] | None:
    """The given classes of each image; None where the class filter needs no labels."""
    return given_classes(run.source, ids) if run.config.cam.class_filter == "given" else None


def cam_settings(run: Run, ids: Sequence[str], weights_sha256: str) -> dict[str, Any]:
    """What a folder of CAMs was made with; stored beside them and quoted with every score."""
    return {
        "method": run.config.method,
        "dataset": run.config.dataset.name,
        "list_sha256": sha256(ids),
        "weights_sha256": weights_sha256,
        "scales": list(run.config.cam.scales),
        "flip": run.config.cam.flip,
        "class_filter": run.config.cam.class_filter,
    }


def record_settings(run: Run, settings: dict[str, Any]) -> None:
    """Writes settings.json into the CAMs' folder, or checks that what is there was made alike."""
    folder = run.layout.cams(run.config.dataset.infer_split)
    path = folder / "settings.json"
    if path.exists():
        before = json.loads(path.read_text())
        differing = [key for key in settings if before.get(key) != settings[key]]
        if differing:
            was = ", ".join(f"{key} {before.get(key)!r}, now {settings[key]!r}" for key in differing)
            raise RunError(
                f"{folder} holds CAMs made with {was}; delete the folder or choose another --workdir"
            )
    elif jax.process_index() == 0:
        write_json(path, settings)


def _done(run: Run, batch: PlannedBatch) -> bool:
    split = run.config.dataset.infer_split
    return all(run.layout.cam(split, image_id).exists() for image_id in batch.image_ids)


def _write(run: Run, prediction: Prediction) -> None:
    split = run.config.dataset.infer_split
    if run.config.cam.export_npy:
        maps = {int(key): cam for key, cam in zip(prediction.keys, prediction.cam, strict=True)}
        content = io.BytesIO()
        np.save(content, np.array(maps, dtype=object), allow_pickle=True)
        path = run.layout.cam_npy(split, prediction.image_id)
        write_whole(path, lambda file: file.write(content.getbuffer()))
    path = run.layout.cam(
        split, prediction.image_id
    )  # last, for this is the file that says that the image is done
    write_whole(path, lambda file: np.savez(file, keys=prediction.keys, cam=prediction.cam))


def _finish(writing: Sequence[Future[None]]) -> None:
    for future in writing:
        future.result()


def _images(batches: Sequence[PlannedBatch]) -> int:
    return sum(len(batch.image_ids) for batch in batches)
