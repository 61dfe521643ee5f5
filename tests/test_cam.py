"""`python -m wsss_jax.cam`: what it computes, what it writes, and what it says when something is wrong."""

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import narrow_variables
from tests.helpers.runs import make_method
from wsss_jax import cam
from wsss_jax.cam import CamModel, CamResult
from wsss_jax.config import defaults
from wsss_jax.convert.__main__ import main as convert
from wsss_jax.data.class_maps import ClassMaps, read_maps
from wsss_jax.data.transforms import rescale
from wsss_jax.data.voc import CLASSES as VOC
from wsss_jax.errors import CheckpointError, ConfigError, DataError, RunError, UserError
from wsss_jax.files import file_name, sealed
from wsss_jax.ops.normalise import max_normalise
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.predictor.result import write_result
from wsss_jax.refinement.folder import pair_files
from wsss_jax.training.checkpoints import Checkpoints
from wsss_jax.weights import from_variables
from wsss_jax.weights.mapping import flatten
from wsss_jax.weights.torch_writer import write_torch

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("bird", "cat", "dog", "person")


@pytest.fixture(scope="module")
def config():
    c = defaults()
    c.method = "cam"
    c.model.width = 1 / 16
    c.model.blocks = (0, 0, 1, 0)
    c.compilation_cache = ""
    return c


@pytest.fixture(scope="module")
def method(config):
    return make_method(config, len(CLASSES))


def save(folder, method, settings, step, seed, score, **changes):
    """A checkpoint as training saves it."""
    meta = {
        "method": settings.method,
        "task": method.name,
        "classes": list(CLASSES),
        "config": settings.to_json_best_effort(),
        "epochs": 1.0,
        **changes,
    }
    variables = {method.name: narrow_variables(method, seed)[method.name]}
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(step, variables, {"count": np.zeros(1)}, meta)
        if score is not None:
            checkpoints.score(step, score)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, method, config):
    folder = tmp_path_factory.mktemp("run")
    save(folder / "checkpoints" / "classifier", method, config, 10, seed=0, score=60.0)
    save(folder / "checkpoints" / "classifier", method, config, 20, seed=1, score=50.0)
    return folder


@pytest.fixture(scope="module")
def model(workdir):
    return CamModel.load(workdir, scales=(1.0,), flip=False)


@pytest.fixture
def pictures(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "one.png")
    Image.fromarray(image[::-1]).save(tmp_path / "two.png")
    return [str(tmp_path / "one.png"), str(tmp_path / "two.png")]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).integers(0, 256, (40, 52, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def plain(method, image):
    """Maps [C, H, W] and logits [C] of the unpadded network at scale 1, by nothing but its layers."""
    variables = narrow_variables(method, 0)["classifier"]
    scores = jax.jit(method.network.apply)(variables, IMAGENET.images(image[None]))
    maps = max_normalise(resize_bilinear(jax.nn.relu(scores.maps), image.shape[:2]))
    return np.asarray(maps)[0].transpose(2, 0, 1), np.asarray(scores.logits)[0]


def result(**changes):
    """Two classes of four on an image of 1 x 3 pixels."""
    made = {
        "image": np.full((1, 3, 3), 100, np.uint8),
        "maps": ClassMaps(
            np.array([0, 2], np.int32), np.array([[[0.15, 0.9, 0.2]], [[0.1, 0.3, 0.25]]], np.float32)
        ),
        "classes": ("bird", "dog"),
        "scores": {"bird": 0.9, "cat": 0.1, "dog": 0.4, "person": 0.2},
    }
    return CamResult(**{**made, **changes})


# --- the notebook's side


def test_maps_and_scores_are_those_of_the_unpadded_network(model, image, plain):
    maps, logits = plain
    found = model(image, class_filter="all")
    assert found.classes == CLASSES
    assert found.maps.planes.shape == (4, 40, 52) and found.maps.planes.dtype == np.float32
    np.testing.assert_allclose(found.maps.planes, maps, atol=1e-4)
    wanted = 1 / (1 + np.exp(-logits))
    rounding = 1e-5 * np.abs(logits).max()
    np.testing.assert_allclose([found.scores[name] for name in CLASSES], wanted, atol=rounding)


def test_given_classes_come_in_the_networks_order_and_once(model, image, plain):
    found = model(image, classes=["person", "cat", "person"])
    assert found.classes == ("cat", "person")
    np.testing.assert_array_equal(found.maps.class_ids, [1, 3])
    np.testing.assert_allclose(found.maps.planes, plain[0][[1, 3]], atol=1e-4)
    assert set(found.scores) == set(CLASSES)


def test_predicted_classes_are_those_over_one_half_or_the_likeliest(method, workdir, image):
    variables = narrow_variables(method, 0)["classifier"]
    head = variables["params"]["fc8"]["kernel"]
    for signs in ([1, -1, 1, -1], [-1, -1, -1, -1]):  # conv6 >= 0, so the kernel's sign is the logit's
        variables["params"]["fc8"]["kernel"] = np.abs(head) * np.array(signs) * [1, 2, 3, 4]
        found = CamModel(method, {"classifier": variables}, CLASSES, scales=(1,), flip=False)(image)
        likely = tuple(name for name in CLASSES if found.scores[name] > 0.5)
        assert likely == (("bird", "dog") if 1 in signs else ())
        assert found.classes == (likely or (max(found.scores, key=found.scores.get),))
        assert len(found.maps.planes) == len(found.maps.class_ids) == len(found.classes)


def test_a_list_of_pictures_gives_a_list(model, image):
    pictures = [image, Image.fromarray(image[::-1].copy())]
    for given in (pictures, tuple(pictures)):
        found = model(given, classes=["dog", "cat"])
        assert type(found) is list
        for picture, one in zip(pictures, found, strict=True):
            np.testing.assert_array_equal(one.maps.planes, model(picture, classes=["cat", "dog"]).maps.planes)
    assert model([]) == []


def test_predicted_names_are_those_over_one_half_from_the_highest():
    scores = {"bird": 0.6, "cat": 0.5, "dog": 0.9, "person": 0.2}
    assert result(scores=scores).predicted == ("dog", "bird")
    assert result(scores=dict.fromkeys(scores, 0.5)).predicted == ()


def test_every_kind_of_picture_gives_the_same(model, image, tmp_path):
    Image.fromarray(image).save(tmp_path / "a.png")
    wanted = model(image, class_filter="all").maps.planes
    for picture in (str(tmp_path / "a.png"), tmp_path / "a.png", Image.fromarray(image)):
        np.testing.assert_array_equal(model(picture, class_filter="all").maps.planes, wanted)


def test_all_choices_of_classes_share_a_program(workdir, image):
    model = CamModel.load(workdir, scales=(1.0,), flip=False)
    for picture in (image, image[:33, :47]):
        model(picture)
        model(picture, classes=["dog"])
        model(picture, class_filter="all")
    assert model._program.compiled == 1


def test_scales_and_flip_are_averaged(workdir, method, image):
    """Of logits, which are plain means, by one view at a time."""
    variables = narrow_variables(method, 0)["classifier"]
    views = [v for scale in (0.5, 1.5) for v in (rescale(image, scale), rescale(image, scale)[:, ::-1])]
    apply = jax.jit(method.network.apply)
    logits = [apply(variables, IMAGENET.images(view[None])).logits[0] for view in views]
    found = CamModel.load(workdir, scales=(0.5, 1.5))(image)
    wanted = 1 / (1 + np.exp(-np.mean(logits, 0)))
    rounding = 1e-5 * np.abs(logits).max()
    np.testing.assert_allclose(list(found.scores.values()), wanted, atol=rounding)


def test_large_pictures_are_shrunk_and_their_maps_enlarged(workdir, image):
    small = CamModel.load(workdir, scales=(1.0,), flip=False, max_side=26)
    found = small(image, class_filter="all")
    assert found.maps.planes.shape == (4, 40, 52)
    half = np.asarray(Image.fromarray(image).resize((26, 20), Image.Resampling.BICUBIC))
    computed = small(half, class_filter="all").maps.planes
    assert computed.shape == (4, 20, 26)
    # Enlarging by two repeats every sample with weights 3/4 and 1/4 of its neighbours.
    left, right = computed[:, :, :-1], computed[:, :, 1:]
    between = computed[:, :, :1], (3 * left + right) / 4, (left + 3 * right) / 4
    np.testing.assert_allclose(found.maps.planes[:, 0, 0], between[0][:, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found.maps.planes[:, 0, 1:-1:2], between[1][:, 0], atol=1e-6)
    np.testing.assert_allclose(found.maps.planes[:, 0, 2:-1:2], between[2][:, 0], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (64, 3)])
def test_odd_pictures_have_maps_of_their_size(model, shape):
    found = model(np.full((*shape, 3), 7, np.uint8), class_filter="all")
    assert found.maps.planes.shape == (4, *shape) and np.isfinite(found.maps.planes).all()
    assert found.labels().shape == shape


def test_labels_are_the_best_class_where_it_exceeds_the_threshold():
    # A score at the threshold is background, as in the evaluation.
    np.testing.assert_array_equal(result().labels(0.15), [[0, 1, 3]])
    np.testing.assert_array_equal(result().labels(0.0), [[1, 1, 3]])
    np.testing.assert_array_equal(result().labels(0.25), [[0, 1, 0]])
    assert result().labels().dtype == np.uint8


def test_the_last_of_254_classes_is_label_254():
    found = result(maps=ClassMaps(np.array([0, 253], np.int32), np.array([[[0.0]], [[1.0]]], np.float32)))
    np.testing.assert_array_equal(found.labels(), [[254]])


def test_overlays_are_pictures():
    drawn = result().overlay("dog")
    assert drawn.size == (3, 1) and drawn.mode == "RGB"
    labels = np.asarray(result().label_overlay(0.5))
    np.testing.assert_array_equal(labels[0, 0], [100, 100, 100])  # background stays
    assert labels[0, 1].tolist() != [100, 100, 100]
    with pytest.raises(ConfigError, match=r"class 'cat'.*there are bird, dog"):
        result().overlay("cat")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["dgo"], "class 'dgo': there is no such class here; did you mean 'dog'?"),
        (["Person"], "did you mean 'person'?"),
        (["zebra crossing"], "there are bird, cat, dog, person"),
        ([], "give a list of names, of bird, cat, dog, person"),
        ("dog", "give a list of names"),
    ],
)
def test_unknown_classes(model, image, classes, message):
    with pytest.raises(ConfigError) as error:
        model(image, classes=classes)
    assert message in str(error.value)


def test_unknown_filter(model, image):
    with pytest.raises(ConfigError, match="'given': must be 'predicted' or 'all'"):
        model(image, class_filter="given")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scales": ()}, "scales"), ({"scales": (0,)}, "scales"), ({"scales": (float("nan"),)}, "scales"),
     ({"scales": (float("inf"),)}, "scales"), ({"max_side": -1}, "max_side")],
)  # fmt: skip
def test_options_out_of_range(method, options, message):
    with pytest.raises(ConfigError, match=message):
        CamModel(method, {}, CLASSES, **options)


# --- checkpoints


def test_any_folder_of_a_run_names_its_best_step(workdir):
    network = workdir / "checkpoints" / "classifier"
    paths = (workdir, str(network), network / "10", network / "20")
    steps = [re.search(r"step (\d+)", CamModel.load(path).about)[1] for path in paths]
    assert steps == ["10", "10", "10", "20"]


def test_the_model_says_what_it_is(model):
    assert model.about == "classifier of the method cam, step 10, 4 classes"
    assert model.classes == CLASSES


def test_settings_that_an_old_checkpoint_lacks_get_their_defaults(tmp_path, method, config, image, model):
    old = json.loads(config.to_json_best_effort())
    del old["cse"], old["model"]["trunk_dropout"]
    old["something_since_removed"] = 1
    save(tmp_path / "old", method, config, 1, seed=0, score=None, config=json.dumps(old))
    found = CamModel.load(tmp_path / "old", scales=(1.0,), flip=False)(image, class_filter="all")
    np.testing.assert_array_equal(found.maps.planes, model(image, class_filter="all").maps.planes)


def test_no_such_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: there is no such checkpoint"):
        CamModel.load(tmp_path / "nowhere")


def test_folder_or_file_without_checkpoint(tmp_path):
    (tmp_path / "file").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match=f"{tmp_path}: holds no checkpoint"):
        CamModel.load(tmp_path)
    with pytest.raises(CheckpointError, match=f"{tmp_path / 'file'}: offset 0: is a text"):
        CamModel.load(tmp_path / "file")


# --- bare files of weights


@pytest.fixture(scope="module")
def bare(tmp_path_factory, workdir):
    """What the run's best step becomes as files that other programs read."""
    folder = tmp_path_factory.mktemp("bare")
    for form in ("pth", "safetensors", "npz"):
        convert([str(workdir), str(folder / f"a.{form}"), f"--to={form}"])
    convert([str(folder / "a.pth"), str(folder / "converted")])
    return folder


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.npz", "converted"])
def test_bare_weights_give_the_maps_of_the_run_that_they_are_from(bare, model, image, name):
    """The converter's folder has no description either."""
    loaded = CamModel.load(bare / name, class_names=CLASSES, scales=(1.0,), flip=False)
    assert loaded.classes == CLASSES
    assert loaded.about == (
        f"resnet38_cls from {bare / name}, 4 classes; could as well be cse_net_er of OC-CSE: --network tells"
    )
    wanted, found = model(image, class_filter="all"), loaded(image, class_filter="all")
    np.testing.assert_array_equal(found.maps.planes, wanted.maps.planes)
    assert found.scores == wanted.scores


@pytest.mark.parametrize(
    ("state_dict", "name", "classes"),
    [
        ("cse_net_er", "cse", 20),
        ("sccam_k10", "sc_cam", 20),
        ("cpn", "cpn", 3),
        ("infercam_seam", "seam", 20),
    ],
)
def test_every_network_with_maps_is_known(tmp_path, config, state_dict, name, classes):
    """Method, widths, blocks, classes and sub-categories come from the names and shapes alone."""
    settings = ConfigDict(config.to_dict())
    settings.method, settings.sc_cam.k, settings.cpn.branch_width = name, 3, 0.5
    method = make_method(settings, classes)
    variables = narrow_variables(method)[method.name]
    with (tmp_path / "a.pth").open("wb") as file:
        write_torch(file, from_variables(variables, state_dict, blocks=(0, 0, 1, 0)))
    names = [f"c{i}" for i in range(classes)] if classes != 20 else None
    network = state_dict if name == "cse" else None
    loaded = CamModel.load(tmp_path / "a.pth", network=network, class_names=names)
    assert loaded.classes == (VOC if names is None else tuple(names))
    assert loaded.about.startswith(f"{state_dict} from {tmp_path / 'a.pth'}, {classes} classes")
    assert loaded.about.endswith("; named as VOC's") == (names is None)
    assert loaded._program._method == method
    np.testing.assert_array_equal(
        loaded._variables[method.name]["params"]["trunk"]["conv1a"]["kernel"],
        variables["params"]["trunk"]["conv1a"]["kernel"],
    )


def test_dilations_of_a_file_are_what_the_user_says(bare):
    models = [CamModel.load(bare / "a.pth", class_names=CLASSES, dilations=d) for d in (None, (1, 2, 2))]
    assert [m._program._method.network.dilations for m in models] == [(2, 4, 4), (1, 2, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"a.pth has 4 classes without names; name them in its order: --class_names"),
        ({"class_names": CLASSES[:3]}, r"--class_names: 3 different names, .*a.pth needs 4"),
        ({"class_names": (*CLASSES[:3], "cat")}, r"--class_names: 3 different names, .*a.pth needs 4"),
        ({"network": "cpn"}, r"a.pth: does not fit cpn: 4 missing: f8_3.weight"),
        ({"network": "vgg"}, r"unknown network 'vgg'; known are"),
    ],
)
def test_bare_weights_that_cannot_be_used(bare, options, message):
    with pytest.raises(UserError, match=message):
        CamModel.load(bare / "a.pth", **options)


def test_networks_without_maps_are_named(tmp_path):
    convert([str(GOLDEN / "mxnet" / "resnet38_legacy_v0.params"), str(tmp_path / "a.npz"), "--to=npz"])
    with pytest.raises(CheckpointError, match=r"a.npz: resnet38_base makes no maps of classes; networks"):
        CamModel.load(tmp_path / "a.npz")


def test_a_run_says_itself_what_it_is(workdir):
    with pytest.raises(ConfigError, match="says itself which network and classes it has"):
        CamModel.load(workdir, class_names=CLASSES)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": "{"},
        {"config": "[]"},
        {"config": "null"},
        {"config": 3},
        {"config": '{"model": 3}'},
        {"config": '{"batch_size": "many"}'},
        {"config": '{"method": "none such"}'},
        {"config": '{"model": {"width": 1}}'},
        {"classes": 3},
        {"classes": list(CLASSES[:3])},
        {"task": "er"},
    ],
)
def test_checkpoint_that_describes_itself_badly(tmp_path, workdir, changes):
    """Whatever metadata a file from somewhere else holds, the message is one line and names the folder."""
    folder = shutil.copytree(workdir / "checkpoints" / "classifier" / "10", tmp_path / "10")
    path = folder / "meta" / "metadata"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError) as error:
        CamModel.load(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value) or "method" in changes.get("config", "")


def test_checkpoint_without_description(tmp_path, workdir):
    folder = shutil.copytree(workdir / "checkpoints" / "classifier" / "10", tmp_path / "10")
    path = folder / "meta" / "metadata"
    without = {k: v for k, v in json.loads(path.read_text()).items() if k != "classes"}
    path.write_text(json.dumps(sealed(without)))
    with pytest.raises(CheckpointError, match=r"KeyError: 'classes'.*that wsss_jax.main has saved"):
        CamModel.load(folder)


def test_damaged_checkpoint(tmp_path, method, config):
    save(tmp_path / "c", method, config, 1, seed=0, score=None)
    save(tmp_path / "other", method, config, 1, seed=1, score=None)
    shutil.rmtree(tmp_path / "c" / "1" / "variables")
    shutil.copytree(tmp_path / "other" / "1" / "variables", tmp_path / "c" / "1" / "variables")
    with pytest.raises(CheckpointError, match="damaged"):
        CamModel.load(tmp_path / "c")


# --- the command's side


def run(pictures, model, out, **options):
    cam.run(pictures, lambda: model, out=out, **options)


def not_loaded():
    raise AssertionError("loaded although the pictures or the folder cannot be used")


def test_files_of_each_picture(model, pictures, tmp_path, capsys, image):
    run(pictures, model, tmp_path / "cams", classes=["dog", "bird"], threshold=0.4)
    for stem, pixels in (("one", image), ("two", image[::-1])):
        folder = tmp_path / "cams" / stem
        names = {"cam_bird.png", "cam_dog.png", "labels.png", "overlay.png"}
        assert {p.name for p in folder.iterdir()} == names
        wanted = model(np.ascontiguousarray(pixels), classes=["bird", "dog"])
        drawn = {"cam_dog": wanted.overlay("dog"), "cam_bird": wanted.overlay("bird")}
        for name, picture in {**drawn, "overlay": wanted.label_overlay(0.4)}.items():
            np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{name}.png")), np.asarray(picture))
        labels = Image.open(folder / "labels.png")
        assert labels.mode == "P" and labels.getpalette()[3:6] == [128, 0, 0]
        np.testing.assert_array_equal(np.asarray(labels), wanted.labels(0.4))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("weights: classifier of the method cam, step 10")
    assert [line.split(":")[0] for line in lines[1:]] == pictures
    scores = model(image, classes=["dog", "bird"]).scores
    for name in ("bird", "dog"):
        assert f"{name} {scores[name]:.2f}" in lines[1]
    assert not re.search(r"cat|person", lines[1])
    assert lines[1].endswith(f"{tmp_path / 'cams' / 'one'}: cam_bird.png cam_dog.png labels.png overlay.png")


def test_scores_are_printed_from_the_highest(model, pictures, tmp_path, capsys):
    run(pictures[:1], model, tmp_path / "cams", class_filter="all")
    line = capsys.readouterr().out.splitlines()[1]
    printed = [float(x) for x in re.findall(r"(?:bird|cat|dog|person) (\d\.\d\d)", line)]
    assert len(printed) == 4 and printed == sorted(printed, reverse=True)


@pytest.mark.parametrize(
    "name", ["../../escape", "a/b", "what?", "a%2Fb", 'q"<>|*:\\', "potted plant", "ñandú"]
)
def test_class_names_become_files_of_their_folder(tmp_path, name):
    found = result(classes=(name, "other"))
    names = write_result(found, tmp_path / "deep" / "folder")
    assert sorted(
        p.relative_to(tmp_path / "deep" / "folder").as_posix() for p in tmp_path.rglob("*.png")
    ) == sorted(names)
    assert len(names) == 4


def test_different_classes_never_share_a_file():
    names = ["a/b", "a%2Fb", "a_b", "a\\b", "a%b", "a:b"]
    assert len({file_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "given",
    [["a/x.jpg", "b/x.png"], ["x.jpg", "x.jpg"], ["x.jpg", "X.png"], ["a/x.jpg", "y.jpg", "a/../x.jpg"]],
)
def test_pictures_that_would_overwrite_each_other(given):
    with pytest.raises(ConfigError, match=r"would both be written to out/[xX]; rename one"):
        cam.output_folders(given, "out")


def test_two_pictures_of_one_stem_write_nothing(model, pictures, tmp_path):
    other = tmp_path / "sub" / "one.jpg"
    other.parent.mkdir()
    Image.new("RGB", (9, 9)).save(other)
    with pytest.raises(ConfigError, match=r"one.png and .*one.jpg would both"):
        cam.run([*pictures, str(other)], not_loaded, out=tmp_path / "cams")
    assert not (tmp_path / "cams").exists()


def test_no_such_picture(pictures, tmp_path):
    with pytest.raises(DataError, match=r"no such file: .*three.png"):
        cam.run([*pictures, str(tmp_path / "three.png")], not_loaded, out=tmp_path / "cams")


def test_not_a_picture(pictures, tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"notes.jpg"):
        cam.run([*pictures, str(tmp_path / "notes.jpg")], not_loaded, out=tmp_path / "cams")


def test_folders_stand_for_their_pictures(model, pictures, tmp_path, capsys):
    for name in ("notes.txt", ".hidden.png", "below/three.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(pictures[0], tmp_path / name)
    shutil.copy(pictures[0], tmp_path / "below" / "Four.JPG")
    run([str(tmp_path), str(tmp_path / "below")], model, tmp_path / "cams", classes=["dog"])
    lines = capsys.readouterr().out.splitlines()[1:]
    wanted = ["one.png", "two.png", "below/Four.JPG", "below/three.png"]
    assert [line.split(":")[0] for line in lines] == [str(tmp_path / name) for name in wanted]
    assert {p.name for p in (tmp_path / "cams").iterdir()} == {"one", "two", "Four", "three"}


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="there are no images in this folder"):
        cam.run([str(tmp_path)], not_loaded, out=tmp_path / "cams")


def test_scores_are_written_as_the_runs_are(model, pictures, tmp_path, image, capsys):
    run(pictures, model, tmp_path / "cams", classes=["dog", "bird"], scores=True)
    assert capsys.readouterr().out.splitlines()[1].endswith(f"overlay.png; {tmp_path / 'cams' / 'one.npz'}")
    for stem, pixels in (("one", image), ("two", image[::-1])):
        wanted = model(np.ascontiguousarray(pixels), classes=["bird", "dog"])
        keys, maps = read_maps(tmp_path / "cams" / f"{stem}.npz", stem, image.shape[:2])
        np.testing.assert_array_equal(keys, [0, 2])
        np.testing.assert_array_equal(maps, wanted.maps.planes)
        assert (keys.dtype, maps.dtype) == (np.int32, np.float32)
    pairs = pair_files(tmp_path, tmp_path / "cams")  # as `wsss_jax.refine --images --cams` finds them
    assert {i: pair.image.name for i, pair in pairs.files.items()} == {"one": "one.png", "two": "two.png"}


def test_a_picture_of_no_class_says_so(method, workdir, pictures, tmp_path, capsys):
    variables = narrow_variables(method, 0)["classifier"]
    kernel = variables["params"]["fc8"]["kernel"]  # conv6 >= 0, so the kernel's sign is the logit's
    variables["params"]["fc8"]["kernel"] = -np.abs(kernel) * [1e-3, 1, 1, 1]
    unsure = CamModel(method, {"classifier": variables}, CLASSES, scales=(1,), flip=False)
    run(pictures[:1], unsure, tmp_path / "cams")
    bird = unsure(pictures[0]).scores["bird"]
    line = capsys.readouterr().out.splitlines()[1]
    assert f"{pictures[0]}: no class reaches 0.5; the highest is bird {bird:.2f}, which is shown; " in line
    run(pictures[:1], unsure, tmp_path / "cams", classes=["cat"])  # wanted, whatever its probability
    assert "no class" not in capsys.readouterr().out


def test_truncated_picture(model, tmp_path, image):
    Image.fromarray(image).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:2000])
    Image.fromarray(image).save(tmp_path / "whole.png")
    with pytest.raises(DataError, match=r"1 of 2 images are not done: .*cut.png cannot be decoded") as error:
        run([str(tmp_path / "cut.png"), str(tmp_path / "whole.png")], model, tmp_path / "cams")
    assert "\n" not in str(error.value)
    assert (tmp_path / "cams" / "whole" / "labels.png").exists()


def test_folder_that_cannot_be_written(pictures, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RunError, match=f"--out={out}: cannot be written .*; choose another folder"):
            cam.run(pictures, not_loaded, out=out)


def test_unknown_class_writes_nothing(model, pictures, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'dog'"):
        run(pictures, model, tmp_path / "cams", classes=["dgo"])
    assert list((tmp_path / "cams").iterdir()) == []


def command(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "wsss_jax.cam", *arguments], cwd=cwd, capture_output=True, text=True
    )


def test_command_end_to_end(workdir, pictures, tmp_path):
    flags = (
        f"--checkpoint={workdir}",
        f"--out={tmp_path / 'cams'}",
        "--scales=1",
        "--noflip",
        "--classes=cat,dog",
    )
    done = command(*pictures, *flags)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[1].startswith(pictures[0]) and lines[2].startswith(pictures[1])
    assert {p.name for p in (tmp_path / "cams" / "two").iterdir()} == {
        "cam_cat.png", "cam_dog.png", "labels.png", "overlay.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint=x"], "no image given"),
        (["a.png"], "--checkpoint: give a run's folder, or a file of weights"),
        (["a.png", "--checkpoint=x", "--dilations=1,two,3"], "--dilations=1,two,3: wanted numbers"),
        (["a.png", "--checkpoint=x", "--classes=dog", "--class_filter=all"], "give one of them"),
        (["a.png", "--checkpoint=x", "--scales=1,big"], "--scales=1,big: wanted numbers"),
        (["a.png", "--checkpoint=x", "--threshold=2"], "--threshold=2"),
        (["a.png", "--checkpoint=x", "--class_filter=given"], "predicted|all"),
        (["a.png", "--checkpoint=x", "--chekpoint=y"], "chekpoint"),
        (["none.png", "--checkpoint=x"], "no such file: none.png"),
    ],
)
def test_command_line_errors_are_one_line(arguments, message):
    done = command(*arguments)
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr


def test_missing_checkpoint_is_one_line(pictures, tmp_path):
    done = command(pictures[0], f"--checkpoint={tmp_path / 'none'}", f"--out={tmp_path / 'cams'}")
    assert (done.returncode, done.stdout) == (1, "")
    reason = "there is no such checkpoint; give a run's folder or a file of weights"
    assert done.stderr == f"Error: {tmp_path / 'none'}: {reason}\n"


def test_help_is_quick_and_needs_no_jax():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 3  # not the clock's time: the machine may be busy
    assert "--checkpoint" in done.stdout and "Traceback" not in done.stderr
    heavy = {"jax", "flax", "orbax", "optax"}
    code = f"import sys, wsss_jax.cam; print(*sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == ""


def test_importing_defines_no_flags():
    """A notebook's own flags keep their names."""
    code = "import wsss_jax.cam\nfrom absl import flags\nflags.DEFINE_string('out', '', '')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_fixture_has_all_of_the_networks_variables(workdir, method):
    """The hostile cases above change a checkpoint that is sound otherwise."""
    model = CamModel.load(workdir / "checkpoints" / "classifier" / "10")
    names = {path for path, _ in flatten(narrow_variables(method)["classifier"])}
    assert {path for path, _ in flatten(model._variables["classifier"])} == names
