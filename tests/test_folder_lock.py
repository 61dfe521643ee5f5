"""One program at a time in a run's folder."""

import os
import signal
import subprocess

import pytest

from tests.helpers.scripts import command
from wsss_jax.errors import RunError
from wsss_jax.folder_lock import locked


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder until it is killed."""
    code = f"""
import time
from wsss_jax.folder_lock import locked
with locked({str(tmp_path / "run")!r}):
    print("locked", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen(command(code), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_program_is_told_of_the_first_and_kill_9_gives_the_lock_back(tmp_path, holder):
    held = rf"run is in use by process {holder.pid} on \S+ since .*--workdir"
    with pytest.raises(RunError, match=held) as error, locked(tmp_path / "run"):
        pytest.fail("two programs hold the lock")
    assert "\n" not in str(error.value)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run/.lock").exists()  # what it left behind is ignored
    with locked(tmp_path / "run"):
        assert f"process {os.getpid()} " in (tmp_path / "run/.lock").read_text()


def test_nothing_is_left_where_nothing_was_written(tmp_path):
    with locked(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    with locked(tmp_path / "new"):
        (tmp_path / "new/file").write_text("")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file"]


def test_the_lock_ends_with_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_left_to_those_who_write(tmp_path):
    (tmp_path / "file").write_text("")
    with locked(tmp_path / "file"), locked(tmp_path / "file" / "run"):
        pass
