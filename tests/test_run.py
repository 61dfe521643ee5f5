"""run.py: what it decides before it installs or runs anything. Nothing is installed by these tests."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "run.py"


@pytest.fixture
def run_py(tmp_path, monkeypatch):
    """run.py as a module of a project that lies in an empty folder."""
    spec = importlib.util.spec_from_file_location("run_py", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in [name for name in os.environ if name.startswith("COLAB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "CONSTRAINTS", tmp_path / "constraints.txt")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "setup.py").write_text("")
    (tmp_path / "constraints.txt").write_text("numpy==2.4.6\n")
    return module


@pytest.fixture
def installed(run_py, monkeypatch):
    """The calls of `install`; making a virtual environment only makes its Python."""
    calls = []

    def make_venv(base, python, keep):
        if not keep:
            Path(python).parent.mkdir(parents=True, exist_ok=True)
            Path(python).symlink_to(base)

    monkeypatch.setattr(run_py, "make_venv", make_venv)
    monkeypatch.setattr(
        run_py, "install", lambda python, extras, constrained: calls.append((extras, constrained))
    )
    return calls


def test_second_set_up_installs_nothing(run_py, installed):
    assert run_py.set_up({"test"}) == run_py.set_up({"test"}) == run_py.set_up(set())
    assert installed == [({"test"}, True)]


def test_another_extra_is_added_to_those_that_are_there(run_py, installed):
    run_py.set_up(set())
    run_py.set_up({"test"})
    run_py.set_up({"cuda"})
    assert [extras for extras, _ in installed] == [set(), {"test"}, {"cuda", "test"}]


@pytest.mark.parametrize("name", ["pyproject.toml", "setup.py", "constraints.txt"])
def test_changed_requirements_are_installed(run_py, installed, monkeypatch, name):
    kept = []
    run_py.set_up({"test"})
    (run_py.ROOT / name).write_text("changed")
    monkeypatch.setattr(run_py, "make_venv", lambda base, python, keep: kept.append(keep))
    run_py.set_up(set())
    assert kept == [False]
    assert installed == [({"test"}, True), (set(), True)]


def test_interrupted_installation_is_done_again(run_py, installed, monkeypatch):
    run_py.set_up(set())
    install = run_py.install

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_py, "install", interrupted)
    assert run_py.main(["setup"]) == 130
    monkeypatch.setattr(run_py, "install", install)
    monkeypatch.setattr(run_py, "make_venv", lambda base, python, keep: None)
    run_py.set_up(set())
    assert installed == [(set(), True), (set(), True)]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"extras": []}', '{"fingerprint": "x", "extras": []}', '{"fingerprint": 1}']
)
def test_unreadable_record_means_nothing_is_installed(run_py, tmp_path, text):
    stamp = tmp_path / "setup.json"
    stamp.write_text(text)
    assert run_py.read_stamp(stamp, "wanted") is None


def test_record_is_read_back(run_py, tmp_path):
    stamp = tmp_path / "new" / "setup.json"
    run_py.write_stamp(stamp, "wanted", {"test", "cuda"})
    assert run_py.read_stamp(stamp, "wanted") == {"test", "cuda"}
    assert json.loads(stamp.read_text())["extras"] == ["cuda", "test"]
    assert list(stamp.parent.iterdir()) == [stamp]


def test_colab_keeps_the_runtimes_own_packages(run_py, installed, monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert run_py.set_up(set()) == sys.executable
    assert installed == [(set(), False)]
    assert not run_py.VENV.exists()


def test_pip_installs_where_uv_cannot(run_py, monkeypatch):
    commands = []

    def succeeds(command):
        commands.append(command)
        return "uv" not in command

    monkeypatch.setattr(run_py, "succeeds", succeeds)
    run_py.install("python", {"test", "cuda"}, constrained=True)
    assert commands[-1][:4] == ["python", "-m", "pip", "install"]
    assert commands[-1][-2:] == ["--editable", f"{run_py.ROOT}[cuda,test]"]
    assert str(run_py.CONSTRAINTS) in commands[-1]


def test_failed_installation_is_one_line(run_py, installed, monkeypatch, capsys):
    def fail(*_, **__):
        raise run_py.SetupError("no space")

    monkeypatch.setattr(run_py, "install", fail)
    assert run_py.main(["setup"]) == 1
    assert capsys.readouterr().err == "Error: no space\n"
    assert not (run_py.VENV / "setup.json").exists()


def test_missing_venv_module_names_the_package(run_py, tmp_path):
    broken = tmp_path / "python"
    broken.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *) echo 3.11.2;; esac\n')
    broken.chmod(0o755)
    with pytest.raises(run_py.SetupError, match=r"sudo apt install python3\.11-venv"):
        run_py.make_venv(str(broken), "python", keep=False)


def test_old_python_looks_for_a_newer_one(run_py, monkeypatch):
    monkeypatch.setattr(run_py, "OLDEST_PYTHON", (99, 0))
    monkeypatch.setattr(run_py.shutil, "which", lambda name: sys.executable if name == "python3.11" else None)
    assert run_py.find_python() == sys.executable
    monkeypatch.setattr(run_py.shutil, "which", lambda name: None)
    with pytest.raises(run_py.SetupError, match=r"needs Python 3\.11 or newer"):
        run_py.find_python()


@pytest.mark.parametrize(
    ("rest", "folder"),
    [
        ([], "runs/demo"),
        (["--workdir=a b"], "a b"),
        (["--workdir", "x", "--stages=train"], "x"),
        (["--workdir=x", "-workdir=y"], "y"),
        (["--config.workdir=z"], "runs/demo"),
    ],
)
def test_workdir_is_the_last_one_given(run_py, rest, folder):
    assert run_py.workdir([*run_py.DEMO, *rest]) == folder


def test_demo_prints_a_link_to_the_report(run_py, monkeypatch, capsys):
    report = run_py.ROOT / "my runs" / "report" / "index.html"
    report.parent.mkdir(parents=True)
    report.write_text("")
    commands = []
    monkeypatch.setattr(run_py, "run", lambda command: commands.append(command) or 0)
    assert run_py.demo("python", ["--workdir=my runs"]) == 0
    assert capsys.readouterr().out.strip() == f"Report: {report.as_uri()}"
    assert commands == [["python", *run_py.DEMO, "--workdir=my runs"]]


def test_failed_demo_prints_no_link(run_py, monkeypatch, capsys):
    monkeypatch.setattr(run_py, "run", lambda command: 3)
    assert run_py.demo("python", []) == 3
    assert capsys.readouterr().out == ""


def test_test_hands_arguments_on(run_py, monkeypatch):
    commands = []
    monkeypatch.setattr(run_py, "set_up", lambda extras: commands.append(extras) or "python")
    monkeypatch.setattr(run_py, "run", lambda command: commands.append(command) or 5)
    assert run_py.main(["test", "-k", "shapes", "tests/data", "--accelerator=cuda"]) == 5
    assert commands == [{"test", "cuda"}, ["python", *run_py.TEST, "-k", "shapes", "tests/data"]]


def test_setup_takes_no_further_arguments(run_py):
    with pytest.raises(SystemExit) as stop:
        run_py.main(["setup", "--stages=train"])
    assert stop.value.code == 2


CODE = f"""
import runpy, sys
script = runpy.run_path({str(SCRIPT)!r})
sys.exit(script["run"]([sys.executable, "-c", sys.argv[1]]))
"""


@pytest.mark.parametrize(("child", "status"), [("pass", 0), ("raise SystemExit(7)", 7)])
def test_exit_status_is_the_childs(child, status):
    assert subprocess.run([sys.executable, "-c", CODE, child], check=False).returncode == status


def test_a_child_ended_by_a_signal_gives_128_and_more():
    child = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", CODE, child], check=False).returncode == 137


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_child_that_is_asked_to_stop_may_finish(number, tmp_path):
    """Ctrl-C reaches the whole process group, SIGTERM only run.py, which hands it on."""
    ready = tmp_path / "ready"
    child = (
        "import pathlib, signal, sys, time\n"
        "def stop(*_):\n    time.sleep(0.3); print('saved', flush=True); sys.exit(4)\n"
        "signal.signal(signal.SIGINT, stop); signal.signal(signal.SIGTERM, stop)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(30)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, child], stdout=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 20
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output.strip()) == (4, b"saved")
