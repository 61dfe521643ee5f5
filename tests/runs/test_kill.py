"""kill -9 and SIGTERM at moments of training and inference; the same command then gives the same result."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.helpers.networks import relative
from tests.helpers.runs import ROOT, as_flags, load, tiny
from wsss_jax.training.checkpoints import best_step, restore, steps
from wsss_jax.training.metrics import read_lines

# Many short steps and batches, so that a signal meets one in the middle.
CONFIG = tiny(
    "cam_shapes",
    total_epochs=12,
    log__every_steps=1,
    checkpoint__every_steps=2,
    cam__batch_size=1,
    cam__max_buckets=1,
)
# Every stage of the longest chain, with evaluations while training.
CHAIN = tiny(
    "cam_shapes",
    refinement="random_walk",
    eval__every_epochs=1,
    checkpoint__every_steps=2,
    log__every_steps=1,
    cam__batch_size=1,
)


def command(folder, config=CONFIG):
    flags = as_flags(config, load("cam_shapes"))
    return [
        sys.executable,
        "-m",
        "wsss_jax.main",
        "--config=configs/cam_shapes.py",
        f"--workdir={folder}",
        *flags,
    ]


def start(folder, config=CONFIG):
    return subprocess.Popen(
        command(folder, config),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(os.environ),
    )


def wait_for(process, condition, seconds=120):
    """Waits until the run has come so far."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"the run ended or hung before it was to be stopped: {process.communicate()[0]}")
        time.sleep(0.005)


def logged(folder):
    return len(read_lines(folder / "logs/train.jsonl"))


def finish(folder, config=CONFIG):
    line = command(folder, config)
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder)
    return folder


def assert_same_result(folder, undisturbed):
    last = steps(undisturbed / "checkpoints/classifier")[-1]
    ours, wanted = (
        restore(f / "checkpoints/classifier" / str(last)).variables for f in (folder, undisturbed)
    )
    for a, b in zip(leaves(ours), leaves(wanted), strict=True):
        assert relative(a, b) < 1e-5 if np.abs(b).max() else not np.abs(a).max()
    names = {p.relative_to(undisturbed) for p in undisturbed.rglob("*") if p.is_file()}
    found = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    stable = {p for p in names if p.parts[0] in ("cam", "crf", "pseudo", "metrics", "report")}
    assert stable <= found and not [p for p in found if p.name.endswith(".tmp")]
    for path in stable:
        if path.suffix == ".npz":
            with np.load(folder / path) as a, np.load(undisturbed / path) as b:
                assert all(np.allclose(a[key], b[key], rtol=1e-4, atol=1e-5) for key in a.files)


def leaves(tree):
    return [
        x for key in sorted(tree) for x in (leaves(tree[key]) if isinstance(tree[key], dict) else [tree[key]])
    ]


def test_killed_in_training_and_in_inference(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for(process, lambda: logged(tmp_path) >= 9)
    process.kill()
    process.communicate()
    assert logged(tmp_path) < 36
    process = start(tmp_path)
    cams = tmp_path / "cam/val"
    wait_for(process, lambda: len(list(cams.glob("*.npz"))) >= 2)
    process.kill()
    process.communicate()
    written = {p: p.read_bytes() for p in cams.glob("*.npz")}
    assert 2 <= len(written) < 10
    for path in written:
        with np.load(path) as file:  # whole files only
            assert file["cam"].ndim == 3
    finish(tmp_path)
    assert {p: p.read_bytes() for p in written} == written
    assert_same_result(tmp_path, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_ends_with_its_status(tmp_path, undisturbed, number):
    process = start(tmp_path)
    wait_for(process, lambda: logged(tmp_path) >= 5)
    process.send_signal(number)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + number, output
    stopped = [line for line in output.splitlines() if line.startswith("Stopped: ")]
    assert len(stopped) == 1 and "give the same command again" in stopped[0] and "Traceback" not in output
    saved = steps(tmp_path / "checkpoints/classifier")[-1]
    assert f"saved at step {saved} of 36" in stopped[0]
    assert f"from step {saved}" in finish(tmp_path)
    assert_same_result(tmp_path, undisturbed)


def test_cam_files_of_two_undisturbed_runs_are_bitwise_equal(tmp_path, undisturbed):
    """What resuming must reproduce is reproducible at all."""
    shutil.copytree(undisturbed, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/cam")
    finish(tmp_path / "run")
    for path in (undisturbed / "cam/val").glob("*.npz"):
        assert (tmp_path / "run/cam/val" / path.name).read_bytes() == path.read_bytes()


def events(folder):
    """Files and lines of the logs: what grows while a run goes on."""
    lines = sum(len(p.read_text().splitlines()) for p in folder.glob("logs/**/*.*"))
    return lines + sum(len(files) for _, _, files in os.walk(folder))


@pytest.mark.slow
def test_killed_at_random_in_all_stages(tmp_path):
    """Three kills per seed; more seeds by WSSS_JAX_KILL_SEEDS=0,1,2."""
    finish(tmp_path / "undisturbed", CHAIN)
    total = events(tmp_path / "undisturbed")
    for seed in map(int, os.environ.get("WSSS_JAX_KILL_SEEDS", "0").split(",")):
        folder = tmp_path / str(seed)
        for count in sorted(np.random.default_rng(seed).integers(1, total, 3)):
            process = start(folder, CHAIN)
            while process.poll() is None and events(folder) < count:
                time.sleep(0.005)
            process.kill()
            process.communicate()
        finish(folder, CHAIN)
        assert_same_result(folder, tmp_path / "undisturbed")
        for network in ("classifier", "affinity"):
            ours, wanted = (f / "checkpoints" / network for f in (folder, tmp_path / "undisturbed"))
            assert (steps(ours), best_step(ours)) == (steps(wanted), best_step(wanted))
