"""One training step of any method: gradients of what learns, and nothing else."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from wsss_jax.method import Learner, Metrics, Progress, Variables
from wsss_jax.ops.normalise import normalise_crops
from wsss_jax.sharding import replicated

FlatVariables = dict[str, jax.Array]  # by 'network/collection/module/.../leaf'
Batch = Mapping[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """What a step changes. Donated: a step overwrites the buffers of the state it is given."""

    step: jax.Array  # int32, steps done
    trainable: FlatVariables
    opt_state: Any
    totals: Metrics  # sums of the metrics since the last log line, so that no step waits for the host


def partition(variables: Variables, method: Learner) -> tuple[FlatVariables, FlatVariables]:
    """Splits variables into those that learn and those that never change, both flat by path."""
    flat = flatten_dict(variables, sep="/")
    frozen = {path: x for path, x in flat.items() if method.group(tuple(path.split("/"))) == "frozen"}
    return {path: x for path, x in flat.items() if path not in frozen}, frozen


def merge(trainable: FlatVariables, frozen: FlatVariables) -> Variables:
    """Undoes `partition`."""
    return unflatten_dict({**trainable, **frozen}, sep="/")


def make_train_step(
    method: Learner,
    optimizer: optax.GradientTransformation,
    steps_per_epoch: int,
    mesh: Mesh,
) -> Callable[[TrainState, FlatVariables, Batch, jax.Array], TrainState]:
    """Compiles `step(state, frozen, batch, seed_key) -> state`.

    The batch is [accumulation, images, ...] as `put_batch` makes it. Random draws depend on the seed, the
    step and the image's place in the global batch only, so they are the same on any number of devices.
    """

    def step(state: TrainState, frozen: FlatVariables, batch: Batch, seed_key: jax.Array) -> TrainState:
        parts = batch["labels"].shape[:2]
        keys = jax.random.split(jax.random.fold_in(seed_key, state.step), parts)
        progress = Progress(state.step, state.step // steps_per_epoch)
        grads, metrics = _gradients(method, state.trainable, frozen, batch, keys, progress)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.trainable)
        return TrainState(
            step=state.step + 1,
            trainable=optax.apply_updates(state.trainable, updates),
            opt_state=opt_state,
            totals=jax.tree.map(jnp.add, state.totals, metrics),
        )

    return jax.jit(step, donate_argnums=0, out_shardings=replicated(mesh))


def _prepare(batch: Batch) -> dict[str, jax.Array]:
    """Normalises the pictures; what else a batch holds goes to the method as it is."""
    others = {name: x for name, x in batch.items() if name not in ("image", "box")}
    return {"images": normalise_crops(batch["image"], batch["box"]), **others}


def _gradients(
    method: Learner,
    trainable: FlatVariables,
    frozen: FlatVariables,
    batch: Batch,
    keys: jax.Array,
    progress: Progress,
) -> tuple[FlatVariables, Metrics]:
    def loss(trainable: FlatVariables, maximum: jax.Array | None, part: Batch, keys: jax.Array) -> Any:
        return method.loss(merge(trainable, frozen), _prepare(part), keys, progress, maximum)

    if keys.shape[0] == 1:
        whole = {name: x[0] for name, x in batch.items()}
        (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(trainable, None, whole, keys[0])
        return grads, metrics

    def maximum_of(trainable: FlatVariables, part: Batch, keys: jax.Array) -> jax.Array:
        return method.batch_maximum(merge(trainable, frozen), _prepare(part), keys)

    return _accumulated(loss, maximum_of, trainable, batch, keys)


def _accumulated(
    loss: Callable[..., Any],
    maximum_of: Callable[..., jax.Array],
    trainable: FlatVariables,
    batch: Batch,
    keys: jax.Array,
) -> tuple[FlatVariables, Metrics]:
    """Gradients of the whole batch's loss, one part in memory at a time.

    The loss may depend on a maximum over the whole batch. It is taken first; each part then also tells how
    its loss depends on it, and the part that holds the maximum passes their sum on to the parameters.
    """
    count = keys.shape[0]
    maxima = jax.lax.map(lambda part: maximum_of(trainable, *part), (batch, keys))
    holder = jnp.argmax(maxima)

    def of_part(part: tuple[Batch, jax.Array]) -> tuple[Metrics, FlatVariables, jax.Array]:
        value_and_grad = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (_, metrics), grads = value_and_grad(trainable, maxima[holder], *part)
        return (metrics, *grads)

    def add_part(total: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(lambda a, b: a + b / count, total, of_part(part)), None

    first = jax.tree.map(lambda x: x[0], (batch, keys))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_part, first))
    (metrics, grads, by_maximum), _ = jax.lax.scan(add_part, zeros, (batch, keys))
    held = jax.tree.map(lambda x: x[holder], (batch, keys))
    _, pull_back = jax.vjp(lambda t: maximum_of(t, *held), trainable)
    return jax.tree.map(jnp.add, grads, pull_back(by_maximum)[0]), metrics
