"""Settings: defaults that hold together, and values that cannot be used are named with the remedy."""

import importlib
import math
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from tests.helpers.runs import make_method
from wsss_jax.config import add, declared, defaults, flatten, is_free, sections, validate
from wsss_jax.errors import ConfigError
from wsss_jax.reference import page
from wsss_jax.settings import POSITIVE, Section, Setting, numbers, rising
from wsss_jax.systems import SYSTEMS

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


# What could be changed in a run's folder when each part came to declare its own: whole sections, and keys.
FREE_SECTIONS = (
    "cam.", "infer_cam.", "eval.", "crf.", "affinity.", "walk.", "loader.", "log.", "report.", "checkpoint.",
    "segmentation.", "deeplab_v2.", "irn.",
)  # fmt: skip
FREE_KEYS = (
    "refinement", "compilation_cache", "cpu_keep_memory", "distributed", "dataset.root",
    "dataset.infer_split", "dataset.eval_split", "dataset.seg_split", "masks", "sc_cam.maps", "wave_cam.maps",
)  # fmt: skip


def test_free_settings():
    keys = dict(flatten(defaults()))
    free = [key for key in keys if key.startswith(FREE_SECTIONS) or key in FREE_KEYS]
    assert [key for key in keys if is_free(key)] == free
    assert is_free("classifier.cam.scales") and not is_free("classifier.total_epochs")
    assert is_free("crf.of_another_version") and not is_free("of_another_version")


def test_every_setting_says_what_it_is_and_is_declared_once():
    keys = [key for section in sections() for key in section.keyed()]
    assert len(keys) == len(set(keys))
    assert [key for key, setting in declared().items() if not setting.help] == []


def test_checks_of_numbers():
    check = numbers("two rising numbers", lambda values: len(values) == 2 and rising(values))
    good = [(0, 1), (0.5, 2.0)]
    bad = [(), None, (1, 1), (1, 0), (-1, 0), (0, 1, 2), (0, math.inf), (0, math.nan), (0, "1")]
    assert [values for values in good + bad if check.holds(values)] == good


class TestOfASystemDefinedOutside:
    """Its settings are in defaults, checks and reference once they are added."""

    @pytest.fixture(autouse=True)
    def toy(self, monkeypatch):
        monkeypatch.setattr("wsss_jax.config._added", [])

        def check(flat):
            if flat["toy.steps"] > flat["toy.parts.depth"]:
                raise ConfigError(f"config.toy.steps={flat['toy.steps']}: must be at most the depth")

        steps = Setting(3, "Steps of a toy", POSITIVE)
        colour = Setting("red", "Of it", free=True)
        add(Section("toy", "A toy", check=check, steps=steps, colour=colour))
        add(Section("toy.parts", "Its parts", depth=Setting(4, "How deep")))

    def test_defaults(self):
        assert defaults().toy.to_dict() == {"steps": 3, "colour": "red", "parts": {"depth": 4}}
        assert is_free("toy.colour") and not is_free("toy.steps")

    @pytest.mark.parametrize(
        ("steps", "message"),
        [
            (0, "config.toy.steps=0: must be greater than 0"),
            (5, "config.toy.steps=5: must be at most the dep"),
        ],
    )
    def test_checks(self, steps, message):
        config = defaults()
        validate(config)
        config.toy.steps = steps
        with pytest.raises(ConfigError, match=message):
            validate(config)

    def test_reference(self):
        assert "## `toy`\n\nA toy.\n" in page()
        assert "| `toy.steps` | `3` | Steps of a toy | greater than 0 |  |" in page()
        assert "| `toy.colour` | `'red'` | Of it |  | yes |" in page()


def test_the_page_in_the_docs_is_made_of_the_declarations():
    """`python -m wsss_jax.reference > docs/configuration.md` writes it anew."""
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == page()


def test_the_page_shortens_long_sequences_and_names_what_must_hold():
    text = page()
    assert "| `eval.thresholds` | `(0.1, 0.11, ..., 0.39)` |" in text
    assert (
        "| `cam.class_filter` | `'given'` |" in text
        and "| one of 'given', 'predicted', 'all' | yes |" in text
    )
    assert max(map(len, text.splitlines())) < 400


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
        assert config.method in SYSTEMS.systems
        assert path.stem.startswith(config.method)
        method = make_method(config, 20)
        assert method.name in method.networks or len(method.networks) > 1

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
