"""Signals ask to stop; work ends at a place from which it can go on."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers.runs import ROOT
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_that_was_stopped_ends_with_the_signals_status(number):
    """Else `train && next` would go on with half of the work."""
    code = f"""
import os
from wsss_jax.commandline import one_line_errors
from wsss_jax.interrupt import stop_here, stop_on_signals
with one_line_errors(), stop_on_signals():
    os.kill(os.getpid(), {number})
    stop_here("3 of 4 done")
"""
    done = subprocess.run(command(code), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == "Stopped: 3 of 4 done; give the same command again to go on\n"
    assert sys.executable in command(code)


DOORS = (
    "wsss_jax",
    "wsss_jax.main",
    "wsss_jax.cam",
    "wsss_jax.refine",
    "tools.convert_weights",
    "benchmarks",
)
ARGUMENTS = {
    "wsss_jax": ("run", "--config=cam_shapes"),
    "wsss_jax.main": ("--config=cam_shapes",),
    "wsss_jax.cam": ("a.png", "--checkpoint=runs/x"),
    "wsss_jax.refine": ("--images=.", "--cams=.", "--out=x"),
    "tools.convert_weights": ("res38_cls.pth", "--list"),
    "benchmarks": ("--only=evaluate",),
}


@pytest.mark.parametrize(
    ("door", "module"),
    [
        *((door, "numpy") for door in DOORS if door != "wsss_jax"),
        ("wsss_jax", "absl"),
        ("wsss_jax.main", "jax"),
    ],
)
def test_ctrl_c_while_importing_is_one_line(door, module):
    code = f"""
import os, runpy, signal
class Interrupting:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
sys.argv = [{door!r}, *{ARGUMENTS[door]!r}]
runpy.run_module({door!r}, run_name="__main__")
"""
    done = subprocess.run(command(code), capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Stopped by Ctrl-C.\n")
