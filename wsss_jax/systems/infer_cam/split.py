"""Stage `split`: the crops into which InferCam splits images, to look at."""

import functools
from collections.abc import Sequence
from pathlib import Path

from wsss_jax.data.lists import split_name
from wsss_jax.data.pool import map_ordered
from wsss_jax.files import is_whole, write_bytes
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.runs.context import INFER_SPLIT, Run, Stage
from wsss_jax.systems.infer_cam.base_classifier import base_run, initial_cams, require_initial_cams
from wsss_jax.systems.infer_cam.crops import boxes_of_files, crop_file, cut, encode_jpeg, split_boxes
from wsss_jax.systems.infer_cam.eraser import CropPlan
from wsss_jax.systems.infer_cam.rule import InferCam

_JPEG_QUALITY = 95  # OpenCV's default, as the authors' program has it; where infer_cam has none


def split(run: Run) -> None:
    """Writes the four crops of each image of `dataset.infer_split`, as the authors' first program does.

    No other stage needs them: `infer_cam` cuts the images and goes through JPEG in memory. It can read them
    or the authors' own, though, by `infer_cam.split_path`.
    """
    name = run.config.dataset.infer_split
    ids, base = run.ids(name), base_run(run)
    require_initial_cams(base)
    line = Progress("split", len(ids))
    write = functools.partial(_write, run, base)
    for done, _ in enumerate(map_ordered(write, ids, threads=run.config.loader.threads), start=1):
        line.update(done)
        stop_here(f"split has written the crops of {done} of {len(ids)} images")
    line.end()
    run.say(f"split {split_name(name)}: the crops of {len(ids)} images are in {parts_folder(run, name)}")


def parts_folder(run: Run, split: str) -> Path:
    """Where the stage writes; the images there are named as its authors' program names them."""
    return run.layout.workdir / "crops" / split_name(split)


def plan_crops(run: Run, base: Run, ids: Sequence[str]) -> list[CropPlan]:
    """Reads the initial CAMs of all images and decides on their crops."""
    line, plans = Progress("crops", len(ids)), []
    plan = functools.partial(_plan, run, base)
    for found in map_ordered(plan, ids, threads=run.config.loader.threads):
        plans.append(found)
        line.update(len(plans))
        stop_here("infer_cam was looking for crops")
    line.end()
    return plans


def _plan(run: Run, base: Run, image_id: str) -> CropPlan:
    method = run.method
    assert isinstance(method, InferCam)
    class_ids, cam = initial_cams(base, image_id)
    size, folder = (cam.shape[1], cam.shape[2]), run.config.infer_cam.split_path
    boxes = boxes_of_files(folder, image_id, size) if folder else split_boxes(cam, method.split)
    return CropPlan(image_id, size, tuple(class_ids.tolist()), boxes)


def _write(run: Run, base: Run, image_id: str) -> None:
    folder = parts_folder(run, run.config.dataset.infer_split)
    paths = [crop_file(folder, image_id, number) for number in range(1, 5)]
    if all(map(is_whole, paths)):
        return
    image, quality = run.source.image(image_id), run.config.infer_cam.jpeg_quality or _JPEG_QUALITY
    for path, box in zip(paths, _plan(run, base, image_id).boxes, strict=True):
        write_bytes(path, encode_jpeg(cut(image, box), quality))


SPLIT = Stage(name="split", function=split, reads=lambda config: (INFER_SPLIT,), on_request=True)
