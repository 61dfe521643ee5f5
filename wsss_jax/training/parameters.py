"""The table of a task's parameters."""

import math
from collections.abc import Iterator

from flax.traverse_util import flatten_dict

from wsss_jax.task import FROZEN, STATE, Task
from wsss_jax.training.initial import variable_shapes


def parameters(task: Task) -> Iterator[str]:
    """A line for each variable of the task's networks, and one with their number for each network."""
    for name, network in task.networks.items():
        total = learning = 0
        for path, leaf in flatten_dict(variable_shapes(network)).items():
            group, count = task.group((name, *path)), math.prod(leaf.shape)
            total, learning = total + count, learning + (group not in (FROZEN, STATE)) * count
            yield f"{name}/{'/'.join(path)}  {' x '.join(map(str, leaf.shape))}  {group}"
        yield f"{name}: {total:,} numbers, of which {learning:,} learn"
