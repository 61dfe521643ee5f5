"""A file of nothing but weights, from its names and shapes alone."""

import numpy as np
import pytest

from tests.helpers.networks import narrow_variables
from tests.helpers.runs import make_method
from wsss_jax.cam import CamModel
from wsss_jax.config import defaults
from wsss_jax.errors import CheckpointError
from wsss_jax.systems.resnet50_cam.task import ResNet50Cam
from wsss_jax.weights import from_variables
from wsss_jax.weights.torch_writer import write_torch

BLOCKS = (1, 1, 2, 1)


def make(name, **options):
    config = defaults()
    config.method = name
    config.resnet50.width, config.resnet50.blocks = 1 / 64, BLOCKS
    config.update(options)
    return make_method(config, 3)


def write(folder, tree, network):
    with (folder / "a.pth").open("wb") as file:
        write_torch(file, from_variables(tree, network, blocks=BLOCKS))
    return folder / "a.pth"


def test_a_bare_classifier_makes_maps(tmp_path):
    method = make("resnet50_cam")
    tree = narrow_variables(method)["classifier"]
    model = CamModel.load(write(tmp_path, tree, "resnet50_cam"), class_names=["u", "v", "w"], scales=(1.0,))
    assert isinstance(method, ResNet50Cam) and model._program._method == method
    picture = np.random.default_rng(0).integers(0, 256, (33, 41, 3), np.uint8)
    result = model(picture, classes=["v", "w"])
    assert result.maps.planes.shape == (2, 33, 41) and 0.9 < result.maps.planes.max() <= 1
    plain = method.cam({"classifier": tree}, method.preprocess.images(picture[None]), None)
    mirrored = method.cam({"classifier": tree}, method.preprocess.images(picture[None, :, ::-1]), None)
    logits = (np.asarray(plain.logits) + np.asarray(mirrored.logits))[0] / 2
    np.testing.assert_allclose(list(result.scores.values()), 1 / (1 + np.exp(-logits)), rtol=1e-4)


def test_one_of_wave_cams_two_networks_makes_none(tmp_path):
    method = make("wave_cam", augment={"crop": 64})
    tree = narrow_variables(method)["wavecam_net"]
    with pytest.raises(CheckpointError, match="wavecam_net makes no maps of classes; networks that do"):
        CamModel.load(write(tmp_path, tree, "wavecam_net"), class_names=["u", "v", "w"])
