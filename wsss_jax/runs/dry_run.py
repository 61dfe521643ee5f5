"""What a run would do, without doing any of it."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from wsss_jax.config import flatten
from wsss_jax.systems.resnet38.groups import FROZEN
from wsss_jax.runs.checks import check_start, splits_of
from wsss_jax.runs.context import Run, look_into
from wsss_jax.runs.devices import configure_jax
from wsss_jax.runs.runner import checked_stages
from wsss_jax.runs.space import check_space, describe, free, needed, size
from wsss_jax.training.initial import variable_shapes


def dry_run(config: ConfigDict, workdir: str | Path, stages: Sequence[str] | None = None) -> None:
    """Makes all checks of a run and prints what it would do; writes nothing.

    Raises:
      UserError: what the run itself would refuse at its start.
    """
    configure_jax(config)
    run = look_into(config, workdir)
    wanted = checked_stages(run, stages)
    _print("configuration", (f"{key} = {json.dumps(value)}" for key, value in flatten(run.config)))
    facts = check_start(run, wanted)
    _print("data, checked", _data(run, wanted))
    _print("devices", (f"{d.id} {d.platform} {d.device_kind}" for d in jax.devices()))
    _print("parameters: shape, group", parameters(run))
    room = needed(run, wanted, facts)
    _print("folder", (str(run.layout.workdir), f"will take {describe(room)}; {size(free(run))} are free"))
    check_space(run, room)
    _print("stages", (" ".join(wanted),))


def parameters(run: Run) -> Iterator[str]:
    """A line for each variable of the method's networks, and one with their number for each network."""
    for name, network in run.method.networks.items():
        total = learning = 0
        for path, leaf in flatten_dict(variable_shapes(network)).items():
            group, count = run.method.group((name, *path)), math.prod(leaf.shape)
            total, learning = total + count, learning + (group != FROZEN) * count
            yield f"{name}/{'/'.join(path)}  {' x '.join(map(str, leaf.shape))}  {group}"
        yield f"{name}: {total:,} numbers, of which {learning:,} learn"


def _data(run: Run, stages: Sequence[str]) -> Iterator[str]:
    yield f"{run.source.name}: {len(run.source.classes)} classes: {', '.join(run.source.classes)}"
    for use, split in zip(("train on", "maps of", "score"), splits_of(run, stages), strict=True):
        if split:
            yield f"{use} {split}: {len(run.ids(split))} images"


def _print(title: str, lines: Iterator[str] | Sequence[str]) -> None:
    print(f"== {title}", *lines, sep="\n  ")
