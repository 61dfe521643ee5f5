"""AffinityNet's training samples: where CRF scores are confident, positions of 8 x 8 pixels have a label.

The order is psa's (J. Ahn, S. Kwak, CVPR 2018): image and scores are cropped and flipped together, the
scores are averaged over positions, and only then compared. Images keep their size.
"""

import dataclasses
from pathlib import Path

import numpy as np

from wsss_jax.data.class_maps import read_maps
from wsss_jax.data.loader import Sample
from wsss_jax.data.source import VOID, Source
from wsss_jax.data.transforms import ColorJitter, color_jitter, random_window
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.refinement.pseudo import mean_of_positions

STRIDE = 8
_NOTHING = 1e-5  # scores below it mean that the position lies outside the image


@dataclasses.dataclass(frozen=True, kw_only=True)
class AffinitySample:
    """Makes the training sample of an image: image uint8[c, c, 3], box int32[4], labels uint8[c / 8, c / 8].

    Attributes:
        source: the data set.
        low: folder of the scores whose background is generous, so that what is foreground is sure (<id>.npz).
        high: folder of those whose background is sparing, so that what is background is sure.
        crop: side of the square crop in pixels, a multiple of 8.
        flip: whether to mirror half of the images.
        jitter: the colour jitter, or None for none.
    """

    source: Source
    low: Path
    high: Path
    crop: int
    flip: bool = True
    jitter: ColorJitter | None = None

    def __post_init__(self) -> None:
        if self.crop < STRIDE or self.crop % STRIDE:
            raise ConfigError(f"config.affinity.crop={self.crop}: must be a multiple of {STRIDE}")

    def __call__(self, image_id: str, rng: np.random.Generator) -> Sample:
        """Returns the sample."""
        image = self.source.image(image_id)
        low, high = self.scores(image_id, image.shape[:2])
        if self.flip and rng.random() < 0.5:
            image, low, high = image[:, ::-1], low[:, ::-1], high[:, ::-1]
        if self.jitter is not None:
            image = color_jitter(image, rng, self.jitter)
        window = random_window((image.shape[0], image.shape[1]), rng, self.crop)
        # psa crops before it normalises here (for classification after), so what lies beyond the image is
        # black and not the mean colour: the box is the whole crop.
        box = np.array([0, self.crop, 0, self.crop], np.int32)
        labels = position_labels(window.cut(low), window.cut(high))
        return {"image": window.cut(image), "box": box, "labels": labels}

    def scores(self, image_id: str, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The two score stacks, float32[H, W, K + 1] each; DataError if they do not fit."""
        low, high = (
            read_maps(folder / f"{image_id}.npz", image_id, size, background=True, stage="crf")
            for folder in (self.low, self.high)
        )
        if not np.array_equal(low.class_ids, high.class_ids):
            raise DataError(
                f"scores of image {image_id!r}: the two alphas have the keys {low.class_ids.tolist()} and "
                f"{high.class_ids.tolist()}; delete both files and run the stage crf again"
            )
        return np.moveaxis(low.planes, 0, -1), np.moveaxis(high.planes, 0, -1)


def position_labels(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Labels of positions from scores at a low and a high alpha, each float32[c, c, K + 1], background first.

    Foreground where the low one says so, unknown where it says background; then background where the high
    one says so, also where the low one has just said foreground; then unknown where there is no score at all.

    Returns:
        uint8[c / 8, c / 8]: 0 background, 255 unknown, else the *place* of the class among the image's own
        (1, 2, ...): only whether two positions are alike is used.
    """
    low, high = mean_of_positions(low, STRIDE), mean_of_positions(high, STRIDE)
    labels = low.argmax(-1).astype(np.uint8)
    labels[labels == 0] = VOID
    labels[high.argmax(-1) == 0] = 0
    labels[np.maximum(low.max(-1), high.max(-1)) < _NOTHING] = VOID
    return labels
