"""Which patches of a training crop are hidden, for methods that compare complementary parts of an image.

Host side, in loader workers. scikit-image is imported when the first superpixels are made.
"""

import dataclasses

import numpy as np

from wsss_jax.data.loader import MakeSample, Sample
from wsss_jax.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from wsss_jax.systems.cpn.settings import PatchRule


@dataclasses.dataclass(frozen=True)
class PatchSample:
    """Adds to each training sample `keep` uint8[c, c], 1 where the patches of its crop stay visible."""

    sample: MakeSample
    rule: PatchRule

    def __call__(self, image_id: str, rng: np.random.Generator) -> Sample:
        """Returns the sample."""
        made = self.sample(image_id, rng)
        return {**made, "keep": draw_patches(made["image"], made["box"], rng, self.rule)}


def draw_patches(image: np.ndarray, box: np.ndarray, rng: np.random.Generator, rule: PatchRule) -> np.ndarray:
    """Draws the patches of a crop that are hidden.

    Args:
        image: uint8[H, W, 3], RGB, the crop.
        box: int32[4], (top, bottom, left, right) of the image inside the crop.
        rng: the only source of randomness.
        rule: how they are drawn.

    Returns:
        uint8[H, W]: 0 where a hidden patch lies, else 1.
    """
    if rule.patches == "slic":
        ids = superpixels(image, box, rule.segments, rule.compactness)
        hidden = _some(ids, rng, rule.share)
    else:
        hidden = _cells(image.shape[:2], rng, rule)
    return np.where(hidden, np.uint8(0), np.uint8(1))


def superpixels(image: np.ndarray, box: np.ndarray, segments: int, compactness: float) -> np.ndarray:
    """Divides the normalised crop into SLIC superpixels (R. Achanta et al., TPAMI 2012).

    As in CPN's code, the empty border, zeros after normalising, takes part. Its authors used scikit-image
    0.17.2, which compared colours in Lab of the normalised values as they are. Newer versions first map them
    to 0..1, which changes the superpixels' number and borders, and map an image that is Lab already to 0..1
    too; the compactness is therefore divided by what they divide Lab by.

    Args:
        image: uint8[H, W, 3], RGB.
        box: int32[4], see `draw_patches`.
        segments: about how many there will be; fewer where colours differ much.
        compactness: weight of distance against colour.

    Returns:
        int[H, W], 0 to the number of superpixels - 1.
    """
    from skimage.color import rgb2lab
    from skimage.segmentation import slic

    pixels = np.zeros(image.shape, np.float32)
    inside = np.s_[box[0] : box[1], box[2] : box[3]]
    mean, std = np.asarray(IMAGENET_MEAN, np.float32), np.asarray(IMAGENET_STD, np.float32)
    pixels[inside] = (image[inside].astype(np.float32) / 255 - mean) / std
    lab = rgb2lab(pixels.astype(np.float64))
    span = np.ptp(lab) or 1.0
    return slic(lab, segments, compactness / span, convert2lab=False, start_label=0)


def _some(ids: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """bool[H, W] of floor(share * n) draws, with replacement, among the superpixels 0..n-1 of int[H, W].

    CPN's code counts its superpixels from 1 and draws from 0..n, so that a draw hides nothing once in n + 1.
    """
    count = int(ids.max()) + 1
    drawn = np.zeros(count + 1, bool)
    drawn[rng.integers(count + 1, size=int(share * count))] = True
    return drawn[ids]


def _cells(shape: tuple[int, int], rng: np.random.Generator, rule: PatchRule) -> np.ndarray:
    """bool[H, W] of the cells of one grid, each drawn or not."""
    height, width = shape
    side = rule.cells[int(rng.integers(len(rule.cells)))]
    drawn = rng.random((-(-height // side), -(-width // side))) < rule.probability
    return drawn.repeat(side, 0).repeat(side, 1)[:height, :width]
