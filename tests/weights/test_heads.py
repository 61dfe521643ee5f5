import numpy as np
import pytest

from wsss_jax import weights
from wsss_jax.errors import CheckpointError

KERNEL = np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2)
TRUNK = {"conv1a": {"kernel": np.ones((1, 1, 3, 4))}}
VARIABLES = {"params": {"trunk": TRUNK, "fc8": {"kernel": KERNEL}}, "batch_stats": {"trunk": {"bn7": {}}}}


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


def test_background_comes_first():
    found = weights.add_background(VARIABLES)
    assert found["params"]["fc8"]["kernel"][0, 0].tolist() == [[0, 0, 1], [0, 2, 3], [0, 4, 5]]
    assert found["params"]["fc8"]["kernel"].dtype == np.float32
    assert found["params"]["trunk"] is TRUNK and VARIABLES["params"]["fc8"]["kernel"] is KERNEL
    with pytest.raises(CheckpointError, match="no head 'fc8'; modules: trunk"):
        weights.add_background({"params": {"trunk": TRUNK}})


@pytest.mark.parametrize("shape", [(3, 3, 3, 2), (3, 2)])
def test_only_heads_of_one_by_one(shape):
    variables = {"params": {"fc8": {"kernel": np.ones(shape)}}}
    with pytest.raises(CheckpointError, match="1 x 1 x inputs x classes is needed"):
        weights.add_background(variables)
