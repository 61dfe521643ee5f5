"""The chain of the VOC configurations: AffinityNet learns from `train_aug`, masks are scored on `train`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.runs import open_run, run_stages_of, tiny
from tests.helpers.voc import make_voc
from wsss_jax.config import resolved
from wsss_jax.errors import ConfigError
from wsss_jax.evaluation.summary import PROVENANCE_KEYS
from wsss_jax.files import write_json
from wsss_jax.runs.context import Run
from wsss_jax.runs.layout import Layout
from wsss_jax.stages import refiner
from wsss_jax.stages.results import scored_stages
from wsss_jax.systems import SYSTEMS
from wsss_jax.systems.cam.classifier import classifier_config
from wsss_jax.systems.infer_cam.base_classifier import base_run
from wsss_jax.systems.sc_cam.rounds import round_of

TRAIN, AUG = 4, 6  # pictures of `train`, and those that only `train_aug` has


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(make_voc(tmp_path_factory.mktemp("data"), num_train=TRAIN, num_val=2, num_aug=AUG))


def config(root, name="cam_voc", **changes):
    changes = {"crf__backend": "jax", "crf__iterations": 1, "crf__max_buckets": 1, **changes}
    return tiny(name, total_epochs=1, affinity__total_epochs=1, affinity__init_from="trained",
                dataset__root=root, **changes)  # fmt: skip


def ids(folder, suffix):
    return {path.stem for path in folder.glob(f"*.{suffix}")}


def write_maps(folder, root, *, background, stride=1):
    """Maps that a run could have made of `train_aug`: CAMs, or scores with a plane for background."""
    run, rng = Run(config(root), Layout(folder), SYSTEMS), np.random.default_rng(0)
    folder.mkdir(parents=True)
    for image_id in run.ids("train_aug"):
        keys = np.flatnonzero(run.source.labels(image_id)).astype(np.int32)
        keys = np.concatenate([[-1], keys]).astype(np.int32) if background else keys
        size = (-(-n // stride) for n in run.source.size(image_id))
        maps = {"scores" if background else "cam": rng.random((len(keys), *size), np.float32)}
        np.savez(folder / f"{image_id}.npz", keys=keys, **maps)
    made = dict.fromkeys(PROVENANCE_KEYS) | {"method": "cam", "scales": [1.0], "weights_sha256": "1" * 64}
    learned = {"trained_on": {"AffinityNet": {"split": "train_aug", "list_sha256": "2" * 64}}}
    learned |= {"stage": "random_walk", "section": "walk", "level": "share", "stride": stride}
    write_json(folder / "settings.json", made | (learned if stride > 1 else {}))


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    """A run in the chain with maps drawn at random, and everything scored."""
    folder = tmp_path_factory.mktemp("run")
    write_maps(folder / "cam/train_aug", root, background=False)
    for alpha in ("04", "32"):
        write_maps(folder / f"crf/train_aug/alpha_{alpha}", root, background=True)
    write_maps(folder / "pseudo_scores/train_aug", root, background=True, stride=8)
    chain = config(root, refinement="random_walk")
    run_stages_of(chain, folder, ["eval_cam", "eval_crf", "eval_pseudo", "report"])
    return folder


def test_every_stage_is_scored_on_train(finished):
    """Out of the folders of `train_aug`."""
    stages = ("eval_cam", "eval_crf_alpha_04", "eval_crf_alpha_32", "eval_pseudo")
    for stage in stages:
        metrics = json.loads((finished / f"metrics/{stage}_train.json").read_text())
        assert (metrics["split"], metrics["images"]) == ("train", TRAIN)
    assert metrics["trained_on"]["AffinityNet"]["split"] == "train_aug"
    assert "AffinityNet trained on" in (finished / "report/index.html").read_text()
    assert (finished / "logs/log.txt").read_text().count(", AffinityNet trained on train_aug\n") == 1


def test_affinity_net_learns_from_train_aug(finished, root, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "run")
    trainings = []
    monkeypatch.setattr(refiner, "run_training", lambda run, training: trainings.append(training))
    run_stages_of(config(root, refinement="random_walk"), tmp_path / "run", ["train_affinity"])
    (training,) = trainings
    assert len(training.ids) == TRAIN + AUG
    assert training.sample.low == tmp_path / "run/crf/train_aug/alpha_04"
    assert training.sample.high == tmp_path / "run/crf/train_aug/alpha_32"


@pytest.mark.slow
def test_the_whole_chain_and_another_split_afterwards(root, tmp_path):
    """As docs/refinement.md has it: CAMs and walk of `val`, by the network that learned from `train_aug`."""
    run_stages_of(config(root, refinement="random_walk"), tmp_path, None)
    everything = ids(tmp_path / "cam/train_aug", "npz")
    assert len(everything) == TRAIN + AUG
    assert ids(tmp_path / "crf/train_aug/alpha_04", "npz") == everything
    assert ids(tmp_path / "pseudo/train_aug", "png") == everything
    val = {"dataset__infer_split": "val", "dataset__eval_split": "val"}
    stages = ["infer_cam", "eval_cam", "random_walk", "eval_pseudo"]
    run_stages_of(config(root, refinement="random_walk", **val), tmp_path, stages)
    metrics = json.loads((tmp_path / "metrics/eval_pseudo_val.json").read_text())
    assert metrics["images"] == 2 and metrics["trained_on"]["AffinityNet"]["split"] == "train_aug"


def test_the_affinity_nets_stages_want_the_chain(root, tmp_path):
    with pytest.raises(ConfigError, match=r"--stages=random_walk: give --config.refinement=random_walk too"):
        run_stages_of(config(root), tmp_path, ["crf", "random_walk"])


def test_runs_within_the_run_infer_only_what_is_scored(root):
    """They are for comparison; InferCam alone starts from all of its classifier's maps."""
    cse, sc_cam = (
        resolved(config(root, name, refinement="random_walk")) for name in ("cse_voc", "sc_cam_voc")
    )
    assert cse.dataset.infer_split == sc_cam.dataset.infer_split == "train_aug"
    assert classifier_config(cse).dataset.infer_split == "train"
    assert classifier_config(cse).refinement == "none"
    assert round_of(Run(sc_cam, Layout(Path("run")), SYSTEMS), 1).config.dataset.infer_split == "train"


def test_infer_cams_classifier_makes_all_maps(root, tmp_path):
    run = open_run(config(root, "infer_cam_voc", refinement="random_walk"), tmp_path)
    assert base_run(run).config.dataset.infer_split == "train_aug"


def test_the_report_finds_maps_of_runs_within_the_run(finished, root, tmp_path):
    """OC-CSE's classifier has `train` only, while the run itself has `train_aug`."""
    for folder, split in ((tmp_path, "train_aug"), (tmp_path / "classifier", "train")):
        shutil.copytree(finished / "cam/train_aug", folder / f"cam/{split}")
        (folder / "metrics").mkdir()
        shutil.copy(finished / "metrics/eval_cam_train.json", folder / "metrics")
    run = Run(resolved(config(root, "cse_voc", refinement="random_walk")), Layout(tmp_path), SYSTEMS)
    image_id = run.ids("train")[0]
    scored = scored_stages(run)
    assert [entry.name for entry in scored] == ["ordinary classifier"] * 2  # by the metrics, which are copies
    for entry in scored:
        assert entry.read(image_id).maps.planes.shape[1:] == run.source.size(image_id)
