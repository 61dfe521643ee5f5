"""`python -m wsss_jax.cam dog.jpg --checkpoint=runs/cse_voc`: class activation maps of your own pictures.

For each picture it writes, into a folder of the picture's name: `cam_<class>.png`, one class's map over the
picture; `labels.png`, an 8-bit palette PNG of 0 (background) and class index + 1; and `overlay.png`, these
labels over the picture. In a notebook:

    from wsss_jax.cam import CamModel
    model = CamModel.load("runs/cse_voc")
    model("dog.jpg", classes=["dog"]).overlay("dog")
"""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("wsss_jax.cam:command")

import difflib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from absl import app, flags
from PIL import Image

from wsss_jax.data.pictures import Picture, check_file, upright_rgb
from wsss_jax.data.transforms import rescale
from wsss_jax.errors import CheckpointError, ConfigError, RunError
from wsss_jax.files import file_name, write_whole
from wsss_jax.flags import end_with_help, parse_flags
from wsss_jax.report.overlay import cam_overlay, label_overlay, palette_png

# JAX is imported inside functions: `--help` and a misspelt file name should not take seconds.

SCALES = (0.5, 1.0, 1.5, 2.0)
THRESHOLD = 0.15
MAX_SIDE = 640
_GRID = 64  # pictures are padded to multiples of this, so that most share a compiled program
_FILTERS = ("predicted", "all")


@dataclass(frozen=True, kw_only=True, eq=False)
class CamResult:
    """What a network sees in one picture.

    Attributes:
      image: uint8[H, W, 3], the picture as it was looked at: upright and RGB.
      cam: float32[K, H, W], 0..1, a map for each of the chosen classes, in the order of `classes`.
      keys: int32[K], their 0-based indices, ascending.
      classes: their K names.
      scores: probability, 0..1, of every class that the network knows, by name.
    """

    image: np.ndarray
    cam: np.ndarray
    keys: np.ndarray
    classes: tuple[str, ...]
    scores: Mapping[str, float]

    def labels(self, threshold: float = THRESHOLD) -> np.ndarray:
        """uint8[H, W]: the best class's index + 1 where its map exceeds the threshold, else 0."""
        best = self.keys.astype(np.uint8)[self.cam.argmax(axis=0)] + np.uint8(1)
        return np.where(self.cam.max(axis=0) > np.float32(threshold), best, np.uint8(0))

    def overlay(self, name: str) -> Image.Image:
        """The map of one class over the picture; ConfigError if it is not one of `classes`."""
        (index,) = _indices([name], self.classes)
        return Image.fromarray(cam_overlay(self.image, self.cam[index]))

    def label_overlay(self, threshold: float = THRESHOLD) -> Image.Image:
        """The labels over the picture, in VOC's colours."""
        return Image.fromarray(label_overlay(self.image, self.labels(threshold)))


class CamModel:
    """A trained network that is shown pictures; `load` makes one from a checkpoint."""

    def __init__(
        self,
        method: Any,
        variables: Mapping[str, Any],
        classes: Sequence[str],
        *,
        scales: Sequence[float] = SCALES,
        flip: bool = True,
        max_side: int = MAX_SIDE,
    ) -> None:
        """Prepares a method (see `wsss_jax.method`) on one device.

        Args:
          method: the method.
          variables: of the network that makes its maps, `{name: {'params': ..., 'batch_stats': ...}}`.
          classes: names of its C classes.
          scales: the sizes at which it looks at a picture, as factors; their maps are averaged.
          flip: whether it also looks at the mirror image.
          max_side: pictures with a longer side in pixels are shrunk for the network, and their maps enlarged;
            0 is no limit.
        """
        import jax

        from wsss_jax.inference.multiscale import CamProgram
        from wsss_jax.sharding import data_mesh

        if not scales or not all(0 < scale < float("inf") for scale in scales):
            raise ConfigError(f"scales are {list(scales)}; give one or more numbers greater than 0")
        if max_side < 0:
            raise ConfigError(f"max_side is {max_side}; give a number of pixels, or 0 for no limit")
        self.classes = tuple(classes)
        self.about = ""  # what was loaded, for people
        self._scales, self._max_side = tuple(scales), max_side
        self._program = CamProgram(method, data_mesh(jax.local_devices()[:1]), flip=flip)
        self._variables = self._program.place(dict(variables))

    @classmethod
    def load(cls, checkpoint: str | os.PathLike[str], **options: Any) -> Self:
        """Loads what a run has trained; nothing else of the run is needed.

        Sets JAX's matrix precision and compilation cache as the run's configuration does.

        Args:
          checkpoint: a run's folder, its `checkpoints/<network>`, or one step of them; the best step is taken
            where there are several.
          **options: `scales`, `flip` and `max_side`, see `CamModel`.

        Raises:
          CheckpointError: there is no checkpoint, or it is damaged or of another network.
        """
        from etils import epath

        path = epath.Path(checkpoint).expanduser()  # also gs://...
        if not path.exists():
            raise CheckpointError(f"{path}: there is no such checkpoint; give the folder of a run, say")

        from wsss_jax.methods import make_method
        from wsss_jax.stages.devices import configure_jax
        from wsss_jax.stages.networks import step_folder
        from wsss_jax.training.checkpoints import restore
        from wsss_jax.training.initial import variable_shapes
        from wsss_jax.weights import check_against

        folder = step_folder(path)
        restored = restore(folder)
        config, classes, network = _description(restored.meta, folder)
        configure_jax(config)
        method = make_method(config, len(classes))
        if network != method.trained:
            raise CheckpointError(
                f"{folder}: holds {network!r}, but {config.method} trains {method.trained!r}"
            )
        check_against(restored.variables, variable_shapes(method.networks[network]), source=str(folder))
        model = cls(method, {network: restored.variables}, classes, **options)
        model.about = f"{network} of the method {config.method}, step {restored.step}, {len(classes)} classes"
        return model

    def __call__(
        self, picture: Picture, classes: Sequence[str] | None = None, class_filter: str = "predicted"
    ) -> CamResult:
        """Computes the maps of one picture.

        Args:
          picture: a file's path, a PIL image, or uint8[H, W, 3] RGB. An EXIF orientation is applied.
          classes: names of the classes whose maps are wanted.
          class_filter: which ones if `classes` is None: 'predicted', those with a probability over one half,
            or the likeliest; or 'all'.

        Raises:
          DataError: the picture cannot be used.
          ConfigError: there is no such class or filter.
        """
        if class_filter not in _FILTERS:
            raise ConfigError(f"class_filter is {class_filter!r}: must be 'predicted' or 'all'")
        wanted = range(len(self.classes)) if classes is None else _indices(classes, self.classes)
        keys = np.unique(np.asarray(wanted, np.int32))
        pixels = upright_rgb(picture)
        maps, logits = self._compute(self._shrink(pixels), keys)
        if classes is None and class_filter == "predicted":
            kept = logits > 0 if (logits > 0).any() else logits == logits.max()
            keys, maps = keys[kept], maps[kept]
        probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
        return CamResult(
            image=pixels,
            cam=_enlarge(maps, pixels.shape[:2]),
            keys=keys,
            classes=tuple(self.classes[key] for key in keys),
            scores={name: float(p) for name, p in zip(self.classes, probabilities, strict=True)},
        )

    def check_classes(self, classes: Sequence[str]) -> None:
        """ConfigError, with the nearest name, if the network does not know one of these."""
        _indices(classes, self.classes)

    def _shrink(self, pixels: np.ndarray) -> np.ndarray:
        longest = max(pixels.shape[:2])
        return rescale(pixels, self._max_side / longest) if 0 < self._max_side < longest else pixels

    def _compute(self, pixels: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps float32[K, h, w] of the wanted classes, and logits float32[C]."""
        from wsss_jax.inference.buckets import scaled
        from wsss_jax.inference.multiscale import PaddedBatch

        H, W = pixels.shape[:2]
        bucket = (-(-H // _GRID) * _GRID, -(-W // _GRID) * _GRID)
        views = [rescale(pixels, scale) for scale in self._scales]
        padded = [_pad(view, scaled(bucket, s)) for view, s in zip(views, self._scales, strict=True)]
        sizes = [np.array([view.shape[:2]], np.int32) for view in views]
        # One column per class, whichever are wanted, so that every choice runs the same program.
        columns = np.full((1, len(self.classes)), -1, np.int32)
        columns[0, : len(wanted)] = wanted
        batch: Any = PaddedBatch(tuple(padded), tuple(sizes), np.array([[H, W]], np.int32), columns)  # type: ignore[arg-type]
        cams = self._program(self._variables, batch, bucket)
        return np.asarray(cams.maps)[0, : len(wanted), :H, :W], np.asarray(cams.logits)[0]


def write_result(result: CamResult, folder: str | Path, threshold: float = THRESHOLD) -> list[str]:
    """Writes a picture's maps and labels and returns the names of the files; RunError if that cannot be."""
    folder = Path(folder)
    files = {f"cam_{file_name(name)}.png": _png(result.overlay(name)) for name in result.classes}
    files["labels.png"] = palette_png(result.labels(threshold))
    files["overlay.png"] = _png(result.label_overlay(threshold))
    for name, content in files.items():
        write_whole(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return list(files)


def run(
    pictures: Sequence[str],
    load: Callable[[], CamModel],
    *,
    out: str | Path,
    classes: Sequence[str] | None = None,
    class_filter: str = "predicted",
    threshold: float = THRESHOLD,
) -> None:
    """Writes the results of picture files and prints a line for each.

    What can be checked without the network is checked for all pictures before `load` is called.

    Raises:
      UserError: a picture, a class, the checkpoint or the folder cannot be used.
    """
    folders = output_folders(pictures, out)
    for picture in pictures:
        check_file(Path(picture))
    _check_writable(Path(out))
    model = load()
    if classes is not None:
        model.check_classes(classes)
    print(f"weights: {model.about}; compiling takes a while at first", flush=True)
    for picture, folder in folders.items():
        result = model(picture, classes, class_filter)
        names = write_result(result, folder, threshold)
        order = sorted(result.classes, key=lambda name: -result.scores[name])
        scores = ", ".join(f"{name} {result.scores[name]:.2f}" for name in order)
        print(f"{picture}: {scores}; {folder}: {' '.join(names)}", flush=True)


def output_folders(pictures: Sequence[str], out: str | Path) -> dict[str, Path]:
    """Where each picture's files go: `<out>/<stem>`; ConfigError if two would share a folder."""
    folders: dict[str, Path] = {}
    taken: dict[str, str] = {}
    for picture in pictures:
        stem = Path(picture).stem
        other = taken.setdefault(stem.casefold(), picture)  # some file systems do not tell a.png from A.png
        if picture in folders or other != picture:
            raise ConfigError(
                f"{other} and {picture} would both be written to {Path(out) / stem}; rename one or "
                "give each an --out of its own"
            )
        folders[picture] = Path(out) / stem
    return folders


def main(argv: Sequence[str]) -> None:
    """Reads the flags and runs."""
    f = flags.FLAGS
    if len(argv) < 2:
        raise ConfigError("no picture given: python -m wsss_jax.cam dog.jpg --checkpoint=runs/cse_voc")
    if not f.checkpoint:
        raise ConfigError("--checkpoint: give a run's folder, its checkpoints/<network> or one step of them")
    if f.classes is not None and f.class_filter is not None:
        raise ConfigError("--classes and --class_filter: give one of them")
    scales = _numbers(f.scales)
    run(
        argv[1:],
        lambda: CamModel.load(f.checkpoint, scales=scales, flip=f.flip, max_side=f.max_side),
        out=f.out,
        classes=f.classes,
        class_filter=f.class_filter or _FILTERS[0],
        threshold=f.threshold,
    )


def command() -> None:
    """Runs the program's arguments."""
    define_flags()
    end_with_help(__name__)
    app.run(main, argv=sys.argv, flags_parser=parse_flags)


def define_flags() -> None:
    """Defines the command's flags; not at import, since notebooks may have flags of the same names."""
    flags.DEFINE_string("checkpoint", None, "A run's folder, its checkpoints/<network>, or one step of them.")
    flags.DEFINE_list("classes", None, "Names of the classes whose maps are wanted, such as dog,person.")
    flags.DEFINE_enum("class_filter", None, _FILTERS, "Which classes, if none are named; default predicted.")
    flags.DEFINE_string("out", "cams", "Folder for the results, one folder in it per picture.")
    flags.DEFINE_float(
        "threshold", THRESHOLD, "Score below which a pixel is background.", lower_bound=0, upper_bound=1
    )
    flags.DEFINE_list("scales", [str(s) for s in SCALES], "Sizes at which the network looks at a picture.")
    flags.DEFINE_boolean("flip", True, "Whether it also looks at the mirror image.")
    flags.DEFINE_integer(
        "max_side", MAX_SIDE, "Longer pictures are shrunk to this many pixels for the network; 0: never."
    )


def _description(meta: Mapping[str, Any], folder: Any) -> tuple[Any, tuple[str, ...], str]:
    """Configuration, classes and network of a checkpoint.

    Settings that this version has and that of the checkpoint had not get their defaults.
    """
    from wsss_jax.config import defaults, validate

    config = defaults()
    try:
        with config.unlocked():
            config.update(json.loads(meta["config"]))
        validate(config)
        return config, tuple(meta["classes"]), meta["network"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # whatever the JSON holds
        raise CheckpointError(
            f"{folder}: its description cannot be used ({type(error).__name__}: {_one_line(error)}); "
            "give a checkpoint that wsss_jax.main has saved"
        ) from error


def _indices(names: Sequence[str], known: Sequence[str]) -> list[int]:
    if isinstance(names, str) or not names:
        raise ConfigError(f"classes are {names!r}; give a list of names, of {', '.join(known)}")
    for name in names:
        if name not in known:
            lower = {other.lower(): other for other in known}
            near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
            hint = f"did you mean {lower[near[0]]!r}?" if near else f"there are {', '.join(known)}"
            raise ConfigError(f"class {name!r}: there is no such class here; {hint}")
    return [list(known).index(name) for name in names]


def _pad(view: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    padded = np.zeros((1, *size, 3), np.uint8)
    padded[0, : view.shape[0], : view.shape[1]] = view
    return padded


def _enlarge(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resizes float32[K, h, w] to (H, W), bilinear."""
    if maps.shape[1:] == size:
        return maps.copy()
    bilinear = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(m).resize((size[1], size[0]), bilinear)) for m in maps])


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"--out={folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error


def _numbers(texts: Sequence[str]) -> tuple[float, ...]:
    try:
        return tuple(float(text) for text in texts)
    except ValueError as error:
        raise ConfigError(f"--scales={','.join(texts)}: wanted numbers, such as 0.5,1,1.5,2") from error


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
