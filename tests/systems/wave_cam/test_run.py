"""WaveCAM's run: what it refuses, where its networks start, and maps of weights in published files."""

import jax
import numpy as np
import pytest

from tests.helpers.networks import narrow_variables
from tests.helpers.runs import check_start, look_into, make_method, open_run, run_stages_of, tiny
from wsss_jax.data.class_maps import read_maps, read_reduced
from wsss_jax.data.transforms import rescale
from wsss_jax.errors import CheckpointError, ConfigError
from wsss_jax.files import read_json
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.stages.networks import initial_variables, weight_paths
from wsss_jax.systems.wave_cam.task import NETWORK, PREDICTOR
from wsss_jax.training.checkpoints import Checkpoints
from wsss_jax.weights import from_variables
from wsss_jax.weights.torch_writer import write_torch


def config(**changes):
    return tiny("wave_cam_shapes", **changes)


@pytest.mark.parametrize(
    ("width", "crop", "fits"),
    [(1.0, 512, True), (1 / 4, 256, True), (1 / 16, 128, True), (1.0, 448, False), (1 / 4, 128, False)],
)
def test_waves_must_be_as_many_as_channels(width, crop, fits):
    chosen = config(resnet50__width=width, augment__crop=crop)
    if fits:
        assert make_method(chosen, 20).predictor.channels == 2 * (crop // 16) ** 2
        return
    with pytest.raises(
        ConfigError, match=r"2 x \(crop / 16\)\^2 = \d+ positions to features of \d+ channels"
    ):
        make_method(chosen, 20)
    chosen.wave_cam.wave = False  # ReCAM's predictor takes any
    make_method(chosen, 20)


def test_accumulation_is_refused_with_waves():
    with pytest.raises(
        ConfigError, match=r"config.accumulation=2: the wave module takes its statistics over"
    ):
        make_method(config(accumulation=2), 20)
    make_method(config(accumulation=2, wave_cam__wave=False), 20)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Variables of both networks, and files of them as WaveCAM's program writes them."""
    folder = tmp_path_factory.mktemp("weights")
    variables = narrow_variables(make_method(config(), 6))
    for name, tree in variables.items():
        with (folder / f"{name}.pth").open("wb") as file:
            write_torch(file, from_variables(tree, name, blocks=(1, 1, 1, 1)))
    return variables, ",".join(f"{name}={folder / name}.pth" for name in variables)


def test_checkpoints_of_both_networks_are_named(published, tmp_path):
    _, pairs = published
    paths = weight_paths(look_into(config(cam__checkpoint=pairs), tmp_path))
    assert list(paths) == [NETWORK, PREDICTOR] and paths[PREDICTOR].endswith(f"{PREDICTOR}.pth")
    first = pairs.split(",")[0]
    for wrong in (first, f"{first},{first}", f"{first},{PREDICTOR}=", "net.pth", f"{pairs},a=b"):
        with pytest.raises(
            ConfigError, match="files of all networks: wavecam_net=PATH,wavecam_predictor=PATH"
        ):
            weight_paths(look_into(config(cam__checkpoint=wrong), tmp_path))
    missing = pairs.replace(f"{PREDICTOR}.pth", "gone.pth")
    with pytest.raises(
        ConfigError, match=r"config.cam.checkpoint, wavecam_predictor='.*gone.pth': there is no"
    ):
        check_start(look_into(config(cam__checkpoint=missing), tmp_path), ["infer_cam"])


def test_the_network_starts_from_the_classifier_and_the_predictor_fresh(published, tmp_path):
    variables, pairs = published
    classifier = pairs.split(",")[0].partition("=")[2]
    run = open_run(config(init_from="classifier", classifier_from=classifier), tmp_path)
    start = initial_variables(run, None)
    jax.tree.map(np.testing.assert_array_equal, start[NETWORK], variables[NETWORK])
    found, given = (tree[PREDICTOR]["params"]["classifier"]["kernel"] for tree in (start, variables))
    assert found.shape == given.shape and not np.array_equal(found, given)
    assert np.abs(found).max() <= given.shape[2] ** -0.5  # PyTorch's default


def test_torchvisions_file_is_the_trunks_start(published, tmp_path):
    """Its names have no prefix, and its classifier of ImageNet's classes is left over."""
    tree = {kind: {"trunk": modules["trunk"]} for kind, modules in published[0][NETWORK].items()}
    fc = {"kernel": np.ones((8, 5), np.float32), "bias": np.ones(5, np.float32)}
    named = from_variables(
        {**tree, "params": {**tree["params"], "fc": fc}}, "resnet50_torchvision", blocks=(1, 1, 1, 1)
    )
    older = {name: value for name, value in named.items() if "num_batches_tracked" not in name}
    with (tmp_path / "resnet50.pth").open("wb") as file:
        write_torch(file, older)
    assert {"conv1.weight", "layer4.0.downsample.1.running_var", "fc.bias"} <= older.keys()
    start = initial_variables(open_run(config(init_from=str(tmp_path / "resnet50.pth")), tmp_path), None)
    for kind, modules in tree.items():
        jax.tree.map(np.testing.assert_array_equal, start[NETWORK][kind]["trunk"], modules["trunk"])
    assert set(start[NETWORK]["params"]) == {"trunk", "classifier", "bg"}


def test_maps_of_published_files_are_those_of_each_image_alone(published, tmp_path):
    """In padded batches on eight devices, of drawn scenes cut to odd sizes by the scales."""
    variables, pairs = published
    chosen = config(cam__checkpoint=pairs, cam__scales=(1.0, 0.7))
    run_stages_of(chosen, tmp_path, ["infer_cam"])
    run = look_into(chosen, tmp_path)
    notes = read_json(run.layout.cams("val") / "settings.json", "")
    assert notes["wave_cam.maps"] == "product"
    method, highest = run.method, []
    network = jax.jit(lambda images: method.cam(variables, images, None).maps)
    for image_id in run.ids("val")[:3]:
        picture = run.source.image(image_id)
        H, W = picture.shape[:2]
        full, small = 0.0, 0.0
        for scale in (1.0, 0.7):
            pixels = IMAGENET.images(rescale(picture, scale)[None])
            total = network(pixels) + network(pixels[:, :, ::-1])[:, :, ::-1]
            full += resize_bilinear(total, (-(-H // 16) * 16, -(-W // 16) * 16))[0, :H, :W]
            small += resize_bilinear(total, (-(-H // 4), -(-W // 4)))[0]
        path = run.layout.cam("val", image_id)
        for found, wanted in (
            (read_maps(path, image_id, (H, W)), full),
            (read_reduced(path, image_id, (H, W)), small),
        ):
            wanted = np.asarray(wanted)[..., found.class_ids]
            wanted = wanted / (wanted.max((0, 1)) + 1e-5)
            assert len(found.class_ids) == run.source.labels(image_id).sum()
            np.testing.assert_allclose(found.planes, wanted.transpose(2, 0, 1), atol=1e-4)
            highest.append(found.planes.max())
    assert max(highest) > 0.99  # a map may be 0 throughout


def test_a_checkpoint_of_a_run_holds_both_networks(published, tmp_path):
    variables, _ = published
    with Checkpoints(tmp_path / "checkpoints" / "wave_cam") as checkpoints:
        checkpoints.save(3, variables, {}, {"epochs": 1.0})
    other = open_run(config(cam__checkpoint=str(tmp_path)), tmp_path / "other")
    assert weight_paths(other) == dict.fromkeys((NETWORK, PREDICTOR), str(tmp_path))
    with pytest.raises(CheckpointError, match="holds several networks: wavecam_net, wavecam_predictor"):
        initial_variables(open_run(config(init_from=str(tmp_path)), tmp_path / "third"), None)
