"""Stage `train_seg`: a segmentation network on pseudo masks, the run's own or anybody's."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from wsss_jax import weights as files
from wsss_jax.data.lists import sha256, split_name
from wsss_jax.data.loader import BatchLoader, MakeSample, groups_per_epoch
from wsss_jax.data.masks import census, check_there
from wsss_jax.data.masks import describe as describe_shares
from wsss_jax.errors import CheckpointError, ConfigError
from wsss_jax.runs.context import INFER_SPLIT, Facts, Run, SegmentationRecipe, Stage, System
from wsss_jax.runs.provenance import record_provenance
from wsss_jax.runs.space import checkpoint_bytes
from wsss_jax.sharding import check_batch_size
from wsss_jax.stages.masks import TRUE, training_masks
from wsss_jax.stages.networks import load_variables, other_heads
from wsss_jax.stages.train import Training, check_logging, describe, run_training
from wsss_jax.task import SegmentationTask, Variables
from wsss_jax.training.checkpoints import Restored, steps
from wsss_jax.training.initial import calibrate, fresh_variables
from wsss_jax.training.loop import Plan
from wsss_jax.training.metrics import log_interval

LOGS = "segmentation"  # folder in logs/
_COCO_ROWS = 91  # of the classifier in a start file that was trained on COCO's masks


def train_seg(run: Run) -> None:
    """Trains or goes on training, unless `segmentation.checkpoint` names weights.

    Raises:
      DataError: masks cannot be used; told before the first step.
      RunError: there are no pseudo masks yet, or the folder holds a network of other masks or settings.
      ConfigError: batches cannot be divided among the devices.
    """
    config, settings = run.config, run.config.segmentation
    if is_path(settings.checkpoint):
        return run.say(f"train_seg: {settings.checkpoint}")
    parts = (config.accumulation, jax.device_count(), jax.process_count())
    check_batch_size(settings.batch_size, *parts, key="segmentation.batch_size")
    (masks, ids), task = training_masks(run), segmentation_task(run)
    found = census(masks, ids, config.loader.threads)
    run.say(
        f"train_seg: {len(ids)} masks of {masks.place}: {describe_shares(found.shares, run.source.classes)}"
    )
    made = {"list_sha256": sha256(ids), "masks_sha256": found.sha256, "masks": masks.place}
    record_provenance(run.layout.checkpoints(task.name), {**made, **_settings(run)}, "a segmentation network")
    sample = recipe(run).sample(run, masks)
    run_training(
        run,
        Training(
            task=task,
            ids=ids,
            sample=sample,
            plan=_plan(run, task, ids),
            optimizer=recipe(run).optimizer(config),
            logs=run.layout.logs / LOGS,
            start=lambda restored: _initial(run, task, sample, ids, restored),
            kept_group=settings.group_size,
        ),
    )


def segmenter(run: Run) -> System:
    """The system that `segmentation.network` names; ConfigError if it is not one that segments."""
    name, systems = run.config.segmentation.network, run.registry.systems
    fitting = [each for each in systems if run.registry.system(each).segmentation is not None]
    if name not in fitting:
        raise ConfigError(f"config.segmentation.network={name!r}: must be one of {', '.join(fitting)}")
    return run.registry.system(name)


def recipe(run: Run) -> SegmentationRecipe:
    """How that system's network learns to segment."""
    found = segmenter(run).segmentation
    assert found is not None
    return found


def segmentation_task(run: Run) -> SegmentationTask:
    """The task of the network that `segmentation.network` names."""
    return segmenter(run).make(run.config, len(run.source.classes))


def is_path(checkpoint: str) -> bool:
    """Whether `segmentation.checkpoint` names weights, and not nothing or a step."""
    return bool(checkpoint) and not checkpoint.isdigit()


def _plan(run: Run, task: SegmentationTask, ids: Sequence[str]) -> Plan:
    config, settings = run.config, run.config.segmentation
    # An epoch need not be a whole number of steps: DeepLab-v2's has 2117 groups, of which a step takes two.
    groups = groups_per_epoch(len(ids), settings.group_size)
    split = config.dataset.train_split if config.masks else config.dataset.infer_split
    full = " with true masks (full supervision)" if config.masks == TRUE else ""
    return Plan(
        batch_size=settings.batch_size,
        accumulation=config.accumulation,
        steps_per_epoch=max(1, round(groups * settings.group_size / settings.batch_size)),
        total_steps=settings.total_steps,
        seed=config.seed,
        log_every=log_interval(config.log.every_steps, settings.total_steps),
        save_every=config.checkpoint.every_steps,
        stage="train_seg",
        rate_key="segmentation.learning_rate",
        meta={
            **describe(run, task),
            "network": run.config.segmentation.network,
            "refines": run.system is not segmenter(run),
            "start": start_of(run),
            "trained_on": {"split": f"{split_name(split)}{full}", "list_sha256": sha256(ids)},
        },
    )


def start_of(run: Run) -> str:
    """What the network starts from, for every score: weights that have seen masks are extra supervision."""
    start = run.config.segmentation.init_from
    if start == "scratch":
        return "scratch"
    name = start.rstrip("/").rpartition("/")[2]
    return f"{name} (COCO's masks: extra supervision)" if _has_seen_masks(start) else name


def _has_seen_masks(path: str) -> bool:
    """By its classifier, or by its name where it has none."""
    try:
        head = files.read_tensors(path).get("fc.weight")
    except (CheckpointError, OSError):
        head = None  # a folder, or what `load_variables` will tell of
    return len(head) == _COCO_ROWS if head is not None else "coco" in path.lower()


def _settings(run: Run) -> dict[str, Any]:
    """What training depends on, of the network and of section `segmentation`; it may change between runs of
    other stages."""
    known = run.config.segmentation.to_dict()
    later = ("checkpoint", "infer_batch_size", "max_buckets", "crf", "crf_image", "absent_classes")
    network = run.config[segmenter(run).name].to_dict()
    made = {**{key: value for key, value in known.items() if key not in later}, **network}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in made.items()}


def _initial(
    run: Run, task: SegmentationTask, sample: MakeSample, ids: Sequence[str], restored: Restored | None
) -> Variables:
    if restored is not None:
        return restored.networks
    (network,), start = task.networks.values(), run.config.segmentation.init_from
    if start != "scratch":
        return {task.name: load_variables(run, start, network, ignore=other_heads(network))}
    count = min(run.config.segmentation.batch_size * run.config.model.calibration_batches, len(ids))
    seed, threads = run.config.seed, run.config.loader.threads
    with BatchLoader(sample, ids, batch_size=count, seed=seed, threads=threads) as loader:
        batch: dict[str, np.ndarray] = next(loader)
    variables = fresh_variables(network, seed)
    return {task.name: calibrate(network, variables, batch["image"], batch["box"])}


def weights(run: Run) -> dict[str, str]:
    """Its own, which make training needless, or where it starts, unless it goes on."""
    settings = run.config.segmentation
    if is_path(settings.checkpoint) or steps(run.layout.checkpoints(segmentation_task(run).name)):
        return {"segmentation.checkpoint": settings.checkpoint}
    return {"segmentation.init_from": settings.init_from}


def room(run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes of the checkpoints that are not there yet."""
    if is_path(run.config.segmentation.checkpoint):
        return {}
    task = segmentation_task(run)
    (network,) = task.networks.values()
    return {"checkpoints": checkpoint_bytes(run.layout.checkpoints(task.name), network)}


def check(run: Run) -> None:
    """ConfigError or DataError if a folder of masks that was named lacks some."""
    check_logging(run)
    segmenter(run)
    if run.config.masks and not is_path(run.config.segmentation.checkpoint):
        check_there(*training_masks(run))


TRAIN_SEG = Stage(
    name="train_seg",
    function=train_seg,
    reads=lambda config: () if config.masks else (INFER_SPLIT,),
    weights=weights,
    room=room,
    check=check,
    all_hosts=True,
    training=("segmentation network", LOGS),
)
