"""The loop: going on where it was, stopping when asked, and not hiding a NaN."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tests.helpers.networks import TinyTask, narrow_batch, narrow_variables, relative
from wsss_jax import interrupt
from wsss_jax.errors import CheckpointError, Interrupted, RunError
from wsss_jax.sharding import data_mesh
from wsss_jax.training.checkpoints import Checkpoints, Restored, best_step, restore, steps
from wsss_jax.training.loop import Optimizer, Plan, Trainer
from wsss_jax.training.metrics import MetricWriter, log_interval, read_lines
from wsss_jax.training.optimizer import polynomial_sgd
from wsss_jax.training.schedules import polynomial
from wsss_jax.training.step import partition

METHOD = TinyTask()


def plan(**changes):
    sizes = {"batch_size": 8, "accumulation": 1, "steps_per_epoch": 3, "total_steps": 6}
    return Plan(**{**sizes, "seed": 0, "log_every": 2, **changes})


def sgd(groups):
    return polynomial_sgd(groups, learning_rate=0.05, momentum=0.9, weight_decay=5e-4, power=0.9, max_step=6)


OPTIMIZER = Optimizer(sgd, polynomial(0.05, 6, 0.9))


def batches(start):
    return (narrow_batch(seed=i) for i in itertools.count(start))


def train(folder, settings=None, evaluate=None, feed=batches, method=METHOD, seed=0):
    """One process of a training run; returns the trainer."""
    with Checkpoints(folder / "checkpoints") as checkpoints:
        trainer = Trainer(method, OPTIMIZER, settings or plan(), data_mesh(jax.devices()[:1]), checkpoints)
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


def test_the_log_has_gradient_norm_and_learning_rate(undisturbed):
    lines = read_lines(undisturbed[0] / "train.jsonl")
    assert all(line["gradient_norm"] > 0 for line in lines)
    rates = [0.05 * (1 - step / 6) ** 0.9 for step in (1, 3, 5)]
    assert [line["learning_rate"] for line in lines] == pytest.approx(rates)


def test_the_steps_asked_for_are_traced(tmp_path):
    train(tmp_path, plan(total_steps=3, profile=(1, 2)))
    traces = list((tmp_path / "profile").rglob("*.trace.json.gz"))
    assert len(traces) == 1 and traces[0].stat().st_size > 1000


def test_a_trace_ends_with_the_training_and_starts_late_where_that_goes_on_late(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    settings = plan(total_steps=6, profile=(1, 9))
    with pytest.raises(Interrupted):
        train(tmp_path, settings, feed=stopping_at(monkeypatch, 5))
    assert calls == ["start", "stop"]
    monkeypatch.setattr(interrupt, "_requested", False)
    calls.clear()
    train(tmp_path, settings)
    assert calls == ["start", "stop"]


def test_an_average_of_the_weights_is_saved_and_gone_on_with(tmp_path, monkeypatch):
    """It is by hand that of the weights after each step; training goes on with the weights themselves."""
    settings = plan(total_steps=4, average_decay=0.5)
    weights = []

    class Watched(Trainer):
        def save(self, step):
            weights.append(jax.tree.map(np.asarray, self.state.trainable))
            super().save(step)

    monkeypatch.setitem(train.__globals__, "Trainer", Watched)
    start = partition(narrow_variables(METHOD), METHOD).trainable
    every = dataclasses.replace(settings, save_every=1)
    train(tmp_path / "whole", every)
    average = start
    for after in weights:
        average = jax.tree.map(lambda a, b: 0.5 * a + 0.5 * b, average, after)
    found = restore(tmp_path / "whole" / "checkpoints" / "4").networks
    for path, wanted in average.items():
        assert relative(flatten_dict(found, sep="/")[path], wanted) < 1e-5, path
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", every, feed=stopping_at(monkeypatch, 2))
    monkeypatch.setattr(interrupt, "_requested", False)
    train(tmp_path / "stopped", every)
    again = restore(tmp_path / "stopped" / "checkpoints" / "4").networks
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), again, found)


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
    scores = {3: 0.8, 6: 0.3, 9: 0.2, 12: 0.1}
    train(tmp_path, plan(total_steps=12, evaluate_every=3), lambda _, step: scores[step])
    assert steps(tmp_path / "checkpoints") == [3, 9, 12]  # the best, and the newest two


SCORES = {3: 0.8, 6: 0.3, 9: 0.2, 12: 0.1}


@pytest.mark.parametrize(("how", "step"), [("signal", 3), ("signal", 12), ("kill", 6)])
def test_an_epoch_whose_evaluation_was_cut_short_is_scored_on_return(tmp_path, monkeypatch, how, step):
    """The weights of the epoch are there, whatever ends the evaluation; then the best step is the same."""

    class Killed(BaseException):
        """Nothing handles it, as nothing handles kill -9."""

    def cut_short(_, now):
        if now < step:
            return SCORES[now]
        if how == "kill":
            raise Killed
        monkeypatch.setattr(interrupt, "_requested", True)

    settings = plan(total_steps=12, evaluate_every=3)
    with pytest.raises(Interrupted if how == "signal" else Killed):
        train(tmp_path, settings, cut_short)
    assert steps(tmp_path / "checkpoints")[-1] == step
    monkeypatch.setattr(interrupt, "_requested", False)
    evaluated = []
    train(tmp_path, settings, lambda _, step: evaluated.append(step) or SCORES[step])
    assert evaluated == [s for s in SCORES if s >= step]
    assert steps(tmp_path / "checkpoints") == [3, 9, 12] and best_step(tmp_path / "checkpoints") == 3


def test_a_signal_before_the_evaluation_leaves_it_for_the_return(tmp_path, monkeypatch):
    settings = plan(total_steps=12, evaluate_every=3)
    with pytest.raises(Interrupted, match="saved at step 3"):
        train(tmp_path, settings, lambda _, step: SCORES[step], feed=stopping_at(monkeypatch, 4))
    monkeypatch.setattr(interrupt, "_requested", False)
    evaluated = []
    train(tmp_path, settings, lambda _, step: evaluated.append(step) or SCORES[step])
    assert evaluated == [3, 6, 9, 12]
    assert steps(tmp_path / "checkpoints") == [3, 9, 12] and best_step(tmp_path / "checkpoints") == 3


def test_a_last_epoch_without_its_score_is_not_done():
    settings = plan(evaluate_every=3)
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
    train(tmp_path, plan(total_steps=3))
    with pytest.raises(CheckpointError, match=r"another network.*--workdir"):
        train(tmp_path, method=TinyTask(width=8))


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
