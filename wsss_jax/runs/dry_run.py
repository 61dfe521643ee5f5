"""What a run would do, without doing any of it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from wsss_jax.config import flatten
from wsss_jax.runs.checks import check_start, split_of
from wsss_jax.runs.context import EVAL_SPLIT, INFER_SPLIT, SEG_SPLIT, TRAIN_SPLIT, Run
from wsss_jax.runs.devices import configure_jax
from wsss_jax.runs.opening import look_into
from wsss_jax.runs.parts import Part, checked_stages
from wsss_jax.runs.registry import Registry
from wsss_jax.runs.space import check_space, describe, free, needed, size
from wsss_jax.training.parameters import parameters

_USES = {"train on": TRAIN_SPLIT, "maps of": INFER_SPLIT, "score": EVAL_SPLIT, "segment": SEG_SPLIT}


def dry_run(
    config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None, registry: Registry
) -> None:
    """Makes all checks of a run and prints what it would do; writes nothing.

    Raises:
      UserError: what the run itself would refuse at its start.
    """
    configure_jax(config)
    run = look_into(config, workdir, registry)
    wanted = checked_stages(run, stages)
    _print("configuration", (f"{key} = {json.dumps(value)}" for key, value in flatten(run.config)))
    checked = check_start(run, wanted)
    _print("data, checked", _data(run, checked))
    _print("devices", (f"{d.id} {d.platform} {d.device_kind}" for d in jax.devices()))
    _print("parameters: shape, group", parameters(run.method))
    room = needed(checked)
    _print("folder", (str(run.layout.workdir), f"will take {describe(room)}; {size(free(run))} are free"))
    check_space(run, room)
    _print("stages", (" ".join(stage.name for stage in wanted),))


def _data(run: Run, checked: Sequence[Part]) -> Iterator[str]:
    yield f"{run.source.name}: {len(run.source.classes)} classes: {', '.join(run.source.classes)}"
    for use, key in _USES.items():
        counts = {split: len(c.run.ids(split)) for c in checked if (split := split_of(c, key))}
        yield from (f"{use} {split}: {count} images" for split, count in counts.items())


def _print(title: str, lines: Iterator[str] | Sequence[str]) -> None:
    print(f"== {title}", *lines, sep="\n  ")
