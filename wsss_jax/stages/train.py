"""Stage `train`: the method's network, from its initial weights to its last epoch."""

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from wsss_jax.data.lists import split_name
from wsss_jax.data.loader import BatchLoader, MakeSample, steps_per_epoch
from wsss_jax.data.source import label_matrix
from wsss_jax.errors import ConfigError
from wsss_jax.evaluation.confusion import mean_iou
from wsss_jax.files import write_whole
from wsss_jax.hosts import any_host, sum_over_hosts
from wsss_jax.inference.predict import Predictor, plan_batches
from wsss_jax.interrupt import stop_requested
from wsss_jax.runs.context import EVAL_SPLIT, TRAIN_SPLIT, Facts, Run, Stage
from wsss_jax.runs.space import checkpoint_bytes
from wsss_jax.sharding import check_batch_size, to_host
from wsss_jax.stages.evaluate import new_sweep, read_mask
from wsss_jax.stages.infer import inference_settings, wanted_classes
from wsss_jax.stages.networks import initial_variables
from wsss_jax.stages.samples import crops
from wsss_jax.task import Task, Variables
from wsss_jax.training.checkpoints import Checkpoints, Restored, steps
from wsss_jax.training.loop import Evaluate, Optimizer, Plan, Trainer
from wsss_jax.training.metrics import MetricWriter, log_interval
from wsss_jax.training.optimizer import polynomial_sgd
from wsss_jax.training.parameters import parameters
from wsss_jax.training.schedules import polynomial
from wsss_jax.training.settings import profiled_steps


@dataclass(frozen=True, kw_only=True)
class Training:
    """What tells one training within a run from another.

    Attributes:
      task: networks and loss.
      ids: the images.
      sample: what is made of each.
      plan: how long, and when to do what besides.
      optimizer: of the weights.
      logs: folder of train.jsonl.
      start: variables of all networks as at the first step, or where a checkpoint goes on.
      evaluate: makes the function by which the best epoch is chosen; called when there is something to train.
      kept_group: see `BatchLoader`.
    """

    task: Task
    ids: tuple[str, ...]
    sample: MakeSample
    plan: Plan
    optimizer: Optimizer
    logs: Path
    start: Callable[[Restored | None], Variables]
    evaluate: Callable[[], Evaluate] | None = None
    kept_group: int = 0


def train(run: Run) -> None:
    """Trains or goes on training; does nothing if the last epoch is saved already."""
    config, method = run.config, run.method
    check_batch_size(config.batch_size, config.accumulation, jax.device_count(), jax.process_count())
    ids = run.ids(config.dataset.train_split)
    label_matrix(run.source, ids)  # an image without label or with an unknown one shows before the first step
    per_epoch, epochs = steps_per_epoch(len(ids), config.batch_size), run.system.epochs(config)
    plan = Plan(
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        steps_per_epoch=per_epoch,
        total_steps=per_epoch * epochs,
        seed=config.seed,
        log_every=log_interval(config.log.every_steps, per_epoch * epochs),
        save_every=config.checkpoint.every_steps,
        evaluate_every=config.eval.every_epochs * per_epoch,
        profile=profiled_steps(config.log.profile),
        meta=describe(run, method),
    )
    run_training(
        run,
        Training(
            task=method,
            ids=ids,
            sample=(run.system.sample or crops)(run, ids),
            plan=plan,
            optimizer=psa_optimizer(
                config,
                config.optimizer.learning_rate,
                config.optimizer.new_layers,
                per_epoch * config.total_epochs,
            ),
            logs=run.layout.logs,
            start=lambda restored: initial_variables(run, restored),
            evaluate=(lambda: evaluator(run, per_epoch)) if config.eval.every_epochs else None,
        ),
    )


def run_training(run: Run, training: Training) -> None:
    """Trains or goes on training; does nothing if the last epoch is saved already."""
    plan, task = training.plan, training.task
    with Checkpoints(run.layout.checkpoints(task.name)) as checkpoints:
        restored = checkpoints.newest(run.say)
        if restored is not None and plan.done(restored):
            return run.say(f"{plan.stage}: done already, {restored.step} steps")
        trainer = Trainer(task, training.optimizer, plan, run.mesh, checkpoints)
        step = trainer.start(training.start(restored), restored)
        epochs = f"{plan.total_steps / plan.steps_per_epoch:g} epochs of {plan.steps_per_epoch} steps"
        run.say(f"{plan.stage}: {len(training.ids)} images, {epochs}, from step {step}")
        _list_parameters(run, training)
        writer = MetricWriter(training.logs, step, run.config.log.tensorboard)
        with contextlib.closing(writer), _loader(run, training, step) as loader:
            goodput = trainer.run(loader, writer, training.evaluate() if training.evaluate else None)
            run.say(f"{plan.stage}: time went into {goodput.describe()}")


def _loader(run: Run, training: Training, step: int) -> BatchLoader:
    """This process's parts of the batches from a step on."""
    return BatchLoader(
        training.sample,
        training.ids,
        batch_size=training.plan.batch_size // jax.process_count(),
        seed=run.config.seed,
        start_batch=step,
        workers=run.config.loader.workers,
        threads=run.config.loader.threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        kept_group=training.kept_group,
    )


def describe(run: Run, task: Task) -> dict[str, Any]:
    """What is saved with every checkpoint about network and run."""
    return {
        "method": run.config.method,
        "task": task.name,
        "classes": list(run.source.classes),
        "config": run.config.to_json_best_effort(),
    }


def evaluator(run: Run, steps_per_epoch: int) -> Evaluate:
    """Returns a function that evaluates CAMs on `dataset.eval_split` and gives the best mIoU of the sweep.

    OC-CSE names its best epoch so, with the ground truth of training images; the report calls such figures
    oracle. The function gives None when a signal asks to stop before it is done.
    """
    split = split_name(run.config.dataset.eval_split)
    ids = run.ids(run.config.dataset.eval_split)
    settings = inference_settings(run.config)
    batches = plan_batches(run.source, ids, settings, run.local_mesh.size)
    own = batches[jax.process_index() :: jax.process_count()]
    classes = wanted_classes(run, ids)
    predictor = Predictor(run.method, run.local_mesh, settings)

    def evaluate(variables: Variables, step: int) -> float | None:
        sweep = new_sweep(run)
        if jax.process_count() > 1:  # every host evaluates its share, on its own devices
            variables = to_host(variables)
        for predictions in predictor.predict(variables, run.source, own, classes):
            for p in predictions:
                sweep.add(p.maps, read_mask(run, p.image_id), image_id=p.image_id)
            if stop_requested():
                break
        if any_host(stop_requested()):
            return None
        sweep.counts[:] = sum_over_hosts(sweep.counts)
        curve = 100 * mean_iou(sweep.confusion(), run.config.eval.absent_classes)
        best = int(curve.argmax())
        at = f"at background score {sweep.thresholds[best]:g} (oracle)"
        run.say(f"epoch {step / steps_per_epoch:g}: CAM mIoU {curve[best]:.2f} on {split} {at}")
        return float(curve[best])

    return evaluate


def psa_optimizer(config: ConfigDict, learning_rate: float, new_layers: float, max_step: int) -> Optimizer:
    """SGD with polynomial decay; momentum, decay and power are those of section `optimizer`.

    Args:
      config: of the run.
      learning_rate: of pretrained weights at step 0.
      new_layers: times that of layers without pretrained weights.
      max_step: when the learning rate would be 0.
    """
    settings = config.optimizer
    make = functools.partial(
        polynomial_sgd,
        learning_rate=learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        power=settings.power,
        max_step=max_step,
        new_layers=new_layers,
    )
    return Optimizer(make, polynomial(learning_rate, max_step, settings.power))


def _list_parameters(run: Run, training: Training) -> None:
    """Keeps the table of parameters beside the log, and says how many there are."""
    lines, path = list(parameters(training.task)), training.logs / "parameters.txt"
    if jax.process_index() == 0:
        write_whole(path, lambda file: file.write("\n".join((*lines, "")).encode()))
    counts = (line for line in lines if line.endswith(" learn"))
    run.say(f"{training.plan.stage}: {'; '.join(counts)}; {path.relative_to(run.layout.workdir)} lists them")


def reads(config: ConfigDict) -> tuple[str, ...]:
    """What it trains on, and what it is evaluated on meanwhile."""
    return (TRAIN_SPLIT, EVAL_SPLIT) if config.eval.every_epochs else (TRAIN_SPLIT,)


def weights(run: Run) -> dict[str, str]:
    """Where it starts, unless it goes on, and the classifier that it may need."""
    paths = {"classifier_from": run.config.classifier_from}
    trained = steps(run.layout.checkpoints(run.method.name))
    return paths if trained else {**paths, "init_from": run.config.init_from}


def room(run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes of the checkpoints that are not there yet."""
    method = run.method
    folder, networks = run.layout.checkpoints(method.name), map(method.networks.get, method.learning)
    return {"checkpoints": sum(checkpoint_bytes(folder, network) for network in networks)}


def check_logging(run: Run) -> None:
    """ConfigError if TensorBoard's events are wanted and cannot be written."""
    if run.config.log.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError(
            "config.log.tensorboard=True needs tensorboardX; pip install 'wsss-jax[tensorboard]'"
        )


TRAIN = Stage(
    name="train",
    function=train,
    reads=reads,
    weights=weights,
    room=room,
    check=check_logging,
    all_hosts=True,
)
