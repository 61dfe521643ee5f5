"""The converter's checkpoints are the files that Orbax itself would have written."""

import json

import numpy as np
import orbax.checkpoint as ocp
import pytest

from wsss_jax.convert.orbax_files import write_tree
from wsss_jax.training.checkpoints import digest

RNG = np.random.default_rng(0)


def tree(**more):
    """Arrays as they come from files: transposed, read-only, half precision, integers, scalars."""
    kernel = RNG.standard_normal((5, 40, 3, 2), np.float32).transpose(2, 3, 1, 0)
    kernel.setflags(write=False)
    return {
        "params": {"fc8": {"kernel": kernel, "bias": RNG.standard_normal(40).astype(np.float16)}, **more},
        "batch_stats": {"bn": {"count": np.array(7, np.int64), "seen": np.array([True, False])}},
    }


def widened(leaf):
    return np.asarray(leaf, np.float32 if leaf.dtype.kind == "f" else None, order="C")


def test_the_files_are_those_of_orbax(tmp_path):
    given = tree()
    write_tree(tmp_path / "ours", given, np.float32)
    wanted = {
        "params": {"fc8": {name: widened(leaf) for name, leaf in given["params"]["fc8"].items()}},
        "batch_stats": given["batch_stats"],
    }
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, use_ocdbt=False)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "theirs", args=ocp.args.PyTreeSave(wanted))
    names = [p.relative_to(tmp_path / "ours") for p in (tmp_path / "ours").rglob("*") if p.is_file()]
    assert len(names) == 1 + 2 * 4
    for name in names:
        ours, theirs = (tmp_path / "ours" / name).read_bytes(), (tmp_path / "theirs" / name).read_bytes()
        if name.name in ("_METADATA", ".zarray"):
            assert json.loads(ours) == json.loads(theirs), name
        else:
            assert ours == theirs, name


def test_orbax_restores_them_under_the_same_digest(tmp_path):
    given = tree(empty=np.zeros((0, 3), np.float32), large=RNG.standard_normal((300, 400)))
    saved = write_tree(tmp_path / "ours", given, np.float32)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "ours")
    np.testing.assert_array_equal(restored["params"]["fc8"]["kernel"], given["params"]["fc8"]["kernel"])
    np.testing.assert_array_equal(restored["params"]["large"], given["params"]["large"].astype(np.float32))
    assert restored["params"]["fc8"]["bias"].dtype == np.float32
    assert restored["params"]["empty"].shape == (0, 3)
    assert restored["batch_stats"]["bn"]["count"] == 7 and restored["batch_stats"]["bn"]["seen"].dtype == bool
    assert saved == digest(restored)


def test_a_failed_write_is_an_error(tmp_path):
    (tmp_path / "ours").write_text("in the way")
    with pytest.raises(FileExistsError):
        write_tree(tmp_path / "ours", tree(), np.float32)


def test_digests_stay_what_older_checkpoints_hold():
    leaves = {"params": {"fc8": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)}}}
    leaves["extra"] = [np.int32(3), np.array([True])]
    assert digest(leaves) == "59258196303f34f7c327a65576465ea4e2872061d8afb2e5f318b1fc9d415a43"
