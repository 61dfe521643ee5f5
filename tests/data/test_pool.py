import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers import jobs
from tests.helpers.scripts import command
from wsss_jax.data import worker as worker_module
from wsss_jax.data.pool import Pool, map_ordered
from wsss_jax.errors import DataError


def running(pid):
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_order(workers):
    assert list(map_ordered(jobs.square, range(20), workers=workers, threads=3)) == [i * i for i in range(20)]
    assert list(map_ordered(jobs.slow_when_even, range(8), workers=workers, threads=3)) == list(range(8))
    assert list(map_ordered(jobs.square, [], workers=workers)) == []


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 1), (0, 5), (2, 3)])
def test_an_endless_stream_is_read_only_as_far_as_prefetch(workers, prefetch):
    taken = itertools.count()
    results = map_ordered(
        jobs.square, (next(taken) for _ in itertools.count()), workers=workers, threads=2, prefetch=prefetch
    )
    assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
    assert next(taken) == 4 + prefetch
    results.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_the_function_come_out_unchanged_and_in_order(workers):
    results = map_ordered(jobs.fail_at_three, range(9), workers=workers, threads=1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="three") as caught:
        next(results)
    if workers:
        assert "fail_at_three" in "".join(caught.value.__notes__)  # where in the worker it happened


def test_odd_errors_are_not_taken_for_the_workers_end():
    with pytest.raises(EOFError, match="own"):
        list(map_ordered(jobs.end_of_file, [1], workers=1))
    with pytest.raises(RuntimeError, match="OddError: one"):
        list(map_ordered(jobs.raise_odd, [1], workers=1))
    with Pool(jobs.fail_at_three, workers=1) as pool:  # and the worker goes on after an error
        assert isinstance(pool.submit(3).exception(), ZeroDivisionError)
        assert pool.submit(4).result() == 4


@pytest.mark.parametrize(
    ("function", "how"), [(jobs.die_at_three, "was killed by SIGKILL"), (jobs.leave_at_three, "status 7")]
)
def test_a_worker_that_dies_names_the_item(function, how):
    results = map_ordered(function, range(9), workers=1, describe=lambda i: f"image 'number {i}'")
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError, match=how) as caught:
        next(results)
    assert str(caught.value).startswith("image 'number 3': ")
    assert "\n" not in str(caught.value) and "fewer workers" in str(caught.value)


def test_a_dead_worker_is_replaced():
    with Pool(jobs.die_at_three, workers=1) as pool:
        with pytest.raises(DataError):
            pool.submit(3).result()
        assert pool.submit(4).result() == 4


def test_prints_do_not_disturb_the_results():
    assert list(map_ordered(jobs.chatty, range(5), workers=1)) == list(range(5))


def test_workers_ignore_interrupt_and_termination():
    with Pool(jobs.process_id, workers=1) as pool:
        worker = pool.submit(0).result()
        assert worker != os.getpid()
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
        assert pool.submit(1).result() == worker


def test_a_stopped_worker_is_told_and_can_go_on(monkeypatch, capfd):
    monkeypatch.setattr(worker_module, "_SILENT_SECONDS", 0.2)
    with Pool(jobs.process_id, workers=1, describe=lambda i: f"image 'number {i}'") as pool:
        worker = pool.submit(0).result()
        os.kill(worker, signal.SIGSTOP)
        waiting, said = pool.submit(1), []
        wait_until(lambda: said.append(capfd.readouterr().err) or any("number 1" in text for text in said))
        (line,) = [line for line in "".join(said).splitlines() if "number 1" in line]
        assert line.startswith(
            f"image 'number 1': the loader worker that is working on it, process {worker}, has"
        )
        os.kill(worker, signal.SIGCONT)
        assert waiting.result(20) == worker


def test_close_ends_workers_also_busy_ones(tmp_path):
    pool = Pool(jobs.write_pid_and_sleep, workers=1)
    busy = pool.submit(str(tmp_path / "pid"))
    waiting = pool.submit(str(tmp_path / "other"))
    wait_until((tmp_path / "pid").exists)
    pool.close()
    pool.close()
    assert not running(int((tmp_path / "pid").read_text()))
    assert waiting.cancelled() and busy.exception() is not None
    with pytest.raises(RuntimeError):
        pool.submit("x")


def test_dropping_the_results_ends_the_workers():
    results = map_ordered(jobs.process_id, range(99), workers=2)
    worker = next(results)
    assert running(worker)
    results.close()
    assert not running(worker)


@pytest.mark.parametrize("busy", [False, True])
def test_no_worker_outlives_a_killed_parent(tmp_path, busy):
    code = (
        "import sys, time\n"
        "from tests.helpers import jobs\n"
        "from wsss_jax.data.pool import Pool\n"
        "pool = Pool(jobs.process_id, workers=2)\n"
        "pids = {f.result() for f in [pool.submit(i) for i in range(20)]}\n"
        "other = Pool(jobs.write_pid_and_sleep, workers=1)\n"
        f"if {busy}: other.submit(sys.argv[1])\n"
        "print(*pids, flush=True)\n"
        "time.sleep(120)\n"
    )
    path = tmp_path / "pid"
    parent = subprocess.Popen([*command(code), str(path)], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    if busy:
        wait_until(path.exists)
        workers.append(int(path.read_text()))
    assert workers and all(running(pid) for pid in workers)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not any(running(pid) for pid in workers))


def test_a_function_of_the_main_script_is_refused_with_the_remedy():
    code = (
        "from wsss_jax.data.pool import Pool\n"
        "def mine(item): return item\n"
        "with Pool(mine, workers=1) as pool:\n"
        "    for future in [pool.submit(i) for i in range(2)]: print(repr(future.exception()))\n"
    )
    out = subprocess.run(command(code), capture_output=True, text=True, check=True)
    lines = out.stdout.splitlines()
    assert [line.startswith("RuntimeError") and "must be importable" in line for line in lines] == [True] * 2


def test_bad_numbers():
    with pytest.raises(ValueError, match="workers must be 0 or more"):
        Pool(jobs.square, workers=-1)
    with pytest.raises(ValueError, match="threads 1 or more"):
        Pool(jobs.square, threads=0)
