"""`python -m wsss_jax.cam dog.jpg --checkpoint=runs/cse_voc`: class activation maps of your own images.

For each image it writes, into a folder of the image's name: `cam_<class>.png`, one class's map over the
image; `labels.png`, an 8-bit palette PNG of 0 (background) and class index + 1; and `overlay.png`, these
labels over the image. Folders stand for the images in them. `--checkpoint` is a run's folder or a file of
weights such as `res38_cls.pth`. In a notebook:

    from wsss_jax.cam import CamModel
    model = CamModel.load("runs/cse_voc")
    model("dog.jpg", classes=["dog"]).overlay("dog")
"""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("wsss_jax.cam:command")

import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from absl import app, flags

from wsss_jax.data.images import EXTENSIONS
from wsss_jax.data.user_images import check_file
from wsss_jax.errors import ConfigError, DataError, RunError
from wsss_jax.flags import end_with_help, parse_flags
from wsss_jax.predictor.model import FILTERS, MAX_SIDE, SCALES, CamModel
from wsss_jax.predictor.result import THRESHOLD, CamResult, write_result, write_scores

__all__ = ["CamModel", "CamResult", "run"]


def run(
    images: Sequence[str],
    load: Callable[[], CamModel],
    *,
    out: str | Path,
    classes: Sequence[str] | None = None,
    class_filter: str = "predicted",
    threshold: float = THRESHOLD,
    scores: bool = False,
) -> None:
    """Writes the results of images and prints a line for each.

    What can be checked without the network is checked for all images before `load` is called. An image
    that proves damaged only when it is decoded is told of, and the others are done.

    Args:
      images: files, and folders of which all images are meant.
      load: makes the model.
      out: folder of the results, made if missing.
      classes, class_filter: see `CamModel`.
      threshold: score, 0..1, up to which a pixel is background.
      scores: also write `<out>/<stem>.npz`, keys int32[K] and cam float32[K, H, W].

    Raises:
      UserError: an image, a class, the checkpoint or the folder cannot be used.
    """
    images = expand(images)
    folders = output_folders(images, out)
    for image in images:
        check_file(Path(image))
    check_writable(Path(out))
    model = load()
    if classes is not None:
        model.check_classes(classes)
    print(f"weights: {model.about}; compiling takes a while at first", flush=True)
    damaged = []
    for image, folder in folders.items():
        try:
            result = model(image, classes, class_filter)
        except DataError as error:
            damaged.append(str(error))
            continue
        written = f"{folder}: {' '.join(write_result(result, folder, threshold))}"
        if scores:
            written += f"; {write_scores(result, Path(out) / f'{folder.name}.npz')}"
        told = _probabilities(result, chosen=classes is not None or class_filter == "all")
        print(f"{image}: {told}; {written}", flush=True)
    if damaged:
        raise DataError(f"{len(damaged)} of {len(folders)} images are not done: {'; '.join(damaged)}")


def expand(paths: Iterable[str]) -> list[str]:
    """Images, with every folder replaced by the images in it, by name; DataError if it has none."""
    images = []
    for path in paths:
        if not Path(path).is_dir():
            images.append(path)
            continue
        found = [p for p in Path(path).iterdir() if p.suffix.lower() in EXTENSIONS and p.name[0] != "."]
        if not found:
            raise DataError(
                f"{path}: there are no images in this folder ({', '.join(EXTENSIONS)}); "
                "folders below it are not searched"
            )
        images += map(str, sorted(found))
    return images


def output_folders(images: Sequence[str], out: str | Path) -> dict[str, Path]:
    """Where each image's files go: `<out>/<stem>`; ConfigError if two would share a folder."""
    folders: dict[str, Path] = {}
    taken: dict[str, str] = {}
    for image in images:
        stem = Path(image).stem
        other = taken.setdefault(stem.casefold(), image)  # some file systems do not tell a.png from A.png
        if image in folders or other != image:
            raise ConfigError(
                f"{other} and {image} would both be written to {Path(out) / stem}; rename one or "
                "give each an --out of its own"
            )
        folders[image] = Path(out) / stem
    return folders


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs."""
    f = flags.FLAGS
    if len(argv) < 2:
        raise ConfigError("no image given: python -m wsss_jax.cam dog.jpg --checkpoint=runs/cse_voc")
    if not f.checkpoint:
        raise ConfigError("--checkpoint: give a run's folder, or a file of weights such as res38_cls.pth")
    if f.classes is not None and f.class_filter is not None:
        raise ConfigError("--classes and --class_filter: give one of them")
    scales = _numbers("scales", f.scales, "0.5,1,1.5,2")
    dilations = None if f.dilations is None else [int(n) for n in _numbers("dilations", f.dilations, "2,4,4")]
    bare = {"network": f.network, "class_names": f.class_names, "dilations": dilations}
    run(
        argv[1:],
        lambda: CamModel.load(f.checkpoint, scales=scales, flip=f.flip, max_side=f.max_side, **bare),
        out=f.out,
        classes=f.classes,
        class_filter=f.class_filter or FILTERS[0],
        threshold=f.threshold,
        scores=f.scores,
    )


def command() -> None:
    """Runs the program's arguments."""
    define_flags()
    end_with_help(__name__)
    app.run(main, argv=sys.argv, flags_parser=parse_flags)


def define_flags() -> None:
    """Defines the command's flags; not at import, since notebooks may have flags of the same names."""
    flags.DEFINE_string(
        "checkpoint", None, "A run's folder, one step of its checkpoints, or a file of weights."
    )
    flags.DEFINE_string("network", None, "Of a file: its state dict, if its names leave it open.")
    flags.DEFINE_list("class_names", None, "Of a file: all its classes, in its order; VOC's if there are 20.")
    flags.DEFINE_list(
        "dilations", None, "Of a file: those of its trunk, if they are not the published 2,4,4."
    )
    flags.DEFINE_list("classes", None, "Names of the classes whose maps are wanted, such as dog,person.")
    flags.DEFINE_enum("class_filter", None, FILTERS, "Which classes, if none are named; default predicted.")
    flags.DEFINE_string("out", "cams", "Folder for the results, one folder in it per image.")
    flags.DEFINE_boolean("scores", False, "Also write the maps as numbers, <out>/<image>.npz.")
    flags.DEFINE_float(
        "threshold", THRESHOLD, "Score up to which a pixel is background.", lower_bound=0, upper_bound=1
    )
    flags.DEFINE_list("scales", [str(s) for s in SCALES], "Sizes at which the network looks at an image.")
    flags.DEFINE_boolean("flip", True, "Whether it also looks at the mirror image.")
    flags.DEFINE_integer(
        "max_side", MAX_SIDE, "Longer images are shrunk to this many pixels for the network; 0: never."
    )


def _probabilities(result: CamResult, chosen: bool) -> str:
    """The shown classes with their probabilities, the likeliest first."""
    if not chosen and not result.predicted:
        (name,) = result.classes[:1]
        return f"no class reaches 0.5; the highest is {name} {result.scores[name]:.2f}, which is shown"
    order = sorted(result.classes, key=lambda name: -result.scores[name])
    return ", ".join(f"{name} {result.scores[name]:.2f}" for name in order)


def check_writable(folder: Path) -> None:
    """RunError unless files can be written there; makes the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"--out={folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error


def _numbers(flag: str, texts: Sequence[str], example: str) -> tuple[float, ...]:
    try:
        return tuple(float(text) for text in texts)
    except ValueError as error:
        raise ConfigError(f"--{flag}={','.join(texts)}: wanted numbers, such as {example}") from error
