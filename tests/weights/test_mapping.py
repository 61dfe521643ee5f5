"""Name maps, against the names of the references' own state dicts."""

import json

import numpy as np
import pytest

from tests.helpers import torch_files as tf
from tests.helpers.golden import GOLDEN, file_of, names, state_dict
from wsss_jax import weights
from wsss_jax.errors import CheckpointError
from wsss_jax.models.classifier import Classifier
from wsss_jax.training.initial import variable_shapes
from wsss_jax.weights.mapping import flatten, torch_names
from wsss_jax.weights.networks import MXNET_DROPPED, NETWORKS, mxnet_names
from wsss_jax.weights.safetensors_files import write_safetensors

NAMED = sorted(set(NETWORKS) - {"resnet38_mxnet_a1"})
NARROW = 16


def test_every_network_has_its_list_of_names():
    assert {path.stem for path in (GOLDEN / "names").glob("*.json")} == set(NETWORKS)


@pytest.mark.parametrize("network", NAMED)
def test_names_and_their_order_are_the_references(network):
    """But for second names of tensors, which follow the first ones."""
    found, second = [entry.torch for entry in NETWORKS[network].entries()], _second_names(network)
    assert [name for name in found if name not in second] == [n for n in names(network) if n not in second]
    assert sorted(found) == sorted(names(network))


def _second_names(network):
    aliases = NETWORKS[network].aliases
    return {name for name in names(network) for second, _ in aliases if f"{name}.".startswith(f"{second}.")}


@pytest.mark.parametrize("network", NAMED)
def test_every_tensor_has_a_place_of_its_own(network):
    second = _second_names(network)
    paths = [e.path for e in NETWORKS[network].entries() if e.path and e.torch not in second]
    assert len(set(paths)) == len(paths)
    variables = weights.to_variables(file_of(network, 64), network)
    assert {path for path, _ in flatten(variables)} == set(paths)


@pytest.mark.parametrize("network", ["resnet38_cls", "cse_net_er"])
def test_variables_are_those_of_our_network(network):
    """At full width; the arrays are one zero seen from everywhere."""
    tensors = {name: np.broadcast_to(np.float32(0), shape) for name, shape in names(network).items()}
    variables = weights.to_variables(tensors, network)
    weights.check_against(variables, variable_shapes(Classifier(num_classes=20)))
    with pytest.raises(
        CheckpointError, match=r"1 of another shape: params/fc8/kernel is \(1, 1, 4096, 20\) instead"
    ):
        weights.check_against(variables, variable_shapes(Classifier(num_classes=7)))


def test_mxnet_names_are_the_published_ones():
    published = json.loads((GOLDEN / "names" / "resnet38_mxnet_a1.json").read_text())
    assert mxnet_names() == {name: entry["torch"] for name, entry in published.items() if entry["torch"]}
    dropped = [name for name, entry in published.items() if entry["torch"] is None]
    assert dropped == ["arg:" + name.replace(".", "_") for name in MXNET_DROPPED]


def test_layouts_by_hand():
    tensors = state_dict("dev", names("resnet38_cls", NARROW))
    variables = weights.to_variables(tensors, "resnet38_cls")
    params, stats = variables["params"], variables["batch_stats"]
    kernel = params["trunk"]["b6"]["conv_branch2b1"]["kernel"]
    assert kernel.shape == (3, 3, 32, 64)
    assert kernel[0, 2, 5, 7] == tensors["b6.conv_branch2b1.weight"][7, 5, 0, 2]
    assert params["fc8"]["kernel"].shape == (1, 1, 256, 1)
    block = "b2_1.bn_branch2a"
    assert params["trunk"]["b2_1"]["bn_branch2a"]["scale"] is tensors[f"{block}.weight"]
    assert params["trunk"]["b2_1"]["bn_branch2a"]["bias"] is tensors[f"{block}.bias"]
    assert stats["trunk"]["b2_1"]["bn_branch2a"]["mean"] is tensors[f"{block}.running_mean"]
    assert stats["trunk"]["b2_1"]["bn_branch2a"]["var"] is tensors[f"{block}.running_var"]
    assert set(stats) == {"trunk"} and set(params) == {"trunk", "fc8"}
    assert np.shares_memory(kernel, tensors["b6.conv_branch2b1.weight"])


@pytest.mark.parametrize("network", NAMED)
@pytest.mark.parametrize("legacy", [False, True])
def test_round_trip_is_bitwise(tmp_path, network, legacy):
    """PyTorch file -> ours -> safetensors, at 1/16 of the width."""
    round_trip(tmp_path, network, NARROW, tf.write_legacy if legacy else tf.write_zip)


@pytest.mark.slow
@pytest.mark.parametrize("network", NAMED)
def test_round_trip_is_bitwise_at_full_width(tmp_path, network):
    round_trip(tmp_path, network, 1, tf.write_zip)


def round_trip(tmp_path, network, narrow, write):
    wanted = file_of(network, narrow)
    variables = weights.to_variables(weights.read_tensors(write(tmp_path / "a.pth", wanted)), network)
    write_safetensors(tmp_path / "b.safetensors", weights.from_variables(variables, network))
    found = weights.read_tensors(tmp_path / "b.safetensors")
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert found[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("network", NAMED)
def test_networks_are_found_by_their_tensors(network):
    found = weights.detect_network(file_of(network, 64))
    assert found == ("resnet38_cls" if network == "cse_net_er" else network)
    variables = weights.to_variables(file_of(network, 64), network)
    same = "resnet38_cls" if network == "cse_net_er" else network
    assert weights.detect_variables(variables) == same


def test_prefixes_and_counters_make_no_difference():
    tensors = state_dict("dev", names("resnet38_cls", 64))
    parallel = {f"module.{name}": value for name, value in tensors.items()}
    older = {name: value for name, value in tensors.items() if "num_batches" not in name}
    wanted = dict(flatten(weights.to_variables(tensors, "resnet38_cls")))
    for variant in (parallel, older):
        assert weights.detect_network(variant) == "resnet38_cls"
        found = dict(flatten(weights.to_variables(variant, "resnet38_cls")))
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[path], wanted[path]) for path in wanted)
    mixed = {**tensors, "module.fc8.weight": tensors["fc8.weight"]}
    with pytest.raises(CheckpointError, match=r"1 unexpected: module\.fc8\.weight$"):
        weights.to_variables(mixed, "resnet38_cls")


def test_a_tensor_may_have_any_of_its_names():
    published = file_of("resnet50_cam", 64)
    wanted = dict(flatten(weights.to_variables(published, "resnet50_cam")))
    second = _second_names("resnet50_cam")
    once = {name: value for name, value in published.items() if name not in second}
    other = {name: value for name, value in once.items() if "layer4" not in name and "classifier" not in name}
    other |= {name: value for name, value in published.items() if name.startswith(("stage4", "newly_added"))}
    assert len(published) > 2 * len(once) and once.keys() != other.keys()
    for variant in (once, other):
        found = dict(flatten(weights.to_variables(variant, "resnet50_cam", blocks=(3, 4, 6, 3))))
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[path], wanted[path]) for path in wanted)
    assert weights.detect_network(once) == "resnet50_cam"
    del once["resnet50.bn1.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: resnet50\.bn1\.bias$"):
        weights.to_variables(once, "resnet50_cam")


def test_torchvisions_names_are_those_of_the_trunk():
    tensors = file_of("resnet50_torchvision", 64)
    older = {name: value for name, value in tensors.items() if "num_batches" not in name}
    assert weights.detect_network(older) == "resnet50_torchvision"
    bare = {name: value for name, value in older.items() if not name.startswith("fc.")}
    wanted = weights.to_variables(tensors, "resnet50_torchvision")["params"]["trunk"]
    for variant in (tensors, older, bare):
        found = weights.to_variables(variant, "resnet50_cam", allow_missing=["classifier"], ignore=["fc"])
        assert set(found["params"]) == {"trunk"}
        pairs = zip(flatten(found["params"]["trunk"]), flatten(wanted), strict=True)
        assert all(np.shares_memory(a, b) and a.shape == b.shape for (_, a), (_, b) in pairs)
    with pytest.raises(CheckpointError, match=r"1 missing: classifier.weight; 2 unexpected: fc.weight, fc.b"):
        weights.to_variables(tensors, "resnet50_cam")


def test_the_mxnet_file_is_the_trunk():
    tensors = weights.read_tensors(GOLDEN / "mxnet" / "resnet38_legacy_v0.params")
    assert weights.detect_network(tensors) == "resnet38_mxnet_a1"
    found = weights.to_variables(tensors, "resnet38_cls", allow_missing=["fc8"])
    assert set(found["params"]) == {"trunk"}
    np.testing.assert_array_equal(found["batch_stats"]["trunk"]["bn7"]["var"], tensors["aux:bn7_moving_var"])
    bare = {name.partition(":")[2]: value for name, value in tensors.items()}
    assert set(torch_names(bare)) == set(torch_names(tensors))
    with pytest.raises(CheckpointError, match="two arrays are called bn7_gamma"):
        torch_names({**tensors, "bn7_gamma": tensors["arg:bn7_gamma"]})


def test_strict_lists_everything():
    tensors = state_dict("dev", names("resnet38_cls", 64))
    extra = {f"extra{i}.weight": np.ones(1) for i in range(30)}
    for name in ("fc8.weight", "bn7.bias", "b2.conv_branch1.weight"):
        del tensors[name]
    with pytest.raises(CheckpointError) as caught:
        weights.to_variables({**tensors, **extra}, "resnet38_cls", source="a.pth")
    message = str(caught.value)
    assert message.startswith(
        "a.pth: does not fit resnet38_cls: 3 missing: b2.conv_branch1.weight, bn7.bias, fc8.weight"
    )
    assert "; 30 unexpected: extra0.weight, " in message
    assert all(name in message for name in extra)


def test_only_what_is_named_may_differ():
    tensors = state_dict("dev", names("resnet38_cls", 64))
    head = tensors.pop("fc8.weight")
    found = weights.to_variables(tensors, "resnet38_cls", allow_missing=["fc8"])
    assert set(found["params"]) == {"trunk"}
    del tensors["bn7.bias"]
    with pytest.raises(CheckpointError, match=r"1 missing: bn7\.bias$"):
        weights.to_variables(tensors, "resnet38_cls", allow_missing=["fc8"])
    tensors = {**state_dict("dev", names("resnet38_base", 64)), "fc8.weight": head}
    with pytest.raises(CheckpointError, match=r"1 unexpected: fc8\.weight$"):
        weights.to_variables(tensors, "resnet38_base")
    assert set(weights.to_variables(tensors, "resnet38_base", ignore=["fc8"])["params"]) == {"trunk"}


def test_wrong_ranks_and_unknown_networks():
    tensors = state_dict("dev", names("resnet38_cls", 64))
    tensors["fc8.weight"] = tensors["fc8.weight"][..., 0, 0]
    with pytest.raises(CheckpointError, match=r"fc8.weight has shape \(1, 64\), 4 axes"):
        weights.to_variables(tensors, "resnet38_cls")
    with pytest.raises(CheckpointError, match="unknown network 'resnet38'; known are cpn, cse_net_er"):
        weights.to_variables(tensors, "resnet38")


def test_export_is_strict_too():
    variables = weights.to_variables(state_dict("dev", names("resnet38_cls", 64)), "resnet38_cls")
    with pytest.raises(
        CheckpointError, match=r"not those of resnet38_base: 1 unexpected: params/fc8/kernel$"
    ):
        weights.from_variables(variables, "resnet38_base")
    del variables["batch_stats"]["trunk"]["bn7"]["mean"]
    with pytest.raises(CheckpointError, match=r"1 missing: batch_stats/trunk/bn7/mean$"):
        weights.from_variables(variables, "resnet38_cls")


def test_an_unknown_network_names_the_nearest():
    tensors = state_dict("dev", names("cpn", 64))
    del tensors["f10.weight"], tensors["bn7.bias"]
    tensors["f11.weight"] = np.ones(1)
    with pytest.raises(
        CheckpointError, match=r"nearest is infercam_seam: 1 missing: bn7.bias; 1 unexpected: f11"
    ):
        weights.detect_network(tensors)


def test_shapes_are_compared_with_the_network():
    expected = {"params": {"a": {"kernel": (1, 2)}, "b": {"kernel": np.ones((3,))}, "c": {"kernel": (4,)}}}
    found = {
        "params": {"a": {"kernel": np.ones((1, 2))}, "b": {"kernel": np.ones(5)}, "d": {"kernel": np.ones(1)}}
    }
    with pytest.raises(CheckpointError) as caught:
        weights.check_against(found, expected, source="a.pth")
    assert str(caught.value) == (
        "a.pth: does not fit the network: 1 missing: params/c/kernel; 1 unexpected: params/d/kernel; "
        "1 of another shape: params/b/kernel is (5,) instead of (3,)"
    )
    weights.check_against({"params": {"a": np.ones((1, 2))}}, {"params": {"a": (1, 2)}})
