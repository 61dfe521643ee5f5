"""The loop: going on where it was, stopping when asked, and not hiding a NaN."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from tests.helpers.networks import narrow_batch, narrow_cam, narrow_variables, relative
from wsss_jax import interrupt
from wsss_jax.errors import CheckpointError, Interrupted, RunError
from wsss_jax.sharding import data_mesh
from wsss_jax.training.checkpoints import Checkpoints, Restored, best_step, restore, steps
from wsss_jax.training.loop import Plan, Trainer
from wsss_jax.training.metrics import MetricWriter, log_interval, read_lines
from wsss_jax.training.optimizer import polynomial_sgd

METHOD = narrow_cam()


def plan(**changes):
    sizes = {"batch_size": 8, "accumulation": 1, "steps_per_epoch": 3, "total_epochs": 2}
    return Plan(**{**sizes, "seed": 0, "log_every": 2, **changes})


def optimizer(groups):
    return polynomial_sgd(groups, learning_rate=0.05, momentum=0.9, weight_decay=5e-4, power=0.9, max_step=6)


def batches(start):
    return (narrow_batch(seed=i) for i in itertools.count(start))


def train(folder, settings=None, evaluate=None, feed=batches, method=METHOD, seed=0):
    """One process of a training run; returns the trainer."""
    with Checkpoints(folder / "checkpoints") as checkpoints:
        trainer = Trainer(method, optimizer, settings or plan(), data_mesh(jax.devices()[:1]), checkpoints)
        step = trainer.start(narrow_variables(method, seed), checkpoints.newest())
        writer = MetricWriter(folder, step)
        trainer.run(feed(step), writer, evaluate)
        return trainer


def stopping_at(monkeypatch, step):
    """A feed during whose batch number `step` a signal comes in."""

    def feed(start):
        for i, batch in enumerate(batches(start), start):
            if i == step:
                monkeypatch.setattr(interrupt, "_requested", True)
            yield batch

    return feed


def without_times(lines):
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, train(folder)


def test_every_epoch_is_saved_and_every_log_line_written(undisturbed):
    folder, _ = undisturbed
    assert steps(folder / "checkpoints") == [3, 6]
    lines = read_lines(folder / "train.jsonl")
    assert [(line["step"], line["epoch"]) for line in lines] == [(2, 0), (4, 1), (6, 1)]
    assert all(np.isfinite(line["loss"]) and line["images_per_second"] > 0 for line in lines)


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(undisturbed, tmp_path, monkeypatch, at):
    with pytest.raises(Interrupted, match=r"saved at step \d of 6; give the same command again"):
        train(tmp_path, feed=stopping_at(monkeypatch, at))
    monkeypatch.setattr(interrupt, "_requested", False)
    trainer = train(tmp_path)
    for path, wanted in undisturbed[1].state.trainable.items():
        assert relative(trainer.state.trainable[path], wanted) < 1e-5, path
    expected = without_times(read_lines(undisturbed[0] / "train.jsonl"))
    for line, wanted in zip(without_times(read_lines(tmp_path / "train.jsonl")), expected, strict=True):
        assert line.pop("loss") == pytest.approx(wanted.pop("loss"), rel=1e-5)
        assert line == wanted


def test_evaluation_picks_the_best_checkpoint_and_stop_skips_it(tmp_path):
    scores = {1: 0.8, 2: 0.3, 3: 0.2, 4: 0.1}
    train(tmp_path, plan(total_epochs=4, evaluate_every=1), lambda _, epoch: scores[epoch])
    assert steps(tmp_path / "checkpoints") == [3, 9, 12]  # the best, and the newest two


SCORES = {1: 0.8, 2: 0.3, 3: 0.2, 4: 0.1}


@pytest.mark.parametrize(("how", "epoch"), [("signal", 1), ("signal", 4), ("kill", 2)])
def test_an_epoch_whose_evaluation_was_cut_short_is_scored_on_return(tmp_path, monkeypatch, how, epoch):
    """The weights of the epoch are there, whatever ends the evaluation; then the best step is the same."""

    class Killed(BaseException):
        """Nothing handles it, as nothing handles kill -9."""

    def cut_short(_, now):
        if now < epoch:
            return SCORES[now]
        if how == "kill":
            raise Killed
        monkeypatch.setattr(interrupt, "_requested", True)

    settings = plan(total_epochs=4, evaluate_every=1)
    with pytest.raises(Interrupted if how == "signal" else Killed):
        train(tmp_path, settings, cut_short)
    assert steps(tmp_path / "checkpoints")[-1] == 3 * epoch
    monkeypatch.setattr(interrupt, "_requested", False)
    evaluated = []
    train(tmp_path, settings, lambda _, epoch: evaluated.append(epoch) or SCORES[epoch])
    assert evaluated == [e for e in SCORES if e >= epoch]
    assert steps(tmp_path / "checkpoints") == [3, 9, 12] and best_step(tmp_path / "checkpoints") == 3


def test_a_signal_before_the_evaluation_leaves_it_for_the_return(tmp_path, monkeypatch):
    settings = plan(total_epochs=4, evaluate_every=1)
    with pytest.raises(Interrupted, match="saved at step 3"):
        train(tmp_path, settings, lambda _, epoch: SCORES[epoch], feed=stopping_at(monkeypatch, 4))
    monkeypatch.setattr(interrupt, "_requested", False)
    evaluated = []
    train(tmp_path, settings, lambda _, epoch: evaluated.append(epoch) or SCORES[epoch])
    assert evaluated == [1, 2, 3, 4]
    assert steps(tmp_path / "checkpoints") == [3, 9, 12] and best_step(tmp_path / "checkpoints") == 3


def test_a_last_epoch_without_its_score_is_not_done():
    settings = plan(evaluate_every=1)
    last = Restored(6, {}, {}, None, {})
    assert not settings.done(last) and settings.done(dataclasses.replace(last, score=0.5))
    assert plan().done(last) and not plan().done(dataclasses.replace(last, step=3))


def test_an_error_tells_and_keeps_the_step_that_was_being_saved(tmp_path):
    """The step before the failure was not on disk yet when it came."""

    def feed(start):
        for i, batch in enumerate(batches(start), start):
            yield {**batch, "labels": batch["labels"] * np.float32(np.nan)} if i == 3 else batch

    with pytest.raises(RunError, match=r"the last good checkpoint is step 3 in"):
        train(tmp_path, plan(log_every=1), feed=feed)
    assert restore(tmp_path / "checkpoints" / "3").step == 3


def test_a_nan_stops_with_the_steps_and_the_last_good_checkpoint(tmp_path):
    def feed(start):
        for i, batch in enumerate(batches(start), start):
            yield {**batch, "labels": batch["labels"] * np.float32(np.nan)} if i == 4 else batch

    with pytest.raises(RunError, match=r"NaN between steps 4 and 6; the last good checkpoint is step 3"):
        train(tmp_path, feed=feed)
    assert steps(tmp_path / "checkpoints") == [3]


def test_a_checkpoint_of_another_network_is_refused(undisturbed, tmp_path):
    train(tmp_path, plan(total_epochs=1))
    with pytest.raises(CheckpointError, match=r"another network.*--workdir"):
        train(tmp_path, method=narrow_cam(width=1 / 8))


def test_lines_after_the_checkpoint_are_dropped_and_a_cut_one_is_ignored(tmp_path):
    path, writer = tmp_path / "train.jsonl", MetricWriter(tmp_path, 0)
    for step in (2, 4, 6):
        writer.write(step, {"loss": step / 2})
    path.write_bytes(path.read_bytes()[:-9])
    warnings = []
    assert [line["step"] for line in read_lines(path, warnings.append)] == [2, 4] and not warnings
    MetricWriter(tmp_path, 3).write(4, {"loss": 3.0})
    assert read_lines(path) == [{"step": 2, "loss": 1.0}, {"step": 4, "loss": 3.0}]
    assert json.loads(path.read_text().splitlines()[1]).keys() == {"step", "loss", "crc32"}


def test_a_damaged_line_is_told_and_the_others_are_kept(tmp_path):
    path, writer = tmp_path / "train.jsonl", MetricWriter(tmp_path, 0)
    for step in (2, 4, 6):
        writer.write(step, {"loss": step / 2})
    path.write_text(path.read_text().replace('"loss": 2.0', '"loss": 7.0'))
    warnings = []
    assert [line["step"] for line in read_lines(path, warnings.append)] == [2, 6]
    assert warnings == [f"{path} line 2: damaged, left out"]


def test_tensorboard_events_hold_the_values(tmp_path):
    pytest.importorskip("tensorboardX")
    writer = MetricWriter(tmp_path, 0, tensorboard=True)
    writer.write(2, {"loss": 0.5})
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"loss" in events.read_bytes()


def test_the_program_is_traced_once(undisturbed):
    assert undisturbed[1]._step._cache_size() == 1


def test_short_trainings_are_logged_more_often():
    """20 lines at least, as long as there are 20 steps."""
    assert [log_interval(50, steps) for steps in (1, 19, 40, 999, 1000, 20000)] == [1, 1, 2, 49, 50, 50]
    assert log_interval(1, 20000) == 1
