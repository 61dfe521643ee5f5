"""IRN's network against its program's: boundaries, displacements, loss, gradients, and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.golden import GOLDEN, file_of
from tests.helpers.networks import batch_loss, narrow_variables, relative
from wsss_jax.ops.valid import flip_valid
from wsss_jax.systems.irn.network import Irn
from wsss_jax.systems.irn.see import boundaries
from wsss_jax.systems.irn.task import InterPixel
from wsss_jax.training.initial import variable_shapes
from wsss_jax.training.step import merge, partition
from wsss_jax.weights import check_against, from_variables, to_variables

TASK = InterPixel(network=Irn(), radius=5)


@pytest.fixture(scope="module")
def published():
    return to_variables(file_of("irn"), "irn")


def test_names_and_shapes_are_those_of_the_published_file(published):
    """Which also holds second names, and what its training program has derived."""
    check_against(published, variable_shapes(Irn()))
    file = file_of("irn")
    extra = {"path_indices0": np.zeros((2, 2, 96)), "disp_target": np.zeros((1, 2, 34, 1))}
    again = to_variables({**file, **extra}, "irn")
    jax.tree.map(np.testing.assert_array_equal, again, published)
    written = from_variables(published, "irn")
    assert written.keys() == file.keys()
    for name, tensor in file.items():
        np.testing.assert_array_equal(written[name], tensor)


def test_what_learns_and_how_fast():
    groups = {
        "fc_edge1/conv/kernel": "boundaries",
        "fc_edge5/norm/bias": "boundaries",
        "fc_edge6/bias": "boundaries",
        "fc_dp3/norm/scale": "displacements",
        "fc_dp7_field/kernel": "displacements",
        "trunk/layer4_2/conv3/kernel": "frozen",
    }
    found = {path: TASK.group(("irn", "params", *path.split("/"))) for path in groups}
    assert found == groups
    assert TASK.group(("irn", "batch_stats", "mean_shift", "mean")) == "frozen"


def test_boundaries_and_displacements_are_irns(published):
    golden = np.load(GOLDEN / "irn_net.npz")
    pixels = golden["x"].transpose(1, 2, 0)[None]
    size = jnp.array([pixels.shape[1:3]])
    both = jnp.concatenate([pixels, flip_valid(pixels, size)])
    seen = jax.jit(Irn().apply)(published, both)
    assert relative(seen.boundaries, golden["raw_edge_logit"][:, 0]) < 1e-4
    field = np.moveaxis(np.asarray(seen.displacements), -1, 1)
    assert relative(field, golden["raw_dp_train_mode"]) < 1e-4
    mean = published["batch_stats"]["mean_shift"]["mean"]
    assert relative(field - np.asarray(mean)[:, None, None], golden["raw_dp"]) < 1e-4
    found = jax.jit(lambda x, size: boundaries(Irn(), published, x, size))(pixels, size)
    assert relative(found, golden["edge_nopad"]) < 1e-4


@pytest.mark.slow
def test_boundaries_of_padded_images_are_irns(published):
    golden = np.load(GOLDEN / "irn_net.npz")
    pixels = golden["x"].transpose(1, 2, 0)[None]
    size = jnp.array([pixels.shape[1:3]])
    found = jax.jit(lambda x, size: boundaries(Irn(), published, x, size, 512))(pixels, size)
    assert relative(found, golden["edge_pad512"]) < 1e-4


def test_loss_and_gradients_are_irns(published):
    golden = np.load(GOLDEN / "irn_loss.npz")
    trainable, _, frozen = partition({"irn": published}, TASK)
    batch = {"images": golden["x"].transpose(0, 2, 3, 1), "labels": golden["label"][:, 2::4, 2::4]}

    def loss(trainable, frozen):
        return batch_loss(TASK.loss(merge(trainable, frozen), batch, None, None), TASK.epsilon)

    (total, means), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(trainable, frozen)
    np.testing.assert_allclose(total, golden["total_loss"], rtol=1e-4)
    named = {"bg": "bg_pos_aff", "fg": "fg_pos_aff", "neg": "neg_aff", "dp_fg": "dp_fg", "dp_bg": "dp_bg"}
    for ours, theirs in named.items():
        np.testing.assert_allclose(means[f"loss_{ours}"], golden[f"{theirs}_loss"], rtol=1e-4)
    learnt = from_variables(merge(grads, jax.tree.map(jnp.zeros_like, frozen))["irn"], "irn")
    for name, norm in zip(golden["grad_names"], golden["grad_norms"], strict=True):
        found = np.linalg.norm(learnt[str(name)])
        np.testing.assert_allclose(found, max(norm, 0), rtol=1e-3, err_msg=str(name))


def narrow():
    network = Irn(width=1 / 16, blocks=(1, 1, 1, 1))
    return network, narrow_variables(InterPixel(network=network, radius=3))["irn"]


@pytest.mark.parametrize("size", [(67, 93), (41, 40), (9, 96)])
def test_images_in_padded_arrays_are_seen_as_alone(size):
    """Group norms, enlargements and the mirror image, with garbage around the image."""
    network, variables = narrow()
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, *size, 3)).astype(np.float32)
    padded = np.full((1, 80, 112, 3), 7, np.float32)
    padded[:, : size[0], : size[1]] = image
    sizes = jnp.array([size])
    alone = network.apply(variables, image)
    inside = network.apply(variables, padded, sizes)
    h, w = -(-size[0] // 4), -(-size[1] // 4)
    assert relative(inside.boundaries[:, :h, :w], alone.boundaries) < 1e-5
    assert relative(inside.displacements[:, :h, :w], alone.displacements) < 1e-5
    for pad in (0, 128):
        wanted = boundaries(network, variables, image, sizes, pad)
        found = boundaries(network, variables, padded, sizes, pad)
        assert relative(found[:, :h, :w], wanted) < 1e-5
    assert relative(wanted, boundaries(network, variables, image, sizes)) > 1e-4  # padding is seen
