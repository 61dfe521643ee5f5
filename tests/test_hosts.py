"""Two processes, as on two hosts: what happens to one, the other is told of."""

import os
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from tests.helpers.scripts import command
from wsss_jax import hosts

SCRIPT = """
import pathlib, time
import jax
from wsss_jax import hosts
from wsss_jax.errors import RunError
from wsss_jax.interrupt import stop_here, stop_on_signals
hosts._LOST = {lost}
jax.config.update("jax_enable_preemption_service", False)
jax.distributed.initialize("127.0.0.1:{port}", 2, {number})
with stop_on_signals(), hosts.together(pathlib.Path({log!r})):
    print("up", flush=True)
    time.sleep(3)
    if {number} == {failing}:
        raise RunError("the mask of image 7 is missing")
    while True:
        time.sleep(0.1)
        stop_here("1 of 2 done")
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(folder, failing=-1, lost=5):
    """Two processes that are in touch with each other."""
    port = free_port()
    codes = [
        SCRIPT.format(port=port, number=i, failing=failing, lost=lost, log=str(folder / f"host_{i}.txt"))
        for i in range(2)
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command(code), **pipes) for code in codes]
    for process in processes:
        assert process.stdout.readline() == "up\n", process.communicate()
    return processes


def end(process, seconds):
    """Status and error output of a process that has so many seconds to end."""
    try:
        return process.wait(timeout=seconds), process.stderr.read()
    finally:
        process.kill()


def test_a_host_that_fails_ends_the_others_with_its_reason(tmp_path):
    first, second = start(tmp_path, failing=1)
    name = socket.gethostname()
    status, error = end(second, 60)
    assert (status, error) == (1, "Error: the mask of image 7 is missing\n")
    status, error = end(first, 60)
    assert status == 1 and error == (
        f"Error: host 1 ({name}) has ended: the mask of image 7 is missing; "
        "give the same command again on all hosts to go on\n"
    )


@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_host_that_is_killed_ends_the_others_with_a_line(tmp_path, lost):
    """Host 0 holds JAX's coordinator; where it is lost, JAX's own threads dump and abort."""
    processes = start(tmp_path)
    time.sleep(2)
    processes[lost].kill()
    status, error = end(processes[1 - lost], 60)
    assert status == 1 and error.count("\n") == 1, error
    assert error.startswith(f"Error: host {lost} ({socket.gethostname()}) is lost: it "), error
    assert error.endswith("; give the same command again on all hosts to go on\n")


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_to_one_host_stops_both(tmp_path, asked):
    processes = start(tmp_path)
    os.kill(processes[asked].pid, signal.SIGTERM)
    for process in processes:
        _, error = end(process, 60)
        assert error.rstrip().endswith("Interrupted: 1 of 2 done; give the same command again to go on"), (
            error
        )


def test_counts_of_several_hosts_are_added_up_beyond_32_bits(monkeypatch):
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 3)
    others = np.array([[2**40 + 5, 7], [2**31 - 1, 2**31]])

    def gather(halves):
        split = [np.stack([row >> 31, row & 0x7FFFFFFF]).astype(np.int32) for row in others]
        return np.stack([halves, *split])

    monkeypatch.setattr(hosts.multihost_utils, "process_allgather", gather)
    np.testing.assert_array_equal(
        hosts.sum_over_hosts(np.array([2**33, 0])), [2**33 + 2**40 + 5 + 2**31 - 1, 2**31 + 7]
    )
