"""Whether the CRF scores have something to teach AffinityNet."""

from collections.abc import Sequence

import numpy as np

from wsss_jax.data.source import VOID
from wsss_jax.errors import RunError
from wsss_jax.ops.stencil import half_offsets
from wsss_jax.systems.affinity.labels import STRIDE, AffinitySample, position_labels


def check_pairs(sample: AffinitySample, ids: Sequence[str], radius: int) -> None:
    """Looks at images until each kind of pair has been seen, which is at the first one or two as a rule.

    Raises:
      RunError: all images together have no foreground pair, or no negative one. The loss of such pairs is 0,
        so that training would go on and learn that everything is alike.
    """
    foreground = negative = False
    for image_id in ids:
        labels = _labels(sample, image_id)
        for dy, dx in half_offsets(radius):
            here, there = _paired(labels, dy, dx)
            known = (here != VOID) & (there != VOID)
            foreground |= bool((known & (here == there) & (here != 0)).any())
            negative |= bool((known & (here != there)).any())
        if foreground and negative:
            return
    kind = "foreground pair (two near positions of one class)"
    if foreground:
        kind = "negative pair (two near positions of different classes, or of a class and background)"
    raise RunError(
        f"train_affinity: the CRF scores of all {len(ids)} images have no {kind}, so AffinityNet would learn "
        "nothing; lower --config.affinity.alpha_low for more foreground or alpha_high for more background "
        "(both among --config.crf.alphas), or look at the CAMs"
    )


def _labels(sample: AffinitySample, image_id: str) -> np.ndarray:
    """The labels of all positions of an image, uint8[ceil(H / 8), ceil(W / 8)]."""
    size = sample.source.size(image_id)
    beyond = [(0, -side % STRIDE) for side in size]
    low, high = (np.pad(planes, [*beyond, (0, 0)]) for planes in sample.scores(image_id, size))
    return position_labels(low, high)


def _paired(labels: np.ndarray, dy: int, dx: int) -> tuple[np.ndarray, np.ndarray]:
    """The positions that have another one at the offset, and these; dy >= 0."""
    h, w = labels.shape
    left, right = max(0, -dx), max(0, dx)
    return labels[: max(0, h - dy), left : max(left, w - right)], labels[dy:, right : max(right, w - left)]
