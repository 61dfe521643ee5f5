"""What the time of a training went into, by a clock that the test turns."""

import itertools
from types import SimpleNamespace

import pytest

from wsss_jax.training import goodput
from wsss_jax.training.goodput import Goodput


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(goodput.time, "monotonic", lambda: now.seconds)
    return now


def test_shares_by_hand(clock):
    spent = Goodput()

    def work(seconds):
        clock.seconds += seconds

    with spent.stepping():
        work(5)  # the first step compiles
    with spent.stepping():
        work(10)
    with spent.spent("saving"):
        work(2)
    with spent.spent("evaluating"):
        work(3)
    assert spent.shares() == pytest.approx(
        {"steps": 0.5, "compiling": 0.25, "waiting for data": 0.0, "saving": 0.1, "evaluating": 0.15}
    )
    assert (
        spent.describe() == "steps 50 %, compiling 25 %, waiting for data 0 %, saving 10 %, evaluating 15 %"
    )


def test_waiting_counts_only_while_the_devices_are_idle(clock):
    spent, busy = Goodput(), SimpleNamespace(is_ready=lambda: False)

    def batches():
        for i in itertools.count():
            clock.seconds += 4
            yield i

    taken = spent.waiting(itertools.islice(batches(), 3))
    assert next(taken) == 0  # nothing has been computed yet
    spent.busy = busy
    assert next(taken) == 1
    busy.is_ready = lambda: True
    assert list(taken) == [2]
    assert spent.shares()["waiting for data"] == pytest.approx(8 / 12)


def test_what_failed_counts_too(clock):
    spent = Goodput()
    with pytest.raises(OSError), spent.spent("saving"):
        clock.seconds += 1
        raise OSError
    assert spent.shares()["saving"] == 1
