"""`shapes`: a data set of drawn scenes with exact masks, made on the fly from a seed. Nothing is downloaded.

It has the trouble that weak supervision has with photographs: one part of an object (its head) tells the
class far better than the rest, so a classifier's activation map is strongest there, while a method that looks
on after erasing what is already explained finds more of the body. As in photographs, the discriminative part
is not always in view: some objects are turned away and show no head. Images and masks depend on the seed, the
image size, the split and the index only.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsss_jax.data import lists
from wsss_jax.data.figures import FIGURES
from wsss_jax.errors import ConfigError, DataError

SPLITS = ("train", "val")
SUPERSAMPLING = 2
OBJECT_COUNTS = (0.1, 0.5, 0.4)  # probability of 1, 2, 3 objects
REPEATED = 0.2  # probability that a class may occur twice
SIZE_RANGE = (0.33, 0.48)  # half the object's longer side as a share of the image size
CROWDED = (1.0, 0.88, 0.76)  # factor of the size where there are 1, 2, 3 objects
PLACEMENT_TRIES = 6
MIN_VISIBLE = 0.65  # share of every part that later objects must leave uncovered
TURNED_AWAY = 0.35  # share of the objects that show no head, so that a classifier has to know the bodies too
TINT = 0.13
TEXTURE = 0.1

Patch = tuple[slice, slice]
Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Pose:
    """How a figure stands: centre and half sizes (y, x) in pixels, angle in radians, mirrored or not."""

    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float
    mirrored: bool = False

    def extent(self) -> tuple[float, float]:
        """Half height and half width of the upright box around the turned figure, in pixels."""
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        return self.half[1] * sin + self.half[0] * cos, self.half[1] * cos + self.half[0] * sin

    def patch(self, height: int, width: int) -> Patch:
        """The pixels that the figure can touch."""
        spans = zip(self.centre, self.extent(), (height, width), strict=True)
        rows, columns = (slice(max(0, int(c - e)), min(n, int(c + e) + 2)) for c, e, n in spans)
        return rows, columns

    def coordinates(self, patch: Patch) -> tuple[Floats, Floats]:
        """The figure's own x and y at the supersampled points of a patch: two float32[s*h, s*w]."""
        rows, columns = (_subpixels(span) - c for span, c in zip(patch, self.centre, strict=True))
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        across, down = (-1 if self.mirrored else 1) / self.half[1], 1 / self.half[0]
        x = columns[None, :] * (cos * across) + rows[:, None] * (sin * across)
        y = rows[:, None] * (cos * down) - columns[None, :] * (sin * down)
        return x, y


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One object on the canvas.

    Attributes:
        figure: its class, an index into FIGURES.
        centre: its middle (y, x) in pixels.
        patch: the h x w pixels that it can touch.
        x, y: float32[s*h, s*w], its own coordinates at the supersampled points of the patch.
        head, body: bool[s*h, s*w], the points of each part; they share none.
    """

    figure: int
    centre: tuple[float, float]
    patch: Patch
    x: Floats
    y: Floats
    head: NDArray[np.bool_]
    body: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Scene:
    """The geometry of one image.

    Attributes:
        objects: from back to front.
        owner: uint8[H, W]: 0 where there is no object, 2k + 1 on the body and 2k + 2 on the head of object k.
    """

    objects: tuple[Drawn, ...]
    owner: NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Source of drawn scenes with one to three objects of the classes `Shapes.classes`.

    Attributes:
        num_train: number of images in the split 'train'.
        num_val: number of images in the split 'val'.
        image_size: typical side in pixels, at least 32; heights and widths vary by 20 % around it.
        seed: another seed is another data set.
        root: not used; there so that every source is made in the same way.
    """

    num_train: int = 800
    num_val: int = 200
    image_size: int = 128
    seed: int = 0
    root: str = ""

    name: ClassVar[str] = "shapes"
    classes: ClassVar[tuple[str, ...]] = tuple(figure.name for figure in FIGURES)

    def __post_init__(self) -> None:
        """Raises ConfigError when a number is out of its range."""
        lowest = {"num_train": 0, "num_val": 0, "image_size": 32, "seed": 0}
        for key, least in lowest.items():
            if getattr(self, key) < least:
                raise ConfigError(f"dataset.{key} is {getattr(self, key)}, but must be at least {least}")

    def ids(self, split: str) -> tuple[str, ...]:
        """Returns the ids of 'train', of 'val' or of a list file (see `Source`)."""
        counts = {"train": self.num_train, "val": self.num_val}
        if lists.is_list_path(split):
            ids = [line for _, line in lists.read_lines(split)]
        elif split in counts:
            ids = [f"{split}_{index:05d}" for index in range(counts[split])]
        else:
            raise DataError(
                f"shapes has no split {split!r}; give 'train', 'val' or the path of a list of ids"
            )
        for image_id in ids:
            self._key(image_id)
        return lists.check_ids(ids, split)

    def size(self, image_id: str) -> tuple[int, int]:
        """(H, W) in pixels."""
        return _draw_size(_geometry_rng(self._key(image_id)), self.image_size)

    def image(self, image_id: str) -> NDArray[np.uint8]:
        """The image, uint8[H, W, 3] RGB."""
        scene = self._scene(image_id)
        rng = np.random.default_rng(np.random.SeedSequence(self._key(image_id), spawn_key=(1,)))
        canvas = _background(rng, *scene.owner.shape)
        for drawn in scene.objects:
            _paint(canvas, drawn, rng)
        canvas += rng.uniform(0.01, 0.04) * rng.standard_normal(canvas.shape, np.float32)
        return np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)

    def has_mask(self, image_id: str) -> bool:
        """True: each mask is drawn."""
        return True

    def mask(self, image_id: str) -> NDArray[np.uint8]:
        """uint8[H, W]: 0 background, c + 1 class c. There is no void."""
        scene = self._scene(image_id)
        values = [0] + [drawn.figure + 1 for drawn in scene.objects for _ in range(2)]
        return np.array(values, np.uint8)[scene.owner]

    def parts(self, image_id: str) -> NDArray[np.uint8]:
        """uint8[H, W]: 0 background, 1 an object's body, 2 its head, also where that is turned away."""
        owner = self._scene(image_id).owner
        return np.where(owner == 0, 0, 2 - owner % 2).astype(np.uint8)

    def labels(self, image_id: str) -> NDArray[np.float32]:
        """float32[C] of 0 and 1: the classes that the mask shows."""
        present = np.bincount(self.mask(image_id).ravel(), minlength=len(self.classes) + 1)[1:]
        return (present > 0).astype(np.float32)

    def _scene(self, image_id: str) -> Scene:
        return _scene(self._key(image_id), self.image_size)

    def _key(self, image_id: str) -> tuple[int, int, int]:
        """The entropy of an image's random numbers: seed, split, index."""
        found = re.fullmatch(r"(train|val)_(\d{5,})", image_id)
        split, index = (SPLITS.index(found[1]), int(found[2])) if found else (0, -1)
        if not 0 <= index < (self.num_train, self.num_val)[split]:
            raise DataError(
                f"shapes has no image {image_id!r}: its ids are train_00000-{self.num_train - 1:05d} "
                f"and val_00000-{self.num_val - 1:05d}"
            )
        return self.seed, split, index


@functools.lru_cache(maxsize=32)  # image, labels and mask of one image are asked for one after the other
def _scene(key: tuple[int, ...], image_size: int) -> Scene:
    rng = _geometry_rng(key)
    size = _draw_size(rng, image_size)
    objects: list[Drawn] = []
    owner, areas = np.zeros(size, np.uint8), np.zeros(1, int)
    count = 1 + int(rng.choice(len(OBJECT_COUNTS), p=OBJECT_COUNTS))
    for figure in rng.choice(len(FIGURES), size=count, replace=rng.random() < REPEATED).tolist():
        for attempt in range(PLACEMENT_TRIES):
            scale = image_size * CROWDED[count - 1] * 0.92**attempt
            drawn = _draw(figure, _random_pose(rng, scale, size, objects), size)
            stamped = _stamp(owner, drawn, len(objects))
            visible = np.bincount(stamped.ravel(), minlength=2 * len(objects) + 3)
            if np.all(visible[1:-2] >= MIN_VISIBLE * areas[1:]):
                objects.append(drawn)
                owner, areas = stamped, np.concatenate([areas, visible[-2:]])
                break
    return Scene(tuple(objects), owner)


def _geometry_rng(key: tuple[int, ...]) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key, spawn_key=(0,)))


def _draw_size(rng: np.random.Generator, image_size: int) -> tuple[int, int]:
    height, width = np.rint(image_size * rng.uniform(0.8, 1.2, 2)).astype(int).tolist()
    return height, width


def _subpixels(span: slice) -> Floats:
    count = (span.stop - span.start) * SUPERSAMPLING
    return (np.arange(count, dtype=np.float32) + 0.5) / SUPERSAMPLING + span.start


def _shrink(values: NDArray) -> Floats:
    """Mean over each pixel's supersampled points: [s*h, s*w, ...] to float32[h, w, ...]."""
    s = SUPERSAMPLING
    phases = [values[i::s, j::s].astype(np.float32) for i in range(s) for j in range(s)]
    return sum(phases[1:], start=phases[0]) / np.float32(s * s)


def _random_pose(rng: np.random.Generator, scale: float, size: tuple[int, int], others: list[Drawn]) -> Pose:
    """A pose inside the image; of a few places the one that is farthest from the objects already there."""
    radius, stretch = scale * rng.uniform(*SIZE_RANGE), math.exp(rng.uniform(-0.2, 0.2))
    half = (min(radius / stretch, 0.38 * size[0]), min(radius * stretch, 0.38 * size[1]))
    pose = Pose((0, 0), half, rng.uniform(-0.5, 0.5), bool(rng.random() < 0.5))
    low = [min(e, n / 2) for e, n in zip(pose.extent(), size, strict=True)]
    centres = rng.uniform(low, np.subtract(size, low), (6, 2)).tolist()
    centre = max(centres, key=lambda c: min((math.dist(c, o.centre) for o in others), default=0))
    return dataclasses.replace(pose, centre=tuple(centre))


def _draw(figure: int, pose: Pose, size: tuple[int, int]) -> Drawn:
    patch = pose.patch(*size)
    x, y = pose.coordinates(patch)
    head = FIGURES[figure].head(x, y)
    return Drawn(figure, pose.centre, patch, x, y, head, FIGURES[figure].body(x, y) & ~head)


def _stamp(owner: NDArray[np.uint8], drawn: Drawn, index: int) -> NDArray[np.uint8]:
    """A copy of the owner map with object `index` in front: a pixel is its own when half of it is covered."""
    head, body = _shrink(drawn.head), _shrink(drawn.body)
    out = owner.copy()
    out[drawn.patch] = np.where(head + body >= 0.5, 2 * index + 1 + (head > body), out[drawn.patch])
    return out


def _paint(canvas: Floats, drawn: Drawn, rng: np.random.Generator) -> None:
    """Lays an object's colours over a canvas float32[H, W, 3], in proportion to how far it covers each pixel.

    The body is a grey of the object's own, with a random cast beside the class's tint.
    """
    figure, x, y = FIGURES[drawn.figure], drawn.x, drawn.y
    turned = rng.random() < TURNED_AWAY
    head, plain = (drawn.head & False, drawn.head | drawn.body) if turned else (drawn.head, drawn.body)
    first = head & (figure.pattern(x, y) > 0)
    cover = np.stack([_shrink(first), _shrink(head & ~first), _shrink(plain)], axis=-1)
    body = rng.uniform(0.42, 0.78) + rng.normal(0, 0.03, 3) + TINT * np.asarray(figure.tint)
    colours = np.stack([*(np.asarray(figure.colours) + rng.normal(0, 0.03, (2, 3))), body]).astype(np.float32)
    light = _shrink((drawn.head | drawn.body) * (-0.07 * y - rng.uniform(-0.07, 0.07) * x))
    light += _shrink(plain * (TEXTURE * figure.texture(x, y)))
    below = canvas[drawn.patch] * (1 - cover.sum(axis=-1, keepdims=True))
    canvas[drawn.patch] = below + cover @ colours + light[..., None]


def _background(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Noise at three scales on a dull colour, under shapes that belong to no class: float32[H, W, 3]."""
    colour = rng.uniform(0.25, 0.8, 3)
    canvas = np.full((height, width, 3), 0.4 * colour + 0.6 * colour.mean(), np.float32)
    for cells, strength in ((3, 0.10), (9, 0.05), (24, 0.03)):
        canvas += strength * rng.uniform(0.5, 1.5) * _noise(rng, cells, height, width)
    for patch, cover, paint in _distractors(rng, height, width):
        canvas[patch] += cover[..., None] * (paint - canvas[patch])
    return canvas


def _noise(rng: np.random.Generator, cells: int, height: int, width: int) -> Floats:
    """Smooth noise, about N(0, 1) and mostly grey, with that many cells along a side: float32[H, W, 3]."""
    grid = rng.standard_normal((cells, cells, 1)) + 0.3 * rng.standard_normal((cells, cells, 3))
    coarse = Image.fromarray(np.clip(128 + 32 * grid, 0, 255).astype(np.uint8))
    smooth = coarse.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float32) / np.float32(32) - np.float32(4)


def _distractors(rng: np.random.Generator, height: int, width: int) -> Iterator[tuple[Patch, Floats, Floats]]:
    """Patch, coverage float32[h, w] and colour float32[3] of a few plain or striped blobs and bars."""
    palette = np.array([colour for figure in FIGURES for colour in figure.colours], np.float32)
    side = min(height, width)
    for _ in range(rng.integers(1, 5)):
        half = (side * rng.uniform(0.04, 0.2), side * rng.uniform(0.04, 0.2))
        pose = Pose((rng.uniform(0, height), rng.uniform(0, width)), half, rng.uniform(0, math.pi))
        patch = pose.patch(height, width)
        x, y = pose.coordinates(patch)
        inside = x * x + y * y < 1 if rng.random() < 0.5 else np.maximum(np.abs(x), np.abs(y)) < 1
        if rng.random() < 0.4:
            inside &= np.sin(rng.uniform(4, 9) * x) > 0
        colour = palette[rng.integers(len(palette))]
        yield patch, rng.uniform(0.4, 0.8) * _shrink(inside), 0.4 * colour + 0.6 * colour.mean()
