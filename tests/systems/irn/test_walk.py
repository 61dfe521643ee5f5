"""From a published kind of file to walked scores and masks, against the images one by one and unpadded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.helpers.networks import narrow_variables, relative
from tests.helpers.runs import run_stages_of, tiny
from wsss_jax.data.class_maps import ClassMaps, reduced_maps
from wsss_jax.files import write_json
from wsss_jax.refinement.pseudo import relative_to_best
from wsss_jax.refinement.walk import WalkSettings, irn_walk
from wsss_jax.systems.irn.network import Irn
from wsss_jax.systems.irn.pictures import colour_wheel
from wsss_jax.systems.irn.see import IrnWalk
from wsss_jax.systems.irn.task import InterPixel
from wsss_jax.weights import from_variables
from wsss_jax.weights.torch_writer import write_torch

SIZES = {"none": (21, 60), "one": (33, 47), "some": (60, 58)}
NETWORK = Irn(width=1 / 16, blocks=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def variables():
    return narrow_variables(InterPixel(network=NETWORK, radius=3))["irn"]


@pytest.fixture(scope="module")
def data(tmp_path_factory, variables):
    """Images and CAMs as another run has them, and a file of weights with all names of IRN's own."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "images/images").mkdir(parents=True)
    (folder / "images/classes.txt").write_text("".join(f"{c}\n" for c in "uvwxyz"))
    rows = "".join(f"{name}.png,u\n" for name in SIZES)
    (folder / "images/labels.csv").write_text("image,labels\n" + rows)
    (folder / "run/cam/all").mkdir(parents=True)
    write_json(folder / "run/cam/all/settings.json", {"method": "cam", "weights_sha256": "0" * 64})
    for i, (name, size) in enumerate(SIZES.items()):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/images/{name}.png")
        count = (0, 1, 3)[i]
        keys, cam = np.arange(count, dtype=np.int32), rng.random((count, *size)).astype(np.float32)
        np.savez(folder / f"run/cam/all/{name}.npz", keys=keys, cam=cam)
    file = from_variables(variables, "irn", blocks=NETWORK.blocks)
    file |= {"path_indices0": np.zeros((2, 2, 96), np.float32), "disp_target": np.zeros((1, 2, 34, 1), "f4")}
    with (folder / "res50_irn.pth").open("wb") as stream:
        write_torch(stream, file)
    return folder


def config(data, **changes):
    return tiny(
        "irn_shapes",
        cams_from=str(data / "run"),
        dataset__name="folder",
        dataset__root=str(data / "images"),
        dataset__infer_split="all",
        irn__checkpoint=str(data / "res50_irn.pth"),
        irn__width=1 / 16,
        irn__walk__max_buckets=2,
        irn__walk__logt=8,
        **changes,
    )


@functools.partial(jax.jit, static_argnums=3)
def alone(variables, image, seeds, pad):
    """Each step by itself, on arrays of the image's own size or of that of IRN's padding."""
    pixels = NETWORK.preprocess.images(image[None])
    logits = []
    for view in (pixels, pixels[:, :, ::-1]):
        H, W = (max(pad, n) for n in image.shape[:2])
        full = jnp.zeros((1, H, W, 3)).at[:, : image.shape[0], : image.shape[1]].set(view)
        h, w = (-(-n // 4) for n in image.shape[:2])
        logits.append(NETWORK.apply(variables, full).boundaries[:, :h, :w])
    edges = jax.nn.sigmoid(logits[0] / 2 + logits[1][..., ::-1] / 2)
    walk = WalkSettings(beta=10, logt=8, method="stencil")
    return irn_walk(seeds[None], edges, jnp.array([[h, w]]), 3, walk)[0]


@pytest.mark.parametrize("pad", [0, 64])
def test_scores_are_those_of_each_image_alone(data, variables, tmp_path, pad):
    """Images in two sizes take four programs, however many classes they have."""
    run_stages_of(config(data, irn__pad=pad), tmp_path, ["irn_walk"])
    assert "4 compiled program(s)" in (tmp_path / "logs/log.txt").read_text()
    for name in SIZES:
        image = np.asarray(Image.open(data / f"images/images/{name}.png"))
        with np.load(data / f"run/cam/all/{name}.npz") as file:
            maps = ClassMaps(file["keys"], file["cam"])
        with np.load(tmp_path / f"pseudo_scores/all/{name}.npz") as file:
            keys, found = file["keys"], file["cam"]
        assert keys.tolist() == maps.class_ids.tolist()
        if not len(keys):
            continue
        wanted = np.asarray(alone(variables, image, reduced_maps(maps).planes, pad))
        assert relative(found, wanted) < 1e-4
        mask = np.asarray(Image.open(tmp_path / f"pseudo/all/{name}.png"))
        shares = relative_to_best(ClassMaps(keys, wanted), 4, image.shape[:2])
        near = np.abs(shares.planes.max(0) - 0.3) < 1e-4
        assert (mask == shares.labels(0.3))[~near].mean() > 0.999


def test_maps_of_zeros_are_background():
    """IRN's program divides 0 by 0 and labels them as their first class."""
    zeros = relative_to_best(ClassMaps(np.array([4]), np.zeros((1, 3, 3), np.float32)), 4, (9, 10))
    assert not zeros.labels(0.25).any()


def test_colours_of_displacements():
    """Right, down, left, up by as much, and not at all."""
    field = np.array([[[0, 2], [2, 0], [0, -2], [-2, 0], [0, 0]]], np.float32)
    red, *_, none = colour_wheel(field)[0].tolist()
    assert red == [255, 0, 0] and none == [0, 0, 0]
    assert colour_wheel(field)[0, 2].argmin() == 0  # cyan
    assert len({tuple(c) for c in colour_wheel(field)[0].tolist()}) == 5


@pytest.mark.slow
def test_memory_for_an_image_is_below_100_mb():
    """What network and walk of full width ask for, of 8 images of up to 384 x 512 pixels, two planes each."""
    walk = IrnWalk(network=Irn(), radius=5, settings=WalkSettings(beta=10, logt=8))
    variables = jax.eval_shape(Irn().init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    images = jax.ShapeDtypeStruct((8, 384, 512, 3), jnp.uint8)
    sizes = jax.ShapeDtypeStruct((8, 2), jnp.int32)
    planes = jax.ShapeDtypeStruct((8, 2, 96, 128), jnp.float32)
    edges = jax.ShapeDtypeStruct((8, 96, 128), jnp.float32)
    for function, arguments in ((walk.see, (variables, images, sizes)), (walk.carry, (planes, edges, sizes))):
        needed = jax.jit(function).lower(*arguments).compile().memory_analysis()
        assert (needed.temp_size_in_bytes + needed.output_size_in_bytes) / 8 < 100e6
