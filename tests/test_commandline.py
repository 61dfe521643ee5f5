"""What a user sees who mistypes something: one line that says what would be right."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "--config=configs/cam_shapes.py"


def main(*arguments):
    command = [sys.executable, "-m", "wsss_jax.main", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([CONFIG, "--config.batch_sise=3"], ["--config.batch_sise", "did you mean --config.batch_size?"]),
        ([CONFIG, "--config.cam.scale=(1,)"], ["--config.cam.scale:", "did you mean --config.cam.scales?"]),
        # Sections are forgotten as often as keys are misspelt.
        ([CONFIG, "--config.learning_rate=1"], ["did you mean", "--config.optimizer.learning_rate"]),
        ([CONFIG, "--config.optimiser.learning_rate=1"], ["did you mean --config.optimizer.learning_rate?"]),
        ([CONFIG, "--config.zzz=1"], ["--config.zzz", "wsss_jax/config.py lists all keys"]),
        ([CONFIG, "--noconfig.cam.flop"], ["--config.cam.flop", "did you mean --config.cam.flip?"]),
        ([CONFIG, "--config.batch_size=many"], ["many", "wanted int, such as 16"]),
        ([CONFIG, "--config.batch_size=1.5"], ["1.5", "wanted int, such as 16"]),
        ([CONFIG, "--config.cam.flip=perhaps"], ["perhaps", "wanted bool, such as True"]),
        ([CONFIG, "--config.model.width=wide"], ["wide", "wanted float, such as 0.0625"]),
        (["--config=configs/cam_shape.py"], ["there is no such file; did you mean configs/cam_shapes.py?"]),
        (
            ["--config=nowhere/x.py"],
            ["there is no such file; give the path of a file such as configs/cse_voc.py"],
        ),
        (["--config.batch_size=3", CONFIG], ["--config=FILE must come before any --config.KEY=VALUE"]),
        (["--config.batch_size=3"], ["--config=FILE must come before any --config.KEY=VALUE"]),
        ([], ["--config"]),
        ([CONFIG, "--wordkir=x"], ["wordkir", "workdir"]),
        ([CONFIG, "--config.cam=3"], ["--config.cam"]),
        ([CONFIG, "--stages", "train", "infer_cam"], ["'infer_cam': not expected", "lists with commas"]),
        (["--config", "configs/cam_shape.py"], ["did you mean configs/cam_shapes.py?"]),
        (
            ["--config", "configs/cam_shapes.py", "--config.flop=1"],
            ["did you mean --config.augment.flip or --config.cam.flip?"],
        ),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, parts):
    done = main(*arguments)
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("Error: "), done.stderr
    for part in parts:
        assert part in done.stderr


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
    assert "--workdir" in done.stdout and "--stages" in done.stdout and "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback():
    code = (
        "from wsss_jax.commandline import one_line_errors\nwith one_line_errors():\n    raise KeyError('bug')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr
