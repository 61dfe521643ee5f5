"""Stages, systems and runs within runs, of systems that are made up here and known to no other file."""

import json

import pytest

from tests.helpers.runs import tiny
from wsss_jax.errors import ConfigError, RunError
from wsss_jax.files import write_json
from wsss_jax.folder_lock import locked
from wsss_jax.runs import opening, runner
from wsss_jax.runs.checks import check_start, split_of
from wsss_jax.runs.context import EVAL_SPLIT, INFER_SPLIT, TRAIN_SPLIT, Stage, SubRun, System
from wsss_jax.runs.layout import Layout
from wsss_jax.runs.listing import listing
from wsss_jax.runs.parts import checked_stages
from wsss_jax.runs.registry import Registry
from wsss_jax.runs.scored import COMPARED, OTHER, OWN, Scored
from wsss_jax.runs.space import needed
from wsss_jax.stages.results import scored_stages


def work(run):
    """Leaves a trace in the run's folder, and fails where the configuration says so."""
    if run.config.seed == 13:
        raise RunError("thirteen; give another seed")
    path = run.layout.workdir / "work/done.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + run.config.method)
    run.say(f"worked in {run.layout.workdir.name}")


def inside(run, name, method, stages, **changes):
    """A run of another system in the folder `name`."""
    config = run.config.copy_and_resolve_references()
    config.method = method
    config.update(changes)
    layout = Layout(run.layout.workdir / name)
    return SubRun(run.within(layout, config), stages, section=name)


def judged(run, name, metrics):
    return Scored(run.system.title, OWN, metrics, None)


WORK = Stage(
    name="work",
    function=work,
    reads=lambda config: (TRAIN_SPLIT,),
    weights=lambda run: {"init_from": run.config.init_from},
    room=lambda run, facts: {"traces": 10},
)
JUDGE = Stage(
    name="judge", function=lambda run: None, reads=lambda config: (INFER_SPLIT, EVAL_SPLIT), scored=judged
)
LOOK = Stage(name="look", function=work, on_request=True)
END = Stage(name="end", function=lambda run: run.say("the end"), last=True)
SMALL = System(name="small", title="Small one", make=lambda *_: None, stages=(WORK, LOOK, JUDGE, END))
BELOW = Stage(
    name="below",
    function=lambda run: run.say("after what is within"),
    inner=lambda run: (
        inside(
            run,
            "deep",
            "small",
            ("work", "judge"),
            seed=run.config.seed + 1,
            init_from="none.pth" if run.config.seed == 7 else "scratch",
        ),
    ),
)
MIDDLE = System(name="middle", title="Middle one", make=lambda *_: None, stages=(BELOW, WORK, JUDGE, END))
TWICE = Stage(
    name="twice",
    function=lambda run: None,
    inner=lambda run: (
        inside(run, "first", "middle", ("below", "work")),
        SubRun(inside(run, "second", "small", ()).run, ("work",), title="the second"),
    ),
)
GREAT = System(name="great", title="Great one", make=lambda *_: None, stages=(TWICE, WORK, JUDGE, END))
POLISH = Stage(name="polish", function=work, refining=True)
SYSTEMS = Registry({"small": SMALL, "middle": MIDDLE, "great": GREAT}, {"none": (), "polished": (POLISH,)})


def config(method="great", **changes):
    return tiny("cam_shapes", method=method, **changes)


def run(folder, stages=None, **changes):
    runner.run_stages_of(config(**changes), folder, stages, SYSTEMS)


def traces(folder):
    """What was done, by the folder of the run."""
    return {
        str(path.parent.parent.relative_to(folder)): path.read_text() for path in folder.rglob("done.txt")
    }


def names(stages):
    return [stage.name for stage in stages]


def test_runs_within_runs_come_before_the_rest_of_their_stage(tmp_path, capsys):
    run(tmp_path)
    assert traces(tmp_path) == {
        "first/deep": "small",
        "first": "middle",
        "second": "small",
        ".": "great",
    }
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("==", "after"))]
    top = tmp_path.name
    assert said == [
        f"== twice ({top})",
        "== below (first)",
        "== work (deep)",
        "== judge (deep)",
        "after what is within",
        "== work (first)",
        "== work (second)",
        f"== work ({top})",
        f"== judge ({top})",
        f"== end ({top})",
    ]


def test_each_run_within_has_its_own_configuration_and_record(tmp_path):
    run(tmp_path, seed=4)
    for folder, method, seed in ((".", "great", 4), ("first", "middle", 4), ("first/deep", "small", 5)):
        saved = json.loads((tmp_path / folder / "config.json").read_text())
        assert (saved["method"], saved["seed"]) == (method, seed)
        (start,) = json.loads((tmp_path / folder / "manifest.json").read_text())["starts"]
        assert start["end"] == "done"
        log = (tmp_path / folder / "logs/log.txt").read_text()
        assert log.count(f"worked in {(tmp_path / folder).name}\n") == 1 and log.endswith("done\n")


def test_a_failure_within_ends_all_runs_around_it(tmp_path):
    with pytest.raises(RunError, match="thirteen"):
        run(tmp_path, seed=12)  # deep has 13
    assert traces(tmp_path) == {}
    for folder in (".", "first", "first/deep"):
        assert "failed: thirteen; give another seed" in (tmp_path / folder / "logs/log.txt").read_text()
    assert not (tmp_path / "second").exists()


def test_the_folder_of_a_run_within_is_bound_by_its_own_configuration(tmp_path):
    run(tmp_path, ["twice"])
    other = opening.look_into(config(seed=1), tmp_path, SYSTEMS)  # of itself it has made nothing
    for start in (
        lambda: run(tmp_path, seed=1),
        lambda: check_start(other, checked_stages(other, ["twice"])),
    ):
        with pytest.raises(ConfigError, match=r"/first was made with config.seed=0, and now it is 1;"):
            start()
    run(tmp_path, ["twice"])
    assert traces(tmp_path)["first"] == "middle" * 2


def test_another_program_in_the_folder_of_a_run_within_is_told(tmp_path):
    run(tmp_path, ["twice"])
    with locked(tmp_path / "second"), pytest.raises(RunError, match=r"/second is in use by process"):
        run(tmp_path, ["twice"])


def test_stages_have_one_order_and_some_are_asked_for():
    here = opening.look_into(config("small"), "nowhere", SYSTEMS)
    assert names(checked_stages(here, None)) == ["work", "judge", "end"]
    assert names(checked_stages(here, ("end", "look", "work"))) == ["work", "look", "end"]
    refined = opening.look_into(config("small", dataset__infer_split="val"), "nowhere", SYSTEMS)
    refined.config.refinement = "polished"
    assert names(checked_stages(refined, None)) == ["work", "judge", "polish", "end"]
    with pytest.raises(ConfigError, match=r"--stages=wrok: the method small has no such stage; did you mean"):
        checked_stages(here, ("wrok",))


def test_a_stage_of_a_refinement_wants_it_or_a_list_of_images(tmp_path):
    with pytest.raises(ConfigError, match=r"--stages=polish: give --config.refinement=polished too"):
        run(tmp_path, ["polish"], method="small", dataset__infer_split="auto")
    run(tmp_path, ["polish"], method="small", dataset__infer_split="val")
    assert traces(tmp_path) == {".": "small"}


def test_checks_reach_into_the_innermost_run(tmp_path):
    """What it reads, how much it writes, and which of its weights are not there, by the key to set."""
    here = opening.look_into(config(), tmp_path, SYSTEMS)
    checked = check_start(here, checked_stages(here, ("twice", "work")))
    assert [part.run.layout.workdir.name for part in checked] == [tmp_path.name, "first", "deep", "second"]
    assert [split_of(part, TRAIN_SPLIT) for part in checked] == ["train"] * 4
    assert [split_of(part, EVAL_SPLIT) for part in checked] == ["", "", "val", ""]
    assert [len(part.facts) for part in checked] == [0, 0, 10, 0]
    assert needed(checked) == {"traces": 40}
    here = opening.look_into(config(seed=7), tmp_path, SYSTEMS)
    with pytest.raises(ConfigError, match=r"config.first.deep.init_from='none.pth': there is no such file"):
        check_start(here, checked_stages(here, ("twice",))[:1])


def test_headers_are_read_once_for_all_runs_within(tmp_path, monkeypatch):
    here, read = opening.look_into(config(), tmp_path, SYSTEMS), []
    size = type(here.source).size
    monkeypatch.setattr(
        type(here.source), "size", lambda self, image_id: read.append(image_id) or size(self, image_id)
    )
    check_start(here, checked_stages(here, None))
    assert len(read) == len(set(read)) == 24 + 10


def test_results_of_runs_within_are_called_by_their_systems_or_by_their_titles(tmp_path):
    here = opening.look_into(config(), tmp_path, SYSTEMS)
    metrics = {"split": "val", "method": "x", "fixed": {}, "thresholds": []}
    for folder, name in (("first", "judge"), ("second", "judge"), (".", "judge"), (".", "other")):
        write_json(Layout(tmp_path / folder).metrics(name, "val"), metrics)
    found = [(entry.name, entry.kind) for entry in scored_stages(here)]
    assert found == [
        ("Middle one", COMPARED),
        ("the second", OTHER),
        ("Great one", OWN),
        ("other", OTHER),
    ]


def test_an_unknown_system_is_told_with_those_that_there_are(tmp_path):
    with pytest.raises(ConfigError, match=r"config.method='huge': must be one of small, middle, great"):
        opening.look_into(config("huge"), tmp_path, SYSTEMS)


def test_the_listing_is_that_of_the_registry():
    told = listing(SYSTEMS)
    assert "  great              Great one: twice work judge end\n" in told
    assert "(look: only where --stages names it)" in told and "  polished           polish" in told
