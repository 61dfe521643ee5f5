"""Networks that learn from the CAMs of a run and refine them: what their trainings share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from wsss_jax.config import value_of
from wsss_jax.data.lists import sha256, split_name
from wsss_jax.data.loader import MakeSample, steps_per_epoch
from wsss_jax.errors import RunError
from wsss_jax.runs.context import INFER_SPLIT, Facts, Run, Stage
from wsss_jax.runs.provenance import FILE, read_provenance, record_provenance
from wsss_jax.runs.space import checkpoint_bytes
from wsss_jax.sharding import check_batch_size
from wsss_jax.stages.networks import load_variables, step_folder
from wsss_jax.stages.train import Training, check_logging, describe, run_training
from wsss_jax.task import Task, Variables
from wsss_jax.training.checkpoints import Restored, digest, read_meta, restore, steps
from wsss_jax.training.loop import Optimizer, Plan
from wsss_jax.training.metrics import log_interval


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a network learns from.

    Attributes:
      sample: what is made of each image.
      made_of: how labels were made and what training depends on.
      optimizer: given the number of steps.
      start: variables as at the first step, or where a checkpoint goes on.
    """

    sample: MakeSample
    made_of: Mapping[str, Any]
    optimizer: Callable[[int], Optimizer]
    start: Callable[[Restored | None], Variables]


@dataclass(frozen=True, kw_only=True)
class Refiner:
    """A network that refines CAMs, and its training.

    Attributes:
      title: such as 'AffinityNet'.
      stage: that trains it.
      section: of the configuration, with `batch_size`, `total_epochs`, `learning_rate` and `init_from`; its
        name is that of the log, too.
      checkpoint: key of the setting that names weights which need no training.
      make: the task of a configuration.
      lesson: of the images of `dataset.infer_split`.
      after: what is done once training is over, and looks for itself whether it is done already.
    """

    title: str
    stage: str
    section: str
    checkpoint: str
    make: Callable[[ConfigDict], Task]
    lesson: Callable[[Run, tuple[str, ...]], Lesson]
    after: Callable[[Run], None] = lambda run: None

    def declared(self) -> Stage:
        """The stage."""
        return Stage(
            name=self.stage,
            function=self.train,
            reads=lambda config: (INFER_SPLIT,),
            weights=self._weights,
            room=self._room,
            check=check_logging,
            all_hosts=True,
            refining=True,
            training=(self.title, self._logs),
        )

    def train(self, run: Run) -> None:
        """Trains or goes on training, unless weights are given.

        Raises:
          RunError: what it learns from is missing, or has nothing to teach.
          ConfigError: batches cannot be divided among the devices, or `init_from` means nothing.
        """
        config, settings = run.config, run.config[self.section]
        if given := value_of(config, self.checkpoint):
            return run.say(f"{self.stage}: {given}")
        parts = (config.accumulation, jax.device_count(), jax.process_count())
        check_batch_size(settings.batch_size, *parts, key=f"{self.section}.batch_size")
        ids, task = run.ids(config.dataset.infer_split), self.make(config)
        lesson = self.lesson(run, ids)
        made_of = {"list_sha256": sha256(ids), **lesson.made_of}
        record_provenance(run.layout.checkpoints(task.name), made_of, f"{self.title}'s checkpoints")
        per_epoch = steps_per_epoch(len(ids), settings.batch_size)
        plan = Plan(
            batch_size=settings.batch_size,
            accumulation=config.accumulation,
            steps_per_epoch=per_epoch,
            total_steps=per_epoch * settings.total_epochs,
            seed=config.seed,
            log_every=log_interval(config.log.every_steps, per_epoch * settings.total_epochs),
            save_every=config.checkpoint.every_steps,
            stage=self.stage,
            rate_key=f"{self.section}.learning_rate",
            meta={**describe(run, task), "refines": True},
        )
        training = Training(
            task=task,
            ids=ids,
            sample=lesson.sample,
            plan=plan,
            optimizer=lesson.optimizer(plan.total_steps),
            logs=run.layout.logs / self._logs,
            start=lesson.start,
        )
        run_training(run, training)
        self.after(run)

    def variables(self, run: Run) -> tuple[Variables, dict[str, Any]]:
        """The network's weights for the walk, and what is known of them.

        That is `weights_sha256`, and `trained_on` with the name and the hash of the list of images, which is
        empty where the weights do not tell, such as those of other programs.

        Raises:
          RunError: none are trained yet.
          CheckpointError: they are damaged or of another network.
        """
        task = self.make(run.config)
        if given := value_of(run.config, self.checkpoint):
            variables = load_variables(run, given, task.networks[task.name], complete=True)
            return variables, {"weights_sha256": digest(variables), **self._trained_on(given)}
        folder = run.layout.checkpoints(task.name)
        saved = steps(folder)
        if not saved:
            raise RunError(f"{folder}: {self.title} is not trained yet; run the stage {self.stage} first")
        restored = restore(folder / str(saved[-1]))
        run.say(f"weights: {task.name} of step {restored.step} ({restored.meta['epochs']:g} epochs)")
        known = {"weights_sha256": restored.meta["digest"]["variables"], **self._trained_on(folder)}
        return restored.variables, known

    @property
    def _logs(self) -> str:
        """Folder in logs/."""
        return self.section

    def _trained_on(self, place: str | Path) -> dict[str, Any]:
        """Which images weights were trained on, if they are of a run of this program."""
        split = images = None
        path = Path(place).expanduser()
        if path.is_dir():
            step = step_folder(path)
            split = json.loads(read_meta(step).get("config", "{}")).get("dataset", {}).get("infer_split")
            folder = Path(step.parent)
            images = read_provenance(folder)["list_sha256"] if (folder / FILE).exists() else None
        known = {self.title: {"split": split_name(split), "list_sha256": images}} if split else {}
        return {"trained_on": known}

    def _weights(self, run: Run) -> dict[str, str]:
        """Its own, which make training needless, or where it starts, unless it goes on."""
        given = value_of(run.config, self.checkpoint)
        if given or steps(run.layout.checkpoints(self.make(run.config).name)):
            return {self.checkpoint: given}
        return {f"{self.section}.init_from": run.config[self.section].init_from}

    def _room(self, run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
        """Bytes of the checkpoints that are not there yet."""
        task = self.make(run.config)
        folder = run.layout.checkpoints(task.name)
        given = value_of(run.config, self.checkpoint)
        return {"checkpoints": 0 if given else checkpoint_bytes(folder, task.networks[task.name])}
