"""AffinityNet is not trained on scores that have nothing to teach."""

from types import SimpleNamespace

import numpy as np
import pytest

from wsss_jax.errors import RunError
from wsss_jax.systems.affinity.pairs import check_pairs

SIZE = (20, 44)  # 3 x 6 positions


class Sample:
    """Scores of images whose positions are labelled by hand: 0 background, 1 and 2 classes, 255 unknown."""

    def __init__(self, *pictures):
        self.pictures = dict(zip("abc", pictures, strict=False))
        self.source = SimpleNamespace(size=lambda image_id: SIZE)
        self.asked = []

    def scores(self, image_id, size):
        """What the label's own plane says at both alphas; of unknown positions, they disagree."""
        self.asked.append(image_id)
        pixels = np.kron(self.pictures[image_id], np.ones((8, 8), int))[: size[0], : size[1]]
        low = np.stack([pixels % 255 == label for label in range(3)], -1).astype(np.float32)
        high = np.where((pixels == 255)[..., None], low[..., [1, 0, 2]], low)
        return low, high


def positions(**labels):
    """Unknown but for the positions that are named by row and column, such as r0c3=1."""
    found = np.full((3, 6), 255)
    for place, label in labels.items():
        found[int(place[1]), int(place[3])] = label
    return found


ALL_BACKGROUND, ALL_ONE_CLASS = np.zeros((3, 6), int), np.ones((3, 6), int)


@pytest.mark.parametrize(
    ("pictures", "missing"),
    [
        ([ALL_BACKGROUND], "foreground"),
        ([ALL_ONE_CLASS], "negative"),
        ([ALL_ONE_CLASS, 2 * ALL_ONE_CLASS], "negative"),  # different classes, but in different pictures
        ([positions(r0c0=1, r0c1=0)], "foreground"),  # a negative pair only
        ([positions(r0c0=1, r0c5=1)], "foreground"),  # too far apart
        ([positions(r0c0=1, r0c1=1, r2c5=0)], "negative"),
    ],
)
def test_a_kind_of_pair_that_is_nowhere_stops_training(pictures, missing):
    with pytest.raises(
        RunError, match=rf"all {len(pictures)} images have no {missing} pair.*alpha_low"
    ) as error:
        check_pairs(Sample(*pictures), "abc"[: len(pictures)], radius=3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "picture",
    [
        positions(r0c0=1, r0c2=1, r2c0=2),  # two columns apart, two rows apart
        positions(r0c4=1, r1c3=1, r2c5=0),  # diagonally, to either side
    ],
)
def test_one_picture_with_both_kinds_is_enough(picture):
    sample = Sample(ALL_BACKGROUND, picture, ALL_BACKGROUND)
    check_pairs(sample, "abc", radius=3)
    assert sample.asked == ["a", "b"]
