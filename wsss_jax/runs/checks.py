"""What can be known before a run starts is checked before it starts, not after hours of training."""

import importlib.util
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from etils import epath

from wsss_jax.config import flatten
from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.refinement import native
from wsss_jax.stages.classifier import classifier_config
from wsss_jax.runs.context import Run
from wsss_jax.training.checkpoints import steps

_SHOWN = 3  # images that a message quotes
_WORDS = ("", "none", "scratch", "classifier", "trained", "best", "last")  # values that are no paths
# What each stage reads: images of the training split, of the split that CAMs are made of, masks.
_TRAINING = ("rounds", "features", "cluster", "train")
_INFERRING = ("split", "infer_cam", "crf", "train_affinity", "random_walk")
_SCORING = ("eval_cam", "eval_crf", "eval_pseudo")


@dataclass(frozen=True)
class Facts:
    """What is known of an image without decoding it."""

    size: tuple[int, int]  # H, W
    classes: int | None  # how many it shows by its labels; None where these are not used


def check_start(run: Run, stages: Sequence[str]) -> dict[str, Facts]:
    """Checks packages, weights, images, labels and masks that the stages will need.

    Returns:
      The facts about each image of `dataset.infer_split` where a stage needs it, in the split's order.

    Raises:
      ConfigError: a package is not installed, or there is no file of weights.
      DataError: images or labels cannot be read, or there are no masks to evaluate against.
    """
    _check_packages(run, stages)
    _check_weights(run, stages)
    training, inferring, scoring = splits_of(run, stages)
    trained = run.ids(training) if training else ()
    inferred = run.ids(inferring) if inferring else ()
    given = inferred if run.config.cam.class_filter == "given" else ()
    facts = _facts(run, tuple(dict.fromkeys((*trained, *inferred))), {*trained, *given})
    if trained and all(facts[image_id].classes == 0 for image_id in trained):
        raise DataError(f"split {training!r}: none of its {len(trained)} images shows a class; label some")
    if scoring:
        _check_masks(run, run.ids(scoring), inferred if set(_SCORING) & set(stages) else ())
    return {image_id: facts[image_id] for image_id in inferred}


def splits_of(run: Run, stages: Sequence[str]) -> tuple[str, str, str]:
    """The splits that the stages train on, make maps of and score; '' for none."""
    dataset, wanted = run.config.dataset, set(stages)
    training = wanted & set(_TRAINING) or ("classifier" in wanted and not run.config.classifier_from)
    inferring = "classifier" in wanted or wanted & {*_INFERRING, *_SCORING}
    scoring = wanted & set(_SCORING) or ("train" in wanted and run.config.eval.every_epochs)
    return (
        dataset.train_split if training else "",
        dataset.infer_split if inferring else "",
        dataset.eval_split if scoring else "",
    )


def _check_packages(run: Run, stages: Sequence[str]) -> None:
    """ConfigError for an optional package that is configured but not installed."""
    trains = {"classifier", "rounds", "train", "train_affinity"} & set(stages)
    if run.config.log.tensorboard and trains and importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError(
            "config.log.tensorboard=True needs tensorboardX; pip install 'wsss-jax[tensorboard]'"
        )
    if run.config.crf.backend == "pydensecrf" and "crf" in stages:
        native.check_installed()


def _check_weights(run: Run, stages: Sequence[str]) -> None:
    """ConfigError for weights that a stage will read and that are not there."""
    config, wanted = run.config, set(stages)
    untrained = [name for name in (run.method.trained, "affinity") if not steps(run.layout.checkpoints(name))]
    needed = {
        "init_from": "train" in wanted and run.method.trained in untrained,
        "classifier_from": bool(wanted & {"classifier", "rounds", "features", "train"}),
        "cam.checkpoint": "infer_cam" in wanted,
        "walk.checkpoint": bool(wanted & {"train_affinity", "random_walk"}),
        "affinity.init_from": "train_affinity" in wanted
        and not config.walk.checkpoint
        and "affinity" in untrained,
    }
    paths = {key: dict(flatten(config))[key] for key, reads in needed.items() if reads}
    if "classifier" in wanted and not config.classifier_from:
        paths["classifier.init_from"] = classifier_config(config).init_from
    for key, path in paths.items():
        if path not in _WORDS and not path.isdigit() and not epath.Path(path).expanduser().exists():
            raise ConfigError(
                f"config.{key}={path!r}: there is no such file or folder; docs/checkpoints.md tells where "
                "published weights are"
            )


def _facts(run: Run, ids: Sequence[str], labelled: Collection[str]) -> dict[str, Facts]:
    """Reads headers, and labels where wanted, in threads; DataError counts what is not usable."""
    drawn = run.source.name == "shapes"  # cannot be damaged, and labels take as long as pictures

    def look(image_id: str) -> Facts | str:
        try:
            size, known = run.source.size(image_id), image_id in labelled and not drawn
            return Facts(size, int(run.source.labels(image_id).sum()) if known else None)
        except DataError as error:
            return str(error)

    found = dict(zip(ids, map_ordered(look, ids, threads=run.config.loader.threads), strict=True))
    bad = [reason for reason in found.values() if isinstance(reason, str)]
    if bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DataError(f"{len(bad)} of {len(ids)} images cannot be used: {'; '.join(bad[:_SHOWN])}{more}")
    return {image_id: fact for image_id, fact in found.items() if isinstance(fact, Facts)}


def _check_masks(run: Run, ids: Sequence[str], inferred: Sequence[str]) -> None:
    """DataError unless all images that are scored have masks; ConfigError unless they have maps, too."""
    split = run.config.dataset.eval_split
    without = [image_id for image_id in ids if not run.source.has_mask(image_id)]
    if without:
        raise DataError(
            f"{len(without)} of the {len(ids)} images of {split}, such as {without[0]!r}, have no mask to "
            "evaluate against; choose another --config.dataset.eval_split, or set "
            "--config.eval.every_epochs=0 and leave out the stages that evaluate"
        )
    outside = sorted(set(ids) - set(inferred)) if inferred else []
    if outside:
        raise ConfigError(
            f"config.dataset.eval_split={split!r}: {len(outside)} of its {len(ids)} images, such as "
            f"{outside[0]!r}, are not in infer_split={run.config.dataset.infer_split!r}, the list of maps; "
            "score a part of that, or choose another --config.dataset.infer_split"
        )
