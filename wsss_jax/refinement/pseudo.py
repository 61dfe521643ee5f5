"""The host's side of pseudo masks, NumPy only: what a walk starts from, and what its scores say."""

import numpy as np

from wsss_jax.data.class_maps import BACKGROUND, ClassMaps, background_first


def walk_seeds(cam: ClassMaps, alpha: float, stride: int) -> ClassMaps:
    """Background and class scores of the positions of a grid.

    Background is (1 - max)^alpha per pixel (psa), the maximum being over all classes, of which those that
    the image lacks are 0. Positions that stick out of the image count zeros there, in every plane.

    Args:
      cam: without background, 0..1, [K, H, W].
      alpha: higher means less background.
      stride: side of a position in pixels.

    Returns:
      [K + 1, ceil(H / stride), ceil(W / stride)], background first.
    """
    K, H, W = cam.planes.shape
    planes = np.zeros((-(-H // stride) * stride, -(-W // stride) * stride, K + 1), np.float32)
    best = cam.planes.max(0, initial=0)
    planes[:H, :W, 0] = np.maximum(1 - best, 0) ** alpha
    planes[:H, :W, 1:] = np.moveaxis(cam.planes, 0, -1)
    seeds = np.ascontiguousarray(np.moveaxis(mean_of_positions(planes, stride), -1, 0))
    return ClassMaps(background_first(cam.class_ids), seeds)


def upsample(planes: np.ndarray, stride: int, size: tuple[int, ...]) -> np.ndarray:
    """Bilinear enlargement by `stride`, half-pixel convention, cut to (H, W): [K, h, w] -> [K, H, W]."""
    rows = _interpolation(planes.shape[1], stride, size[0])
    columns = _interpolation(planes.shape[2], stride, size[1])
    return rows @ planes.astype(np.float32, copy=False) @ columns.T


def probabilities(logits: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Softmax over planes of logits enlarged by the half-pixel convention: [L, h, w] -> float32[L, H, W]."""
    rows, columns = (_interpolation(n, m / n, m) for n, m in zip(logits.shape[1:], size, strict=True))
    planes = rows @ logits.astype(np.float32, copy=False) @ columns.T
    powers = np.exp(planes - planes.max(0))
    return powers / powers.sum(0)


def relative_foreground(scores: ClassMaps, stride: int, size: tuple[int, ...]) -> ClassMaps:
    """How far each class outweighs the background, from [K + 1, h, w] at the stride: [K, H, W], 0..1.

    Each class's score over the sum of the best class's and the background's. The best class is above 1/2
    exactly where it beats the background, as in psa's argmax; another level than 1/2 weighs the background
    anew, with no need to walk again.
    """
    planes = upsample(scores.planes, stride, size)
    classes = planes[1:]
    total = planes[0] + classes.max(0, initial=0)
    shares = np.divide(classes, total, out=np.zeros_like(classes), where=total > 0)
    return ClassMaps(scores.class_ids[1:], shares)


def relative_to_best(scores: ClassMaps, stride: int, size: tuple[int, ...]) -> ClassMaps:
    """Enlarged scores over the largest of all classes, from [K, h, w] at the stride: [K, H, W], 0..1 (IRN).

    A mask shows a class where this is above the final background score. Where all scores are 0, IRN divides
    0 by 0 and labels the whole image as its first class; here it stays 0, which is background.
    """
    planes = upsample(scores.planes, stride, size)
    best = planes.max(initial=0)
    return ClassMaps(scores.class_ids, planes / best if best > 0 else planes)


def foreground(scores: ClassMaps, stride: int, size: tuple[int, ...]) -> ClassMaps:
    """What a level between class and background is compared with: `relative_foreground` where background was
    propagated as well (psa), else `relative_to_best` (IRN)."""
    with_background = len(scores.class_ids) > 0 and scores.class_ids[0] == BACKGROUND
    return (relative_foreground if with_background else relative_to_best)(scores, stride, size)


def _interpolation(n: int, factor: float, rows: int) -> np.ndarray:
    """float32[rows, n]: weights of the first `rows` samples of n enlarged (or shrunk) by a factor, as PyTorch
    interpolates."""
    source = np.clip((np.arange(rows) + 0.5) / factor - 0.5, 0, n - 1)
    low = np.floor(source).astype(int)
    fraction = (source - low).astype(np.float32)
    weights = np.zeros((rows, n), np.float32)
    weights[np.arange(rows), low] = 1 - fraction
    weights[np.arange(rows), np.minimum(low + 1, n - 1)] += fraction
    return weights


def mean_of_positions(planes: np.ndarray, position: int) -> np.ndarray:
    """Mean over positions: float32[H, W, ...] -> float32[H / position, W / position, ...]."""
    H, W = planes.shape[:2]
    return planes.reshape(H // position, position, W // position, position, *planes.shape[2:]).mean((1, 3))
