"""The one training loop, for every method."""

import collections
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from wsss_jax.errors import CheckpointError, RunError
from wsss_jax.hosts import StopVotes, any_host
from wsss_jax.interrupt import stop
from wsss_jax.method import Learner, Variables
from wsss_jax.progress import Progress
from wsss_jax.sharding import put_batch, replicated
from wsss_jax.training.checkpoints import Checkpoints, Restored
from wsss_jax.training.metrics import MetricWriter
from wsss_jax.training.step import Batch, TrainState, make_train_step, merge, partition

HostBatches = Iterable[Mapping[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train, and when to do what besides."""

    batch_size: int  # images per step, over all devices, processes and accumulation steps
    accumulation: int
    steps_per_epoch: (
        int  # floor(images / batch size): the last incomplete batch is dropped, as in the references
    )
    total_epochs: int
    seed: int
    log_every: int  # steps
    save_every: int = 0  # steps, besides every end of an epoch; 0 = no more
    evaluate_every: int = 0  # epochs; 0 = never
    stage: str = "train"  # what the progress line calls it
    rate_key: str = "optimizer.learning_rate"  # of the configuration, to be lowered when the loss explodes
    meta: Mapping[str, Any] = field(default_factory=dict)  # saved with every checkpoint

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.total_epochs

    def evaluated_at(self, step: int) -> bool:
        """Whether so many steps end an epoch that is to be evaluated."""
        epochs, rest = divmod(step, self.steps_per_epoch)
        return bool(self.evaluate_every and epochs) and not rest and epochs % self.evaluate_every == 0

    def done(self, restored: Restored) -> bool:
        """Whether nothing is left to train or to evaluate."""
        unscored = self.evaluated_at(restored.step) and restored.score is None
        return restored.step >= self.total_steps and not unscored


class Trainer:
    """Trains a method; what has been trained before goes on from its newest sound checkpoint."""

    def __init__(
        self,
        method: Learner,
        optimizer: Callable[[Mapping[str, str]], optax.GradientTransformation],
        plan: Plan,
        mesh: Mesh,
        checkpoints: Checkpoints,
    ) -> None:
        """`optimizer` is given the group of each learning parameter, by path."""
        self._method, self._plan, self._mesh, self._checkpoints = method, plan, mesh, checkpoints
        self._make_optimizer = optimizer
        self._key = jax.random.key(plan.seed)

    def start(self, variables: Variables, restored: Restored | None) -> int:
        """Places the variables on the devices and returns the number of steps done.

        Args:
          variables: of all networks, as at the first step.
          restored: what `Checkpoints.newest` gave; it replaces what has been learnt since.

        Raises:
          CheckpointError: `restored` is of another network or optimiser.
        """
        trainable, frozen = partition(variables, self._method)
        groups = {path: self._method.group(tuple(path.split("/"))) for path in trainable}
        optimizer = self._make_optimizer(groups)
        totals = {name: jnp.zeros(()) for name in self._method.metrics}
        state = TrainState(jnp.zeros((), jnp.int32), trainable, optimizer.init(trainable), totals)
        state = state if restored is None else _resume(state, self._method.trained, restored)
        # Copies, since the first step donates the state's buffers and `variables` stay the caller's.
        self._state = jax.jit(lambda x: jax.tree.map(jnp.copy, x), out_shardings=replicated(self._mesh))(
            state
        )
        self._frozen = jax.device_put(frozen, replicated(self._mesh))
        self._scored = restored is None or restored.score is not None
        self._step = make_train_step(self._method, optimizer, self._plan.steps_per_epoch, self._mesh)
        return int(self._state.step)

    @property
    def variables(self) -> Variables:
        """Of all networks; the next step overwrites the part that learns."""
        return merge(self._state.trainable, self._frozen)

    @property
    def state(self) -> TrainState:
        """The state after the last step."""
        return self._state

    def run(
        self,
        batches: HostBatches,
        writer: MetricWriter,
        evaluate: Callable[[Variables, int], float | None] | None = None,
    ) -> None:
        """Trains to the end of the plan, saving as it goes.

        Args:
          batches: this process's parts of the batches, from the step at which training goes on.
          writer: receives a line every `log_every` steps.
          evaluate: given variables and epochs done, returns a score by which the best checkpoint is chosen;
            None if a signal asked to stop before it was done.

        Raises:
          RunError: the loss is no longer finite.
          Interrupted: a signal asked to stop; the step is saved.
        """
        plan, step, votes = self._plan, int(self._state.step), StopVotes(self._mesh)
        if not self._scored:  # a signal or a kill left no time for it
            self._evaluate(step, evaluate)
        line = Progress(plan.stage, plan.total_steps, step, "steps")
        clock = _Clock(plan.batch_size, step)
        for batch in _ahead(itertools.islice(batches, plan.total_steps - step), self._put):
            self._state = self._step(self._state, self._frozen, batch, self._key)
            step += 1
            if step % plan.log_every == 0 or step == plan.total_steps:
                values = self._log(step)
                rate = clock.images_per_second(step)
                writer.write(
                    step, {"epoch": (step - 1) // plan.steps_per_epoch, **values, "images_per_second": rate}
                )
                line.update(step, _describe(values, rate))
            stopping = votes.agreed()
            if stopping or step % (plan.save_every or plan.steps_per_epoch) == 0 or self._ends_epoch(step):
                self.save(step)
            if stopping:
                self._stop(step)
            self._evaluate(step, evaluate)
        line.end()
        self._checkpoints.wait()

    def save(self, step: int) -> None:
        """Saves the state unless it is broken."""
        self._check_finite(step, self._state.totals)
        if not bool(_all_finite(self._state.trainable)):
            raise RunError(self._not_finite("weights", step))
        variables = merge(self._state.trainable, self._frozen)[self._method.trained]
        meta = {**self._plan.meta, "epochs": step / self._plan.steps_per_epoch}
        self._checkpoints.save(step, variables, _extra(self._state), meta)

    def _ends_epoch(self, step: int) -> bool:
        return step % self._plan.steps_per_epoch == 0

    def _evaluate(self, step: int, evaluate: Callable[[Variables, int], float | None] | None) -> None:
        """Scores an epoch that is to be evaluated, after its weights are saved: whatever happens meanwhile,
        they are there."""
        if evaluate is None or not self._plan.evaluated_at(step):
            return
        score = evaluate(self.variables, step // self._plan.steps_per_epoch)
        if any_host(score is None):
            self._stop(step)
        elif score is not None:
            self._checkpoints.score(step, score)

    def _stop(self, step: int) -> NoReturn:
        self._checkpoints.wait()
        stop(f"training is saved at step {step} of {self._plan.total_steps}")

    def _put(self, batch: Mapping[str, np.ndarray]) -> Batch:
        return put_batch(batch, self._mesh, self._plan.accumulation)

    def _log(self, step: int) -> dict[str, float]:
        """Means since the last log line; for them the host waits for the devices."""
        totals = self._check_finite(step, self._state.totals)
        count = step - self._last_logged(step)
        self._state = self._state.replace(totals=jax.tree.map(jnp.zeros_like, self._state.totals))
        return {name: totals[name] / count for name in self._method.metrics}

    def _last_logged(self, step: int) -> int:
        return (step - 1) // self._plan.log_every * self._plan.log_every

    def _check_finite(self, step: int, totals: Mapping[str, jax.Array]) -> dict[str, float]:
        values = {name: float(x) for name, x in jax.device_get(totals).items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise RunError(self._not_finite(name, step))
        return values

    def _not_finite(self, what: str, step: int) -> str:
        saved = self._checkpoints.on_disk()
        good, remedy = "none is saved yet", f"lower --config.{self._plan.rate_key}"
        if saved:
            good = f"the last good checkpoint is step {saved[-1]} in {self._checkpoints.folder}"
            remedy += " with another --workdir"
        between = f"between steps {self._last_logged(step)} and {step}"
        return (
            f"{what} became infinite or NaN {between}; {good}; {remedy} or look at the images of these steps"
        )


class _Clock:
    """Images per second since the last question, without the first step, which compiles."""

    def __init__(self, batch_size: int, step: int) -> None:
        self._batch_size, self._step, self._time = batch_size, step, time.monotonic()

    def images_per_second(self, step: int) -> float:
        now = time.monotonic()
        rate = (step - self._step) * self._batch_size / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        return round(rate, 2)


_all_finite = jax.jit(lambda tree: jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all())


def _ahead(
    batches: HostBatches, put: Callable[[Mapping[str, np.ndarray]], Batch], size: int = 2
) -> Iterator[Batch]:
    """Moves batches to the devices `size` steps before they are needed."""
    waiting: collections.deque[Batch] = collections.deque()
    for batch in batches:
        waiting.append(put(batch))
        if len(waiting) > size:
            yield waiting.popleft()
    yield from waiting


def _describe(values: Mapping[str, float], rate: float) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items()) + f"  {rate:.1f} images/s"


def _extra(state: TrainState) -> dict[str, Any]:
    """Optimiser state and metric sums, flat by name."""
    leaves = jax.tree_util.tree_leaves_with_path({"optimiser": state.opt_state, "totals": state.totals})
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def _resume(state: TrainState, network: str, restored: Restored) -> TrainState:
    """The state as it was saved, checked name by name and shape by shape."""
    saved = {f"{network}/{name}": x for name, x in flatten_dict(restored.variables, sep="/").items()}
    trainable = {name: saved[name] for name in state.trainable if name in saved}
    expected, extra = _extra(state), dict(restored.extra)
    for wanted, found in ((state.trainable, trainable), (expected, extra)):
        differing = {name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape}
        differing |= wanted.keys() ^ found.keys()
        if differing:
            raise CheckpointError(
                f"step {restored.step} is of another network or optimiser, first difference: "
                f"{min(differing)}; choose another --workdir"
            )
    tree = jax.tree.structure({"optimiser": state.opt_state, "totals": state.totals})
    filled = jax.tree.unflatten(tree, [extra[name] for name in expected])
    return TrainState(jnp.asarray(restored.step, jnp.int32), trainable, filled["optimiser"], filled["totals"])
