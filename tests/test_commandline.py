"""What a user sees who mistypes something: one line that says what would be right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import wsss_jax
from tests.helpers.scripts import command
from wsss_jax.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "--config=configs/cam_shapes.py"


def main(*arguments):
    command = [sys.executable, "-m", "wsss_jax.main", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


MISTAKES = [
    ([CONFIG, "--config.batch_sise=3"], ["--config.batch_sise", "did you mean --config.batch_size?"]),
    ([CONFIG, "--config.cam.scale=(1,)"], ["--config.cam.scale:", "did you mean --config.cam.scales?"]),
    # Sections are forgotten as often as keys are misspelt.
    ([CONFIG, "--config.learning_rate=1"], ["did you mean", "--config.optimizer.learning_rate"]),
    ([CONFIG, "--config.optimiser.learning_rate=1"], ["did you mean --config.optimizer.learning_rate?"]),
    ([CONFIG, "--config.optimizer.lr=1"], ["did you mean --config.optimizer.learning_rate?"]),
    ([CONFIG, "--config.bs=1"], ["did you mean --config.batch_size or --config.affinity.batch_size or"]),
    ([CONFIG, "--config.zzz=1"], ["--config.zzz", "docs/configuration.md lists all keys"]),
    ([CONFIG, "--noconfig.cam.flop"], ["--config.cam.flop", "did you mean --config.cam.flip?"]),
    ([CONFIG, "--config.batch_size=many"], ["many", "wanted int, such as 16"]),
    ([CONFIG, "--config.batch_size=1.5"], ["1.5", "wanted int, such as 16"]),
    ([CONFIG, "--config.cam.flip=perhaps"], ["perhaps", "wanted bool, such as True"]),
    ([CONFIG, "--config.model.width=wide"], ["wide", "wanted float, such as 0.0625"]),
    (["--config=configs/cam_shape.py"], ["there is no such file; did you mean configs/cam_shapes.py?"]),
    (
        ["--config=nowhere/x.py"],
        ["there is no such file; give an experiment's name, such as cse_voc, or the path of a file"],
    ),
    (["--config.batch_size=3", CONFIG], ["--config=NAME must come before any --config.KEY=VALUE"]),
    (["--config.batch_size=3"], ["--config=NAME must come before any --config.KEY=VALUE"]),
    ([], ["--config=NAME or --config=FILE is missing; --list shows"]),
    ([CONFIG, "--wordkir=x"], ["wordkir", "workdir"]),
    ([CONFIG, "--config.cam=3"], ["--config.cam"]),
    ([CONFIG, "--stages", "train", "infer_cam"], ["'infer_cam': not expected", "lists with commas"]),
    (["--config", "configs/cam_shape.py"], ["did you mean configs/cam_shapes.py?"]),
    (["--config=cam_shape"], ["there is no such experiment; did you mean cam_shapes?"]),
    (["--config", "zzzz"], ["there is no such experiment; --list shows them"]),
    (["--config=elsewhere/cse_voc.py"], ["there is no such file; did you mean cse_voc?"]),
    (["--config=cam_shapes", "--config.batch_sise=3"], ["did you mean --config.batch_size?"]),
    (
        ["--config", "configs/cam_shapes.py", "--config.flop=1"],
        ["did you mean --config.augment.flip or --config.cam.flip or --config.segmentation.flip?"],
    ),
]

# One interpreter that imports the command and forks for each command line: importing takes a second.
FORKING = """
import json, os, sys, tempfile
import wsss_jax.main
from wsss_jax.commandline import run_command
for arguments in json.loads(sys.stdin.read()):
    outputs = [tempfile.TemporaryFile() for _ in range(2)]
    child = os.fork()
    if child == 0:
        for number, file in enumerate(outputs, 1):
            os.dup2(file.fileno(), number)
        sys.argv = ["wsss_jax.main", *arguments]
        run_command("wsss_jax.main:command")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, *(file.seek(0) or file.read().decode() for file in outputs)]), flush=True)
"""


@pytest.fixture(scope="module")
def told():
    """Status, output and error output of each mistaken command line."""
    lines = json.dumps([arguments for arguments, _ in MISTAKES])
    done = subprocess.run(command(FORKING), input=lines, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_mistakes_are_told_in_one_line(told, number):
    status, output, error = told[number]
    assert (status, output) == (1, ""), error
    assert error.count("\n") == 1 and error.startswith("Error: "), error
    for part in MISTAKES[number][1]:
        assert part in error


def test_unknown_stage_names_the_nearest(tmp_path):
    done = main(CONFIG, f"--workdir={tmp_path}", "--stages=train,infercam")
    assert done.returncode == 1
    assert (
        done.stderr == "Error: --stages=infercam: the method cam has no such stage; did you mean infer_cam?\n"
    )


def test_invalid_value_is_told_before_anything_is_written(tmp_path):
    done = main(CONFIG, f"--workdir={tmp_path / 'run'}", "--config.cam.class_filter=some")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: config.cam.class_filter='some': must be one of")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_help_lists_the_flags():
    done = main("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("--workdir", "--stages", "128 + n stopped by signal n", "python -m wsss_jax.main --config="):
        assert part in done.stdout


@pytest.mark.parametrize("flag", [["--config=cam_shapes"], ["--config", "cam_shapes"]])
def test_an_experiment_can_be_named(flag, tmp_path):
    """From any folder; the run's default folder has the experiment's name."""
    code = """
import sys
from absl import app
from wsss_jax import main
from wsss_jax.runs import runner
runner.run_stages = lambda config, workdir, *rest: print(config.method, config.total_epochs, workdir)
main.command()
"""
    done = subprocess.run(
        [*command(code), *flag, "--config.total_epochs=3"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr, done.returncode) == ("cam 3 runs/cam_shapes\n", "", 0)


def test_list_has_every_experiment_method_and_stage():
    done = main("--list")
    assert (done.returncode, done.stderr) == (0, "")
    words = set(done.stdout.replace(":", " ").split())
    assert {path.stem for path in (ROOT / "configs").glob("*.py")} <= words
    systems, chains = SYSTEMS.systems, SYSTEMS.refinements
    stages = [
        *(s for name in systems for s in SYSTEMS.system(name).stages),
        *SYSTEMS.refinement("random_walk"),
    ]
    assert words >= {*systems, *chains, *(stage.name for stage in stages)} - {"none"}


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "wsss_jax", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "arguments", [["--version"], *([name, "--version"] for name in ("run", "cam", "refine", "convert"))]
)
def test_version(arguments):
    done = run(*arguments)
    assert (done.stdout, done.stderr, done.returncode) == (f"wsss_jax {wsss_jax.__version__}\n", "", 0)


@pytest.mark.parametrize(
    ("name", "flag"),
    [("run", "--workdir"), ("cam", "--threshold"), ("refine", "--cams"), ("convert", "--to")],
)
def test_commands_have_one_name_in_common(name, flag):
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert flag in done.stdout and "Exit status" in done.stdout
    assert f"\n{name} " in run().stdout


def test_misspelt_command_names_the_nearest():
    done = run("refien")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: refien: there is no such command; did you mean refine?\n"


def test_a_bug_keeps_its_traceback():
    code = (
        "from wsss_jax.commandline import one_line_errors\nwith one_line_errors():\n    raise KeyError('bug')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr
