"""Stage `train_affinity`: AffinityNet on the CRF scores of the images whose CAMs are to be refined."""

from collections.abc import Sequence
from typing import Any

from wsss_jax.errors import ConfigError, RunError
from wsss_jax.files import is_whole
from wsss_jax.runs.context import Run, require_cams
from wsss_jax.runs.provenance import read_provenance
from wsss_jax.stages.networks import classifier_path, load_variables, other_heads
from wsss_jax.stages.refiner import Lesson, Refiner
from wsss_jax.stages.samples import recipe
from wsss_jax.stages.train import psa_optimizer
from wsss_jax.systems.affinity.labels import AffinitySample
from wsss_jax.systems.affinity.make import affinity_net
from wsss_jax.systems.affinity.pairs import check_pairs
from wsss_jax.systems.affinity.task import Affinity
from wsss_jax.task import Variables
from wsss_jax.training.checkpoints import Restored, steps


def lesson(run: Run, ids: tuple[str, ...]) -> Lesson:
    """What AffinityNet learns from.

    Raises:
      RunError: CRF scores are missing, or have nothing to teach.
    """
    config, settings = run.config, run.config.affinity
    method, sample = affinity_net(config), affinity_sample(run, ids)
    check_pairs(sample, ids, settings.radius)
    return Lesson(
        sample=sample,
        made_of=_made_of(run),
        optimizer=lambda total: psa_optimizer(config, settings.learning_rate, settings.new_layers, total),
        start=lambda restored: _initial(run, method, restored),
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


def _made_of(run: Run) -> dict[str, Any]:
    """What AffinityNet is trained with; section `affinity` may change between runs of other stages."""
    split, settings = run.config.dataset.infer_split, run.config.affinity
    low, high = (
        read_provenance(run.layout.crfs(split, alpha)) for alpha in (settings.alpha_low, settings.alpha_high)
    )
    crf = {"cam_weights_sha256": low["weights_sha256"], "crf_low": low["crf"], "crf_high": high["crf"]}
    return {**crf, **settings.to_dict()}


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


REFINER = Refiner(
    title="AffinityNet",
    stage="train_affinity",
    section="affinity",
    checkpoint="walk.checkpoint",
    make=affinity_net,
    lesson=lesson,
)
TRAIN_AFFINITY = REFINER.declared()
