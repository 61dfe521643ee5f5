"""Checkpoints: what is kept, what is noticed, what is survived."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from wsss_jax.errors import CheckpointError, RunError
from wsss_jax.training.checkpoints import Checkpoints, best_step, digest, restore, steps


def tree(value):
    return {"params": {"fc8": {"kernel": np.full((3, 4), value, np.float32)}}}


def save(checkpoints, step, score=None, value=None):
    value = step if value is None else value
    checkpoints.save(step, tree(value), {"totals/loss": np.float32(value)}, {"network": "er"}, score)


@pytest.fixture
def checkpoints(tmp_path):
    opened = Checkpoints(tmp_path / "er")
    yield opened
    opened.close()


def flip_a_bit(folder):
    """Changes one bit of the largest file, which holds the numbers."""
    path = max((p for p in Path(folder).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_checkpoint_comes_back_as_it_was_saved(checkpoints):
    save(checkpoints, 7, score=0.5)
    checkpoints.wait()
    restored = checkpoints.newest()
    assert restored.step == 7 and restored.meta["network"] == "er" and restored.meta["score"] == 0.5
    np.testing.assert_array_equal(restored.variables["params"]["fc8"]["kernel"], np.full((3, 4), 7))
    assert restored.extra["totals/loss"] == np.float32(7)


def test_newest_two_and_best_are_kept(checkpoints):
    for step, score in ((1, 0.2), (2, 0.9), (3, 0.1), (4, 0.3), (5, None)):
        save(checkpoints, step, score)
    checkpoints.wait()
    assert steps(checkpoints.folder) == [2, 4, 5]
    assert best_step(checkpoints.folder) == 2


def test_without_scores_the_newest_is_best(checkpoints):
    save(checkpoints, 1)
    save(checkpoints, 2)
    checkpoints.wait()
    assert best_step(checkpoints.folder) == 2


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused(checkpoints, score):
    with pytest.raises(RunError, match="finite"):
        save(checkpoints, 1, score)
    assert checkpoints.saved_steps() == []


def test_a_flipped_bit_is_noticed_and_the_checkpoint_before_is_used(checkpoints):
    save(checkpoints, 1)
    save(checkpoints, 2)
    checkpoints.wait()
    flip_a_bit(checkpoints.folder / "2" / "variables")
    with pytest.raises(CheckpointError, match="damaged"):
        restore(checkpoints.folder / "2")
    said = []
    assert checkpoints.newest(said.append).step == 1
    assert "damaged-2" in said[0] and len(said) == 1
    save(checkpoints, 2, value=5)  # the step can be saved again
    checkpoints.wait()
    assert checkpoints.newest(said.append).extra["totals/loss"] == np.float32(5)


@pytest.mark.parametrize("damage", ["empty folder", "no meta", "no variables"])
def test_an_incomplete_checkpoint_is_passed_over(checkpoints, damage):
    save(checkpoints, 1)
    save(checkpoints, 2)
    checkpoints.wait()
    folder = checkpoints.folder / "2"
    if damage == "empty folder":
        (checkpoints.folder / "9").mkdir()
        assert checkpoints.newest(lambda _: None).step == 2
        return
    shutil.rmtree(folder / damage.split()[1])
    assert checkpoints.newest(lambda _: None).step == 1


def test_what_a_kill_leaves_behind_is_cleared_away(tmp_path):
    first = Checkpoints(tmp_path / "er")
    save(first, 1)
    first.close()
    (tmp_path / "er" / "2.orbax-checkpoint-tmp-17" / "variables").mkdir(parents=True)
    again = Checkpoints(tmp_path / "er")
    assert again.newest().step == 1
    save(again, 2)
    again.close()
    assert steps(tmp_path / "er") == [1, 2]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file.*--workdir"):
        Checkpoints(tmp_path / "file" / "er")


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        restore(tmp_path)


def test_digest_sees_values_names_shapes_and_types():
    base = digest(tree(1))
    assert base == digest(tree(1))
    renamed = {"params": {"fc9": tree(1)["params"]["fc8"]}}
    reshaped = {"params": {"fc8": {"kernel": np.full((4, 3), 1, np.float32)}}}
    retyped = {"params": {"fc8": {"kernel": np.full((3, 4), 1, np.int32)}}}
    assert len({base, *map(digest, (tree(2), renamed, reshaped, retyped))}) == 5
