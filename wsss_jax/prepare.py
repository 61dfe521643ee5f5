"""Prepares a data set once, before it is used.

Example:
  python -m wsss_jax.prepare coco14 COCO

checks MS COCO 2014 below COCO, the folder that holds train2014, val2014 and annotations, paints the masks of
its images (COCO/SegmentationClass/train2014/*.png, 8-bit palette, 0 background) and writes an index of sizes
and labels (COCO/wsss_jax). Masks that are there are kept. The same command again goes on where it was.
"""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("wsss_jax.prepare:main")

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

from wsss_jax.commandline import STATUS, one_line_errors
from wsss_jax.data.coco import FOLDERS, write_index
from wsss_jax.data.coco_annotations import Annotated, check_installed, make_index, paint, read_annotations
from wsss_jax.data.images import header_size, palette_png
from wsss_jax.data.pool import default_threads, map_ordered
from wsss_jax.errors import DataError
from wsss_jax.files import is_whole, write_bytes
from wsss_jax.interrupt import stop_here, stop_on_signals
from wsss_jax.progress import Progress


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; ends the program with one line and status 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        "python -m wsss_jax.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUS,
    )
    parser.add_argument("dataset", choices=("coco14",), help="the data set")
    parser.add_argument("root", type=Path, help="the folder that it lies in")
    parser.add_argument("--workers", type=int, default=default_threads(), metavar="N", help="processes")
    options = parser.parse_args(argv)
    with one_line_errors(), stop_on_signals():
        prepare_coco(options.root.expanduser(), options.workers)


def prepare_coco(root: Path, workers: int = 0) -> None:
    """Paints the masks of COCO 2014 and writes its index, for train2014 and val2014, whichever is there.

    Args:
      root: the folder that holds `annotations`.
      workers: processes that paint; 0 paints in threads.

    Raises:
      ConfigError: pycocotools is not installed.
      DataError: neither part is there, or annotations cannot be used.
      Interrupted: a signal asked to stop; the masks so far are kept.
    """
    check_installed()
    files = {folder: root / "annotations" / f"instances_{folder}.json" for folder in FOLDERS}
    there = {folder: path for folder, path in files.items() if path.exists()}
    if not there:
        raise DataError(f"{root}: there is neither {' nor '.join(map(str, files.values()))}")
    for folder, path in there.items():
        print(f"{folder}: reading {path}", flush=True)
        images = read_annotations(path)
        _report_files(root / folder, images)
        _paint_all(root, folder, images, workers)
        write_index(root, folder, make_index(images))
        empty = sum(not image.annotations for image in images)
        print(f"{folder}: {len(images)} images, {empty} of them without a class; ready", flush=True)


def _report_files(folder: Path, images: Sequence[Annotated]) -> None:
    """Tells of images without a file and of files without an entry; a list may still name the others."""
    listed, there = {image.image_id for image in images}, {path.stem for path in folder.glob("*.jpg")}
    for names, what in (
        (listed - there, f"listed images are not in {folder}"),
        (there - listed, f"files of {folder} are not listed and will not be used"),
    ):
        if names:
            _warn(f"{len(names)} {what}, such as {min(names)}")


def _paint_all(root: Path, folder: str, images: Sequence[Annotated], workers: int) -> None:
    masks = root / "SegmentationClass" / folder
    todo = [image for image in images if not is_whole(masks / f"{image.image_id}.png")]
    make = functools.partial(write_mask, masks, root / folder)
    line, done = Progress(f"masks of {folder}", len(images), len(images) - len(todo)), len(images) - len(todo)
    for problems in map_ordered(make, todo, workers=workers if todo else 0, describe=_describe):
        done += 1
        line.update(done)
        for problem in problems:
            _warn(problem)
        stop_here(f"{done} of the {len(images)} masks of {folder} are painted")
    line.end()


def write_mask(masks: Path, folder: Path, image: Annotated) -> list[str]:
    """Paints a mask and writes it to `<masks>/<id>.png`.

    Returns:
      A line for each thing that is wrong with the image or with an annotation. Where the image is of another
      size than its annotations, no mask is written.
    """
    path = folder / f"{image.image_id}.jpg"
    try:
        size = header_size(path, image.image_id) if path.exists() else image.size
    except DataError as error:
        return [str(error)]
    if size != image.size:
        return [
            f"image {image.image_id!r}: {path} is {size[::-1]}, its annotations are of {image.size[::-1]}"
        ]
    mask, problems = paint(image)
    write_bytes(masks / f"{image.image_id}.png", palette_png(mask))
    return problems


def _describe(image: Annotated) -> str:
    return f"image {image.image_id!r}"


def _warn(text: str) -> None:
    print(f"Warning: {text}", file=sys.stderr, flush=True)
