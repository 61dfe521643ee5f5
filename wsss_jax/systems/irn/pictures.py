"""What IRN sees and what its walk does, on a few images, for the report."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from wsss_jax.data.images import open_image
from wsss_jax.data.source import VOID
from wsss_jax.errors import DataError
from wsss_jax.files import write_bytes
from wsss_jax.report import Figure, cam_overlay, contact_sheet, label_overlay
from wsss_jax.runs.context import Run
from wsss_jax.stages.evaluate import read_cams
from wsss_jax.stages.walk import read_foreground
from wsss_jax.systems.irn.network import look
from wsss_jax.systems.irn.see import IrnWalk, boundaries
from wsss_jax.task import Variables

_SHOWN = 8  # images
_TITLE = "Boundaries and the walk"
_CAPTION = (
    "Boundaries: white is certain. Displacements: the colour is the direction, the brighter the farther. CAM "
    "and walked: the largest score of all classes, before the walk and after it."
)


def draw(run: Run, walk: IrnWalk, variables: Variables) -> None:
    """Draws a sheet of the first images that have been walked over."""
    split = run.config.dataset.infer_split
    shown = [i for i in run.ids(split) if run.layout.pseudo_scores(split, i).exists()]
    columns = list(_columns(run, walk, variables, shown[:_SHOWN]))
    if columns:
        rows = [(name, [column[name] for column in columns]) for name in columns[0]]
        write_bytes(sheet_file(run), contact_sheet(rows))


def drawn(run: Run) -> Iterator[Figure]:
    """The sheet, if it is there."""
    path = sheet_file(run)
    if path.exists():
        yield Figure(title=_TITLE, caption=_CAPTION, image=np.asarray(open_image(path).convert("RGB")))


def sheet_file(run: Run) -> Path:
    """Where it is."""
    return run.layout.workdir / "irn" / "walk.png"


def colour_wheel(field: np.ndarray) -> np.ndarray:
    """uint8[h, w, 3] of displacements float32[h, w, 2], (dy, dx): hue by direction, red to the right and cyan
    to the left; brightness by length, the longest one's 1."""
    dy, dx = np.moveaxis(field, -1, 0)
    length = np.hypot(dy, dx)
    hue = np.arctan2(dy, dx) / (2 * np.pi) % 1
    value = length / max(float(length.max()), 1e-6)
    hsv = np.stack([hue, np.ones_like(hue), value], axis=-1)
    return np.asarray(Image.fromarray(np.round(255 * hsv).astype(np.uint8), "HSV").convert("RGB"))


def _columns(
    run: Run, walk: IrnWalk, variables: Variables, ids: list[str]
) -> Iterator[dict[str, np.ndarray]]:
    """The pictures of each image, by what they are; an image that cannot be read is left out."""
    sizes = [run.source.size(image_id) for image_id in ids]
    H, W = (max((size[axis] for size in sizes), default=1) for axis in (0, 1))

    @jax.jit
    def seen_of(variables: Variables, images: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = walk.network.preprocess.images(images)
        field = look(walk.network, variables, pixels, sizes).displacements
        return boundaries(walk.network, variables, pixels, sizes, walk.pad)[0], field[0]

    for image_id, size in zip(ids, sizes, strict=True):
        try:
            image, cams = run.source.image(image_id), read_cams(run, image_id, size).planes
        except DataError:  # told by the stage itself
            continue
        padded = np.zeros((1, H, W, 3), np.uint8)
        padded[0, : size[0], : size[1]] = image
        seen, field = map(np.asarray, seen_of(variables, padded, jnp.array([size])))
        h, w = (-(-n // walk.stride) for n in size)
        walked = read_foreground(run, image_id, size).planes
        mask = run.source.mask(image_id)
        truth = np.zeros(size, np.uint8) if mask is None else np.where(mask == VOID, 0, mask).astype(np.uint8)
        column = {
            "image": image,
            "boundaries": np.repeat(np.round(255 * seen[:h, :w, None]).astype(np.uint8), 3, axis=-1),
            "displacements": colour_wheel(field[:h, :w]),
            "CAM": cam_overlay(image, cams.max(0, initial=0)),
            "walked": cam_overlay(image, walked.max(0, initial=0)),
            "truth": label_overlay(image, truth),
        }
        yield {
            name: np.asarray(Image.fromarray(picture).resize(size[::-1])) for name, picture in column.items()
        }
