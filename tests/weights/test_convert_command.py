"""`python -m tools.convert_weights`, end to end."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open

from tests.helpers import torch_files as tf
from tests.helpers.golden import GOLDEN, SHARED, names, state_dict
from wsss_jax import weights
from wsss_jax.convert.__main__ import main
from wsss_jax.training.checkpoints import restore
from wsss_jax.weights.mapping import flatten

MXNET = GOLDEN / "mxnet" / "resnet38_legacy_v0.params"


@pytest.fixture
def checkpoint(tmp_path):
    """A classifier's state dict, and the file that holds it."""
    tensors = state_dict("dev", names("resnet38_cls", 64))
    return tensors, tf.write_zip(tmp_path / "res38_cls.pth", tensors)


def run(*arguments):
    main([str(argument) for argument in arguments])


def fails(capsys, *arguments, status=1):
    """Runs a command that must fail; returns the one line that it prints."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == status
    return capsys.readouterr().err


def test_there_and_back_is_bitwise(tmp_path, checkpoint, capsys):
    """PyTorch -> our checkpoint -> safetensors -> npz."""
    wanted, source = checkpoint
    run(source, tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "back.safetensors", "--to=safetensors")
    run(tmp_path / "back.safetensors", tmp_path / "back.npz", "--to=npz")
    for path in (tmp_path / "back.safetensors", tmp_path / "back.npz"):
        found = weights.read_tensors(path, verify=True)
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            assert found[name].dtype == value.dtype and found[name].shape == value.shape
            assert found[name].tobytes() == value.tobytes(), name
    out = capsys.readouterr().out
    assert f"source   {source}: PyTorch checkpoint, 229 tensors, " in out
    assert "types    192 float32, 37 int64" in out
    assert f"sha256   {weights.sha256(source)}" in out
    assert "network  resnet38_cls" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "back.npz",
        "back.safetensors",
        "ours",
        "res38_cls.pth",
    ]


def test_the_checkpoint_is_one_that_training_restores(tmp_path):
    run(MXNET, tmp_path / "ours")
    restored = restore(tmp_path / "ours")
    wanted = dict(flatten(weights.load_foreign(MXNET, "resnet38_base")))
    found = dict(flatten(restored.variables))
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path], value)
    meta = json.loads((tmp_path / "ours" / "meta" / "metadata").read_text())
    assert meta["network"] == "resnet38_mxnet_a1"
    assert (meta["source"], meta["source_sha256"]) == (MXNET.name, weights.sha256(MXNET))


def test_damage_to_a_converted_checkpoint_is_noticed(tmp_path, capsys):
    run(MXNET, tmp_path / "ours")
    largest = max((tmp_path / "ours" / "variables").rglob("*"), key=lambda path: path.stat().st_size)
    raw = bytearray(largest.read_bytes())
    raw[len(raw) // 2] ^= 1
    largest.write_bytes(raw)
    assert "ours: damaged, variables" in fails(capsys, tmp_path / "ours", "--check")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the larger golden files are not here")
def test_the_small_published_file_converts_exactly(tmp_path):
    run(SHARED / "resnet38_small.params", tmp_path / "a.npz", "--to=npz")
    wanted, found = np.load(SHARED / "resnet38_small.npz"), np.load(tmp_path / "a.npz")
    assert set(found.files) == set(wanted.files) | {
        n for n in found.files if n.endswith("num_batches_tracked")
    }
    for name in wanted.files:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


def test_safetensors_say_where_they_are_from(tmp_path, checkpoint):
    _, source = checkpoint
    run(source, tmp_path / "a.safetensors", "--to=safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="np") as file:
        said = file.metadata()
    assert said["source_sha256"] == weights.sha256(source) and said["source"] == source.name
    assert said["network"] == "resnet38_cls"


def test_half_precision_is_kept_by_export_and_widened_for_training(tmp_path):
    tensors = {n: v.astype(np.float16) for n, v in state_dict("dev", names("resnet38_base", 64)).items()}
    source = tf.write_legacy(tmp_path / "half.pth", tensors)
    run(source, tmp_path / "ours")
    run(source, tmp_path / "a.safetensors", "--to=safetensors")
    assert restore(tmp_path / "ours").variables["params"]["trunk"]["bn7"]["scale"].dtype == np.float32
    assert weights.read_tensors(tmp_path / "a.safetensors")["bn7.weight"].dtype == np.float16


def test_list_and_check_write_nothing(tmp_path, checkpoint, capsys):
    _, source = checkpoint
    run(source, "--list", "--check")
    out = capsys.readouterr().out
    assert "fc8.weight                             1 x 64 x 1 x 1  float32" in out
    assert "b2.bn_branch2a.num_batches_tracked     scalar  int64" in out
    assert out.endswith("check    names, checksums and values are in order\n")
    assert list(tmp_path.iterdir()) == [source]


def test_list_shows_a_file_of_no_known_network(capsys):
    run(GOLDEN / "torch" / "zip.pth", "--list")
    out = capsys.readouterr().out
    assert "network  unknown: " in out and "fc.bias" in out
    assert "no known network has these tensors" in fails(capsys, GOLDEN / "torch" / "zip.pth", "--check")


def test_check_finds_numbers_that_are_none(checkpoint, tmp_path, capsys):
    tensors, _ = checkpoint
    tensors = {
        **tensors,
        "bn7.bias": np.array([1, np.nan], np.float32),
        "fc8.weight": np.full((1, 1, 1, 1), np.inf),
    }
    source = tf.write_zip(tmp_path / "nan.pth", tensors)
    message = fails(capsys, source, "--check")
    assert message == f"Error: {source}: 2 with NaN or infinity: bn7.bias, fc8.weight\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("malicious.pth", "asks for 'posix' 'system'"), ("truncated.pth", "cut off"), ("text.pth", "is a text")],
)
def test_refused_files_leave_nothing_behind(tmp_path, monkeypatch, capsys, name, reason):
    monkeypatch.chdir(tmp_path)
    message = fails(capsys, GOLDEN / "torch" / name, tmp_path / "ours")
    assert message.startswith(f"Error: {GOLDEN / 'torch' / name}: offset ") and reason in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_network_that_is_asked_for_counts(tmp_path, capsys, checkpoint):
    _, source = checkpoint
    assert "unknown network 'vgg'" in fails(capsys, source, tmp_path / "a", "--network=vgg")
    assert "does not fit cpn: 4 missing: f8_3.weight" in fails(
        capsys, source, tmp_path / "a", "--network=cpn"
    )
    assert "1 missing: fc8.weight" in fails(capsys, MXNET, tmp_path / "a", "--network=resnet38_cls")
    run(MXNET, tmp_path / "a", "--network=resnet38_cls", "--fresh=fc8")
    assert set(restore(tmp_path / "a").variables["params"]) == {"trunk"}


def test_nothing_is_overwritten_unasked(tmp_path, capsys, checkpoint):
    _, source = checkpoint
    run(source, tmp_path / "a")
    assert "is there already" in fails(capsys, source, tmp_path / "a")
    run(MXNET, tmp_path / "a", "--overwrite")
    assert set(restore(tmp_path / "a").variables["params"]) == {"trunk"}
    run(source, tmp_path / "a", "--overwrite", "--to=npz")
    assert (tmp_path / "a").is_file()


def test_a_failed_write_leaves_the_old_result(tmp_path, capsys, checkpoint, monkeypatch):
    _, source = checkpoint
    run(source, tmp_path / "a.npz", "--to=npz")
    before = (tmp_path / "a.npz").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", full)
    message = fails(capsys, source, tmp_path / "a.npz", "--to=npz", "--overwrite")
    assert message == f"Error: {tmp_path / 'a.npz'}: cannot be written: No space left on device\n"
    assert (tmp_path / "a.npz").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", source.name]


@pytest.mark.parametrize("arguments", [["a.pth"], ["a.pth", "b", "--list"], ["a.pth", "b", "--to=onnx"]])
def test_flags_that_make_no_sense(capsys, arguments):
    assert "error:" in fails(capsys, *arguments, status=2)


def test_foreign_files_need_no_jax(tmp_path):
    code = (
        "import sys; from wsss_jax.convert.__main__ import main; main(sys.argv[1:]); "
        "sys.exit('jax' in sys.modules or 'orbax' in sys.modules)"
    )
    for more in ("--check", str(tmp_path / "ours")):
        subprocess.run([sys.executable, "-c", code, str(MXNET), more], check=True, capture_output=True)
