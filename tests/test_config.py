"""Settings: defaults that hold together, and values that cannot be used are named with the remedy."""

import importlib
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from wsss_jax.config import defaults, flatten, validate
from wsss_jax.errors import ConfigError
from wsss_jax.systems import TITLES
from wsss_jax.systems.registry import make_method

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "configs").glob("[a-z]*.py"))


def test_defaults_are_valid_and_never_shared():
    first, second = defaults(), defaults()
    validate(first)
    first.cam.flip = False
    assert second.cam.flip is True


def test_flatten_names_every_value_once():
    nested = ConfigDict({"a": 1, "b": {"c": (2, 3), "d": {"e": "x"}}, "empty": {}})
    assert dict(flatten(nested)) == {"a": 1, "b.c": (2, 3), "b.d.e": "x"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("precision", "float16", "config.precision='float16': must be one of 'float32', 'fast', 'bfloat16'"),
        ("dataset.name", "voc", "config.dataset.name='voc': must be one of"),
        ("cam.class_filter", "given ", "must be one of 'given', 'predicted', 'all'"),
        ("eval.absent_classes", "one", "must be one of 'zero', 'ignore', 'truth'"),
        ("batch_size", 0, "config.batch_size=0: must be greater than 0"),
        ("accumulation", -1, "must be greater than 0"),
        ("total_epochs", 0, "must be greater than 0"),
        ("model.width", 0.0, "must be greater than 0"),
        ("augment.crop", 0, "must be greater than 0"),
        ("cpn.branch_width", 0.0, "must be greater than 0"),
        ("cpn.hard_share", 0.0, "config.cpn.hard_share=0.0: must be greater than 0, at most 1"),
        ("cpn.hard_share", 1.5, "must be greater than 0, at most 1"),
        ("optimizer.learning_rate", float("nan"), "must be greater than 0"),
        ("optimizer.learning_rate", -0.1, "must be greater than 0"),
        ("cam.batch_size", 0, "must be greater than 0"),
        ("cam.max_buckets", 0, "must be greater than 0"),
        ("log.every_steps", 0, "must be greater than 0"),
        ("model.calibration_batches", 0, "must be greater than 0"),
        ("loader.threads", 0, "must be greater than 0"),
        ("loader.workers", -1, "config.loader.workers=-1: must be at least 0"),
        ("eval.every_epochs", -1, "must be at least 0"),
        ("checkpoint.every_steps", -1, "must be at least 0"),
        ("report.images", -1, "must be at least 0"),
        ("eval.fixed_threshold", -0.1, "must be at least 0"),
        ("augment.resize_long", (448, 256), "must be (smallest, largest) side in pixels"),
        ("augment.resize_long", (0, 256), "must be (smallest, largest) side in pixels"),
        ("augment.resize_long", (256,), "must be (smallest, largest) side in pixels"),
        ("augment.resize_long", (1, 2, 3), "must be (smallest, largest) side in pixels"),
        ("cam.scales", (), "must be one or more numbers greater than 0"),
        ("cam.scales", (1.0, 0.0), "must be one or more numbers greater than 0"),
        ("cam.scales", (1.0, "2"), "must be one or more numbers greater than 0"),
        ("cam.scales", (float("nan"),), "must be one or more numbers greater than 0"),
        ("eval.thresholds", (), "must be one or more rising background scores"),
        ("eval.thresholds", (0.3, 0.2), "must be one or more rising background scores"),
        ("eval.thresholds", (0.2, 0.2), "must be one or more rising background scores"),
        ("eval.thresholds", (-0.1, 0.2), "must be one or more rising background scores"),
        ("eval.thresholds", (0.1, float("nan")), "must be one or more rising background scores"),
    ],
)
def test_unusable_values(key, value, message):
    config = defaults()
    with config.ignore_type():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError) as error:
        validate(config)
    assert message in str(error.value)
    assert str(error.value).startswith(f"config.{key}=") and "\n" not in str(error.value)


def test_unknown_method_names_those_there_are():
    config = defaults()
    config.method = "gradcam"
    with pytest.raises(ConfigError, match=r"config.method='gradcam': must be one of .*cam, cse"):
        make_method(config, 20)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestFiles:
    def config(self, path):
        """Loaded as the command loads it: by its path."""
        return runpy.run_path(str(path))["get_config"]()

    def test_it_is_valid_and_builds_its_method(self, path):
        config = self.config(path)
        validate(config)
        assert config.method in TITLES
        assert path.stem.startswith(config.method)
        method = make_method(config, 20)
        assert method.trained in method.networks

    def test_it_only_sets_what_there_is(self, path):
        """A key that defaults() does not have would be a misspelling that nobody reads."""
        known = dict(flatten(defaults()))
        for key, value in flatten(self.config(path)):
            inner = key.removeprefix("classifier.")  # there, keys of the file itself may be set again
            assert inner in known, key
            assert isinstance(value, type(known[inner])) or isinstance(known[inner], float), key

    def test_each_call_makes_a_new_one(self, path):
        get_config = runpy.run_path(str(path))["get_config"]
        assert get_config() is not get_config()

    def test_its_docstring_gives_the_command(self, path):
        module = importlib.import_module(f"configs.{path.stem}")
        assert f"--config=configs/{path.name}" in module.__doc__
