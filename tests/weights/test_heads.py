import numpy as np
import pytest

from wsss_jax import weights
from wsss_jax.errors import CheckpointError

KERNEL = np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2)
TRUNK = {"conv1a": {"kernel": np.ones((1, 1, 3, 4))}}
VARIABLES = {"params": {"trunk": TRUNK, "fc8": {"kernel": KERNEL}}, "batch_stats": {"trunk": {"bn7": {}}}}


def test_drop_heads_leaves_the_rest_alone():
    found = weights.drop_heads(VARIABLES, ["fc8"])
    assert found == {"params": {"trunk": TRUNK}, "batch_stats": {"trunk": {"bn7": {}}}}
    assert "fc8" in VARIABLES["params"]
    with pytest.raises(CheckpointError, match="no head 'fc9' to leave out; modules: fc8, trunk"):
        weights.drop_heads(VARIABLES, ["fc9"])


def test_take_fresh_replaces_only_the_named_heads():
    fresh = {"kernel": np.zeros((1, 1, 3, 5))}
    initial = {
        "params": {"trunk": None, "fc8": fresh, "bn": {"scale": 1}},
        "batch_stats": {"bn": {"mean": 2}},
    }
    found = weights.take_fresh(VARIABLES, initial, ["fc8", "bn"])
    assert found["params"] == {"trunk": TRUNK, "fc8": fresh, "bn": {"scale": 1}}
    assert found["batch_stats"] == {"trunk": {"bn7": {}}, "bn": {"mean": 2}}
    with pytest.raises(CheckpointError, match="the network has no head 'fc9'"):
        weights.take_fresh(VARIABLES, initial, ["fc9"])


def test_split_head_copies_each_class_k_times():
    found = weights.split_head(VARIABLES, 3)
    assert set(found["params"]) == {"trunk", "fc8_20", "fc8_200"}
    np.testing.assert_array_equal(found["params"]["fc8_20"]["kernel"], KERNEL)
    sub = found["params"]["fc8_200"]["kernel"]
    assert sub.shape == (1, 1, 3, 6)
    assert sub[0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]  # sub-category s of class c is c * k + s
    assert sub[0, 0, 2].tolist() == [4, 4, 4, 5, 5, 5]
    with pytest.raises(CheckpointError, match="0 sub-categories"):
        weights.split_head(VARIABLES, 0)
    with pytest.raises(CheckpointError, match="no head 'fc9'; modules: fc8, trunk"):
        weights.split_head(VARIABLES, 2, source="fc9")


def test_background_comes_first_and_goes_again():
    found = weights.add_background(VARIABLES)
    assert found["params"]["fc8"]["kernel"][0, 0].tolist() == [[0, 0, 1], [0, 2, 3], [0, 4, 5]]
    row = np.array([7, 8, 9])
    with_row = weights.add_background(VARIABLES, background=row)["params"]["fc8"]["kernel"]
    assert with_row[0, 0, :, 0].tolist() == [7, 8, 9]
    assert with_row.dtype == np.float32
    back = weights.remove_background(found)
    np.testing.assert_array_equal(back["params"]["fc8"]["kernel"], KERNEL)
    assert back["params"]["trunk"] is TRUNK
    with pytest.raises(CheckpointError, match=r"row has shape \(2,\), fc8 needs \(3,\)"):
        weights.add_background(VARIABLES, background=np.ones(2))


@pytest.mark.parametrize("shape", [(3, 3, 3, 2), (3, 2)])
def test_only_heads_of_one_by_one(shape):
    variables = {"params": {"fc8": {"kernel": np.ones(shape)}}}
    with pytest.raises(CheckpointError, match="1 x 1 x inputs x classes is needed"):
        weights.add_background(variables)


def test_a_single_class_has_no_background():
    variables = {"params": {"fc8": {"kernel": np.ones((1, 1, 4, 1))}}}
    with pytest.raises(CheckpointError, match="has 1 classes"):
        weights.remove_background(variables)
