"""WaveCAM's networks and loss against its authors' program."""

import functools
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.helpers.golden import GOLDEN, file_of, names, state_dict, tensor
from tests.helpers.networks import batch_loss, relative
from wsss_jax.systems.wave_cam.network import Predictor, WaveClassifier, class_features, normalised_cams
from wsss_jax.systems.wave_cam.task import NETWORK, PREDICTOR, WaveCam, predictor_terms
from wsss_jax.systems.wave_cam.wave import WaveModule
from wsss_jax.task import Outcome
from wsss_jax.training.initial import variable_shapes
from wsss_jax.weights import check_against, from_variables, to_variables

METHOD = WaveCam(network=WaveClassifier(20), predictor=Predictor(20, 2048), frozen=("conv1", "bn1"))


def golden(name):
    return np.load(GOLDEN / f"{name}.npz")


def nhwc(array):
    return np.asarray(array).transpose(0, 2, 3, 1)


@functools.cache
def predictor_variables():
    seed = str(golden("wavecam")["predictor_seed"])
    return to_variables(state_dict(seed, names("wavecam_predictor")), "wavecam_predictor")


def wave(cams, **options):
    own = {kind: tree["wave"] for kind, tree in predictor_variables().items()}
    return jax.jit(functools.partial(WaveModule(20).apply, **options))(own, nhwc(cams))


def check_statistics(stored, found):
    written = from_variables({**predictor_variables(), "batch_stats": found}, "wavecam_predictor")
    checked = [name for name in stored.files if name.startswith("stats/")]
    for name in checked:
        assert relative(written[name.removeprefix("stats/")], stored[name]) < 1e-4, name
    assert len(checked) == 4


def test_waves_are_the_authors():
    stored = golden("wavecam")
    assert relative(wave(stored["wave_in"]), nhwc(stored["wave_out_eval"])) < 1e-4
    trained, _ = wave(stored["wave_in"], mutable=["batch_stats"])
    assert relative(trained, nhwc(stored["wave_out_train"])) < 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_predictor_is_the_authors(training):
    """Three images, one of which has no class and still counts in the mean."""
    stored = golden("wavecam_predictor")
    seed, kind = str(stored["predictor_seed"]), "train" if training else "eval"
    variables = to_variables(state_dict(seed, names("wavecam_predictor")), "wavecam_predictor")
    features = 20 * np.abs(tensor("dev", str(stored["features_name"]), (3, 20, 2048)))
    np.testing.assert_array_equal(features[..., ::64], stored["features_every64"])
    apply = functools.partial(METHOD.predictor.apply, mutable=["batch_stats"] if training else False)
    told = jax.jit(apply)(variables, features, nhwc(stored["cams"]))
    if training:
        told, changed = told
        check_statistics(stored, changed["batch_stats"])
    assert (stored["label"].sum(1) == 0).any()
    terms = predictor_terms(told, stored["label"], 1.0)
    loss, means = batch_loss(Outcome(terms))
    assert relative(loss, stored[f"{kind}_loss_ce"]) < 1e-3
    assert relative(means["accuracy_ce"], stored[f"{kind}_acc"]) < 1e-5


def test_cross_entropy_and_accuracy_by_hand():
    told = np.log(np.array([[[0.5, 0.5], [0.25, 0.75]], [[0.2, 0.8], [0.5, 0.5]], [[1, 1], [1, 1]]]))
    labels = np.array([[1, 1], [1, 0], [0, 0]])
    terms = predictor_terms(told.astype(np.float32), labels, 0.1)
    wanted = [-(np.log(0.5) + np.log(0.75)) / 2, -np.log(0.2), 0]
    np.testing.assert_allclose(terms["loss_ce"].total, wanted, rtol=1e-5)
    loss, means = batch_loss(Outcome(terms))
    np.testing.assert_allclose(loss, 0.1 * sum(wanted) / 3, rtol=1e-5)
    np.testing.assert_allclose(means["accuracy_ce"], 2 / 3)  # of three rows, the second image's is wrong
    nothing = predictor_terms(told.astype(np.float32), np.zeros((3, 2)), 1.0)
    assert batch_loss(Outcome(nothing))[1]["accuracy_ce"] == 0


def test_normalised_cams_and_class_features_by_hand():
    maps = np.array([[[[4.0, -1.0], [2.0, -3.0]]]], np.float32)  # one row of two positions, two classes
    cams = normalised_cams(maps)
    np.testing.assert_allclose(cams, [[[[4 / 4.00001, 0], [2 / 4.00001, 0]]]], rtol=1e-6)
    features = np.array([[[[1.0, 0, 3], [5, 7, 0]]]], np.float32)
    found = class_features(cams, features)
    np.testing.assert_allclose(found, [[[1.75, 1.75, 1.5], [0, 0, 0]]], rtol=1e-4)


def test_names_and_shapes_are_the_published_ones():
    for network, shapes in METHOD.networks.items():
        published = to_variables(file_of(network), network)
        check_against(published, variable_shapes(shapes))


@pytest.fixture(scope="module")
def trained():
    """Loss, gradients and statistics of one step on the golden images, as in training."""
    stored = golden("wavecam")
    images = nhwc(stored["x_small"].repeat(8, 2).repeat(8, 3))
    variables = {NETWORK: to_variables(file_of(NETWORK), NETWORK), PREDICTOR: predictor_variables()}
    batch = {"images": images, "labels": stored["label"]}

    @jax.jit
    def run(params):
        def loss(params):
            merged = {name: {**variables[name], "params": params[name]} for name in variables}
            outcome = METHOD.loss(merged, batch, None, None)
            total, means = batch_loss(outcome)
            return total, (means, outcome.state)

        return jax.value_and_grad(loss, has_aux=True)(params)

    return stored, variables, run({name: tree["params"] for name, tree in variables.items()})


@pytest.mark.slow
def test_a_training_step_is_the_authors(trained):
    stored, variables, ((loss, (means, state)), grads) = trained
    assert relative(loss, stored["train_loss"]) < 1e-3
    assert relative(means["loss_cls"], stored["train_loss_cls"]) < 1e-3
    assert relative(means["loss_ce"], stored["train_loss_ce"]) < 1e-3
    assert relative(means["accuracy_ce"], stored["train_acc"]) < 1e-5
    check_statistics(stored, state[PREDICTOR]["batch_stats"])
    for name, kind in ((NETWORK, "net"), (PREDICTOR, "predictor")):
        written = from_variables({**variables[name], "params": grads[name]}, name)
        for parameter, norm in zip(stored[f"grad_names_{kind}"], stored[f"grad_norms_{kind}"], strict=True):
            if norm >= 0:  # -1 where there is no gradient
                assert abs(np.linalg.norm(written[str(parameter)]) / norm - 1) < 1e-3, parameter


@pytest.mark.slow
def test_maps_are_the_authors():
    stored = golden("wavecam")
    variables = {NETWORK: to_variables(file_of(NETWORK), NETWORK), PREDICTOR: predictor_variables()}
    pair = nhwc(np.stack([stored["cam_x"], stored["cam_x"][..., ::-1]]))
    size = np.array([pair.shape[1:3]] * 2)
    for maps, key in (("plain", "cam_forward"), ("product", "cam_forward2")):
        method = WaveCam(network=METHOD.network, predictor=METHOD.predictor, frozen=(), maps=maps)
        first, second = np.asarray(jax.jit(method.cam)(variables, pair, size).maps)
        assert relative(first + second[:, ::-1], stored[key].transpose(1, 2, 0)) < 1e-4


@pytest.mark.slow
def test_eighty_classes_are_as_the_authors_code_would_have_them():
    """Their code has 20 in six places; the same files of names hold 80 then."""
    stored = golden("wavecam80")

    def of_80(network):
        return {name: tuple(80 if n == 20 else n for n in shape) for name, shape in names(network).items()}

    first = json.loads((GOLDEN / "aliases" / f"{NETWORK}.json").read_text())
    net = {name: tensor("dev", first.get(name, name), shape) for name, shape in of_80(NETWORK).items()}
    told = state_dict(str(stored["predictor_seed"]), of_80(PREDICTOR))
    variables = {NETWORK: to_variables(net, NETWORK), PREDICTOR: to_variables(told, PREDICTOR)}
    images = nhwc(stored["x_small"].repeat(8, 2).repeat(8, 3))
    batch = {"images": images, "labels": stored["label"]}
    networks = {"network": WaveClassifier(80), "frozen": (), "ce_weight": 0.1}
    methods = [WaveCam(predictor=Predictor(80, 2048, wave=wave), **networks) for wave in (True, False)]

    @jax.jit
    def losses(batch):
        outcomes = [method.loss(variables, batch, None, None) for method in methods]
        return [batch_loss(outcome) for outcome in outcomes], outcomes[0].state

    found, state = losses(batch)
    for (loss, means), key in zip(found, ("loss_ce", "no_wave_loss_ce"), strict=True):
        assert relative(means["loss_cls"], stored["loss_cls"]) < 1e-3
        assert relative(means["loss_ce"], stored[key]) < 1e-3
        assert relative(loss, stored["loss_cls"] + 0.1 * stored[key]) < 1e-3
    written = from_variables({**variables[PREDICTOR], **state[PREDICTOR]}, PREDICTOR)
    statistics = [name for name in stored.files if name.startswith("stats/")]
    assert len(statistics) == 4
    for name in statistics:
        assert relative(written[name.removeprefix("stats/")], stored[name]) < 1e-4, name
    pair = nhwc(np.stack([stored["cam_x"], stored["cam_x"][..., ::-1]]))
    size = np.array([pair.shape[1:3]] * 2)
    for maps in ("plain", "product"):
        method = WaveCam(network=WaveClassifier(80), predictor=Predictor(80, 2048), frozen=(), maps=maps)
        one, two = np.asarray(jax.jit(method.cam)(variables, pair, size).maps)
        assert relative(one + two[:, ::-1], stored[f"cam_{maps}"].transpose(1, 2, 0)) < 1e-4


def test_a_predictor_without_waves_is_recams():
    """Its wave module's weights are there, in the file too, and neither used nor changed."""
    plain = Predictor(20, 2048, wave=False)
    rng = np.random.default_rng(0)
    features, cams = rng.random((2, 20, 2048), np.float32), rng.random((2, 3, 5, 20), np.float32)
    told, changed = plain.apply(predictor_variables(), features, cams, mutable=["batch_stats"])
    kernel = predictor_variables()["params"]["classifier"]["kernel"][0, 0]
    assert relative(told, features @ kernel) < 1e-5
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], predictor_variables()["batch_stats"])
    method = WaveCam(network=METHOD.network, predictor=plain, frozen=())
    paths = flatten_dict(predictor_variables(), sep="/")
    learning = {path for path in paths if method.group((PREDICTOR, *path.split("/"))) != "frozen"}
    assert learning == {"params/classifier/kernel"}
