"""Every chain that trains a network and walks: what it writes, how it goes on, what it refuses."""

import json
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from tests.helpers.networks import relative
from tests.helpers.runs import run_stages_of, tiny
from wsss_jax import interrupt
from wsss_jax.data import make_source
from wsss_jax.errors import CheckpointError, ConfigError, Interrupted, RunError, UserError
from wsss_jax.evaluation import ConfusionMatrix, mean_iou
from wsss_jax.files import unsealed
from wsss_jax.refinement.walker import Walker


@dataclass(frozen=True)
class Chain:
    name: str  # of config.refinement
    method: str  # that refines another run's CAMs
    stages: tuple[str, ...]
    title: str  # of the network
    section: str  # of the masks' threshold
    checkpoint: str  # key of given weights
    stride: int
    terms: tuple[str, ...]
    arrays: str = "cam"  # name of the scores in the files
    first: tuple[int, ...] = ()  # keys before the classes

    def config(self, **changes):
        """Behind an ordinary classifier."""
        return tiny("cam_shapes", total_epochs=1, refinement=self.name, **CRF, **changes)

    def refining(self, cams_from, **changes):
        """Over another run's CAMs."""
        return tiny(f"{self.method}_shapes", cams_from=str(cams_from), **CRF, **changes)

    def masks_at(self, level):
        return {self.section.replace(".", "__") + "__fixed_threshold": level}

    def weights(self, path):
        return {self.checkpoint.replace(".", "__"): str(path)}


CRF = {"crf__backend": "jax", "crf__iterations": 2, "crf__max_buckets": 1}
CHAINS = (
    Chain(
        "random_walk",
        "affinity",
        ("train_affinity", "random_walk"),
        "AffinityNet",
        "walk",
        "walk.checkpoint",
        8,
        ("loss_bg", "loss_fg", "loss_neg"),
        "scores",
        (-1,),
    ),
    Chain(
        "irn",
        "irn",
        ("train_irn", "irn_walk"),
        "IRN",
        "irn.walk",
        "irn.checkpoint",
        4,
        ("loss_bg", "loss_fg", "loss_neg", "loss_dp_fg", "loss_dp_bg"),
    ),
)


@pytest.fixture(scope="module", params=CHAINS, ids=lambda chain: chain.name)
def finished(request, tmp_path_factory):
    """The whole chain after a classifier, as the configuration orders it; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("run")
    run_stages_of(request.param.config(), folder, None)
    return request.param, folder


@pytest.fixture
def copy(finished, tmp_path):
    chain, folder = finished
    shutil.copytree(folder, tmp_path / "run")
    return chain, tmp_path / "run"


@pytest.fixture
def without_walk(copy):
    """A run whose CAMs have not been propagated yet."""
    for folder in ("pseudo", "pseudo_scores"):
        shutil.rmtree(copy[1] / folder)
    return copy


def source():
    return make_source("shapes", **CHAINS[0].config().dataset.shapes)


def propagated(chain, folder):
    found = {}
    for path in sorted((folder / "pseudo_scores/val").glob("*.npz")):
        with np.load(path) as file:
            found[path.stem] = (file["keys"], file[chain.arrays])
    return found


def masks(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in sorted((folder / "pseudo/val").glob("*.png"))}


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.suffix in (".npz", ".png")}


def test_scores_and_masks_of_every_image(finished):
    chain, folder = finished
    data, scores, drawn = source(), propagated(chain, folder), masks(folder)
    assert list(scores) == list(drawn) == sorted(data.ids("val"))
    for image_id, (keys, planes) in scores.items():
        H, W = data.size(image_id)
        classes = np.flatnonzero(data.labels(image_id))
        assert keys.dtype == np.int32 and keys.tolist() == [*chain.first, *classes]
        size = (-(-H // chain.stride), -(-W // chain.stride))
        assert planes.dtype == np.float32 and planes.shape == (len(keys), *size)
        assert (planes >= 0).all() and planes.max() > 0
        assert drawn[image_id].shape == (H, W)
        assert set(np.unique(drawn[image_id])) <= {0, *(classes + 1)}
    assert not list(folder.rglob("*.tmp"))


def test_the_score_at_the_fixed_threshold_is_that_of_the_masks(finished):
    chain, folder = finished
    data, confusion = source(), ConfusionMatrix(num_classes=6)
    for image_id, mask in masks(folder).items():
        confusion.add(mask, data.mask(image_id))
    metrics = json.loads((folder / "metrics/eval_pseudo_val.json").read_text())
    wanted = 100 * mean_iou(confusion.counts, metrics["absent_classes"])
    assert metrics["fixed"]["miou"] == pytest.approx(wanted)
    assert metrics["stage"] == "eval_pseudo" and metrics["method"] == "cam"
    images = {"split": "val", "list_sha256": metrics["list_sha256"]}
    assert metrics["trained_on"] == {chain.title: images}
    log = (folder / "logs/log.txt").read_text()
    assert log.count(f"{chain.title} trained on val, the images scored") == 1
    assert "val, the images scored" in (folder / "report/index.html").read_text()
    cams = json.loads((folder / "cam/val/settings.json").read_text())
    assert metrics["cam_weights_sha256"] == cams["weights_sha256"] != metrics["weights_sha256"]


def test_training_has_its_own_log(finished):
    chain, folder = finished
    lines = (folder / f"logs/{chain.method}/train.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["step"] == 2  # 10 images, batch 8, 2 epochs
    assert np.isfinite([last[name] for name in ("loss", *chain.terms)]).all()
    assert (folder / f"checkpoints/{chain.method}/2").is_dir()
    assert f"{chain.title}: loss" in (folder / "report/index.html").read_text()


def test_nothing_is_done_twice(copy):
    chain, folder = copy
    before = times(folder)
    run_stages_of(chain.config(), folder, [*chain.stages, "eval_pseudo"])
    assert times(folder) == before


def test_what_is_missing_is_made_again_the_same(copy, finished):
    chain, folder = copy
    image_id = source().ids("val")[3]
    (folder / f"pseudo_scores/val/{image_id}.npz").unlink()
    (folder / f"pseudo/val/{image_id}.png").unlink()
    run_stages_of(chain.config(), folder, [chain.stages[-1]])
    for name in (f"pseudo_scores/val/{image_id}.npz", f"pseudo/val/{image_id}.png"):
        assert (folder / name).read_bytes() == (finished[1] / name).read_bytes()


def test_another_threshold_draws_new_masks_without_a_walk(copy, monkeypatch):
    chain, folder = copy
    monkeypatch.setattr(Walker, "walk", None)
    before = masks(folder)
    run_stages_of(chain.config(**chain.masks_at(0.9)), folder, [chain.stages[-1], "eval_pseudo"])
    after = masks(folder)
    assert sum((mask > 0).sum() for mask in after.values()) < sum(
        (mask > 0).sum() for mask in before.values()
    )
    run_stages_of(chain.config(), folder, [chain.stages[-1]])
    for image_id, mask in masks(folder).items():
        np.testing.assert_array_equal(mask, before[image_id])


def test_a_threshold_chosen_on_another_split_is_applied(copy, tmp_path):
    chain, folder = copy
    other = unsealed(json.loads((folder / "metrics/eval_pseudo_val.json").read_text())) | {"split": "other"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    key = chain.section.replace(".", "__") + "__threshold_from"
    run_stages_of(chain.config(**{key: str(tmp_path / "other.json")}), folder, ["eval_pseudo"])
    metrics = json.loads((folder / "metrics/eval_pseudo_val.json").read_text())
    assert metrics["chosen"]["threshold"] == other["oracle"]["threshold"]


def test_stopped_again_and_again_it_ends_the_same(finished, without_walk, monkeypatch):
    chain, folder = without_walk
    shutil.rmtree(folder / f"checkpoints/{chain.method}")
    looks = {"left": 0}

    class StopAfter:
        def __bool__(self):
            looks["left"] -= 1
            return looks["left"] < 0

    stops = 0
    for count in range(1, 20):
        monkeypatch.setattr(interrupt, "_requested", StopAfter())
        looks["left"] = 3 * count
        try:
            run_stages_of(chain.config(checkpoint__every_steps=1), folder, [*chain.stages, "eval_pseudo"])
            break
        except Interrupted:
            stops += 1
    assert stops >= 2
    for image_id, (keys, scores) in propagated(chain, folder).items():
        wanted = propagated(chain, finished[1])[image_id]
        np.testing.assert_array_equal(keys, wanted[0])
        np.testing.assert_allclose(scores, wanted[1], rtol=1e-3, atol=1e-5)


def damage(folder, ids):
    """Makes the CAM files of the first four images useless, each in another way."""
    files = [folder / f"cam/val/{image_id}.npz" for image_id in ids[:4]]
    with np.load(files[1]) as file:
        keys, cam = file["keys"], file["cam"]
    files[0].write_bytes(files[0].read_bytes()[:300])
    np.savez(files[1], keys=keys, cam=cam[:, :-3])
    with np.load(files[2]) as file:
        np.savez(files[2], keys=file["keys"] + 6, cam=file["cam"])
    files[3].unlink()


def test_cams_that_cannot_be_used_are_named_and_the_others_done(without_walk, capsys):
    chain, folder = without_walk
    ids, kept, walk = source().ids("val"), folder.parent / "kept", chain.stages[-1]
    shutil.copytree(folder / "cam", kept)
    damage(folder, ids)
    with pytest.raises(RunError, match=rf"{walk} val: 4 of 10 images were refused") as error:
        run_stages_of(chain.config(), folder, [walk])
    assert "\n" not in str(error.value)
    told = capsys.readouterr().out
    for image_id, reason in zip(ids[:4], ("damaged", "pixels", "class", "missing"), strict=True):
        assert any(image_id in line and reason in line for line in told.splitlines()), (image_id, reason)
    assert sorted(masks(folder)) == sorted(propagated(chain, folder)) == sorted(ids[4:])
    shutil.copytree(kept, folder / "cam", dirs_exist_ok=True)
    run_stages_of(chain.config(), folder, [walk])
    assert sorted(masks(folder)) == sorted(ids)


def test_images_without_a_class_and_maps_of_zeros_are_background(without_walk):
    """Where IRN's program labels such maps as their first class; and one class alone is no special case."""
    chain, folder = without_walk
    data = source()
    first, second, third = data.ids("val")[:3]
    (H, W), (h, w) = data.size(first), data.size(second)
    np.savez(folder / f"cam/val/{first}.npz", keys=np.zeros(0, np.int32), cam=np.zeros((0, H, W), "f4"))
    zeros = np.zeros((6, h, w), np.float32)
    np.savez(folder / f"cam/val/{second}.npz", keys=np.arange(6, dtype=np.int32), cam=zeros)
    one = np.ones((1, *data.size(third)), np.float32)
    np.savez(folder / f"cam/val/{third}.npz", keys=np.array([4], np.int32), cam=one)
    run_stages_of(chain.config(), folder, [chain.stages[-1], "eval_pseudo"])
    drawn = masks(folder)
    assert not drawn[first].any() and not drawn[second].any()
    assert set(np.unique(drawn[third])) <= {0, 5} and (drawn[third] == 5).any()


def test_images_of_odd_sizes(finished, tmp_path):
    """One pixel high, smaller than the radius, and much larger than the others."""
    chain, folder = finished
    rng = np.random.default_rng(0)
    sizes = {"flat": (1, 50), "tiny": (3, 2), "wide": (17, 300)}
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/classes.txt").write_text("".join(f"{c}\n" for c in "abcdef"))
    (tmp_path / "data/labels.csv").write_text("image,labels\n" + "".join(f"{n}.png,a\n" for n in sizes))
    cams = tmp_path / "run/cam/all"
    cams.mkdir(parents=True)
    shutil.copy(folder / "cam/val/settings.json", cams)
    for name, size in sizes.items():
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            tmp_path / f"data/images/{name}.png"
        )
        np.savez(
            cams / f"{name}.npz", keys=np.zeros(1, np.int32), cam=rng.random((1, *size)).astype(np.float32)
        )
    own = chain.refining(
        tmp_path / "run",
        dataset__name="folder",
        dataset__root=str(tmp_path / "data"),
        dataset__infer_split="all",
        **chain.weights(folder / f"checkpoints/{chain.method}"),
    )
    run_stages_of(own, tmp_path / "walk", [chain.stages[-1]])
    for name, size in sizes.items():
        assert np.asarray(Image.open(tmp_path / f"walk/pseudo/all/{name}.png")).shape == size


def test_a_method_that_refines_another_runs_cams(finished, tmp_path, capsys):
    chain, folder = finished
    own = chain.refining(folder, **chain.weights(folder / f"checkpoints/{chain.method}"))
    run_stages_of(own, tmp_path, None)
    for image_id, (_, scores) in propagated(chain, tmp_path).items():
        assert relative(scores, propagated(chain, folder)[image_id][1]) < 1e-5
    assert not (tmp_path / "cam").exists() and not (tmp_path / "checkpoints").exists()
    assert f"{chain.stages[0]}: {folder / 'checkpoints'}" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics/eval_pseudo_val.json").read_text())
    assert metrics["trained_on"][chain.title]["split"] == "val"  # its checkpoint knows
    assert (tmp_path / "report/index.html").exists()


def test_a_walk_wants_a_trained_network(finished, tmp_path):
    chain, folder = finished
    shutil.copytree(folder / "cam", tmp_path / "cam")
    train, walk = chain.stages
    with pytest.raises(RunError, match=rf"{chain.title} is not trained yet.*{train}"):
        run_stages_of(chain.config(), tmp_path, [walk])
    with pytest.raises(RunError, match=rf"no propagated scores; run the stage {walk} first"):
        run_stages_of(chain.config(), tmp_path, ["eval_pseudo"])


def test_scores_of_other_settings_are_not_mixed(copy):
    chain, folder = copy
    key = chain.section.replace(".", "__") + "__beta"
    with pytest.raises(RunError, match=r"propagated scores made with (irn_)?walk_beta .*, now 4.0"):
        run_stages_of(chain.config(**{key: 4.0}), folder, [chain.stages[-1]])


MISTAKES = {
    "random_walk": (
        ({"affinity__batch_size": 9}, r"config.affinity.batch_size=9.*8 device"),
        ({"affinity__crop": 36}, r"affinity.crop=36.*multiple of 8"),
        ({"affinity__crop": 16}, r"affinity.crop=16, affinity.radius=2"),
        ({"affinity__alpha_low": 40.0}, r"affinity.alpha_low=40.0.*less than alpha_high"),
        ({"affinity__init_from": "scratch"}, r"affinity.init_from='scratch'.*trained trunk"),
        ({"affinity__init_from": "nowhere.pth"}, r"nowhere.pth.*no such file"),
        ({"walk__method": "dense"}, r"walk.method='dense'.*'chebyshev', 'stencil'"),
        ({"walk__thresholds": (0.5, 0.4)}, r"walk.thresholds"),
        ({"cams_from": "elsewhere"}, r"cams_from='elsewhere'.*methods affinity and irn"),
    ),
    "irn": (
        ({"irn__batch_size": 9}, r"config.irn.batch_size=9.*8 device"),
        ({"irn__crop": 30}, r"irn.crop=30.*multiple of 4"),
        ({"irn__crop": 16}, r"irn.crop=16, irn.radius=3"),
        ({"irn__background": 0.5}, r"irn.background=0.5: must be less than foreground, 0.4"),
        ({"irn__init_from": "nowhere.pth"}, r"nowhere.pth.*no such file"),
        ({"irn__walk__method": "dense"}, r"irn.walk.method='dense'.*'chebyshev', 'stencil'"),
        ({"irn__scales": (1.5, 0.5)}, r"irn.scales"),
        ({"irn__pad": -1}, r"irn.pad=-1: must be at least 0"),
    ),
}


def test_what_cannot_work_is_refused_in_one_line(copy):
    chain, folder = copy
    shutil.rmtree(folder / f"checkpoints/{chain.method}")
    for changes, message in MISTAKES[chain.name]:
        with pytest.raises(UserError, match=message) as error:
            run_stages_of(chain.config(**changes), folder, [chain.stages[0]])
        assert "\n" not in str(error.value)


MIXED = {
    "random_walk": (
        {"affinity__radius": 3, "affinity__crop": 48},
        r"AffinityNet's checkpoints made with crop 32.* radius 2, now 3",
    ),
    "irn": ({"irn__radius": 4}, r"IRN's checkpoints made with radius 3, now 4"),
}


def test_trainings_of_other_settings_are_not_mixed(copy):
    chain, folder = copy
    changes, message = MIXED[chain.name]
    with pytest.raises(RunError, match=message):
        run_stages_of(chain.config(**changes), folder, [chain.stages[0]])


LABELS = {
    "random_walk": r"alpha_04.*no CRF scores.*stage crf first.*crf.alphas",
    "irn": r"ir_label.*no training labels.*stage ir_labels first",
}


def test_training_wants_labels(finished, tmp_path):
    chain, folder = finished
    shutil.copytree(folder / "cam", tmp_path / "cam")
    with pytest.raises(RunError, match=LABELS[chain.name]):
        run_stages_of(chain.config(), tmp_path, [chain.stages[0]])


def test_a_runs_folder_still_means_its_classifier(finished, tmp_path):
    chain, folder = finished
    run_stages_of(chain.config(init_from=str(folder)), tmp_path, ["train"])


def test_another_networks_weights_are_refused(finished, tmp_path):
    chain, folder = finished
    own = chain.refining(folder, **chain.weights(folder / "checkpoints/classifier"))
    with pytest.raises(CheckpointError, match=r"f9/kernel|fc_dp1/conv/kernel"):
        run_stages_of(own, tmp_path, [chain.stages[-1]])


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
def test_the_method_needs_a_run_to_refine(chain, tmp_path):
    with pytest.raises(ConfigError, match="cams_from=''"):
        run_stages_of(chain.refining(""), tmp_path, None)
    first = {"random_walk": "crf", "irn": "ir_labels"}[chain.name]
    for stage in (first, "eval_cam", *chain.stages):
        with pytest.raises(RunError) as error:
            run_stages_of(chain.refining(tmp_path / "other"), tmp_path / "run", [stage])
        message, path = str(error.value), tmp_path / "other/cam/val/settings.json"
        assert f"{path}: the run that config.cams_from names has no CAMs" in message
        assert "run its stage infer_cam with --config.dataset.infer_split=val first" in message
