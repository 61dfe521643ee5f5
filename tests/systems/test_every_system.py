"""Every system through every stage of its own configuration, shrunk; a new one is tested by its name."""

import itertools
import json

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.helpers.runs import make_method, run_stages_of, tiny
from wsss_jax import interrupt
from wsss_jax.errors import Interrupted
from wsss_jax.systems import SYSTEMS
from wsss_jax.training.checkpoints import restore, steps
from wsss_jax.training.metrics import read_lines
from wsss_jax.training.step import metric_names

# One comes trained, three make no CAMs, one is run within another's run.
CAM_METHODS = sorted(SYSTEMS.systems.keys() - {"seam", "affinity", "irn", "deeplab_v2", "resnet50_cam"})


class StopAfter:
    """A signal that comes in when the program has looked for one so many times."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __bool__(self) -> bool:
        self.left -= 1
        return self.left < 0


def config_of(name):
    return tiny(f"{name}_shapes", checkpoint__every_steps=2)


@pytest.fixture(scope="module", params=CAM_METHODS)
def finished(request, tmp_path_factory):
    """(method's name, folder of its undisturbed run)."""
    folder = tmp_path_factory.mktemp(request.param)
    run_stages_of(config_of(request.param), folder, None)
    return request.param, folder


def cams(folder):
    found = {}
    for path in sorted((folder / "cam/val").glob("*.npz")):
        with np.load(path) as file:
            found[path.stem] = (file["keys"], file["cam"])
    return found


def test_cams_and_scores(finished):
    name, folder = finished
    metrics = json.loads((folder / "metrics/eval_cam_val.json").read_text())
    assert metrics["method"] == name and metrics["images"] == 10 == len(cams(folder))
    assert 0 < metrics["fixed"]["miou"] < 100 and len(metrics["weights_sha256"]) == 64
    for keys, cam in cams(folder).values():
        assert len(keys) and cam.dtype == np.float32 and np.isfinite(cam).all()
        assert cam.max() <= 1 and cam.reshape(len(keys), -1).max(1).min() >= 0
    assert SYSTEMS.system(name).title in (folder / "report/index.html").read_text()


def test_training_reports_every_term_of_the_loss(finished):
    name, folder = finished
    method = make_method(config_of(name), num_classes=6)
    if "train" not in [stage.name for stage in SYSTEMS.system(name).stages]:
        return pytest.skip("nothing is trained")
    lines = read_lines(folder / "logs/train.jsonl")
    for metric in metric_names(method):
        assert np.isfinite([line[metric] for line in lines]).all()
    assert len({line["loss"] for line in lines}) > 1
    (network,) = (folder / "checkpoints").iterdir()
    assert network.name == method.name
    first, *_, last = (flatten_dict(restore(network / str(s)).networks, sep="/") for s in steps(network))
    changed = {path for path in first if not np.array_equal(first[path], last[path])}
    learning = {path for path in first if method.group(tuple(path.split("/"))) != "frozen"}
    assert changed == learning


def test_stopped_again_and_again_it_ends_the_same(finished, tmp_path, monkeypatch):
    name, folder = finished
    stops = 0
    for looks in itertools.accumulate(itertools.repeat(3), lambda a, b: a * b):
        monkeypatch.setattr(interrupt, "_requested", StopAfter(looks))
        try:
            run_stages_of(config_of(name), tmp_path, None)
            break
        except Interrupted:
            stops += 1
    assert stops >= 2
    expected, found = cams(folder), cams(tmp_path)
    assert expected.keys() == found.keys()
    for image_id, (keys, cam) in expected.items():
        np.testing.assert_array_equal(found[image_id][0], keys)
        np.testing.assert_allclose(found[image_id][1], cam, rtol=1e-4, atol=1e-4)
