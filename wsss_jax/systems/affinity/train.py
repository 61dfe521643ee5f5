"""Stage `train_affinity`: AffinityNet on the CRF scores of the images whose CAMs are to be refined."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from wsss_jax.data.lists import sha256, split_name
from wsss_jax.data.loader import steps_per_epoch
from wsss_jax.errors import ConfigError, RunError
from wsss_jax.files import is_whole
from wsss_jax.runs.context import INFER_SPLIT, Facts, Run, Stage, require_cams
from wsss_jax.runs.provenance import FILE, read_provenance, record_provenance
from wsss_jax.runs.space import checkpoint_bytes
from wsss_jax.sharding import check_batch_size
from wsss_jax.stages.networks import classifier_path, load_variables, other_heads, step_folder
from wsss_jax.stages.samples import recipe
from wsss_jax.stages.train import Training, check_logging, describe, psa_optimizer, run_training
from wsss_jax.systems.affinity.labels import AffinitySample
from wsss_jax.systems.affinity.make import affinity_net
from wsss_jax.systems.affinity.pairs import check_pairs
from wsss_jax.systems.affinity.task import Affinity
from wsss_jax.task import Variables
from wsss_jax.training.checkpoints import Restored, digest, read_meta, restore, steps
from wsss_jax.training.loop import Plan
from wsss_jax.training.metrics import log_interval

_LOGS = "affinity"  # folder in logs/


def train_affinity(run: Run) -> None:
    """Trains or goes on training, unless `walk.checkpoint` names weights.

    Raises:
      RunError: CRF scores are missing, or have nothing to teach.
      ConfigError: batches cannot be divided among the devices, or `affinity.init_from` means nothing.
    """
    config, settings = run.config, run.config.affinity
    if config.walk.checkpoint:
        return run.say(f"train_affinity: {config.walk.checkpoint}")
    parts = (config.accumulation, jax.device_count(), jax.process_count())
    check_batch_size(settings.batch_size, *parts, key="affinity.batch_size")
    ids = run.ids(config.dataset.infer_split)
    method, sample = affinity_net(config), affinity_sample(run, ids)
    check_pairs(sample, ids, settings.radius)
    record_provenance(run.layout.checkpoints(method.name), _provenance(run, ids), "AffinityNet's checkpoints")
    per_epoch = steps_per_epoch(len(ids), settings.batch_size)
    plan = Plan(
        batch_size=settings.batch_size,
        accumulation=config.accumulation,
        steps_per_epoch=per_epoch,
        total_steps=per_epoch * settings.total_epochs,
        seed=config.seed,
        log_every=log_interval(config.log.every_steps, per_epoch * settings.total_epochs),
        save_every=config.checkpoint.every_steps,
        stage="train_affinity",
        rate_key="affinity.learning_rate",
        meta={**describe(run, method), "refines": True},
    )
    run_training(
        run,
        Training(
            task=method,
            ids=ids,
            sample=sample,
            plan=plan,
            optimizer=psa_optimizer(config, settings.learning_rate, settings.new_layers, plan.total_steps),
            logs=run.layout.logs / _LOGS,
            start=lambda restored: _initial(run, method, restored),
        ),
    )


def affinity_sample(run: Run, ids: Sequence[str]) -> AffinitySample:
    """What is made of each image; RunError if the CRF scores of one are missing."""
    split, settings, augment = run.config.dataset.infer_split, run.config.affinity, recipe(run.config)
    alphas = (settings.alpha_low, settings.alpha_high)
    for alpha in alphas:
        for image_id in ids:
            path = run.layout.crf(split, alpha, image_id)
            if not is_whole(path):
                require_cams(run)
                raise RunError(
                    f"{path}: there are no CRF scores of image {image_id!r} at alpha {alpha:g}; run the "
                    "stage crf first, with this alpha in --config.crf.alphas"
                )
    low, high = (run.layout.crfs(split, alpha) for alpha in alphas)
    return AffinitySample(
        source=run.source,
        low=low,
        high=high,
        crop=settings.crop,
        flip=augment.flip,
        jitter=augment.jitter,
    )


def affinity_variables(run: Run, method: Affinity) -> tuple[Variables, dict[str, Any]]:
    """AffinityNet's weights for the walk, and what is known of them.

    That is `weights_sha256`, and `trained_on` with the name and the hash of the list of images, which is
    empty where the weights do not tell, such as those of psa's program.

    Raises:
      RunError: none are trained yet.
      CheckpointError: they are damaged or of another network.
    """
    if run.config.walk.checkpoint:
        place = run.config.walk.checkpoint
        variables = load_variables(run, place, method.network, complete=True)
        return variables, {"weights_sha256": digest(variables), **_trained_on(place)}
    folder = run.layout.checkpoints(method.name)
    saved = steps(folder)
    if not saved:
        raise RunError(f"{folder}: AffinityNet is not trained yet; run the stage train_affinity first")
    restored = restore(folder / str(saved[-1]))
    run.say(f"weights: affinity of step {restored.step} ({restored.meta['epochs']:g} epochs)")
    known = {"weights_sha256": restored.meta["digest"]["variables"], **_trained_on(folder)}
    return restored.variables, known


def _trained_on(place: str | Path) -> dict[str, Any]:
    """Which images weights were trained on, if they are of a run of this program."""
    split = images = None
    path = Path(place).expanduser()
    if path.is_dir():
        step = step_folder(path)
        split = json.loads(read_meta(step).get("config", "{}")).get("dataset", {}).get("infer_split")
        folder = Path(step.parent)
        images = read_provenance(folder)["list_sha256"] if (folder / FILE).exists() else None
    known = {"AffinityNet": {"split": split_name(split), "list_sha256": images}} if split else {}
    return {"trained_on": known}


def _provenance(run: Run, ids: Sequence[str]) -> dict[str, Any]:
    """What AffinityNet is trained with; section `affinity` may change between runs of other stages."""
    split, settings = run.config.dataset.infer_split, run.config.affinity
    low, high = (
        read_provenance(run.layout.crfs(split, alpha)) for alpha in (settings.alpha_low, settings.alpha_high)
    )
    crf = {"cam_weights_sha256": low["weights_sha256"], "crf_low": low["crf"], "crf_high": high["crf"]}
    return {"list_sha256": sha256(ids), **crf, **settings.to_dict()}


def _initial(run: Run, method: Affinity, restored: Restored | None) -> Variables:
    if restored is not None:
        return restored.networks
    start, network = run.config.affinity.init_from, method.network
    ignore = other_heads(network)
    if start in ("trained", "classifier"):
        # Some CAM networks have branches of the same names and other meaning: only the trunk is taken over.
        path, ignore = _cam_network(run, start), ignore | set(network.heads)
    elif start == "scratch":
        raise ConfigError(
            "config.affinity.init_from='scratch': AffinityNet needs a trained trunk; give 'trained', "
            "'classifier' or the path of a checkpoint"
        )
    else:
        path = start
    return {method.name: load_variables(run, path, network, ignore=ignore)}


def _cam_network(run: Run, choice: str) -> str:
    """Where the network is whose CAMs are refined; for a method that trains none, the ordinary classifier."""
    if run.config.cams_from and choice == "trained":
        return run.config.cams_from
    trained = run.layout.checkpoints(run.method.name)
    return str(trained) if choice == "trained" and steps(trained) else classifier_path(run)


def weights(run: Run) -> dict[str, str]:
    """Its own, which make training needless, or where it starts, unless it goes on."""
    config = run.config
    if config.walk.checkpoint or steps(run.layout.checkpoints(affinity_net(config).name)):
        return {"walk.checkpoint": config.walk.checkpoint}
    return {"affinity.init_from": config.affinity.init_from}


def room(run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes of the checkpoints that are not there yet."""
    method = affinity_net(run.config)
    folder = run.layout.checkpoints(method.name)
    return {"checkpoints": 0 if run.config.walk.checkpoint else checkpoint_bytes(folder, method.network)}


TRAIN_AFFINITY = Stage(
    name="train_affinity",
    function=train_affinity,
    reads=lambda config: (INFER_SPLIT,),
    weights=weights,
    room=room,
    check=check_logging,
    all_hosts=True,
    refinement="random_walk",
    training=("AffinityNet", _LOGS),
)
