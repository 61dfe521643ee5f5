import subprocess
import sys

import numpy as np
import pytest

from tests.helpers import torch_files as tf
from tests.helpers.golden import GOLDEN, names, state_dict
from wsss_jax import weights
from wsss_jax.errors import CheckpointError
from wsss_jax.weights.mapping import flatten

PEAK = """
import re, sys
from wsss_jax.convert.destination import write
from wsss_jax.convert.source import read_source
from wsss_jax import weights
from wsss_jax.training import checkpoints
# VmHWM begins anew with each program; getrusage's maximum is inherited from the large test process.
def peak(): return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
{work}
print(peak() - before)
"""


def test_arrays_own_their_numbers_in_float32(tmp_path):
    tensors = state_dict("dev", names("resnet38_cls", 64))
    half = {n: v if v.dtype == np.int64 else v.astype(np.float16) for n, v in tensors.items()}
    path = tf.write_zip(tmp_path / "a.pth", half)
    found = weights.load_foreign(path, "resnet38_cls")
    path.write_bytes(b"\0" * path.stat().st_size)
    for _, leaf in flatten(found):
        assert (
            leaf.dtype == np.float32
            and leaf.flags.c_contiguous
            and leaf.flags.owndata
            and leaf.flags.writeable
        )
    np.testing.assert_array_equal(found["params"]["fc8"]["kernel"][0, 0], half["fc8.weight"][..., 0, 0].T)


def test_the_files_type_is_kept_on_request(tmp_path):
    tensors = {n: v.astype(tf.BFLOAT16) for n, v in state_dict("dev", names("resnet38_base", 64)).items()}
    path = tf.write_zip(tmp_path / "a.pth", tensors)
    assert all(
        leaf.dtype == tf.BFLOAT16
        for _, leaf in flatten(weights.load_foreign(path, "resnet38_base", dtype=None))
    )
    assert all(leaf.dtype == np.float32 for _, leaf in flatten(weights.load_foreign(path, "resnet38_base")))


def test_fresh_heads_are_left_out_whether_there_or_not(tmp_path):
    path = tf.write_zip(tmp_path / "a.pth", state_dict("dev", names("resnet38_cls", 64)))
    assert set(weights.load_foreign(path, "resnet38_cls", fresh=["fc8"])["params"]) == {"trunk"}
    trunk = GOLDEN / "mxnet" / "resnet38_legacy_v0.params"
    assert set(weights.load_foreign(trunk, "resnet38_cls", fresh=["fc8"])["params"]) == {"trunk"}
    with pytest.raises(
        CheckpointError, match=r"resnet38_legacy_v0\.params: does not fit resnet38_cls: 1 missing: fc8"
    ):
        weights.load_foreign(trunk, "resnet38_cls")
    sub = weights.load_foreign(path, "sccam_k10", allow_missing=["fc8_20", "fc8_200"], ignore=["fc8"])
    assert set(sub["params"]) == {"trunk"}


def test_importing_needs_neither_jax_nor_torch():
    code = "import sys, wsss_jax.weights; print(sorted({'jax', 'flax', 'torch', 'orbax'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="measures peak memory as Linux counts it")
@pytest.mark.parametrize("write", [tf.write_zip, tf.write_legacy])
@pytest.mark.parametrize(
    ("work", "most"),
    [
        ("for v in weights.read_tensors(sys.argv[1]).values(): v.sum()", 1.3),
        ("variables = weights.load_foreign(sys.argv[1], 'resnet38_cls')", 1.3),
        ("write(read_source(sys.argv[1], None), sys.argv[1] + '.orbax', 'orbax')", 2.5),
        ("write(read_source(sys.argv[1], None), sys.argv[1] + '.st', 'safetensors')", 1.3),
        ("write(read_source(sys.argv[1], None), sys.argv[1] + '.npz', 'npz')", 1.3),
    ],
)
def test_peak_memory_of_a_whole_network(tmp_path, write, work, most):
    path = write(tmp_path / "a.pth", state_dict("dev", names("resnet38_cls")))
    command = [sys.executable, "-c", PEAK.replace("{work}", work), str(path)]
    used = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.1 < used / path.stat().st_size < most
