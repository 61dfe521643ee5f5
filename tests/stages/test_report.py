"""The report of runs whose files are made here: what it finds, what it chooses, what it refuses."""

import numpy as np
import pytest

from tests.helpers.page import Page
from tests.helpers.runs import open_run, tiny
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.images import palette_png
from wsss_jax.errors import RunError
from wsss_jax.evaluation import (
    ConfusionMatrix,
    ThresholdSweep,
    labels_from_scores,
    summarise,
    summarise_labels,
)
from wsss_jax.files import read_json, write_json
from wsss_jax.runs import manifest
from wsss_jax.runs.layout import Layout
from wsss_jax.stages.report import report
from wsss_jax.stages.results import main_results, scored_stages
from wsss_jax.training.metrics import MetricWriter


def provenance(run, stage, method, crf=False):
    keys = dict.fromkeys(("list_sha256", "scales", "flip", "class_filter", "weights_sha256"))
    given = {"stage": stage, "method": method, "dataset": "shapes", "split": "val", "crf": crf}
    return {**keys, **given, "classes": list(run.source.classes)}


def save_npz(path, **arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def score_cams(run, layout, method, noise):
    """CAMs that are the masks plus noise, and their metrics."""
    rng, classes = np.random.default_rng(0), len(run.source.classes)
    sweep = ThresholdSweep(num_classes=classes, thresholds=(0.1, 0.3, 0.5))
    for image_id in run.ids("val"):
        mask, keys = run.source.mask(image_id), np.flatnonzero(run.source.labels(image_id)).astype(np.int32)
        cam = (mask == keys[:, None, None] + 1) * (1 - noise) + noise * rng.random((len(keys), *mask.shape))
        save_npz(layout.cam("val", image_id), keys=keys, cam=cam.astype(np.float32))
        sweep.add(ClassMaps(keys, cam.astype(np.float32)), mask)
    write_json(
        layout.metrics("eval_cam", "val"),
        summarise(sweep, 0.3, provenance=provenance(run, "eval_cam", method)),
    )


def score_crf(run, alpha):
    confusion = ConfusionMatrix(num_classes=len(run.source.classes))
    for image_id in run.ids("val"):
        with np.load(run.layout.cam("val", image_id)) as file:
            keys, cam = np.r_[-1, file["keys"]].astype(np.int32), file["cam"]
        scores = np.concatenate([(1 - cam.max(0, keepdims=True)) ** alpha, cam])
        save_npz(run.layout.crf("val", alpha, image_id), keys=keys, scores=scores)
        labels = labels_from_scores(ClassMaps(keys, scores), confusion.num_classes)
        confusion.add(labels, run.source.mask(image_id))
    metrics = summarise_labels(
        confusion, provenance=provenance(run, f"eval_crf_alpha_{alpha:02d}", "cse", f"alpha {alpha}")
    )
    write_json(run.layout.metrics(f"eval_crf_alpha_{alpha:02d}", "val"), metrics)


def score_masks(run):
    confusion = ConfusionMatrix(num_classes=len(run.source.classes))
    for image_id in run.ids("val"):
        mask = run.source.mask(image_id)
        path = run.layout.pseudo("val", image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(palette_png(mask))
        confusion.add(np.where(mask == 255, 0, mask).astype(np.uint8), mask)
    metrics = summarise_labels(confusion, provenance=provenance(run, "eval_pseudo", "cse"))
    write_json(run.layout.metrics("eval_pseudo", "val"), metrics)


@pytest.fixture
def run(tmp_path):
    """A run of cse that is scored at every stage; alpha 24 was scored before alpha 4."""
    run = open_run(tiny("cse_shapes"), tmp_path / "run")
    score_cams(run, Layout(run.layout.classifier), "cam", 0.6)
    score_cams(run, run.layout, "cse", 0.3)
    for alpha in (24, 4):
        score_crf(run, alpha)
    score_masks(run)
    return run


def page_of(run):
    report(run)
    return Page(run.layout.report.read_text())


def names(entries):
    return [entry.name for entry in entries]


STAGES = ["ordinary classifier", "OC-CSE", "CRF, alpha 4", "CRF, alpha 24", "pseudo masks"]


def test_stages_come_in_their_order_and_the_main_ones_by_what_they_are(run):
    scored = scored_stages(run)
    assert names(scored) == STAGES
    main = ["ordinary classifier", "OC-CSE", "CRF, alpha 4", "pseudo masks"]
    assert names(main_results(scored, "val", 4)) == main
    assert names(main_results(scored, "val", 1)) == ["OC-CSE"]
    assert names(main_results(scored, "val", 2)) == main[:2]
    assert names(main_results(scored[:4], "val", 4)) == [*main[:3], "CRF, alpha 24"]
    assert names(main_results(scored, "val", 5)) == STAGES
    assert main_results(scored, "train", 4) == []


def test_every_stage_is_in_the_table_and_every_main_map_in_the_gallery(run):
    page = page_of(run)
    assert len(page.all("tr")) == 1 + len(STAGES)
    for name in STAGES:
        metrics = next(entry.metrics for entry in scored_stages(run) if entry.name == name)
        assert f"{metrics['fixed']['miou']:.2f}" in page.texts
    cards = len(page.all("article", "card"))
    assert cards == 4
    assert len(page.all("canvas", "map")) == 2 * cards
    assert len(page.all("img", "map")) == 3 * cards  # truth, CRF, pseudo masks
    assert len(page.all("article", "headline")) == 4


def test_label_maps_are_the_argmax_and_the_files(run):
    crf, pseudo = (entry for entry in scored_stages(run) if entry.name in ("CRF, alpha 4", "pseudo masks"))
    image_id = run.ids("val")[3]
    with np.load(run.layout.crf("val", 4, image_id)) as file:
        expected = (file["keys"][file["scores"].argmax(0)] + 1).astype(np.uint8)
    np.testing.assert_array_equal(crf.read(image_id), expected)
    np.testing.assert_array_equal(pseudo.read(image_id), run.source.mask(image_id))


def test_maps_that_are_gone_leave_their_scores(run):
    for folder in (run.layout.crfs("val", 4), run.layout.cams("val")):
        folder.rename(run.layout.workdir / f"away_{folder.name}")
    page = page_of(run)
    assert len(page.all("article", "headline")) == 4
    assert len(page.all("canvas", "map")) == 4 and len(page.all("img", "map")) == 8


def test_results_have_one_order_everywhere_and_the_run_s_own_maps_sort(run):
    for layout in (Layout(run.layout.classifier), run.layout):
        layout.logs.mkdir(parents=True, exist_ok=True)
        MetricWriter(layout.logs, 0).write(1, {"loss": 1})
    page = page_of(run)
    order = ["ordinary classifier", "OC-CSE", "CRF, alpha 4", "pseudo masks"]
    for heading in ("Scores", "Stages", "IoU per class", "Gallery"):
        below = page.texts[page.texts.index(heading) :]
        assert list(dict.fromkeys(text for text in below if text in order)) == order, heading
    losses = ["ordinary classifier: loss", "OC-CSE: loss"]
    assert [text for text in page.texts if text in losses] == losses
    assert [o["value"] for o in page.all("option") if "selected" in o] == ["1"]
    own = [float(card["data-miou"].split()[1]) for card in page.all("article", "card")]
    assert own == sorted(own, reverse=True)


def test_the_report_says_how_the_run_was_made(run):
    made = manifest.read(run.layout.manifest)
    first = {**made["starts"][0], "seconds": 3600.0}
    last = {**first, "command": "python -m wsss_jax.main <b>", "commit": "abc123+", "seconds": 125.4}
    write_json(run.layout.manifest, {**made, "starts": [first, last]})
    page = page_of(run)
    for label, text in (
        ("Time taken", "1:02:05, started 2 times"),
        ("Commit", "abc123+"),
        ("Folder", str(run.layout.workdir)),
        ("Command", "python -m wsss_jax.main <b>"),
    ):
        assert page.texts[page.texts.index(label) + 1] == text


def test_scored_pictures_that_were_trained_on_are_told_of(run, tmp_path):
    def warnings(run):
        report(run)
        page = Page(run.layout.report.read_text())
        return [text for text in page.texts if "trained on" in text and text.endswith(".")]

    assert warnings(run) == []
    path = run.layout.metrics("eval_pseudo", "val")
    masks = read_json(path, "") | {"trained_on": {"AffinityNet": {"split": "val", "list_sha256": "e" * 64}}}
    told = "AffinityNet was trained on the CAMs of the very images that are scored."
    for scored, wanted in (("e" * 64, [told]), ("f" * 64, [])):
        write_json(path, {**masks, "list_sha256": scored})
        assert warnings(run) == wanted
    both = tmp_path / "both.txt"
    both.write_text("\n".join([*run.ids("train")[:3], *run.ids("val")[:4]]))
    config = tiny("cse_shapes", dataset__train_split=str(both))
    overlapping = open_run(config, tmp_path / "overlapping")
    score_cams(overlapping, overlapping.layout, "cse", 0.3)
    (told,) = warnings(overlapping)
    assert told.startswith(
        f"4 of the 10 scored images (val) were trained on ({both}), with their image-level"
    )


def test_losses_and_their_terms_are_drawn_if_there_are_any(run):
    assert not [a for a in page_of(run).all("svg") if "loss" in a["aria-label"]]
    values = {"loss_all": 0.5, "loss_erased": 0.1, "gradient_norm": 2.0, "learning_rate": 0.01}
    lines = [{"step": i, "epoch": 0, "loss": 1 / i, **values} for i in (1, 2, 3)]
    run.layout.logs.mkdir(exist_ok=True)
    writer = MetricWriter(run.layout.logs, 0)
    for line in lines:
        writer.write(line["step"], line)
    names = ("loss", "all", "erased", "gradient norm", "learning rate")
    curves = [f"OC-CSE: {name}" for name in names]
    assert [text for text in page_of(run).texts if text in curves] == curves


def test_a_run_that_refines_another_s_cams(run, tmp_path):
    config = tiny("affinity_shapes", cams_from=str(run.layout.workdir))
    refining = open_run(config, tmp_path / "refining")
    score_masks(refining)
    page = page_of(refining)
    assert "AffinityNet on shapes" in "".join(page.texts)
    assert len(page.all("article", "headline")) == 1 and not page.all("canvas")
    score_cams(refining, run.layout, "cse", 0.3)  # what eval_cam of this run would write...
    run.layout.metrics("eval_cam", "val").rename(refining.layout.metrics("eval_cam", "val"))
    assert names(scored_stages(refining)) == ["OC-CSE", "pseudo masks"]
    assert len(page_of(refining).all("canvas")) == 4


def test_what_cannot_be_reported_is_named(tmp_path, run):
    empty = open_run(tiny("cse_shapes"), tmp_path / "empty")
    with pytest.raises(RunError, match=r"eval_cam_val.json: there are no scores; run the stage eval_cam"):
        report(empty)
    path = run.layout.metrics("eval_other", "val")
    path.write_text('{"split": ')
    with pytest.raises(RunError, match=r"eval_other_val.json: damaged; delete it"):
        report(run)
    write_json(path, {"split": "val"})
    with pytest.raises(RunError, match=r"eval_other_val.json: not a metrics file; move it"):
        report(run)
