"""Two processes, as on two hosts, train and infer what one does."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.helpers.networks import relative
from tests.helpers.runs import ROOT, as_flags, load, tiny
from wsss_jax.training.checkpoints import restore, steps
from wsss_jax.training.metrics import read_lines

CONFIG = tiny("cam_shapes", total_epochs=1, eval__every_epochs=1, cam__batch_size=2)
# Many short steps and batches, so that a signal meets one in the middle.
LONG = tiny(
    "cam_shapes",
    total_epochs=20,
    log__every_steps=1,
    checkpoint__every_steps=2,
    dataset__shapes__num_val=80,
    cam__batch_size=1,
    cam__max_buckets=1,
)


def start(folder, hosts, number, port, config):
    """One process of a run on `hosts` of them, each with two faked devices."""
    main = [sys.executable, "-m", "wsss_jax.main", "--config=configs/cam_shapes.py", f"--workdir={folder}"]
    command = [*main, *as_flags(config, load("cam_shapes")), f"--config.distributed={hosts > 1}"]
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(hosts),
        "JAX_PROCESS_ID": str(number),
    }
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def start_all(folder, hosts=2, config=LONG):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(folder, hosts, i, port, config) for i in range(hosts)]


def ends(processes, seconds=600):
    """Status and output of each; none may take longer than so many seconds."""
    try:
        outputs = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def run(folder, hosts, config=CONFIG):
    status, outputs = ends(start_all(folder, hosts, config))
    assert status == [0] * hosts, "\n".join(outputs)
    return outputs


def wait_for(processes, condition, seconds=600):
    """Waits until the run has come so far."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end or any(process.poll() is not None for process in processes):
            pytest.fail(f"the run ended or hung before it was to be stopped: {ends(processes, 1)}")
        time.sleep(0.005)


def said(output, start):
    """The one line of an output that starts so, which has no traceback and no dump."""
    assert "Traceback" not in output and "***" not in output, output
    (line,) = (line for line in output.splitlines() if line.startswith(start))
    return line


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(tmp_path):
    run(tmp_path / "one", 1)
    outputs = run(tmp_path / "two", 2)
    assert "eval_cam val: mIoU" in outputs[0] and "mIoU" not in outputs[1]  # only the first speaks
    last = steps(tmp_path / "one/checkpoints/classifier")[-1]
    kernels = [
        restore(tmp_path / name / "checkpoints/classifier" / str(last)).variables["params"]["fc8"]["kernel"]
        for name in ("one", "two")
    ]
    assert relative(kernels[1], kernels[0]) < 1e-5
    for path in (tmp_path / "one/cam/val").glob("*.npz"):
        with np.load(path) as one, np.load(tmp_path / "two/cam/val" / path.name) as two:
            np.testing.assert_allclose(two["cam"], one["cam"], atol=1e-4)


@pytest.mark.slow
def test_a_signal_to_one_host_stops_all_at_the_same_place(tmp_path):
    processes = start_all(tmp_path)
    wait_for(processes, lambda: len(read_lines(tmp_path / "logs/train.jsonl")) >= 4)
    processes[1].send_signal(signal.SIGTERM)
    status, outputs = ends(processes, 120)
    assert status == [128 + signal.SIGTERM] * 2, outputs
    saved = steps(tmp_path / "checkpoints/classifier")[-1]
    for output in outputs:
        assert said(output, "Stopped: ").startswith(f"Stopped: training is saved at step {saved} of 60; ")

    processes = start_all(tmp_path)
    wait_for(processes, lambda: len(list((tmp_path / "cam/val").glob("*.npz"))) >= 2)
    processes[0].send_signal(signal.SIGTERM)
    status, outputs = ends(processes, 120)
    assert status == [128 + signal.SIGTERM] * 2, outputs
    assert all("infer_cam" in said(output, "Stopped: ") for output in outputs)
    run(tmp_path, 2, LONG)
    assert len(list((tmp_path / "cam/val").glob("*.npz"))) == 80


@pytest.mark.slow
def test_a_host_that_is_killed_in_training_ends_the_others_with_a_line(tmp_path):
    for lost in (1, 0):
        before = steps(tmp_path / "checkpoints/classifier")
        processes = start_all(tmp_path)
        wait_for(processes, lambda: steps(tmp_path / "checkpoints/classifier") > before)  # noqa: B023
        processes[lost].kill()
        status, outputs = ends([processes[1 - lost]], 120)
        assert status == [1], outputs
        line = said(outputs[0], "Error: ")
        assert line.startswith(f"Error: host {lost} (") and " is lost: " in line and "room" not in line
        assert line.endswith("give the same command again on all hosts to go on")
    assert "from step 0" not in run(tmp_path, 2, LONG)[0]
