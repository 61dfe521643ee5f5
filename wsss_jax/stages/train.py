"""Stage `train`: the method's network, from its initial weights to its last epoch."""

from collections.abc import Callable, Mapping

import jax
import optax

from wsss_jax.data.lists import split_name
from wsss_jax.data.loader import BatchLoader, steps_per_epoch
from wsss_jax.data.source import label_matrix
from wsss_jax.evaluation.confusion import mean_iou
from wsss_jax.inference.predict import Predictor, plan_batches
from wsss_jax.interrupt import stop_requested
from wsss_jax.method import Variables
from wsss_jax.sharding import check_batch_size, to_host
from wsss_jax.stages.context import Run
from wsss_jax.stages.evaluate import new_sweep, read_mask
from wsss_jax.stages.infer import inference_settings, wanted_classes
from wsss_jax.stages.networks import initial_variables
from wsss_jax.stages.rounds import last_epoch
from wsss_jax.stages.samples import training_sample
from wsss_jax.training.checkpoints import Checkpoints
from wsss_jax.training.loop import Plan, Trainer
from wsss_jax.training.metrics import MetricWriter
from wsss_jax.training.optimizer import polynomial_sgd


def train(run: Run) -> None:
    """Trains or goes on training; does nothing if the last epoch is saved already."""
    config, method = run.config, run.method
    processes = jax.process_count()
    check_batch_size(config.batch_size, config.accumulation, jax.device_count(), processes)
    ids = run.ids(config.dataset.train_split)
    label_matrix(run.source, ids)  # an image without label or with an unknown one shows before the first step
    sample, plan = training_sample(run, ids), make_plan(run, len(ids))
    checkpoints = Checkpoints(run.layout.checkpoints(method.trained))
    restored = checkpoints.newest(run.say)
    if restored is not None and restored.step >= plan.total_steps:
        run.say(f"train: done already, {restored.step} steps")
        return checkpoints.close()
    trainer = Trainer(method, lambda groups: _optimizer(run, plan, groups), plan, run.mesh, checkpoints)
    step = trainer.start(initial_variables(run, restored), restored)
    epochs = f"{plan.total_epochs} epochs of {plan.steps_per_epoch} steps"
    run.say(f"train: {len(ids)} images, {epochs}, from step {step}")
    writer = MetricWriter(run.layout.logs, step, config.log.tensorboard)
    loader = BatchLoader(
        sample,
        ids,
        batch_size=config.batch_size // processes,
        seed=config.seed,
        start_batch=step,
        workers=config.loader.workers,
        threads=config.loader.threads,
        process_index=jax.process_index(),
        process_count=processes,
    )
    with loader:
        trainer.run(loader, writer, evaluator(run) if config.eval.every_epochs else None)
    writer.close()
    checkpoints.close()


def make_plan(run: Run, images: int) -> Plan:
    """How long this run trains on so many images."""
    config, method = run.config, run.method
    meta = {
        "method": config.method,
        "network": method.trained,
        "classes": list(run.source.classes),
        "config": config.to_json_best_effort(),
    }
    return Plan(
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        steps_per_epoch=steps_per_epoch(images, config.batch_size),
        total_epochs=last_epoch(config),
        seed=config.seed,
        log_every=config.log.every_steps,
        save_every=config.checkpoint.every_steps,
        evaluate_every=config.eval.every_epochs,
        meta=meta,
    )


def evaluator(run: Run) -> Callable[[Variables, int], float | None]:
    """Returns a function that evaluates CAMs on `dataset.eval_split` and gives the best mIoU of the sweep.

    OC-CSE names its best epoch so, with the ground truth of training images; the report calls such figures
    oracle. The function gives None when a signal asks to stop before it is done.
    """
    split = split_name(run.config.dataset.eval_split)
    ids = run.ids(run.config.dataset.eval_split)
    settings = inference_settings(run.config)
    batches, classes = plan_batches(run.source, ids, settings), wanted_classes(run, ids)
    predictor = Predictor(run.method, run.local_mesh, settings)

    def evaluate(variables: Variables, epoch: int) -> float | None:
        sweep = new_sweep(run)
        if jax.process_count() > 1:  # every host evaluates for itself, on its own devices
            variables = to_host(variables)
        for predictions in predictor.predict(variables, run.source, batches, classes):
            for p in predictions:
                sweep.add(p.cam, p.keys, read_mask(run, p.image_id), image_id=p.image_id)
            if stop_requested():
                return None
        curve = 100 * mean_iou(sweep.confusion(), run.config.eval.absent_classes)
        best = int(curve.argmax())
        at = f"at background score {sweep.thresholds[best]:g} (oracle)"
        run.say(f"epoch {epoch}: CAM mIoU {curve[best]:.2f} on {split} {at}")
        return float(curve[best])

    return evaluate


def _optimizer(run: Run, plan: Plan, groups: Mapping[str, str]) -> optax.GradientTransformation:
    settings = run.config.optimizer
    return polynomial_sgd(
        groups,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        power=settings.power,
        max_step=plan.steps_per_epoch * run.config.total_epochs,
        new_layers=settings.new_layers,
    )
