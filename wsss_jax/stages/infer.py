"""Stage `infer_cam`: class activation maps of a split, one file per image."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from PIL import Image

from wsss_jax.config import flatten
from wsss_jax.data.class_maps import ClassMaps, write_maps, write_npy
from wsss_jax.data.lists import sha256, split_name
from wsss_jax.files import write_whole
from wsss_jax.inference.predict import InferenceSettings, Predictor
from wsss_jax.refinement.energies import binarised
from wsss_jax.report.overlay import cam_overlay
from wsss_jax.runs.context import INFER_SPLIT, Facts, Run, Stage, given_classes
from wsss_jax.runs.provenance import record_provenance
from wsss_jax.runs.space import map_bytes
from wsss_jax.stages.batches import own_batches, write_batches
from wsss_jax.stages.networks import result_variables, weight_paths


def infer_cam(run: Run) -> None:
    """Computes the CAMs that are not there yet; a batch is done when all its files are.

    Raises:
      RunError: the folder holds CAMs of other weights or settings.
    """
    ids = run.ids(run.config.dataset.infer_split)
    split = split_name(run.config.dataset.infer_split)
    variables, digest = result_variables(run)
    settings = inference_settings(run.config)
    record_provenance(
        run.layout.cams(run.config.dataset.infer_split), cam_provenance(run, ids, digest), "CAMs"
    )
    path = functools.partial(run.layout.cam, run.config.dataset.infer_split)
    batches, todo = own_batches(run, ids, settings, path)
    run.say(
        f"infer_cam {split}: {len(ids)} images, {settings.class_filter} classes, scales {settings.scales}"
    )
    if not todo:
        return run.say(f"infer_cam {split}: done already")
    predictor = Predictor(run.method, run.local_mesh, settings)
    predictions = predictor.predict(variables, run.source, todo, wanted_classes(run, ids))
    write = functools.partial(write_cam, run)
    rate = write_batches(
        "infer_cam", batches, todo, predictions, lambda p: write(p.image_id, p.maps, p.reduced)
    )
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


def cam_provenance(run: Run, ids: Sequence[str], weights_sha256: str) -> dict[str, Any]:
    """What a folder of CAMs is made with; stored beside them and quoted with every score."""
    flat = dict(flatten(run.config))
    return {
        "method": run.config.method,
        "dataset": run.config.dataset.name,
        "list_sha256": sha256(ids),
        "weights_sha256": weights_sha256,
        "scales": list(run.config.cam.scales),
        "flip": run.config.cam.flip,
        "class_filter": run.config.cam.class_filter,
        **({} if run.config.cam.storage == "float32" else {"storage": run.config.cam.storage}),
        **{key: flat[key] for key in run.system.map_settings},
    }


def write_cam(run: Run, image_id: str, maps: ClassMaps, reduced: ClassMaps | None = None) -> None:
    """Writes all files of an image's maps, at its size and perhaps at a quarter of it."""
    split = run.config.dataset.infer_split
    if run.config.cam.heat_maps:
        _write_heat_maps(run, image_id, maps)
    if run.config.cam.export_npy:
        planes = binarised(maps.planes) if run.config.cam.binarised_npy else maps.planes
        write_npy(run.layout.cam_npy(split, image_id), ClassMaps(maps.class_ids, planes), reduced)
    path = run.layout.cam(split, image_id)  # last, for this is the file that says that it is done
    write_maps(path, maps, run.config.cam.storage, reduced)


def _write_heat_maps(run: Run, image_id: str, maps: ClassMaps) -> None:
    image, split = run.source.image(image_id), run.config.dataset.infer_split
    for class_id, cam in zip(*maps, strict=True):
        path = run.layout.heat_map(split, image_id, run.source.classes[int(class_id)])
        heat = Image.fromarray(cam_overlay(image, cam))
        write_whole(path, lambda file, heat=heat: heat.save(file, format="PNG"))  # type: ignore[misc]


def weights(run: Run) -> dict[str, str]:
    """Files that are named in place of what the run trains."""
    choice = run.config.cam.checkpoint
    if choice in ("best", "last") or choice.isdigit():
        return {}
    paths = weight_paths(run)
    return {f"cam.checkpoint, {name}" if len(paths) > 1 else "cam.checkpoint": p for name, p in paths.items()}


def room(run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes of the CAMs that are not there yet."""
    path = functools.partial(run.layout.cam, run.config.dataset.infer_split)
    storages = (run.config.cam.storage, *["float32"] * run.config.cam.export_npy)
    full = [map_bytes(run, facts, path, False, storage) for storage in storages]
    share = 1 / run.method.reduced**2 if run.method.reduced else 0.0
    small = len(storages) * share * map_bytes(run, facts, path, False)
    return {"CAMs": sum(full) + round(small)}


INFER_CAM = Stage(
    name="infer_cam",
    function=infer_cam,
    reads=lambda config: (INFER_SPLIT,),
    weights=weights,
    room=room,
    all_hosts=True,
)
