"""Flips bits in every file of a checkpoint: restoring notices, or gives what was saved."""

import collections

import jax
import numpy as np
import pytest

from wsss_jax.errors import CheckpointError
from wsss_jax.training.checkpoints import Checkpoints, restore

FLIPS = 8  # in each file


@pytest.fixture
def step(tmp_path):
    """The folder of one step, with a score."""
    rng = np.random.default_rng(0)
    variables = {"params": {"fc8": {"kernel": rng.random((8, 4), np.float32)}}}
    extra = {"optimizer": {"trace": rng.random((8, 4), np.float32)}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, variables, extra, {"network": "cam", "epochs": 1.0})
        checkpoints.score(3, 48.25)
    return tmp_path / "3"


def values(restored):
    leaves = jax.tree_util.tree_leaves_with_path((restored.variables, restored.extra))
    arrays = [(jax.tree_util.keystr(path), leaf.dtype, leaf.shape, leaf.tobytes()) for path, leaf in leaves]
    return arrays, dict(restored.meta), restored.score, restored.step


def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(step):
    rng, counts = np.random.default_rng(1), collections.Counter()
    wanted = values(restore(step, with_extra=True))
    for path in sorted(path for path in step.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for place in rng.choice(len(whole), min(FLIPS, len(whole)), replace=False):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << rng.integers(8)
            path.write_bytes(damaged)
            told = []
            try:
                found = values(restore(step, with_extra=True, warn=told.append))
            except CheckpointError as error:
                assert "\n" not in str(error)
                counts["noticed"] += 1
                continue
            assert told or found == wanted, f"{path}: byte {place} of {len(whole)}"
            counts["noticed" if told else "harmless"] += 1
        path.write_bytes(whole)
    assert values(restore(step, with_extra=True)) == wanted
    print(dict(counts))
    assert counts["noticed"] and counts["harmless"]
