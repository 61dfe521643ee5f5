"""What a run's folder tells of how it was made."""

import json
import re
import shutil
import subprocess
from datetime import datetime, timedelta

import pytest

from tests.helpers.runs import open_run, tiny
from wsss_jax.errors import Interrupted, RunError
from wsss_jax.files import write_json
from wsss_jax.runs import manifest
from wsss_jax.runs.opening import recorded
from wsss_jax.training.metrics import MetricWriter

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


def log(run):
    """Lines of the log without their times, which are checked."""
    lines = (run.layout.logs / "log.txt").read_text().splitlines()
    assert all(re.match(f"{TIME} ", line) for line in lines)
    assert abs(datetime.now() - datetime.fromisoformat(lines[-1][:19])) < timedelta(minutes=1)
    return [line[20:] for line in lines]


def starts(run):
    return json.loads(run.layout.manifest.read_text())["starts"]


@pytest.fixture
def words(monkeypatch):
    given = ["/usr/bin/python3", "-m", "wsss_jax.main", "--config=a b.py"]
    monkeypatch.setattr("sys.orig_argv", given)
    return "python3 -m wsss_jax.main '--config=a b.py'"


def test_every_start_is_kept_with_its_command_and_its_end(tmp_path, words, capsys):
    ends = {
        "done": None,
        "stopped: saved at step 3; give the same command again": Interrupted(
            "saved at step 3; give the same command again"
        ),
        "failed: x.npz: damaged": RunError("x.npz: damaged"),
        "failed: KeyError: 'a b'": KeyError("a b"),
        "failed: KeyboardInterrupt:": KeyboardInterrupt(),
    }
    for error in ends.values():
        run = open_run(tiny("cam_shapes"), tmp_path / "run")
        assert starts(run)[-1]["end"] is None
        try:
            with recorded(run):
                run.say("== train")
                if error is not None:
                    raise error
        except BaseException as raised:
            assert raised is error
    found = starts(run)
    assert [start["end"] for start in found] == list(ends)
    assert {start["command"] for start in found} == {words}
    assert all(0 <= start["seconds"] < 60 for start in found)
    assert log(run) == [line for end in ends for line in (f"command: {words}", "== train", end)]
    assert capsys.readouterr().out == "== train\n" * len(ends)


def test_time_is_that_since_the_start_and_adds_up(tmp_path):
    path = tmp_path / "manifest.json"
    date = datetime.now().astimezone() - timedelta(minutes=5)
    start = {"command": "a", "commit": None, "date": date.isoformat(), "seconds": 0.0, "end": None}
    write_json(path, {"starts": [{**start, "seconds": 40.0}, start]})
    manifest.keep_time(path)
    assert manifest.seconds(manifest.read(path)) == pytest.approx(340, abs=5)
    assert [s["end"] for s in manifest.read(path)["starts"]] == [None, None]


@pytest.mark.parametrize("content", ['{"starts": [', "[1]", "{}"])
def test_a_damaged_manifest_is_begun_anew(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_text(content)
    manifest.keep_time(path)
    manifest.begin(path)
    assert len(manifest.read(path)["starts"]) == 1 and manifest.read(path)["packages"]["jax"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["/v/bin/python", "-m", "wsss_jax.main", "--workdir=a"], "python -m wsss_jax.main --workdir=a"),
        (["/v/bin/python", "/v/bin/wsss-jax", "train", "$x"], "wsss-jax train '$x'"),
        (["/v/bin/python"], "python"),
    ],
)
def test_commands_are_such_as_a_shell_takes(words, line):
    assert manifest.command(words) == line


def test_the_commit_is_the_clone_s(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=e")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert manifest.commit(tmp_path) is None  # also where the package is installed without a clone
    git("init")
    assert manifest.commit(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    assert manifest.commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "untracked").write_text("2")
    assert manifest.commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert manifest.commit(tmp_path) == git("rev-parse", "HEAD") + "+"


def test_a_run_whose_folder_is_removed_ends_with_one_line(tmp_path):
    """Neither its log nor its numbers go on in a new folder that knows nothing of the run."""
    run = open_run(tiny("cam_shapes"), tmp_path / "run")
    run.say("one")
    writer = MetricWriter(run.layout.logs, 0)
    shutil.rmtree(run.layout.workdir)
    for act in (lambda: run.say("two"), lambda: writer.write(1, {"loss": 1.0})):
        with pytest.raises(
            RunError, match=r"/logs/\w+\.\w+: its folder was removed meanwhile; give the same"
        ):
            act()
    assert not run.layout.workdir.exists()
