"""A few padded sizes for images of hundreds of sizes, since every array shape is a program to compile."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

Size = tuple[int, int]  # (height, width) in pixels
_GRIDS = (8, 16, 32, 64, 128)  # sizes are first rounded up to multiples of one of these
_MOST = 300  # rounded sizes, for all their pairs are compared, again and again


def plan_buckets(sizes: Iterable[Size], max_buckets: int) -> list[Size]:
    """Chooses at most `max_buckets` sizes such that every image fits into one, and little area is padding.

    Greedy: from all the rounded sizes, the two whose merging pads least become one, until few enough are
    left. The rounding is the finest that leaves few enough to begin with: to multiples of 8, or more for
    thousands of sizes.

    Returns:
      (H, W) of each bucket, by ascending area.
    """
    sizes = list(sizes)
    for grid in _GRIDS:
        counts = Counter((_round_up(h, grid), _round_up(w, grid)) for h, w in sizes)
        if len(counts) <= _MOST:
            break
    groups = [(h, w, n) for (h, w), n in sorted(counts.items())]
    while len(groups) > max_buckets:
        groups = _merge_cheapest(groups)
    return sorted({(h, w) for h, w, _ in groups}, key=lambda size: (size[0] * size[1], size))


def smallest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket of least area that holds an image; ValueError if there is none."""
    fitting = [b for b in buckets if b[0] >= size[0] and b[1] >= size[1]]
    if not fitting:
        raise ValueError(f"no bucket of {list(buckets)} holds an image of {size}")
    return min(fitting, key=lambda b: (b[0] * b[1], b))


def scaled(size: Size, scale: float) -> Size:
    """Size after rescaling, each side rounded as Python rounds and at least 1; monotonic, so buckets scale
    alike."""
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _round_up(n: int, grid: int) -> int:
    return -(-n // grid) * grid


def _merge_cheapest(groups: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    h, w, n = np.asarray(groups, np.int64).T
    area = h * w * n
    merged = np.maximum(h[:, None], h) * np.maximum(w[:, None], w) * (n[:, None] + n)
    cost = (merged - area[:, None] - area).astype(np.float64)
    np.fill_diagonal(cost, np.inf)
    i, j = np.unravel_index(int(cost.argmin()), cost.shape)
    joined = (int(max(h[i], h[j])), int(max(w[i], w[j])), int(n[i] + n[j]))
    return [g for k, g in enumerate(groups) if k not in (i, j)] + [joined]
