"""The one training loop, for every task."""

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
from wsss_jax.progress import Progress
from wsss_jax.sharding import put_batch, replicated
from wsss_jax.task import Task, Variables
from wsss_jax.training.checkpoints import Checkpoints, Restored
from wsss_jax.training.goodput import Goodput
from wsss_jax.training.metrics import MetricWriter
from wsss_jax.training.step import (
    Batch,
    TrainState,
    check_groups,
    first_state,
    make_train_step,
    merge,
    metric_names,
    partition,
)

HostBatches = Iterable[Mapping[str, np.ndarray]]
Evaluate = Callable[[Variables, int], float | None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to train, and when to do what besides; all in steps."""

    batch_size: int  # images per step, over all devices, processes and accumulation steps
    accumulation: int = 1
    # floor(images / batch size): the last incomplete batch is dropped, as in the references
    steps_per_epoch: int
    total_steps: int
    seed: int
    log_every: int
    save_every: int = 0  # besides every end of an epoch; 0 = no more
    evaluate_every: int = 0  # 0 = never
    average_decay: float = 0.0  # of an exponential average of the weights, which is saved in their place
    profile: tuple[int, int] | None = None  # steps from which and up to which a trace is taken
    stage: str = "train"  # what the progress line calls it
    rate_key: str = "optimizer.learning_rate"  # of the configuration, to be lowered when the loss explodes
    meta: Mapping[str, Any] = field(default_factory=dict)  # saved with every checkpoint

    def evaluated_at(self, step: int) -> bool:
        """Whether there is an evaluation after so many steps."""
        return bool(self.evaluate_every and step) and step % self.evaluate_every == 0

    def saved_at(self, step: int) -> bool:
        """Whether a checkpoint is due after so many steps."""
        due = (every for every in (self.steps_per_epoch, self.save_every, self.evaluate_every) if every)
        return step == self.total_steps or any(step % every == 0 for every in due)

    def done(self, restored: Restored) -> bool:
        """Whether nothing is left to train or to evaluate."""
        unscored = self.evaluated_at(restored.step) and restored.score is None
        return restored.step >= self.total_steps and not unscored


@dataclass(frozen=True)
class Optimizer:
    """How weights follow their gradients.

    Attributes:
      make: given the group of each trainable variable by path.
      schedule: the learning rate of rate factor 1 by step, for the log.
    """

    make: Callable[[Mapping[str, str]], optax.GradientTransformation]
    schedule: optax.Schedule


class Trainer:
    """Trains a task; what has been trained before goes on from its newest sound checkpoint."""

    def __init__(
        self, task: Task, optimizer: Optimizer, plan: Plan, mesh: Mesh, checkpoints: Checkpoints
    ) -> None:
        """ConfigError if the task's groups of images do not fill the batch."""
        check_groups(task, plan.batch_size)
        self._task, self._plan, self._mesh, self._checkpoints = task, plan, mesh, checkpoints
        self._optimizer = optimizer
        self._tracing = False
        # Made on the devices, since JAX moves no key to those of other hosts.
        self._key = jax.jit(lambda: jax.random.key(plan.seed), out_shardings=replicated(mesh))()

    def start(self, variables: Variables, restored: Restored | None) -> int:
        """Places the variables on the devices and returns the number of steps done.

        Args:
          variables: of all networks, as at the first step.
          restored: what `Checkpoints.newest` gave; it replaces what has been learnt since.

        Raises:
          CheckpointError: `restored` is of another network or optimiser.
        """
        parted = partition(variables, self._task)
        groups = {path: self._task.group(tuple(path.split("/"))) for path in parted.trainable}
        optimizer = self._optimizer.make(groups)
        state = first_state(parted, optimizer, self._task, averaged=self._plan.average_decay > 0)
        state = state if restored is None else _resume(state, restored)
        # Copies, since the first step donates the state's buffers and `variables` stay the caller's.
        self._state = jax.jit(lambda x: jax.tree.map(jnp.copy, x), out_shardings=replicated(self._mesh))(
            state
        )
        self._frozen = jax.device_put(parted.frozen, replicated(self._mesh))
        self._scored = restored is None or restored.score is not None
        self._step = make_train_step(
            self._task,
            optimizer,
            self._plan.steps_per_epoch,
            self._mesh,
            average_decay=self._plan.average_decay,
            hosts=jax.process_count(),
        )
        return int(self._state.step)

    @property
    def variables(self) -> Variables:
        """Of all networks, with the average in place of the weights where there is one; the next step
        overwrites what learns."""
        return merge(self._state.average or self._state.trainable, self._state.state, self._frozen)

    @property
    def state(self) -> TrainState:
        """The state after the last step."""
        return self._state

    def run(self, batches: HostBatches, writer: MetricWriter, evaluate: Evaluate | None = None) -> Goodput:
        """Trains to the end of the plan, saving as it goes.

        Args:
          batches: this process's parts of the batches, from the step at which training goes on.
          writer: receives a line every `log_every` steps.
          evaluate: given variables and steps done, returns a score by which the best checkpoint is chosen;
            None if a signal asked to stop before it was done.

        Returns:
          What the time was spent on.

        Raises:
          RunError: the loss is no longer finite.
          Interrupted: a signal asked to stop; the step is saved.
        """
        plan, step, votes = self._plan, int(self._state.step), StopVotes(self._mesh)
        self._goodput = Goodput()
        if not self._scored:  # a signal or a kill left no time for it
            self._evaluate(step, evaluate)
        line = Progress(plan.stage, plan.total_steps, step, "steps")
        clock = _Clock(plan.batch_size, step)
        coming = itertools.islice(batches, plan.total_steps - step)
        for batch in self._goodput.waiting(_ahead(coming, self._put)):
            self._profile(step, writer)
            self._one_step(batch)
            step += 1
            if step % plan.log_every == 0 or step == plan.total_steps:
                values = {**self._log(step), "images_per_second": clock.images_per_second(step)}
                writer.write(step, {"epoch": (step - 1) // plan.steps_per_epoch, **values})
                line.update(step, _describe(values))
            stopping = votes.agreed()
            if stopping or plan.saved_at(step):
                self.save(step)
            if stopping:
                self._profile(plan.total_steps, writer)
                self._stop(step)
            self._evaluate(step, evaluate)
        self._profile(step, writer)
        line.end()
        with self._goodput.spent("saving"):
            self._checkpoints.wait()
        return self._goodput

    def save(self, step: int) -> None:
        """Saves the state unless it is broken."""
        self._check_finite(step, self._state.totals)
        if not bool(_all_finite((self._state.trainable, self._state.state))):
            raise RunError(self._not_finite("weights", step))
        variables = {name: self.variables[name] for name in self._task.learning}
        meta = {**self._plan.meta, "epochs": step / self._plan.steps_per_epoch}
        with self._goodput.spent("saving"):
            self._checkpoints.save(step, variables, _extra(self._state), meta)

    def _one_step(self, batch: Batch) -> None:
        # All that a step needs is on the devices; an array that is not would be copied at every step.
        with self._goodput.stepping(), jax.transfer_guard("disallow"):
            self._state = self._step(self._state, self._frozen, batch, self._key)
        self._goodput.busy = self._state.step

    def _profile(self, step: int, writer: MetricWriter) -> None:
        """Starts the trace of some steps, or ends it, sooner where training ends or is stopped."""
        wanted = self._plan.profile is not None and self._plan.profile[0] <= step < self._plan.profile[1]
        wanted = wanted and step < self._plan.total_steps
        if wanted and not self._tracing:
            jax.profiler.start_trace(str(writer.folder / "profile"))
        elif self._tracing and not wanted:
            jax.block_until_ready(self._state)
            jax.profiler.stop_trace()
        self._tracing = wanted

    def _evaluate(self, step: int, evaluate: Evaluate | None) -> None:
        """Scores a step that is to be evaluated, after its weights are saved: whatever happens meanwhile,
        they are there."""
        if evaluate is None or not self._plan.evaluated_at(step):
            return
        with self._goodput.spent("evaluating"):
            score = evaluate(self.variables, step)
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
        means = {name: totals[name] / count for name in metric_names(self._task)}
        return {**means, "learning_rate": float(self._optimizer.schedule(step - 1))}

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


def _describe(values: Mapping[str, float]) -> str:
    losses = (f"{name} {value:.4f}" for name, value in values.items() if name.startswith("loss"))
    return "  ".join(losses) + f"  {values['images_per_second']:.1f} images/s"


def _beside(state: TrainState) -> dict[str, Any]:
    """What of the state is saved beside the variables; where these are an average, the weights too."""
    weights = state.trainable if state.average else {}
    return {"optimiser": state.opt_state, "totals": state.totals, "weights": weights}


def _extra(state: TrainState) -> dict[str, Any]:
    """`_beside`, flat by name."""
    leaves = jax.tree_util.tree_leaves_with_path(_beside(state))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in leaves}


def _resume(state: TrainState, restored: Restored) -> TrainState:
    """The state as it was saved, checked name by name and shape by shape."""
    saved = flatten_dict(restored.networks, sep="/")
    changing = {**state.trainable, **state.state}
    found = {name: saved[name] for name in changing if name in saved}
    expected, extra = _extra(state), dict(restored.extra)
    _check_alike(changing, found, restored.step)
    _check_alike(expected, extra, restored.step)
    tree = jax.tree.structure(_beside(state))
    beside = jax.tree.unflatten(tree, [extra[name] for name in expected])
    learnt = {name: found[name] for name in state.trainable}
    return TrainState(
        step=jnp.asarray(restored.step, jnp.int32),
        trainable=beside["weights"] if state.average else learnt,
        state={name: found[name] for name in state.state},
        opt_state=beside["optimiser"],
        totals=beside["totals"],
        average=learnt if state.average else {},
    )


def _check_alike(wanted: Mapping[str, Any], found: Mapping[str, Any], step: int) -> None:
    differing = {name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape}
    differing |= wanted.keys() ^ found.keys()
    if differing:
        raise CheckpointError(
            f"step {step} is of another network or optimiser, first difference: {min(differing)}; choose "
            "another --workdir"
        )
