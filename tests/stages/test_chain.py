"""The chain of the VOC configurations: AffinityNet learns from `train_aug`, masks are scored on `train`."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.runs import tiny
from tests.helpers.voc import make_voc
from wsss_jax.config import resolved
from wsss_jax.errors import ConfigError, RunError
from wsss_jax.stages.baseline import baseline_run
from wsss_jax.stages.classifier import classifier_config
from wsss_jax.stages.context import Run, open_run
from wsss_jax.stages.layout import Layout
from wsss_jax.stages.results import scored_stages
from wsss_jax.stages.rounds import round_of
from wsss_jax.stages.run import run_stages_of

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


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run_stages_of(config(root, refinement="random_walk"), folder, None)
    return folder


def test_cams_scores_and_masks_are_of_train_aug(finished):
    everything = ids(finished / "cam/train_aug", "npz")
    assert len(everything) == TRAIN + AUG
    assert ids(finished / "crf/train_aug/alpha_04", "npz") == everything
    assert ids(finished / "pseudo/train_aug", "png") == everything
    assert [path.name for path in (finished / "cam").iterdir()] == ["train_aug"]


def test_every_stage_is_scored_on_train(finished):
    stages = ("eval_cam", "eval_crf_alpha_04", "eval_crf_alpha_32", "eval_pseudo")
    for stage in stages:
        metrics = json.loads((finished / f"metrics/{stage}_train.json").read_text())
        assert (metrics["split"], metrics["images"]) == ("train", TRAIN)
    assert "AffinityNet trained on" in (finished / "report/index.html").read_text()
    assert metrics["affinity_split"] == "train_aug"
    assert metrics["affinity_list_sha256"] != metrics["list_sha256"]
    log = (finished / "logs/log.txt").read_text()
    assert f"train_affinity: {TRAIN + AUG} images" in log
    assert log.count(", AffinityNet trained on train_aug\n") == 1


def test_weights_of_a_run_tell_what_they_were_trained_on(finished, root, tmp_path):
    network = str(finished / "checkpoints/affinity")
    own = config(root, "affinity_voc", cams_from=str(finished), walk__checkpoint=network)
    run_stages_of(own, tmp_path, None)
    assert (
        json.loads((tmp_path / "metrics/eval_pseudo_train.json").read_text())["affinity_split"] == "train_aug"
    )


def test_masks_of_another_split_are_made_afterwards(finished, root, tmp_path):
    """As docs/refinement.md has it: CAMs and walk of `val`, by the network that learned from `train_aug`."""
    shutil.copytree(finished, tmp_path / "run")
    val = {"dataset__infer_split": "val", "dataset__eval_split": "val"}
    stages = ["infer_cam", "eval_cam", "random_walk", "eval_pseudo"]
    run_stages_of(config(root, refinement="random_walk", **val), tmp_path / "run", stages)
    metrics = json.loads((tmp_path / "run/metrics/eval_pseudo_val.json").read_text())
    assert (metrics["images"], metrics["affinity_split"]) == (2, "train_aug")


def test_plain_runs_infer_what_is_scored(finished, root, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/cam")
    run_stages_of(config(root), tmp_path / "run", ["infer_cam", "eval_cam"])
    assert len(ids(tmp_path / "run/cam/train", "npz")) == TRAIN
    with pytest.raises(ConfigError, match=r"--stages=random_walk: give --config.refinement=random_walk too"):
        run_stages_of(config(root), tmp_path / "run", ["crf", "random_walk"])
    with pytest.raises(RunError, match=r"cam/train_aug/settings.json: "):
        own = config(root, "affinity_voc", cams_from=str(tmp_path / "run"))
        run_stages_of(own, tmp_path / "walk", ["crf"])


def test_a_split_outside_of_train_aug_cannot_be_scored_in_the_chain(root, tmp_path):
    own = config(root, refinement="random_walk", dataset__eval_split="val")
    with pytest.raises(
        ConfigError, match=r"eval_split='val': 2 of its images, such as .* are not in 'train_aug'"
    ):
        run_stages_of(own, tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_runs_within_the_run_infer_only_what_is_scored(root):
    """They are for comparison; InferCam alone starts from all of its classifier's maps."""
    cse, sc_cam = (
        resolved(config(root, name, refinement="random_walk")) for name in ("cse_voc", "sc_cam_voc")
    )
    assert cse.dataset.infer_split == sc_cam.dataset.infer_split == "train_aug"
    assert classifier_config(cse).dataset.infer_split == "train"
    assert classifier_config(cse).refinement == "none"
    assert round_of(Run(sc_cam, Layout(Path("run"))), 1).config.dataset.infer_split == "train"


def test_infer_cams_classifier_makes_all_maps(root, tmp_path):
    run = open_run(config(root, "infer_cam_voc", refinement="random_walk"), tmp_path)
    assert baseline_run(run).config.dataset.infer_split == "train_aug"


def test_the_report_finds_maps_of_runs_within_the_run(finished, root, tmp_path):
    """OC-CSE's classifier has `train` only, while the run itself has `train_aug`."""
    for folder, split in ((tmp_path, "train_aug"), (tmp_path / "classifier", "train")):
        shutil.copytree(finished / "cam/train_aug", folder / f"cam/{split}")
        (folder / "metrics").mkdir()
        shutil.copy(finished / "metrics/eval_cam_train.json", folder / "metrics")
    run = Run(resolved(config(root, "cse_voc", refinement="random_walk")), Layout(tmp_path))
    image_id = run.ids("train")[0]
    scored = scored_stages(run)
    assert [entry.name for entry in scored] == ["ordinary classifier"] * 2  # by the metrics, which are copies
    for entry in scored:
        assert entry.read(image_id).cam.shape[1:] == run.source.size(image_id)
