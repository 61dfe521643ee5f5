"""Runs of CPN: on a devkit, from an ordinary classifier's weights, and from a published-style file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.helpers.networks import golden_variables, relative
from tests.helpers.published import published_cams
from tests.helpers.runs import open_run, run_stages_of, tiny
from tests.helpers.voc import make_voc
from wsss_jax.errors import ConfigError
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.stages.networks import initial_variables
from wsss_jax.systems.cpn.network import CpnNetwork
from wsss_jax.training.checkpoints import best_step, restore


def test_the_voc_configuration_runs_on_a_devkit(tmp_path):
    voc = make_voc(tmp_path, num_train=6, num_val=2, num_aug=6)
    config = tiny("cpn_voc", dataset__root=str(voc), total_epochs=1, cam__scales=(1.0, 0.5))
    config.classifier_from = "none"
    run_stages_of(config, tmp_path / "run", None)
    metrics = json.loads((tmp_path / "run/metrics/eval_cam_train.json").read_text())
    assert metrics["images"] == 6 and len(metrics["classes"]) == 20 and len(metrics["miou_curve"]) >= 40
    for path in (tmp_path / "run/cam/train").glob("*.npz"):
        with np.load(path) as file:
            assert file["cam"].min() >= 0 and 0 < file["cam"].max() <= 0.5
    (line,) = (json.loads(x) for x in (tmp_path / "run/logs/train.jsonl").read_text().splitlines())
    parts = sum(value for name, value in line.items() if name.startswith("loss_"))
    assert line["loss"] == pytest.approx(parts, rel=1e-4)


def test_grid_cells_are_the_other_strategy(tmp_path):
    config = tiny("cpn_shapes", cpn__patches="grid", cpn__cells=(8, 16), total_epochs=1, init_from="scratch")
    run_stages_of(config, tmp_path, ["train"])
    assert best_step(tmp_path / "checkpoints/cpn") == 3
    with pytest.raises(ConfigError, match=r"cpn.patches='cells': must be one of 'slic', 'grid'"):
        run_stages_of(tiny("cpn_shapes", cpn__patches="cells"), tmp_path / "no", ["train"])


def test_it_starts_from_the_ordinary_classifier_with_a_row_for_background(tmp_path):
    config = tiny("cpn_shapes", total_epochs=1, init_from="classifier")
    run_stages_of(config, tmp_path, ["classifier"])
    start = initial_variables(open_run(config, tmp_path), None)["cpn"]
    folder = tmp_path / "classifier/checkpoints/classifier"
    classifier = restore(folder / str(best_step(folder))).variables
    head = start["params"]["fc8"]["kernel"]
    assert head.shape[-1] == 7 and not head[..., 0].any()
    np.testing.assert_array_equal(head[..., 1:], classifier["params"]["fc8"]["kernel"])
    for ours, theirs in zip(
        jax.tree.leaves(start["params"]["trunk"]), jax.tree.leaves(classifier["params"]["trunk"]), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert set(start["params"]) == {"trunk", "fc8", "f8_3", "f8_4", "f9", "f10"}


def by_the_network_itself(image, classes, scales):
    """CAM [K, H, W] of one image as CPN's program computes it: every input alone, nothing padded."""
    apply, total = jax.jit(CpnNetwork(20).apply), 0.0
    for scale in scales:
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        view = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        for step in (1, -1):
            pixels = IMAGENET.images(jnp.asarray(view[None, :, ::step]))
            improved = apply(golden_variables(network="cpn"), pixels).improved[..., 1:]
            answer = resize_bilinear(improved, view.shape[:2], align_corners=True)
            total += np.asarray(resize_bilinear(answer, image.shape[:2]))[0, :, ::step][..., classes]
    low, high = (f(total, (0, 1)) for f in (np.min, np.max))
    return np.maximum((total - low - 1e-5) / (high - low + 1e-5), 0).transpose(2, 0, 1) / 2


@pytest.mark.slow
@pytest.mark.parametrize("converted", [True, False])
def test_a_pytorch_file_gives_the_cams_of_the_network(tmp_path, converted):
    classes, scales = [4, 14], (0.5, 1.0)
    image = np.random.default_rng(0).integers(0, 256, (42, 60, 3), dtype=np.uint8)
    keys, cam = published_cams(tmp_path, "cpn_voc", "cpn", image, classes, converted, cam__scales=scales)
    np.testing.assert_array_equal(keys, classes)
    assert relative(cam, by_the_network_itself(image, classes, scales)) < 1e-4
