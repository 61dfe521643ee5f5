"""IRN's training samples: images and the label maps of `ir_labels`, at every fourth pixel."""

import dataclasses
from pathlib import Path

import numpy as np

from wsss_jax.data.images import read_mask
from wsss_jax.data.loader import Sample
from wsss_jax.data.source import VOID, Source
from wsss_jax.data.transforms import random_window, rescale, rescale_labels

STRIDE, _FIRST = 4, 2  # labels are those of pixels 2, 6, 10, ... of the crop


@dataclasses.dataclass(frozen=True, kw_only=True)
class InterPixelSample:
    """Makes the training sample of an image: image uint8[c, c, 3], box int32[4], labels uint8[c / 4, c / 4].

    Attributes:
      source: the data set.
      labels: folder of the label maps (<id>.png).
      crop: side of the square crop in pixels, a multiple of 4.
      scales: smallest and largest factor by which image and labels are rescaled together.
      flip: whether to mirror half of the images.
    """

    source: Source
    labels: Path
    crop: int
    scales: tuple[float, float]
    flip: bool = True

    def __call__(self, image_id: str, rng: np.random.Generator) -> Sample:
        """Returns the sample."""
        image, labels = self.source.image(image_id), self.read(image_id)
        factor = rng.uniform(*self.scales)
        image, labels = rescale(image, factor), rescale_labels(labels, factor)
        if self.flip and rng.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        window = random_window((image.shape[0], image.shape[1]), rng, self.crop)
        labels = window.cut(labels, fill=VOID)[_FIRST::STRIDE, _FIRST::STRIDE]
        return {"image": window.cut(image), "box": window.box, "labels": labels}

    def read(self, image_id: str) -> np.ndarray:
        """The label map uint8[H, W]: 0 background, class + 1, 255 unknown; DataError if it cannot be used."""
        path = self.labels / f"{image_id}.png"
        return read_mask(path, image_id, len(self.source.classes), self.source.size(image_id))
