"""A segmentation network shown images of one's own: Python and the command."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.networks import narrow_classifier, narrow_variables
from tests.helpers.runs import ROOT
from wsss_jax import weights
from wsss_jax.cam import CamModel
from wsss_jax.data.voc import CLASSES
from wsss_jax.errors import CheckpointError, ConfigError, DataError
from wsss_jax.refinement.pseudo import probabilities
from wsss_jax.segment import SegmentModel, run
from wsss_jax.systems.deeplab_v2.network import DeepLabV2
from wsss_jax.systems.deeplab_v2.task import DeepLabV2Task

TASK = DeepLabV2Task(network=DeepLabV2(20, width=1 / 32, blocks=(1, 1, 1, 1)))
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def variables():
    found = narrow_variables(TASK)[TASK.name]
    params = found["params"]
    params["aspp"] = {name: {leaf: x / 1000 for leaf, x in c.items()} for name, c in params["aspp"].items()}
    return found  # small logits, so that a CRF has something to decide


@pytest.fixture(scope="module")
def file(variables, tmp_path_factory):
    """A narrow network as a bare file of weights."""
    path = tmp_path_factory.mktemp("weights") / "deeplab.npz"
    np.savez(path, **weights.from_variables(variables, "deeplabv2_resnet101", blocks=(1, 1, 1, 1)))
    return path


@pytest.fixture(scope="module")
def model(file):
    return SegmentModel.load(file, max_side=64)


def logits(variables, pixels):
    network = TASK.network
    found = network.apply(variables, network.preprocess.images(pixels[None])).maximum
    return np.asarray(found)[0].transpose(2, 0, 1)


def test_labels_are_those_of_the_network(model, variables):
    """Of an image as it is, and of a longer one, which is shrunk and its probabilities enlarged."""
    small = PIXELS[:, :60]
    result = model(small)
    assert "deeplabv2_resnet101 from" in model.about and "20 classes" in model.about
    np.testing.assert_array_equal(result.labels, probabilities(logits(variables, small), (50, 60)).argmax(0))
    assert len(result.shares) > 1 and set(result.shares) <= set(CLASSES)
    assert sum(result.shares.values()) == pytest.approx((result.labels > 0).mean())
    assert list(result.shares.values()) == sorted(result.shares.values(), reverse=True)
    shrunk = np.asarray(Image.fromarray(PIXELS).resize((64, 46), Image.Resampling.BICUBIC))
    found, wanted = model([PIXELS])[0].labels, probabilities(logits(variables, shrunk), (50, 70)).argmax(0)
    assert found.shape == (50, 70) and (found == wanted).mean() > 0.999


def test_a_crf_smooths(file, model):
    blocks = np.random.default_rng(3).integers(0, 256, (5, 6, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    found = SegmentModel.load(file, crf=True, max_side=64)(blocks).labels
    plain = model(blocks).labels
    edges = [int((x[:, 1:] != x[:, :-1]).sum()) for x in (found, plain)]
    assert (found != plain).any() and 0 < edges[1] != edges[0]


def test_files_of_the_command(file, tmp_path, capsys, model):
    Image.fromarray(PIXELS).save(tmp_path / "one.png")
    (tmp_path / "two.png").write_bytes((tmp_path / "one.png").read_bytes()[:-400])
    images = [str(tmp_path / "one.png"), str(tmp_path / "two.png")]
    with pytest.raises(DataError, match=r"1 of 2 images are not done: .*two.png"):
        run(images, lambda: model, out=tmp_path / "out")
    labels = np.asarray(Image.open(tmp_path / "out/one/labels.png"))
    np.testing.assert_array_equal(labels, model(PIXELS).labels)
    assert Image.open(tmp_path / "out/one/overlay.png").size == (70, 50)
    lines = (tmp_path / "out/classes.txt").read_text().splitlines()
    assert lines[:2] == ["0 background", "1 aeroplane"] and len(lines) == 21
    assert " %; " in capsys.readouterr().out


def test_networks_of_the_other_kind_are_told_apart(file, tmp_path):
    network = narrow_classifier(20)
    of_cams = type("Method", (), {"networks": {"classifier": network}})()
    tensors = weights.from_variables(
        narrow_variables(of_cams)["classifier"], "resnet38_cls", blocks=network.blocks
    )
    np.savez(tmp_path / "cls.npz", **tensors)
    with pytest.raises(CheckpointError, match=r"holds no segmentation network; python -m wsss_jax.cam"):
        SegmentModel.load(tmp_path / "cls.npz")
    with pytest.raises(CheckpointError, match=r"holds a segmentation network, .* python -m wsss_jax.segment"):
        CamModel.load(file)


def test_the_command_says_what_is_missing():
    done = subprocess.run(
        [sys.executable, "-m", "wsss_jax.segment", "dog.jpg"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: --checkpoint: give the folder of a run with the stage train_seg, or a file of weights\n"
    )


def test_sizes_that_cannot_be(file):
    with pytest.raises(ConfigError, match="max_side is -1"):
        SegmentModel.load(file, max_side=-1)
