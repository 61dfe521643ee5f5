"""Signals ask to stop; work ends at a place from which it can go on."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.scripts import command
from wsss_jax.errors import Interrupted
from wsss_jax.interrupt import stop_here, stop_on_signals, stop_requested


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_only_asks(number):
    before = signal.getsignal(number)
    with stop_on_signals():
        assert not stop_requested()
        stop_here("nothing asked, nothing raised")
        os.kill(os.getpid(), number)
        assert stop_requested()
        with pytest.raises(Interrupted, match=r"^10 of 20 done; give the same command again to go on$"):
            stop_here("10 of 20 done")
    assert signal.getsignal(number) == before


def test_handlers_come_back_after_an_error():
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyError), stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
        raise KeyError
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_the_next_run_of_a_process_starts_afresh():
    """As in a notebook, where an interrupted cell is run again."""
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    with stop_on_signals():
        assert not stop_requested()
        stop_here("not asked this time")


@pytest.mark.parametrize("first", ["SIGTERM", "SIGINT"])
def test_second_signal_ends_at_once(first):
    code = f"""
import os, signal
from wsss_jax.interrupt import stop_on_signals
with stop_on_signals():
    os.kill(os.getpid(), signal.{first})
    print("goes on", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    print("too far", flush=True)
"""
    done = subprocess.run(command(code), capture_output=True, text=True)
    assert done.stdout == "goes on\n"
    assert done.returncode == -signal.SIGTERM


def test_command_that_was_stopped_ends_well():
    code = """
import os, signal
from wsss_jax.commandline import one_line_errors
from wsss_jax.interrupt import stop_here, stop_on_signals
with one_line_errors(), stop_on_signals():
    os.kill(os.getpid(), signal.SIGINT)
    stop_here("3 of 4 done")
"""
    done = subprocess.run(command(code), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Stopped: 3 of 4 done; give the same command again to go on\n"
    assert sys.executable in command(code)
