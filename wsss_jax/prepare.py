"""Prepares a data set once, before it is used.

Examples:
  python -m wsss_jax.prepare coco14 COCO
  python -m wsss_jax.prepare voc12 VOCdevkit/VOC2012 --tfds=tensorflow_datasets

The first checks MS COCO 2014 below COCO, the folder that holds train2014, val2014 and annotations, paints the
masks of its images (COCO/SegmentationClass/train2014/*.png, 8-bit palette, 0 background) and writes an index
of sizes and labels (COCO/wsss_jax). Masks that are there are kept; the same command again goes on where it
was.

With --tfds, VOC or COCO is also written in the form of TensorFlow Datasets, for `dataset.name=tfds`: a few
large files in place of many small ones.
"""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("wsss_jax.prepare:main")

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from wsss_jax.commandline import STATUS, one_line_errors
from wsss_jax.data.coco import FOLDERS, write_index
from wsss_jax.data.coco_annotations import Annotated, check_installed, make_index, paint, read_annotations
from wsss_jax.data.images import header_size, palette_png
from wsss_jax.data.pool import default_threads, map_ordered
from wsss_jax.data.source import make_source
from wsss_jax.data.tfds_export import VERSION, FileSource, export_tfds
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.files import is_whole, write_bytes
from wsss_jax.interrupt import stop_here, stop_on_signals
from wsss_jax.progress import Progress

_SPLITS = {
    "voc12": ("train_aug", "train", "val", "trainval"),
    "coco14": ("train", "train_labelled", "val", "val_labelled"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; ends the program with one line and status 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        "python -m wsss_jax.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUS,
    )
    parser.add_argument("dataset", choices=tuple(_SPLITS), help="the data set")
    parser.add_argument("root", type=Path, help="the folder that it lies in")
    parser.add_argument("--workers", type=int, default=default_threads(), metavar="N", help="processes")
    parser.add_argument("--tfds", type=Path, metavar="DIR", help="write it as TensorFlow Datasets has it too")
    options = parser.parse_args(argv)
    with one_line_errors(), stop_on_signals():
        if options.dataset == "coco14":
            prepare_coco(options.root.expanduser(), options.workers)
        elif not options.tfds:
            raise ConfigError(f"{options.dataset} needs no preparation; --tfds=DIR writes it in another form")
        if options.tfds:
            write_tfds(options.dataset, options.root, options.tfds.expanduser())


def write_tfds(dataset: str, root: Path, out: Path) -> None:
    """Writes a data set in the form of TensorFlow Datasets; errors as of `export_tfds`."""
    source = make_source(dataset, root)
    line: Progress | None = None
    for done, total in export_tfds(cast(FileSource, source), _SPLITS[dataset], out):
        line = line or Progress("tfds", total)
        line.update(done)
        stop_here(f"{done} of {total} images were written to {out}; they are written anew next time")
    print(f"written to {out / source.name / VERSION}", flush=True)


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
