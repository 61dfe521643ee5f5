"""`python -m wsss_jax.segment dog.jpg --checkpoint=runs/deeplab_v2_voc`: label maps of your own images.

For each image it writes, into a folder of the image's name: `labels.png`, an 8-bit palette PNG of 0
(background) and class index + 1; and `overlay.png`, these labels over the image. Beside the folders,
`classes.txt` tells which index is which class. Folders stand for the images in them. `--checkpoint` is a
run's folder or a file of weights such as `deeplabv2_resnet101_msc-vocaug-20000.pth`. In a notebook:

    from wsss_jax.segment import SegmentModel
    model = SegmentModel.load("runs/deeplab_v2_voc")
    model("dog.jpg").overlay()
"""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("wsss_jax.segment:command")

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

from wsss_jax.cam import check_writable, expand, output_folders
from wsss_jax.data.user_images import check_file
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.files import write_bytes
from wsss_jax.flags import end_with_help, parse_flags
from wsss_jax.predictor.segmenter import MAX_SIDE, SegmentModel, SegmentResult, write_segments

__all__ = ["SegmentModel", "SegmentResult", "run"]


def run(images: Sequence[str], load: Callable[[], SegmentModel], *, out: str | Path) -> None:
    """Writes the label maps of images and prints a line for each.

    What can be checked without the network is checked for all images before `load` is called. An image that
    proves damaged only when it is decoded is told of, and the others are done.

    Args:
      images: files, and folders of which all images are meant.
      load: makes the model.
      out: folder of the results, made if missing.

    Raises:
      UserError: an image, the checkpoint or the folder cannot be used.
    """
    images = expand(images)
    folders = output_folders(images, out)
    for image in images:
        check_file(Path(image))
    check_writable(Path(out))
    model = load()
    print(f"weights: {model.about}; compiling takes a while at first", flush=True)
    names = enumerate(("background", *model.classes))
    write_bytes(Path(out) / "classes.txt", "".join(f"{i} {name}\n" for i, name in names).encode())
    damaged = []
    for image, folder in folders.items():
        try:
            result = model(image)
        except DataError as error:
            damaged.append(str(error))
            continue
        told = ", ".join(f"{name} {100 * share:.1f} %" for name, share in result.shares.items())
        files = " ".join(write_segments(result, folder))
        print(f"{image}: {told or 'background only'}; {folder}: {files}", flush=True)
    if damaged:
        raise DataError(f"{len(damaged)} of {len(folders)} images are not done: {'; '.join(damaged)}")


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs."""
    f = flags.FLAGS
    if len(argv) < 2:
        raise ConfigError(
            "no image given: python -m wsss_jax.segment dog.jpg --checkpoint=runs/deeplab_v2_voc"
        )
    if not f.checkpoint:
        raise ConfigError(
            "--checkpoint: give the folder of a run with the stage train_seg, or a file of weights"
        )
    options = {"class_names": f.class_names, "crf": f.crf, "max_side": f.max_side}
    run(argv[1:], lambda: SegmentModel.load(f.checkpoint, **options), out=f.out)


def command() -> None:
    """Runs the program's arguments."""
    flags.DEFINE_string(
        "checkpoint", None, "A run's folder, one step of its checkpoints, or a file of weights."
    )
    flags.DEFINE_list("class_names", None, "Of a file: all its classes, in its order; VOC's if there are 20.")
    flags.DEFINE_string("out", "segments", "Folder for the results, one folder in it per image.")
    flags.DEFINE_boolean("crf", False, "Whether a dense CRF on the image refines the label maps.")
    flags.DEFINE_integer(
        "max_side", MAX_SIDE, "Longer images are shrunk to this many pixels for the network; 0: never."
    )
    end_with_help(__name__)
    app.run(main, argv=sys.argv, flags_parser=parse_flags)
