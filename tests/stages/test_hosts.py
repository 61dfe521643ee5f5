"""Two processes, as on two hosts, train and infer what one does."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.helpers.networks import relative
from tests.helpers.runs import ROOT, as_flags, load, tiny
from wsss_jax.training.checkpoints import restore, steps

CONFIG = tiny("cam_shapes", total_epochs=1, eval__every_epochs=1, cam__batch_size=2)


def start(folder, hosts, number, port):
    """One process of a run on `hosts` of them, each with two faked devices."""
    main = [sys.executable, "-m", "wsss_jax.main", "--config=configs/cam_shapes.py", f"--workdir={folder}"]
    command = [*main, *as_flags(CONFIG, load("cam_shapes")), f"--config.distributed={hosts > 1}"]
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


def run(folder, hosts):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(folder, hosts, i, port) for i in range(hosts)]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * hosts, "\n".join(outputs)
    return outputs


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
