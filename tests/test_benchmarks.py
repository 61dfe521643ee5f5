"""Every topic of `python -m benchmarks` at toy size; nothing here depends on how fast the machine is."""

import dataclasses
import json
import math
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    allocator,
    convert,
    cpn,
    crf,
    evaluate,
    features,
    infer,
    loader,
    pytorch,
    response,
    topics,
    train,
    walk,
)
from benchmarks.images import Shrunk, draw_devkit, draw_sizes, open_images
from benchmarks.machine import cpu_model, machine, versions
from benchmarks.row import Row, Settings
from benchmarks.table import document, number, table
from benchmarks.timing import Times, interleaved
from tests.helpers.voc import make_voc
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.data.voc import Voc
from wsss_jax.errors import ConfigError, RunError
from wsss_jax.inference.predict import InferenceSettings
from wsss_jax.refinement.jobs import Refined
from wsss_jax.refinement.native import is_installed

ROOT = Path(__file__).resolve().parents[1]
TOY = Settings(
    width=1 / 64, blocks=(0, 0, 0, 0), crop=16, batch_size=1, images=3, side=20, scales=(1.0,), repeats=1
)


def check(rows):
    """Rows can be printed and written, and say what their ratios compare with."""
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        numbers = [x for x in (row.value, row.low, row.high, row.ratio) if x is not None]
        assert all(math.isfinite(x) for x in numbers), row
        assert (row.ratio is None) == (row.versus == ""), row
        assert row.low is None or row.low <= row.value <= row.high, row
    json.dumps(document(rows, TOY, {}, {}), allow_nan=False)
    assert len(table(rows).splitlines()) == len(rows) + 2


def named(rows, name):
    return next(row for row in rows if row.name == name)


@pytest.fixture
def small(tmp_path):
    """The settings, with three images of 40 x 60 pixels."""
    return dataclasses.replace(TOY, data=str(make_voc(tmp_path, num_train=3)))


@pytest.mark.slow
def test_training_step(monkeypatch):
    """One method, since compiling takes most of the time and the other method takes the same way."""
    assert train._METHODS == ("cam", "cse")
    monkeypatch.setattr(train, "_METHODS", ("cam",))
    rows = train.rows(TOY)
    check(rows)
    step, compilation, product, convolution = rows
    assert (step.name, compilation.name) == ("cam training step", "cam training step, compilation")
    assert product.ratio == pytest.approx(convolution.value / product.value)
    assert product.note == "32 to 64 channels, 1 x 2 x 2 positions"


@pytest.mark.skipif(find_spec("torch") is not None, reason="with PyTorch the topic measures")
def test_without_pytorch_its_topic_is_skipped(capsys):
    assert pytorch.rows(TOY) == []
    assert "PyTorch is not installed" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
def test_beside_pytorch():
    """The program itself stops unless both networks give the same logits."""
    rows = pytorch.rows(TOY)
    check(rows)
    assert [row.versus for row in rows] == ["PyTorch", "", "PyTorch", ""]


def test_inference_agrees_with_the_plain_loop():
    rows = infer.rows(dataclasses.replace(TOY, images=1))
    check(rows)
    padded = named(rows, "CAM inference, compiled before, padded")
    assert float(padded.note.rsplit(" ", 1)[1]) < 1e-4
    assert named(rows, "CAM inference, programs for this list").value == 1
    assert draw_sizes(1) == [(500, 375)]  # 20 x 15 after shrinking, in a bucket of 24 x 16
    padding = named(rows, "CAM inference, padded area of this list").value
    assert padding == pytest.approx(100 * (16 * 24 / (15 * 20) - 1))


@pytest.mark.slow
def test_forward_pass_with_memory_kept_and_handed_back(monkeypatch):
    monkeypatch.setattr(allocator, "_SIDE", 32)
    rows = allocator.rows(TOY)
    check(rows)
    kept, back, peak, other = rows
    assert kept.ratio == pytest.approx(back.value / kept.value) and "1 image(s) of 32" in kept.note
    assert peak.ratio == pytest.approx(other.value / peak.value) and 50 < peak.value < 5000


@pytest.mark.slow
def test_cpn_in_one_pass_and_in_blocks():
    rows = cpn.rows(TOY)
    check(rows)
    assert float(named(rows, "cpn training step, one pass").note.rsplit(" ", 1)[1]) < 1e-4
    memory = "pixel correlation, memory of value and gradient, "
    blocks, whole = named(rows, memory + "blocks"), named(rows, memory + "all pairs")
    # 12 x 3136 x 3136 float32 are 472 MB, of which value and gradient need more than one.
    assert whole.value > 472 and blocks.value < 472
    assert blocks.ratio == pytest.approx(whole.value / blocks.value)
    time = named(rows, "pixel correlation, value and gradient, blocks")
    assert float(time.note.split(" differ by ")[1].split()[0]) < 1e-4


def test_features_agree_with_one_picture_at_a_time():
    rows = features.rows(dataclasses.replace(TOY, images=2))
    check(rows)
    padded = named(rows, "features, compiled before, padded")
    assert float(padded.note.rsplit(" ", 1)[1]) < 1e-4
    plain = named(rows, "features, compiled before, one image at a time")
    assert padded.ratio == pytest.approx(padded.value / plain.value)


@pytest.mark.slow
def test_the_queue_of_crops_agrees_with_one_crop_at_a_time():
    rows = response.rows(dataclasses.replace(TOY, images=1))
    check(rows)
    queue = named(rows, "InferCam, compiled before, queue of crops")
    assert float(queue.note.rsplit(" ", 1)[1]) < 1e-4
    assert 1 <= named(rows, "InferCam, programs for each image").value <= 4


def test_plan_rows_by_hand():
    settings = InferenceSettings(
        scales=(0.5, 1.0), flip=True, class_filter="given", batch_size=2, max_buckets=1
    )
    programs, area = infer.plan_rows("it", [(8, 16), (16, 8), (16, 16)], settings)
    assert (programs.value, programs.ratio) == (1, 6)  # 3 sizes x 2 scales in one bucket of 16 x 16
    assert area.value == pytest.approx(100 * (3 * 256 / 512 - 1))
    assert "33.3 %" in area.note  # 4 rows for 3 images


def test_sweep_and_loop_count_the_same(small):
    rows = evaluate.rows(small)
    check(rows)
    cases, thresholds = evaluate._cases(small), (0.1, 0.25, 0.5)
    assert len(cases) == 3
    matrices = evaluate.loop(cases, thresholds)
    assert matrices.sum() == 3 * sum((case.mask < 255).sum() for case in cases) > 0
    np.testing.assert_array_equal(matrices, evaluate.one_pass(cases, thresholds))


def test_a_sweep_that_counts_otherwise_stops_the_benchmark(small, monkeypatch):
    monkeypatch.setattr(evaluate, "one_pass", lambda cases, thresholds: np.zeros((1, 1, 1), np.int64))
    with pytest.raises(RunError, match="different pixels"):
        evaluate.rows(small)


@pytest.mark.slow
def test_crf_and_pydensecrf(small, monkeypatch):
    monkeypatch.setattr(crf, "_LABELS", (2, 3))
    monkeypatch.setattr(crf, "PSA", dataclasses.replace(crf.PSA, iterations=1))
    rows = crf.rows(small)
    check(rows)
    assert named(rows, "dense CRF, jax, the 2 labels present").versus == "all 3 labels, jax"
    assert len(rows) == (7 if is_installed() else 3)


def test_crfs_that_differ_stop_the_benchmark():
    one, other = (Refined("a", [ClassMaps(np.zeros(2), np.full((2, 3, 3), x))]) for x in (0, 0.5))
    with pytest.raises(RunError, match=r"image a differ by 0\.5"):
        crf._check_alike([one], [other])


def test_loader_by_threads_and_workers():
    rows = loader.rows(TOY)
    check(rows)
    assert [row.unit for row in rows] == ["images/s"] * 3 + ["s"] * 3
    assert all(row.value > 0 for row in rows)


def test_conversion_of_a_narrow_checkpoint(monkeypatch):
    """The rows of `benchmarks.convert`, measured once and without the import of Orbax."""
    narrow = {name: tuple(min(n, 4) for n in shape) for name, shape in convert._shapes().items()}
    cases = convert._cases
    monkeypatch.setattr(convert, "_shapes", lambda: narrow)
    monkeypatch.setattr(convert, "_cases", lambda *files: cases(*files)[:2])
    monkeypatch.setattr(convert, "_REPEATS", 1)
    monkeypatch.chdir(ROOT)
    rows = topics.convert_rows()
    check(rows)
    assert len(rows) == 2
    assert (rows[0].ratio, rows[0].versus, rows[0].unit) == (1, "numpy.load", "s")


def test_sizes_are_distributed_as_in_voc():
    sizes = np.array(draw_sizes(4000))
    assert sizes.max() == 500
    assert 0.9 < np.mean(sizes.max(axis=1) == 500) < 1
    assert 0.4 < np.mean(sizes.min(axis=1) == 375) < 0.6
    assert 0.15 < np.mean(sizes[:, 0] > sizes[:, 1]) < 0.3
    assert draw_sizes(5) == draw_sizes(5)


def test_drawn_devkit_is_one(tmp_path):
    source = Voc(str(draw_devkit(tmp_path, 4)))
    for image_id, size in zip(source.ids("train"), draw_sizes(4), strict=True):
        assert (
            source.size(image_id) == source.image(image_id).shape[:2] == source.mask(image_id).shape == size
        )
        shown = {int(c) - 1 for c in np.unique(source.mask(image_id)) if 0 < c < 255}
        assert shown <= set(np.flatnonzero(source.labels(image_id)).tolist())


def test_given_pictures_are_taken_from_the_whole_list(tmp_path):
    root = draw_devkit(tmp_path, 5)
    with open_images(Settings(data=str(root), images=3)) as (source, ids):
        assert ids == ("2012_000000", "2012_000002", "2012_000004")
        assert source.root == str(root)


def test_shrunk_pictures_and_masks_fit(tmp_path):
    source = Voc(str(draw_devkit(tmp_path, 1)))
    (image_id,) = source.ids("train")
    small = Shrunk(source, 50)
    assert max(small.size(image_id)) == 50
    assert small.image(image_id).shape[:2] == small.mask(image_id).shape == small.size(image_id)
    assert set(np.unique(small.mask(image_id))) <= set(np.unique(source.mask(image_id)))
    assert Shrunk(source, 0).size(image_id) == source.size(image_id)


def test_interleaved_takes_turns_after_a_round_that_does_not_count():
    calls = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert [len(times[name].seconds) for name in "ab"] == [2, 2]


def test_times_become_rates_with_their_spread():
    row = Times((2.0, 1.0, 4.0)).per_second(8, "x", "images/s")
    assert (row.low, row.value, row.high) == (2, 4, 8)
    row = Times((2.0, 1.0, 4.0)).row("x")
    assert (row.low, row.value, row.high, row.unit) == (1, 2, 4, "s")


def test_table_by_hand():
    row = Row(name="a", value=1234.5, unit="s", low=0.12345, high=99.96, ratio=2.0, versus="b", note="c")
    assert [cell.strip() for cell in table([row]).splitlines()[2].split("|")[1:-1]] == [
        "a", "1,234 s", "0.123 to 100", "2x", "b", "c",
    ]  # fmt: skip
    assert number(0) == "0"


@pytest.mark.slow
def test_walk_compares_with_the_dense_matrix():
    found = {row.name: row for row in walk.rows(Settings(repeats=1), psa=(6, 10), irn=(7, 11))}
    assert len(found) == 10
    dense, irn = found["psa walk, dense"], found["irn walk, dense, extrapolated"]
    assert irn.value == pytest.approx(dense.value * (77 / 60) ** 3)
    fast = found["irn walk, chebyshev, 2 score rows"]
    assert fast.ratio == pytest.approx(irn.value / fast.value) and "extrapolated" in fast.versus
    assert found["psa walk, memory"].unit == "MB" and found["psa walk, memory"].value < 1


def test_machine_is_described(tmp_path):
    found, wanted = machine(0.5), {"cpu", "cores", "load", "devices", "system"}
    assert found.keys() == wanted
    assert found["load"].startswith("0.5 before")
    assert found["cores"] >= 1 and found["cpu"]
    assert versions()["numpy"] == np.__version__
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: Fast Chip 9\n")
    assert cpu_model(cpuinfo) == "Fast Chip 9"
    assert cpu_model(tmp_path / "none")


def test_topics_are_checked_and_ordered():
    assert topics.check_topics([]) == topics.TOPICS
    assert topics.check_topics(["train", "loader"]) == ("loader", "train")
    with pytest.raises(ConfigError, match="'trian'; did you mean train"):
        topics.check_topics(["trian"])
    with pytest.raises(ConfigError, match="choose of convert,"):
        topics.check_topics(["xyzzy"])


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_is_quick():
    start = time.perf_counter()
    done = run("--help")
    assert time.perf_counter() - start < 3
    assert "--only" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--only=infre", "did you mean infer?"),
        ("--repeats=0", "repeats"),
        ("--data=/nowhere", "does not exist"),
    ],
)
def test_bad_flags_end_with_one_line(flag, message):
    done = run("--only=evaluate", flag)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_command_prints_a_table_and_writes_json(small, tmp_path):
    path = tmp_path / "rows.json"
    done = run("--only=evaluate", "--repeats=1", f"--data={small.data}", f"--json={path}")
    assert done.returncode == 0, done.stderr
    assert "| evaluation at 30 thresholds, one pass" in done.stdout
    written = json.loads(path.read_text())
    assert written.keys() == {"machine", "versions", "settings", "rows"}
    assert [row["versus"] for row in written["rows"]] == ["loop", ""]
    assert written["settings"]["repeats"] == 1
