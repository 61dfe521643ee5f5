"""DeepLab-v2's network against deeplab-pytorch's, at full width where that is asked for, and padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.golden import GOLDEN, names, state_dict
from tests.helpers.networks import narrow_variables, relative
from wsss_jax import weights
from wsss_jax.ops.resize import rescale_valid, resize_bilinear
from wsss_jax.refinement.pseudo import probabilities
from wsss_jax.systems.deeplab_v2.network import Aspp, DeepLabV2, logit_size
from wsss_jax.systems.deeplab_v2.task import DeepLabV2Task
from wsss_jax.training.initial import variable_shapes

NETWORK = "deeplabv2_resnet101"
NARROW = DeepLabV2(3, width=1 / 32, blocks=(1, 1, 1, 1), atrous=(1, 2))


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "deeplabv2.npz")


@functools.cache
def published(tamed=False):
    """The golden files' weights; tamed as in deeplabv2_step and deeplabv2_ms."""
    tensors = state_dict("dev", names(NETWORK))
    if tamed:
        tensors["base.layer1.conv1.conv.weight"] /= 64
        for name in tensors:
            if name.endswith("increase.bn.weight"):
                tensors[name] = tensors[name] / 8
    return weights.to_variables(tensors, NETWORK)


def test_variables_are_those_of_the_published_file():
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in names(NETWORK).items()}
    weights.check_against(weights.to_variables(tensors, NETWORK), variable_shapes(DeepLabV2(20)))


def test_start_files_have_the_trunk_under_other_names():
    """deeplabv1_resnet101-coco.pth: no prefix, `fc` in place of `aspp`; the ImageNet one perhaps without."""
    tensors = state_dict("dev", names(NETWORK, 64))
    start = {name.removeprefix("base."): x for name, x in tensors.items() if "aspp" not in name}
    wanted = weights.to_variables(tensors, NETWORK)
    for further in ({}, {"fc.weight": np.zeros((91, 32), np.float32), "fc.bias": np.zeros(91, np.float32)}):
        found = weights.to_variables({**start, **further}, NETWORK, allow_missing=["aspp"], ignore=["fc"])
        assert set(found["params"]) == {"trunk"}
        same = jax.tree.map(np.array_equal, found["params"]["trunk"], wanted["params"]["trunk"])
        assert all(jax.tree.leaves(same))


@pytest.mark.parametrize(("side", "wanted"), [(321, 41), (160, 21), (240, 31), (65, 9), (1, 1)])
def test_sizes_of_logits(side, wanted):
    """Section 12 of the specification of the systems: the pooling rounds up."""
    assert logit_size(side) == wanted


def test_smaller_images_are_pytorchs(golden):
    """By the scale and not by the ratio of sizes: 65 * 0.75 is 48, not 48.75."""
    x = golden["x"].transpose(0, 2, 3, 1)
    for scale, name in ((0.5, "x_half"), (0.75, "x_three_quarters")):
        assert relative(rescale_valid(x, None, scale).transpose(0, 3, 1, 2), golden[name]) < 1e-6


@pytest.fixture(scope="module")
def narrow():
    """Variables, an image [1, 33, 49, 3], and what the network says of it."""
    variables = narrow_variables(DeepLabV2Task(network=NARROW))["deeplab_v2"]
    image = np.random.default_rng(1).normal(0, 1, (1, 33, 49, 3)).astype(np.float32)
    return variables, image, jax.jit(NARROW.apply)(variables, image)


def test_the_maximum_is_over_the_enlarged_scales(narrow):
    _, _, found = narrow
    assert [x.shape[1:3] for x in found] == [(5, 7), (3, 4), (4, 5), (5, 7)]
    enlarged = [resize_bilinear(x, (5, 7)) for x in (found.half, found.three_quarters)]
    wanted = functools.reduce(jnp.maximum, enlarged, found.full)
    assert relative(found.maximum, wanted) < 1e-6
    assert not np.array_equal(found.maximum, found.full)


def test_images_in_padded_arrays_are_as_alone(narrow):
    variables, image, alone = narrow
    task = DeepLabV2Task(network=NARROW)
    padded = np.random.default_rng(2).normal(0, 1, (2, 40, 56, 3)).astype(np.float32)
    padded[0, :33, :49] = image[0]
    sizes = np.array([[33, 49], [40, 31]])
    logits, found = jax.jit(task.logits)({task.name: variables}, padded, sizes)
    assert found.tolist() == [[5, 7], [6, 5]]
    assert relative(logits[0, :5, :7], alone.maximum[0]) < 1e-5


def test_fresh_heads_are_deeplabs():
    params = Aspp(21, (6, 12, 18, 24)).init(jax.random.key(0), jnp.zeros((1, 2, 2, 256)))["params"]
    assert sorted(params) == ["c0", "c1", "c2", "c3"]
    for branch in params.values():
        assert abs(float(branch["kernel"].std()) - 0.01) < 2e-4
        assert not branch["bias"].any()


@pytest.mark.slow
def test_logits_are_those_of_deeplab_pytorch(golden):
    apply = jax.jit(DeepLabV2(20).apply)
    found = apply(published(), golden["x"].transpose(0, 2, 3, 1))
    scales = ("train_logits_100", "train_logits_50", "train_logits_75", "eval_logits")
    for logits, name in zip(found, scales, strict=True):
        assert relative(logits.transpose(0, 3, 1, 2), golden[name]) < 1e-4
    wide = golden["wide_small"].repeat(8, 2).repeat(8, 3).transpose(0, 2, 3, 1)
    maximum = apply(published(), wide).maximum
    assert relative(maximum.transpose(0, 3, 1, 2), golden["wide_eval_logits"]) < 1e-4


@pytest.mark.slow
def test_a_whole_image_is_labelled_as_by_deeplab_pytorch():
    golden = np.load(GOLDEN / "deeplabv2_ms.npz")
    task = DeepLabV2Task(network=DeepLabV2(20))
    pixels = task.network.preprocess.images(golden["image_bgr"][None, ..., ::-1])
    logits, sizes = jax.jit(task.logits)({task.name: published(tamed=True)}, pixels, np.array([[83, 121]]))
    assert sizes.tolist() == [[11, 16]]
    found = np.asarray(logits)[0].transpose(2, 0, 1)
    assert relative(found, golden["logits"]) < 1e-4
    labels = probabilities(found, (83, 121)).argmax(0)
    sure = golden["margin"] > 1e-3
    assert np.array_equal(labels[sure], golden["prediction"][sure])


def test_probabilities_of_given_logits():
    golden = np.load(GOLDEN / "deeplabv2_ms.npz")
    found = probabilities(golden["logits"], golden["prediction"].shape)
    assert relative(found[:, ::4, ::4], golden["prob_every4"]) < 1e-4
    sure = golden["margin"] > 1e-3
    assert np.array_equal(found.argmax(0)[sure], golden["prediction"][sure])
