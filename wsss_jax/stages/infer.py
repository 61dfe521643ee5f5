"""Stage `infer_cam`: class activation maps of a split, one file per picture."""

import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from wsss_jax.config import flatten
from wsss_jax.data.lists import sha256, split_name
from wsss_jax.errors import RunError
from wsss_jax.files import is_whole, read_json, write_json, write_whole
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, Predictor, plan_batches
from wsss_jax.refinement.energies import binarised
from wsss_jax.report.overlay import cam_overlay
from wsss_jax.runs.context import INFER_SPLIT, Facts, Run, Stage, given_classes
from wsss_jax.runs.layout import holds_results
from wsss_jax.runs.space import map_bytes
from wsss_jax.stages.batches import write_batches
from wsss_jax.stages.networks import result_variables


class CamResult(Protocol):
    """What is written of a picture: `Prediction`s and InferCam's `Response`s are such."""

    @property
    def image_id(self) -> str:
        """Of the picture."""

    @property
    def keys(self) -> np.ndarray:
        """int32[K], classes."""

    @property
    def cam(self) -> np.ndarray:
        """float32[K, H, W], 0..1."""


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
    batches = plan_batches(run.source, ids, settings, run.local_mesh.size)
    batches = batches[jax.process_index() :: jax.process_count()]
    todo = [batch for batch in batches if not _done(run, batch)]
    run.say(
        f"infer_cam {split}: {len(ids)} images, {settings.class_filter} classes, scales {settings.scales}"
    )
    if not todo:
        return run.say(f"infer_cam {split}: done already")
    predictor = Predictor(run.method, run.local_mesh, settings)
    predictions = predictor.predict(variables, run.source, todo, wanted_classes(run, ids))
    rate = write_batches("infer_cam", batches, todo, predictions, functools.partial(write_cam, run))
    run.say(f"infer_cam {split}: {rate:.1f} images/s, {predictor.program.compiled} compiled program(s)")


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
    flat = dict(flatten(run.config))
    return {
        "method": run.config.method,
        "dataset": run.config.dataset.name,
        "list_sha256": sha256(ids),
        "weights_sha256": weights_sha256,
        "scales": list(run.config.cam.scales),
        "flip": run.config.cam.flip,
        "class_filter": run.config.cam.class_filter,
        **{key: flat[key] for key in run.system.map_settings},
    }


def record_settings(run: Run, settings: dict[str, Any]) -> None:
    """Writes settings.json into the CAMs' folder, or checks that what is there was made alike."""
    record_in(run.layout.cams(run.config.dataset.infer_split), settings, "CAMs")


def record_in(folder: Path, settings: dict[str, Any], what: str, flag: str = "--workdir") -> None:
    """Writes settings.json into a folder, or checks that what is there was made alike.

    Raises:
      RunError: the folder holds things of other settings; the message names those that differ.
    """
    path = folder / "settings.json"
    if path.exists() and holds_results(folder):
        before = made_with(folder)
        differing = [key for key in settings if before.get(key) != settings[key]]
        if differing:
            was = ", ".join(f"{key} {before.get(key)!r}, now {settings[key]!r}" for key in differing)
            raise RunError(
                f"{folder} holds {what} made with {was}; delete the folder or choose another {flag}"
            )
    elif jax.process_index() == 0:
        write_json(path, settings)


def made_with(folder: Path) -> dict[str, Any]:
    """The settings that things in a folder were made with; RunError if the note is not as it was written."""
    return read_json(folder / "settings.json", f"delete {folder} and run the stage that makes it again")


def _done(run: Run, batch: PlannedBatch) -> bool:
    split = run.config.dataset.infer_split
    return all(is_whole(run.layout.cam(split, image_id)) for image_id in batch.image_ids)


def write_cam(run: Run, result: CamResult) -> None:
    """Writes all files of one picture's maps."""
    split = run.config.dataset.infer_split
    if run.config.cam.heat_maps:
        _write_heat_maps(run, result)
    if run.config.cam.export_npy:
        cams = binarised(result.cam) if run.config.cam.binarised_npy else result.cam
        maps = {int(key): cam for key, cam in zip(result.keys, cams, strict=True)}
        content = io.BytesIO()
        np.save(content, np.array(maps, dtype=object), allow_pickle=True)
        path = run.layout.cam_npy(split, result.image_id)
        write_whole(path, lambda file: file.write(content.getbuffer()))
    path = run.layout.cam(split, result.image_id)  # last, for this is the file that says that it is done
    write_whole(path, lambda file: np.savez(file, keys=result.keys, cam=result.cam))


def _write_heat_maps(run: Run, result: CamResult) -> None:
    image = run.source.image(result.image_id)
    for key, cam in zip(result.keys, result.cam, strict=True):
        path = run.layout.heat_map(
            run.config.dataset.infer_split, result.image_id, run.source.classes[int(key)]
        )
        picture = Image.fromarray(cam_overlay(image, cam))
        write_whole(path, lambda file, picture=picture: picture.save(file, format="PNG"))  # type: ignore[misc]


def room(run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes of the CAMs that are not there yet."""
    path = functools.partial(run.layout.cam, run.config.dataset.infer_split)
    return {"CAMs": (1 + run.config.cam.export_npy) * map_bytes(run, facts, path, background=False)}


INFER_CAM = Stage(
    name="infer_cam",
    function=infer_cam,
    reads=lambda config: (INFER_SPLIT,),
    weights=lambda run: {"cam.checkpoint": run.config.cam.checkpoint},
    room=room,
    all_hosts=True,
)
