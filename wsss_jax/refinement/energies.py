"""Unary energies of dense CRFs from scores and from labels, in the references' arithmetic. Imports no JAX."""

from collections.abc import Sequence

import numpy as np

GT_PROBABILITY = 0.7  # that IRN gives to a pixel's own label
BINARISED_AT = 0.15  # SC-CAM's threshold for its heat maps
MEAN_BGR = (104.008, 116.669, 122.675)  # of DeepLab v2's training images


def with_background(cam: np.ndarray, alpha: float) -> np.ndarray:
    """Puts the background's score (1 - max CAM)^alpha before class scores float32[K, H, W], K at least 1.

    The sum over labels is not 1, neither here nor in psa. CPN's halved maps go in as they are: the function
    in its repository, which no published script calls, knows nothing of halves.
    """
    best = cam.max(axis=0, keepdims=True)
    # A maximum above 1 by rounding would be NaN under a fractional exponent.
    return np.concatenate([np.power(np.maximum(1 - best, 0), np.float32(alpha)), cam]).astype(np.float32)


def score_energy(scores: np.ndarray) -> np.ndarray:
    """-log of scores cut to 1e-5..1: float32[L, H, W] (pydensecrf's `unary_from_softmax`)."""
    return -np.log(np.clip(scores, 1e-5, 1.0)).astype(np.float32)


def label_energy(labels: np.ndarray, count: int, probability: float = GT_PROBABILITY) -> np.ndarray:
    """Energies float32[L, H, W] of a label map int[H, W] with values 0..L - 1, L = `count` of at least 2.

    -log(p) for the pixel's own label, -log((1 - p) / (L - 1)) for others; no label means "unsure".
    """
    own = labels[None] == np.arange(count)[:, None, None]
    others = -np.log((1 - probability) / (count - 1))
    return np.where(own, -np.log(probability), others).astype(np.float32)


def cam_energies(cam: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """float32[A, K + 1, H, W]: the energies of CAMs float32[K, H, W] for each alpha, background first."""
    return np.stack([score_energy(with_background(cam, alpha)) for alpha in alphas])


def binarised(cam: np.ndarray) -> np.ndarray:
    """The maps as SC-CAM's files hold them and its CRF sees them: 0 up to 0.15, 255 above.

    Its program draws a heat map of each CAM before it does either, and drawing overwrites the array in place.
    Its scores are computed before that, so they are those of the soft maps.
    """
    return np.where(cam > BINARISED_AT, np.float32(255), np.float32(0))


def binarised_energies(cam: np.ndarray, alphas: Sequence[float]) -> np.ndarray:
    """As `cam_energies`, but of `binarised` maps as SC-CAM's program computes them.

    With an even alpha, as both of its own are, background is (1 - 255)^alpha where there is a class, which is
    cut to 1 like the class itself: there the two are tied, and only the kernels decide.

    Args:
      cam: float32[K, H, W].
      alphas: whole numbers.
    """
    maps = binarised(cam)
    with np.errstate(over="ignore"):  # 254^32 is infinite in float32, and cut to 1 too
        background = [np.power(1 - maps.max(axis=0, keepdims=True), np.float32(alpha)) for alpha in alphas]
    return np.stack([score_energy(np.concatenate([plane, maps])) for plane in background])


def threshold_energies(cam: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """float32[A, K + 1, H, W]: the energies of IRN's start labels for each background threshold.

    A start label is the argmax over [threshold, CAMs]; the first of equal planes, background, wins.
    """
    return np.stack([label_energy(start_labels(cam, t), len(cam) + 1) for t in thresholds])


def start_labels(cam: np.ndarray, threshold: float) -> np.ndarray:
    """int64[H, W]: 0 where no map of float32[K, H, W] exceeds the threshold, else its place + 1."""
    background = np.full((1, *cam.shape[1:]), threshold, np.float32)
    return np.argmax(np.concatenate([background, cam]), axis=0)


def confident_labels(high: np.ndarray, low: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """IRN's training labels uint8[H, W] from the argmax of two CRFs over [background, classes].

    Args:
      high: int[H, W], of the high background threshold: where it says a class, that class (index + 1).
      low: int[H, W], of the low one: where both say background, 0. Void (255) elsewhere.
      keys: int[K], the 0-based classes; without any, everything is 0.
    """
    values = np.concatenate([[0], np.asarray(keys, np.int64) + 1])
    classes = values[high]
    label = np.where(classes == 0, 255, classes)
    return np.where(values[low] + classes == 0, 0, label).astype(np.uint8)


def mean_subtracted(image: np.ndarray) -> np.ndarray:
    """The image that deeplab-pytorch's `crf` command hands its CRF, from uint8[H, W, 3] RGB.

    BGR less the mean, cast to uint8: values below the mean wrap around (a slip of the original, and what its
    published scores were made with).
    """
    shifted = image[..., ::-1].astype(np.float32) - np.asarray(MEAN_BGR, np.float32)
    return shifted.astype(np.int32).astype(np.uint8)  # through int32, for the direct cast is undefined
