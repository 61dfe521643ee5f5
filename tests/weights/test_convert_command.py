"""`python -m tools.convert_weights`, end to end."""

import importlib.util
import io
import json
import pickletools
import re
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from tests.helpers import torch_files as tf
from tests.helpers.golden import GOLDEN, file_of, names, state_dict
from tests.helpers.mxnet_files import published_file
from wsss_jax import weights
from wsss_jax.convert.__main__ import main
from wsss_jax.errors import CheckpointError
from wsss_jax.files import write_json
from wsss_jax.training.checkpoints import restore
from wsss_jax.weights.mapping import flatten
from wsss_jax.weights.torch_writer import write_torch

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
    """PyTorch -> our checkpoint -> safetensors -> npz -> PyTorch."""
    wanted, source = checkpoint
    run(source, tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "back.safetensors", "--to=safetensors")
    run(tmp_path / "back.safetensors", tmp_path / "back.npz", "--to=npz")
    run(tmp_path / "back.npz", tmp_path / "back.pth", "--to=pth")
    for path in (tmp_path / "back.safetensors", tmp_path / "back.npz", tmp_path / "back.pth"):
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
        "back.pth",
        "back.safetensors",
        "ours",
        "res38_cls.pth",
    ]


def test_names_of_one_tensor_share_its_numbers(tmp_path, capsys):
    """IRN's classifier: all names in a .pth, whose numbers are there once; the first ones elsewhere."""
    wanted = file_of("resnet50_cam", 64)
    source = tf.write_zip(tmp_path / "res50_cam.pth", wanted)
    run(source, tmp_path / "back.pth", "--to=pth")
    run(source, tmp_path / "back.npz", "--to=npz")
    assert "network  resnet50_cam\n" in capsys.readouterr().out
    found, once = (weights.read_tensors(tmp_path / name) for name in ("back.pth", "back.npz"))
    assert found.keys() == wanted.keys()
    assert all(found[name].tobytes() == value.tobytes() for name, value in wanted.items())
    assert set(once) == {name for name in wanted if name.startswith(("resnet50.", "classifier."))}
    with zipfile.ZipFile(tmp_path / "back.pth") as archive:
        storages = [name for name in archive.namelist() if "/data/" in name]
    second = [name for name in wanted.keys() - once.keys() if not name.endswith("num_batches_tracked")]
    assert len(storages) == len(wanted) - len(second)  # each counter is a zero of its own


def test_the_checkpoint_is_one_that_training_restores(tmp_path):
    run(MXNET, tmp_path / "ours")
    restored = restore(tmp_path / "ours")
    wanted = dict(flatten(weights.load_foreign(MXNET, "resnet38_base")))
    found = dict(flatten(restored.variables))
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        assert found[path].dtype == np.float32
        np.testing.assert_array_equal(found[path], value)
    # Without these, newer releases of Orbax take a folder for one whose writing was cut short.
    assert (tmp_path / "ours" / "commit_success.txt").exists()
    assert (tmp_path / "ours" / "variables" / "commit_success.txt").exists()
    meta = json.loads((tmp_path / "ours" / "meta" / "metadata").read_text())
    assert meta["network"] == "resnet38_mxnet_a1"
    assert (meta["source"], meta["source_sha256"]) == (MXNET.name, weights.sha256(MXNET))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_pytorch_loads_what_is_written_for_it(tmp_path, dtype):
    """With PyTorch where it is installed; its pickle machine, which has no such classes here, otherwise."""
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    base = state_dict("dev", names("resnet38_base", 64))
    wanted = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in base.items()}
    source = tf.write_zip(tmp_path / "a.pth", wanted)
    run(source, tmp_path / "b.pth", "--to=pth")
    found = weights.read_tensors(tmp_path / "b.pth", verify=True)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert found[name].tobytes() == value.tobytes(), name
    with zipfile.ZipFile(tmp_path / "b.pth") as archive:
        assert archive.testzip() is None
        named = {f"{m} {n}" for op, n_m, _ in pickletools.genops(archive.read("archive/data.pkl"))
                 if op.name == "GLOBAL" for m, n in [n_m.split(" ")]}  # fmt: skip
    storage = {"float16": "Half", "bfloat16": "BFloat16", "float32": "Float"}[np.dtype(dtype).name]
    assert named == {
        "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch LongStorage",
        f"torch {storage}Storage",
    }  # fmt: skip
    if importlib.util.find_spec("torch"):
        import torch

        for name, tensor in torch.load(tmp_path / "b.pth", weights_only=True).items():
            value = np.ascontiguousarray(wanted[name]).reshape(wanted[name].shape)
            assert tuple(tensor.shape) == value.shape
            assert tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() == value.tobytes(), name


def test_types_that_pytorch_cannot_store_are_refused():
    with pytest.raises(CheckpointError, match=r"a.weight: PyTorch's files have no storage of uint32"):
        write_torch(io.BytesIO(), {"a.weight": np.zeros(2, np.uint32)})


def small(blocks, width=64):
    """A classifier's state dict with other blocks than the published ones; the kept tensors are equal."""
    plain = re.compile(r"b([2-5])_(\d+)\.")
    published = state_dict("dev", names("resnet38_cls", width))
    return {
        name: value
        for name, value in published.items()
        if not (match := plain.match(name)) or int(match[2]) <= blocks[int(match[1]) - 2]
    }


def test_smaller_trunks_convert_there_and_back(tmp_path, capsys):
    """As those of the demo, whose blocks are not the published ones."""
    wanted = small((0, 0, 1, 0))
    source = tf.write_zip(tmp_path / "small.pth", wanted)
    run(source, tmp_path / "ours")
    assert "network  resnet38_cls, blocks (0, 0, 1, 0) instead of the published (2, 2, 5, 2)" in (
        capsys.readouterr().out
    )
    assert set(restore(tmp_path / "ours").variables["params"]["trunk"]) == {
        "conv1a", "b2", "b3", "b4", "b4_1", "b5", "b6", "b7", "bn7"
    }  # fmt: skip
    run(tmp_path / "ours", tmp_path / "back.pth", "--to=pth")
    found = weights.read_tensors(tmp_path / "back.pth")
    assert list(found) == list(wanted)
    assert all(found[name].tobytes() == value.tobytes() for name, value in wanted.items())
    loaded = weights.load_foreign(tmp_path / "back.pth", "resnet38_cls", blocks=(0, 0, 1, 0))
    np.testing.assert_array_equal(loaded["params"]["fc8"]["kernel"][0, 0].T, wanted["fc8.weight"][..., 0, 0])
    with pytest.raises(CheckpointError, match=r"does not fit resnet38_cls: .*b2_1.bn_branch2a.weight"):
        weights.load_foreign(tmp_path / "back.pth", "resnet38_cls")


def test_a_block_in_part_or_out_of_order_is_no_network(tmp_path, capsys):
    whole = small((1, 0, 0, 0))
    renamed = {name.replace("b2_1.", "b2_2."): value for name, value in whole.items()}
    message = fails(capsys, tf.write_zip(tmp_path / "b.pth", renamed), "--check")
    assert "no known network has these tensors; the nearest is resnet38_cls: 10 missing: b2_1.bn_b" in message
    del whole["b2_1.conv_branch2a.weight"]
    message = fails(capsys, tf.write_zip(tmp_path / "a.pth", whole), "--check")
    assert "the nearest is resnet38_cls: 1 missing: b2_1.conv_branch2a.weight" in message


def test_a_run_and_its_networks_folder_stand_for_their_best_step(tmp_path, checkpoint, capsys):
    """As --checkpoint and init_from take them."""
    _, source = checkpoint
    for step, score in ((10, 60.0), (20, 50.0)):
        run(source, tmp_path / "run" / "checkpoints" / "er" / str(step))
        folder = tmp_path / "run" / "checkpoints" / "er" / str(step)
        meta = json.loads((folder / "meta" / "metadata").read_text())
        write_json(folder / "meta" / "metadata", {**meta, "step": step})
        write_json(folder / "score.json", {"step": step, "score": score})
    for place in ("run", "run/checkpoints/er", "run/checkpoints/er/10"):
        capsys.readouterr()
        run(tmp_path / place, tmp_path / "out.npz", "--to=npz", "--overwrite")
        assert f"{tmp_path / place}: checkpoint of wsss_jax, step 10, 229 tensors" in capsys.readouterr().out
    assert "holds no checkpoint; give a run's folder" in fails(capsys, tmp_path, "--list")


def test_damage_to_a_converted_checkpoint_is_noticed(tmp_path, capsys):
    run(MXNET, tmp_path / "ours")
    largest = max((tmp_path / "ours" / "variables").rglob("*"), key=lambda path: path.stat().st_size)
    raw = bytearray(largest.read_bytes())
    raw[len(raw) // 2] ^= 1
    largest.write_bytes(raw)
    assert "ours: damaged, variables" in fails(capsys, tmp_path / "ours", "--check")


def test_the_small_published_file_converts_exactly(tmp_path):
    wanted = published_file(tmp_path / "a.params")
    run(tmp_path / "a.params", tmp_path / "a.npz", "--to=npz")
    found = np.load(tmp_path / "a.npz")
    assert {n for n in found.files if not n.endswith("num_batches_tracked")} == {
        n for n in wanted if not n.startswith("linear1000.")
    }
    for name in found.files:
        np.testing.assert_array_equal(found[name], wanted.get(name, 0), err_msg=name)


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
    [("malicious.pth", "asks for 'posix' 'system'"), ("truncated.pth", "cut-off"), ("text.pth", "is a text")],
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


@pytest.mark.parametrize(
    ("form", "writer"),
    [("npz", "numpy.lib.format.write_array"), ("orbax", "orbax.checkpoint.AsyncCheckpointer.save")],
)
def test_a_failed_write_leaves_the_old_result(tmp_path, capsys, checkpoint, monkeypatch, form, writer):
    _, source = checkpoint
    target = tmp_path / "a"
    run(source, target, f"--to={form}")
    files = sorted(path for path in [target, *target.rglob("*")] if path.is_file())
    before = [path.read_bytes() for path in files]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, full)
    message = fails(capsys, source, target, f"--to={form}", "--overwrite")
    assert message == f"Error: {target}: cannot be written: No space left on device\n"
    assert [path.read_bytes() for path in files] == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", source.name]


@pytest.mark.parametrize("arguments", [["a.pth"], ["a.pth", "b", "--list"], ["a.pth", "b", "--to=onnx"]])
def test_flags_that_make_no_sense(capsys, arguments):
    assert "error:" in fails(capsys, *arguments, status=2)


def test_foreign_files_need_no_jax(tmp_path):
    code = (
        "import sys; from wsss_jax.convert.__main__ import main; main(sys.argv[1:]); "
        "sys.exit('jax' in sys.modules or 'orbax' in sys.modules)"
    )
    for more in (["--check"], [str(tmp_path / "a.npz"), "--to=npz"]):
        subprocess.run([sys.executable, "-c", code, str(MXNET), *more], check=True, capture_output=True)
