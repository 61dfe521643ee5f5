"""The line that says how far work is, by a clock that the tests set."""

import io

import pytest

from wsss_jax import progress
from wsss_jax.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Set clock.now; starts at 100 seconds."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_line_by_hand(clock):
    line = Progress("train", 400, unit="steps", stream=io.StringIO())
    clock.now = 110.0
    line.update(20)
    assert line.line(110.0) == "train 20/400 steps  2.0/s  ETA 0:03:10"
    assert line.line(110.0, "loss 0.31") == "train 20/400 steps  loss 0.31  ETA 0:03:10"


def test_resumed_work_counts_only_what_this_process_did(clock):
    line = Progress("infer", 1000, done=900, stream=io.StringIO())
    clock.now = 110.0
    line.update(910)
    assert line.rate() == 1.0
    assert line.line(clock.now) == "infer 910/1000 images  1.0/s  ETA 0:01:30"


def test_before_the_first_unit_there_is_no_estimate(clock):
    line = Progress("infer", 10, stream=io.StringIO())
    assert line.rate() == 0.0
    assert line.line(clock.now) == "infer 0/10 images  0.0/s  ETA -"
    clock.now += 5
    assert line.line(clock.now).endswith("0.0/s  ETA -")


def test_hours(clock):
    line = Progress("train", 100_001, stream=io.StringIO())
    clock.now += 10
    line.update(1)
    assert line.line(clock.now).endswith("0.1/s  ETA 277:46:40")


def test_a_log_file_gets_a_line_every_ten_seconds_and_the_last(clock):
    stream = io.StringIO()
    line = Progress("infer", 50, stream=stream)
    for second in range(1, 26):
        clock.now = 100.0 + second
        line.update(second)
    assert [text.split()[1] for text in stream.getvalue().splitlines()] == ["10/50", "20/50"]
    line.update(26, force=True)
    line.update(50)
    line.end()
    written = stream.getvalue()
    assert [text.split()[1] for text in written.splitlines()] == ["10/50", "20/50", "26/50", "50/50"]
    assert written.endswith("\n") and "\r" not in written and "\033" not in written


def test_a_terminal_line_is_rewritten_at_most_twice_a_second(clock):
    stream = Terminal()
    line = Progress("infer", 50, stream=stream)
    for tenth in range(1, 21):
        clock.now = 100 + tenth / 10
        line.update(tenth)
    written = stream.getvalue()
    assert 2 <= written.count("\r\033[K") <= 4 and "\n" not in written
    line.end()
    assert stream.getvalue() == written + "\n"
