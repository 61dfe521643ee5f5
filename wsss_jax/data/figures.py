"""The things that the `shapes` data set draws: where their head and body are, how both are painted.

A figure lives in its own frame: x to the right, y down, everything inside [-1, 1]. Predicates and patterns
take two float32 arrays of such coordinates and answer point by point, so that the same geometry gives the
image and the mask. The head (a fifth to a quarter of the area) carries a saturated pattern that no other
figure has. The body carries a tint and a texture of its own too, but faintly.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Coordinates = NDArray[np.float32]
Region = Callable[[Coordinates, Coordinates], NDArray[np.bool_]]
Wave = Callable[[Coordinates, Coordinates], NDArray[np.float32]]
Colour = tuple[float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One class of object.

    Attributes:
        name: the class name.
        head: where the head is; it hides the body behind it.
        body: where the body is.
        pattern: where the head shows its first colour (above 0) and where its second.
        colours: the head's two RGB colours, each channel in 0..1.
        tint: RGB offset of the body from neutral grey, each channel in -1..1; painted faintly.
        texture: light and dark of the body, in -1..1; painted faintly.
    """

    name: str
    head: Region
    body: Region
    pattern: Wave
    colours: tuple[Colour, Colour]
    tint: Colour
    texture: Wave


def _ellipse(x: Coordinates, y: Coordinates, cx: float, cy: float, rx: float, ry: float) -> NDArray[np.bool_]:
    return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1


def _caterpillar_head(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    feeler = (np.abs(x - 0.66 - 0.25 * (-0.35 - y)) < 0.05) & (y > -0.75) & (y < -0.2)
    return _ellipse(x, y, 0.68, -0.08, 0.31, 0.36) | feeler


def _caterpillar_body(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    body = _ellipse(x, y, -0.72, 0.12, 0.27, 0.3)
    for cx, cy in ((-0.38, -0.06), (0.0, 0.1), (0.34, -0.04)):
        body |= _ellipse(x, y, cx, cy, 0.3, 0.38)
    feet = (np.abs(y - 0.4) < 0.14) & (np.sin(16 * x) > 0.1) & (np.abs(x + 0.2) < 0.65)
    return body | feet


def _fish_head(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    return _ellipse(x, y, 0.18, 0, 0.8, 0.52) & (x > 0.45 + 0.25 * y * y)


def _fish_body(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    tail = (x > -0.98) & (x < -0.4) & (np.abs(y) < -0.12 - 0.62 * x)
    fin = (y > -0.78) & (y < -0.3) & (x > -0.95 - 0.9 * y) & (x < 0.85 + 0.9 * y)
    return _ellipse(x, y, 0.18, 0, 0.8, 0.52) | tail | fin


def _kite_sail(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    return (np.abs(x) / 0.68 + np.where(y < -0.3, (-0.3 - y) / 0.7, (y + 0.3) / 1.0)) <= 1


def _kite_head(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    return _kite_sail(x, y) & (y < -0.46)


def _kite_body(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    ribbon = (np.abs(x - 0.12 * np.sin(9 * (y - 0.65))) < 0.08) & (y > 0.5) & (y < 1)
    return _kite_sail(x, y) | ribbon


def _mushroom_head(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    return _ellipse(x, y, 0, -0.44, 0.72, 0.46) & (y < -0.42)


def _mushroom_body(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    skirt = _ellipse(x, y, 0, -0.4, 0.66, 0.2)
    stem = (np.abs(x) < 0.48 + 0.16 * y) & (y > -0.45) & (y < 0.8)
    return stem | skirt | _ellipse(x, y, 0, 0.74, 0.62, 0.22)


def _rocket_head(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    return _ellipse(x, y, 0, -0.38, 0.4, 0.6) & (y < -0.36)


def _rocket_body(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    hull = (np.abs(x) < 0.4 - 0.1 * np.maximum(y, 0)) & (y > -0.4) & (y < 0.8)
    fins = (np.abs(x) < 0.75 * (y + 0.2)) & (np.abs(x) < 0.72) & (y > 0.2) & (y < 0.9 - 0.08 * np.cos(7 * x))
    return hull | fins


def _snail_head(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    stalks = (np.abs(np.abs(x - 0.68 + 0.1 * y) - 0.12) < 0.06) & (y > -0.62) & (y < -0.2)
    return _ellipse(x, y, 0.66, 0.12, 0.29, 0.42) | stalks


def _snail_body(x: Coordinates, y: Coordinates) -> NDArray[np.bool_]:
    foot = _ellipse(x, y, -0.08, 0.6, 0.9, 0.22)
    return _ellipse(x, y, -0.22, -0.02, 0.66, 0.68) | foot


def _stripes(kx: float, ky: float) -> Wave:
    return lambda x, y: np.sin(kx * x + ky * y)


def _product(kx: float, ky: float) -> Wave:
    return lambda x, y: np.sin(kx * x) * np.sin(ky * y)


def _rings(cx: float, cy: float, k: float) -> Wave:
    return lambda x, y: np.sin(k * np.hypot(x - cx, y - cy))


def _dots(k: float) -> Wave:
    return lambda x, y: 0.3 - np.cos(k * x) * np.cos(k * y)


def _chevrons(k: float) -> Wave:
    return lambda x, y: np.sin(k * (y + 0.8 * np.abs(x)))


FIGURES: tuple[Figure, ...] = (
    Figure(
        name="caterpillar",
        head=_caterpillar_head,
        body=_caterpillar_body,
        pattern=_stripes(0, 15),
        colours=((1.0, 0.5, 0.0), (0.3, 0.1, 0.0)),
        tint=(-0.4, 1.0, -0.6),
        texture=_stripes(18, 0),
    ),
    Figure(
        name="fish",
        head=_fish_head,
        body=_fish_body,
        pattern=_rings(0.98, 0, 17),
        colours=((0.0, 0.3, 0.95), (0.4, 0.9, 1.0)),
        tint=(-0.9, 0.3, 0.6),
        texture=_product(15, 15),
    ),
    Figure(
        name="kite",
        head=_kite_head,
        body=_kite_body,
        pattern=_chevrons(20),
        colours=((1.0, 0.9, 0.0), (0.75, 0.5, 0.0)),
        tint=(0.6, 0.5, -1.0),
        texture=_stripes(9, 9),
    ),
    Figure(
        name="mushroom",
        head=_mushroom_head,
        body=_mushroom_body,
        pattern=_dots(11),
        colours=((0.9, 0.0, 0.05), (1.0, 0.95, 0.9)),
        tint=(1.0, -0.2, -0.7),
        texture=_stripes(0, 12),
    ),
    Figure(
        name="rocket",
        head=_rocket_head,
        body=_rocket_body,
        pattern=_product(11, 11),
        colours=((0.95, 0.0, 0.8), (0.6, 0.2, 1.0)),
        tint=(0.1, -0.5, 0.8),
        texture=_stripes(22, 0),
    ),
    Figure(
        name="snail",
        head=_snail_head,
        body=_snail_body,
        pattern=_stripes(11, 11),
        colours=((0.0, 0.65, 0.1), (0.7, 1.0, 0.2)),
        tint=(0.9, -0.7, 0.5),
        texture=_rings(-0.22, -0.02, 17),
    ),
)
