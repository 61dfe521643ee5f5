import subprocess

import pytest

import wsss_jax.data
from tests.helpers.scripts import command
from wsss_jax.data import make_source
from wsss_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("vco12", "x"), {}, "unknown data set 'vco12'; did you mean 'voc12'"),
        (("imagenet", "x"), {}, "choose one of coco14, folder, shapes, tfds, voc12"),
        (("voc12",), {}, "dataset.root: the data set 'voc12' needs the folder"),
        (("folder", ""), {}, "dataset.root"),
        (("voc12", "x"), {"image_size": 3}, "dataset.image_size: the data set 'voc12' has no such option"),
        (("shapes",), {"sizes": 3}, "its options are num_train, num_val, image_size, seed"),
    ],
)
def test_make_source_refuses(args, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_source(*args, **options)
    assert "\n" not in str(caught.value)


def test_shapes_are_made_with_their_options():
    source = make_source("shapes", None, num_train=3, num_val=2, image_size=48, seed=5)
    assert source.name == "shapes"
    assert len(source.ids("train")) == 3


def test_no_module_of_the_package_imports_jax():
    code = (
        "import importlib, pkgutil, sys, wsss_jax.data as data\n"
        "names = [m.name for m in pkgutil.iter_modules(data.__path__)]\n"
        "[importlib.import_module(f'wsss_jax.data.{name}') for name in names]\n"
        "print(sorted({'jax', 'flax', 'optax', 'orbax'} & set(sys.modules)), 'loader' in names)\n"
    )
    out = subprocess.run(command(code), capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["[]", "True"]


def test_public_names():
    assert sorted(wsss_jax.data.__all__) == ["Source", "VOID", "label_matrix", "make_source"]
