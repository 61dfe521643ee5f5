"""One training step of any task: gradients of what learns, and nothing else."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from wsss_jax.errors import ConfigError
from wsss_jax.sharding import replicated
from wsss_jax.task import (
    FROZEN,
    STATE,
    Metrics,
    Outcome,
    Progress,
    Task,
    Variables,
    image_counts,
    weighted_sum,
)
from wsss_jax.training.moving_average import moving_average

FlatVariables = dict[str, jax.Array]  # by 'network/collection/module/.../leaf'
Batch = Mapping[str, jax.Array]


class Parted(NamedTuple):
    """Variables, flat by path, by what happens to them."""

    trainable: FlatVariables
    state: FlatVariables  # changes without a gradient
    frozen: FlatVariables


@flax.struct.dataclass
class TrainState:
    """What a step changes. Donated: a step overwrites the buffers of the state it is given."""

    step: jax.Array  # int32, steps done
    trainable: FlatVariables
    state: FlatVariables
    opt_state: Any
    totals: Metrics  # sums of the metrics since the last log line, so that no step waits for the host
    average: FlatVariables  # of the trainable ones, exponential; {} without


def first_state(
    parted: Parted, optimizer: optax.GradientTransformation, task: Task, *, averaged: bool = False
) -> TrainState:
    """The state before the first step; with an average of the weights where wanted."""
    trainable = parted.trainable
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        trainable=trainable,
        state=parted.state,
        opt_state=optimizer.init(trainable),
        totals={name: jnp.zeros(()) for name in metric_names(task)},
        average=dict(trainable) if averaged else {},
    )


def partition(variables: Variables, task: Task) -> Parted:
    """Sorts variables by their groups."""
    parted = Parted({}, {}, {})
    for path, x in flatten_dict(variables, sep="/").items():
        group = task.group(tuple(path.split("/")))
        place = {FROZEN: parted.frozen, STATE: parted.state}.get(group, parted.trainable)
        place[path] = x
    return parted


def merge(*flat: FlatVariables) -> Variables:
    """Undoes `partition`."""
    return unflatten_dict({path: x for variables in flat for path, x in variables.items()}, sep="/")


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    steps_per_epoch: int,
    mesh: Mesh,
    *,
    average_decay: float = 0.0,
    hosts: int = 1,
) -> Callable[[TrainState, FlatVariables, Batch, jax.Array], TrainState]:
    """Compiles `step(state, frozen, batch, seed_key) -> state`.

    The batch is [accumulation, images, ...] as `put_batch` makes it. Random draws depend on the seed, the
    step and the image's place in the global batch only, so they are the same on any number of devices.

    Args:
      task: networks and loss.
      optimizer: of the trainable variables.
      steps_per_epoch: for the loss's `progress`.
      mesh: the devices.
      average_decay: of the exponential average of the weights.
      hosts: that each hold an equal share of every batch.
    """

    def step(state: TrainState, frozen: FlatVariables, batch: Batch, seed_key: jax.Array) -> TrainState:
        parts = next(iter(batch.values())).shape[:2]
        keys = jax.random.split(jax.random.fold_in(seed_key, state.step), parts[0] * parts[1])
        progress = Progress(state.step, state.step // steps_per_epoch)
        gradient = _Gradient(task, state.trainable, frozen, progress, hosts)
        grads, metrics, changed = gradient.of(batch, to_parts(keys, parts[0], hosts), state.state)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        trainable = optax.apply_updates(state.trainable, updates)
        average = moving_average(state.average, trainable, average_decay) if state.average else {}
        metrics["gradient_norm"] = optax.global_norm(grads)
        totals = jax.tree.map(jnp.add, state.totals, metrics)
        return TrainState(state.step + 1, trainable, changed, opt_state, totals, average)

    return jax.jit(step, donate_argnums=0, out_shardings=replicated(mesh))


def metric_names(task: Task) -> tuple[str, ...]:
    """What a step adds to `TrainState.totals`."""
    return ("loss", *task.terms, "gradient_norm")


def to_parts(x: jax.Array, accumulation: int, hosts: int) -> jax.Array:
    """[N, ...] in the order of the global batch -> [accumulation, N / accumulation, ...], each host's images
    staying on it."""
    split = x.reshape(hosts, accumulation, -1, *x.shape[1:])
    return split.swapaxes(0, 1).reshape(accumulation, -1, *x.shape[1:])


def in_order(x: jax.Array, hosts: int) -> jax.Array:
    """Undoes `to_parts`: [accumulation, P] -> [accumulation * P]."""
    return x.reshape(x.shape[0], hosts, -1).swapaxes(0, 1).reshape(-1)


def check_groups(task: Task, batch_size: int) -> None:
    """Raises ConfigError unless the task's groups fill the batch."""
    if task.group_size and batch_size % task.group_size:
        raise ConfigError(
            f"a batch of {batch_size} images cannot be divided into groups of {task.group_size}, over which "
            f"{task.name} takes its means; choose a multiple of {task.group_size}"
        )


class _Gradient:
    """Gradients of a whole batch's loss, in one part or in several, one of which is in memory at a time.

    A term is the sum of its values over a group of images, divided by their number in the group. Where the
    group lies in several parts, each of them must know the whole number; and where the loss depends on a
    maximum over the batch, that too. Both are taken first. Each part then also tells how its loss depends on
    the maximum, and the part that holds it passes their sum on to the parameters.
    """

    def __init__(
        self, task: Task, trainable: FlatVariables, frozen: FlatVariables, progress: Progress, hosts: int
    ) -> None:
        self._task, self._trainable, self._frozen = task, trainable, frozen
        self._progress, self._hosts = progress, hosts

    def of(
        self, batch: Batch, keys: jax.Array, state: FlatVariables
    ) -> tuple[FlatVariables, Metrics, FlatVariables]:
        """Gradients, metrics and new state of a batch [A, P, ...] with keys [A, P]."""
        if keys.shape[0] == 1:
            whole = {name: x[0] for name, x in batch.items()}
            gradient = jax.value_and_grad(self._loss, has_aux=True)
            (_, (metrics, state)), grads = gradient(self._trainable, None, whole, keys[0], state, None)
            return grads, metrics, state
        return self._accumulated(batch, keys, state)

    def _outcome(
        self,
        trainable: FlatVariables,
        maximum: jax.Array | None,
        part: Batch,
        keys: jax.Array,
        state: FlatVariables,
    ) -> Outcome:
        variables = merge(trainable, state, self._frozen)
        return self._task.loss(variables, self._task.prepare(part), keys, self._progress, maximum)

    def _loss(
        self,
        trainable: FlatVariables,
        maximum: jax.Array | None,
        part: Batch,
        keys: jax.Array,
        state: FlatVariables,
        scales: dict[str, jax.Array] | None,
    ) -> tuple[jax.Array, tuple[Metrics, FlatVariables]]:
        """What a part adds to the loss; `scales` float32[P] by term, or None where the part is the whole."""
        outcome = self._outcome(trainable, maximum, part, keys, state)
        if scales is None:
            scales = {name: self._scales(image_counts(x)[None])[0] for name, x in outcome.terms.items()}
        means = {name: (term.total * scales[name]).sum() for name, term in outcome.terms.items()}
        loss = weighted_sum(outcome.terms, means)
        changed = {**state, **flatten_dict(outcome.state, sep="/")}
        return loss, ({"loss": loss, **means}, changed)

    def _scales(self, counts: jax.Array) -> jax.Array:
        """By what each image's total is multiplied, so that their sum is the mean of the groups' means; of a
        term's counts float32[A, P]."""
        groups = in_order(counts, self._hosts).reshape(-1, self._task.group_size or counts.size)
        each = 1 / ((groups.sum(1, keepdims=True) + self._task.epsilon) * groups.shape[0])
        return to_parts(jnp.broadcast_to(each, groups.shape).reshape(-1), counts.shape[0], self._hosts)

    def _accumulated(
        self, batch: Batch, keys: jax.Array, state: FlatVariables
    ) -> tuple[FlatVariables, Metrics, FlatVariables]:
        def maximum_of(trainable: FlatVariables, part: Batch, keys: jax.Array) -> jax.Array | None:
            variables = merge(trainable, state, self._frozen)
            return self._task.batch_maximum(variables, self._task.prepare(part), keys)

        maxima = jax.lax.map(lambda part: maximum_of(self._trainable, *part), (batch, keys))
        holder = None if maxima is None else jnp.argmax(maxima)
        maximum = None if maxima is None else maxima[holder]

        def counts_of(part: tuple[Batch, jax.Array]) -> dict[str, jax.Array]:
            outcome = self._outcome(self._trainable, maximum, *part, state)
            return {name: image_counts(term) for name, term in outcome.terms.items()}

        # Counts rarely need more than labels; the compiler then drops the networks from this pass.
        counts = jax.lax.map(counts_of, (batch, keys))
        scales = {name: self._scales(x) for name, x in counts.items()}
        gradient = jax.value_and_grad(self._loss, argnums=(0, 1), has_aux=True)

        def add_part(total: Any, part: Any) -> tuple[Any, None]:
            sums, state = total
            *inputs, scales = part
            (_, (metrics, state)), grads = gradient(self._trainable, maximum, *inputs, state, scales)
            return (jax.tree.map(jnp.add, sums, (metrics, *grads)), state), None

        names = ("loss", *counts)
        zeros = (
            dict.fromkeys(names, jnp.zeros(())),
            *jax.tree.map(jnp.zeros_like, (self._trainable, maximum)),
        )
        (sums, state), _ = jax.lax.scan(add_part, (zeros, state), (batch, keys, scales))
        metrics, grads, by_maximum = sums
        if maximum is not None:
            held = jax.tree.map(lambda x: x[holder], (batch, keys))
            _, pull_back = jax.vjp(lambda t: maximum_of(t, *held), self._trainable)
            grads = jax.tree.map(jnp.add, grads, pull_back(by_maximum)[0])
        return grads, metrics, state
