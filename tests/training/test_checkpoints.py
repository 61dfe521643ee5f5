"""Checkpoints: what is kept, what is noticed, what is survived."""

import errno
import itertools
import shutil
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from wsss_jax.errors import CheckpointError, RunError
from wsss_jax.training.checkpoints import (
    Checkpoints,
    best_first,
    best_step,
    digest,
    read_meta,
    read_score,
    restore,
    restore_first,
    steps,
)


def tree(value):
    return {"params": {"fc8": {"kernel": np.full((3, 4), value, np.float32)}}}


def save(checkpoints, step, score=None, value=None):
    value = step if value is None else value
    checkpoints.save(step, tree(value), {"totals/loss": np.float32(value)}, {"network": "er"})
    if score is not None:
        checkpoints.score(step, score)


@pytest.fixture
def checkpoints(tmp_path):
    with Checkpoints(tmp_path / "er") as opened:
        yield opened


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
    assert restored.step == 7 and restored.meta["network"] == "er" and restored.score == 0.5
    np.testing.assert_array_equal(restored.variables["params"]["fc8"]["kernel"], np.full((3, 4), 7))
    assert restored.extra["totals/loss"] == np.float32(7)


def test_the_interface_of_orbax_1_reads_what_is_saved(checkpoints):
    """Its top level from the next major version on, which pyproject.toml leaves out until then."""
    from orbax.checkpoint import v1

    save(checkpoints, 7)
    checkpoints.wait()
    found = v1.load(checkpoints.folder / "7", checkpointable_name="variables")
    np.testing.assert_array_equal(found["params"]["fc8"]["kernel"], np.full((3, 4), 7))


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
    assert checkpoints.on_disk() == [1] and checkpoints.newest().score is None


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


def test_the_same_step_may_be_damaged_twice(checkpoints):
    save(checkpoints, 1)
    for _ in range(3):
        save(checkpoints, 2)
        checkpoints.wait()
        flip_a_bit(checkpoints.folder / "2" / "variables")
        assert checkpoints.newest(lambda _: None).step == 1
    names = {p.name for p in checkpoints.folder.iterdir()}
    assert names == {"1", "damaged-2", "damaged-2-2", "damaged-2-3"}


def test_a_score_leaves_the_weights_as_they_are(checkpoints):
    save(checkpoints, 1)
    checkpoints.wait()
    before = contents(checkpoints.folder)
    checkpoints.score(1, 0.5)
    after = contents(checkpoints.folder)
    assert set(after) - set(before) == {Path("1/score.json")}
    assert {path: after[path] for path in before} == before


def contents(folder):
    """The bytes of all files and the times of their last change."""
    found = [p for p in Path(folder).rglob("*") if p.is_file()]
    return {p.relative_to(folder): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def test_no_flipped_bit_is_silent(checkpoints):
    """Every byte that decides step, score or description; one of the two flips keeps a digit a digit."""
    save(checkpoints, 16, score=33.9)
    save(checkpoints, 32, score=12.5)
    checkpoints.wait()
    sound = checkpoints.folder / "16"
    for path in (sound / "meta/metadata", sound / "score.json"):
        content = path.read_bytes()
        for i, bit in itertools.product(range(len(content)), (1, 32)):
            path.write_bytes(content[:i] + bytes([content[i] ^ bit]) + content[i + 1 :])
            said = []
            try:
                meta, score = read_meta(sound), read_score(sound, said.append)
            except CheckpointError:
                continue
            assert said or (meta["step"], meta["network"], score) == (16, "er", 33.9), content[i - 9 : i + 9]
        path.write_bytes(content)
    assert best_step(checkpoints.folder) == 16


def test_a_step_in_another_steps_folder_is_refused(checkpoints):
    save(checkpoints, 1, score=0.9)
    save(checkpoints, 2, score=0.1)
    checkpoints.wait()
    shutil.copytree(checkpoints.folder / "1", checkpoints.folder / "9")
    said = []
    assert best_step(checkpoints.folder, said.append) == 1
    assert checkpoints.newest(said.append).step == 2
    assert "9/score.json: damaged" in said[0] and "holds step 1" in said[1]


@pytest.mark.parametrize("damage", ["cut", "deleted", "flipped"])
def test_a_best_step_that_is_damaged_is_told_of_and_passed_over(checkpoints, damage):
    for step, score in ((1, 0.2), (2, 0.9), (3, 0.4)):
        save(checkpoints, step, score)
    checkpoints.wait()
    meta = checkpoints.folder / "2" / "meta" / "metadata"
    if damage == "flipped":
        flip_a_bit(checkpoints.folder / "2" / "meta")
    else:
        meta.unlink() if damage == "deleted" else meta.write_text(meta.read_text()[:40])
    said = []
    assert best_step(checkpoints.folder, said.append) == 3
    assert restore_first(checkpoints.folder, best_first(checkpoints.folder), said.append).step == 3
    assert len(said) == 2 and all(line.endswith("passed over") for line in said)


def test_a_score_that_is_damaged_counts_as_none(checkpoints):
    save(checkpoints, 1, 0.2)
    save(checkpoints, 2, 0.9)
    (checkpoints.folder / "2" / "score.json").write_text("{")
    said = []
    assert best_step(checkpoints.folder, said.append) == 1
    assert "2/score.json: damaged; step 2 counts as not evaluated" in said[0]
    assert checkpoints.newest(said.append).score is None


def test_an_error_completes_what_is_being_saved(tmp_path):
    with pytest.raises(KeyError), Checkpoints(tmp_path / "er") as checkpoints:
        save(checkpoints, 1)
        raise KeyError
    assert restore(tmp_path / "er" / "1").step == 1


def test_a_save_that_fails_leaves_nothing_and_one_line(tmp_path, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(RunError, match=r"No space left on device.*make room"),
        Checkpoints(tmp_path / "er") as checkpoints,
    ):
        save(checkpoints, 1)
        checkpoints.wait()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ocp.StandardCheckpointHandler, "finalize", full)
            save(checkpoints, 2)
            checkpoints.wait()
    assert [p.name for p in (tmp_path / "er").iterdir()] == ["1"] and not caplog.records


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
    with Checkpoints(tmp_path / "er") as first:
        save(first, 1)
    (tmp_path / "er" / "2.orbax-checkpoint-tmp-17" / "variables").mkdir(parents=True)
    with Checkpoints(tmp_path / "er") as again:
        assert again.newest().step == 1
        save(again, 2)
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


def test_digests_stay_what_older_checkpoints_hold():
    leaves = {"params": {"fc8": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}}}
    leaves["extra"] = [np.int32(3), np.array([True])]
    assert digest(leaves) == "59258196303f34f7c327a65576465ea4e2872061d8afb2e5f318b1fc9d415a43"
