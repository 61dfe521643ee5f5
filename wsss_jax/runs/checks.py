"""What can be known before a run starts is checked before it starts, not after hours of training."""

from collections.abc import Collection, Iterable, Sequence

from etils import epath

from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.runs.context import EVAL_SPLIT, INFER_SPLIT, SEG_SPLIT, TRAIN_SPLIT, Facts, Run, Stage
from wsss_jax.runs.opening import check
from wsss_jax.runs.parts import Part, parts

_SHOWN = 3  # images that a message quotes
_Seen = dict[tuple[str, str, bool], Facts | str]  # by data set, image, and whether labels were read
_WORDS = ("", "none", "scratch", "classifier", "trained", "best", "last")  # values that are no paths


def check_start(run: Run, stages: Sequence[Stage]) -> list[Part]:
    """Checks the folders of a run and of those within it, and the packages, weights, images, labels and masks
    that their stages will need.

    Returns:
      The run, and after it the runs within it, each with the facts about its images.

    Raises:
      ConfigError: a folder was made by another configuration, a package is not installed, or there is no file
        of weights.
      DataError: images or labels cannot be read, or there are no masks to evaluate against.
    """
    every, seen = list(parts(run, stages)), _Seen()
    for part in every:
        check(part.run)
        for stage in part.stages:
            stage.check(part.run)
            _check_weights(part, stage)
    return [part._replace(facts=_check_data(part, seen)) for part in every]


def split_of(part: Part, use: str) -> str:
    """The split that is trained on, or that maps are made of, or that is scored; '' if none is.

    Args:
      part: a run and its stages.
      use: TRAIN_SPLIT, INFER_SPLIT, EVAL_SPLIT or SEG_SPLIT.
    """
    read = any(use in stage.reads(part.run.config) for stage in part.stages)
    return part.run.config.dataset[use] if read else ""


def _check_weights(part: Part, stage: Stage) -> None:
    """ConfigError for weights that a stage will read and that are not there."""
    for key, path in stage.weights(part.run).items():
        if path not in _WORDS and not path.isdigit() and not epath.Path(path).expanduser().exists():
            raise ConfigError(
                f"config.{part.section}{key}={path!r}: there is no such file or folder; docs/checkpoints.md "
                "tells where published weights are"
            )


def _check_data(part: Part, seen: _Seen) -> dict[str, Facts]:
    run, training = part.run, split_of(part, TRAIN_SPLIT)
    trained, inferred, scored, segmented = (
        run.ids(split_of(part, use)) if split_of(part, use) else ()
        for use in (TRAIN_SPLIT, INFER_SPLIT, EVAL_SPLIT, SEG_SPLIT)
    )
    given = inferred if run.config.cam.class_filter == "given" else ()
    facts = _facts(run, tuple(dict.fromkeys((*trained, *inferred, *segmented))), {*trained, *given}, seen)
    if trained and all(facts[image_id].classes == 0 for image_id in trained):
        raise DataError(f"split {training!r}: none of its {len(trained)} images shows a class; label some")
    check_masks(run, scored)
    if any({INFER_SPLIT, EVAL_SPLIT} <= {*stage.reads(run.config)} for stage in part.stages):
        _check_maps(run, scored, inferred)
    return {image_id: facts[image_id] for image_id in inferred}


def _facts(run: Run, ids: Sequence[str], labelled: Collection[str], seen: _Seen) -> dict[str, Facts]:
    """Reads headers, and labels where wanted, in threads; DataError counts what is not usable.

    Images of the same data set that were seen before, for another run, are not read again.
    """
    drawn = run.source.name == "shapes"  # cannot be damaged, and labels take as long as images
    dataset = run.config.dataset
    data = f"{dataset.name} {dataset.root} {dataset.shapes}"

    def look(image_id: str) -> Facts | str:
        try:
            size, known = run.source.size(image_id), image_id in labelled and not drawn
            return Facts(size, int(run.source.labels(image_id).sum()) if known else None)
        except DataError as error:
            return str(error)

    keys = {image_id: (data, image_id, image_id in labelled) for image_id in ids}
    unseen = [image_id for image_id, key in keys.items() if key not in seen]
    for image_id, fact in zip(
        unseen, map_ordered(look, unseen, threads=run.config.loader.threads), strict=True
    ):
        seen[keys[image_id]] = fact
    found = {image_id: seen[key] for image_id, key in keys.items()}
    bad = [reason for reason in found.values() if isinstance(reason, str)]
    if bad:
        more = f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DataError(f"{len(bad)} of {len(ids)} images cannot be used: {'; '.join(bad[:_SHOWN])}{more}")
    return {image_id: fact for image_id, fact in found.items() if isinstance(fact, Facts)}


def check_masks(run: Run, ids: Sequence[str], key: str = EVAL_SPLIT) -> None:
    """DataError unless all images that are scored, those of a split of section `dataset`, have masks."""
    split = run.config.dataset[key]
    without = [image_id for image_id in ids if not run.source.has_mask(image_id)]
    if without:
        raise DataError(
            f"{len(without)} of the {len(ids)} images of {split}, such as {without[0]!r}, have no mask to "
            f"evaluate against; choose another --config.dataset.{key}, or set "
            "--config.eval.every_epochs=0 and leave out the stages that evaluate"
        )


def _check_maps(run: Run, scored: Iterable[str], inferred: Collection[str]) -> None:
    """ConfigError unless all images that are scored get maps."""
    dataset = run.config.dataset
    outside = sorted(set(scored) - set(inferred))
    if outside:
        raise ConfigError(
            f"config.dataset.eval_split={dataset.eval_split!r}: {len(outside)} of its {len(set(scored))} "
            f"images, such as {outside[0]!r}, are not in infer_split={dataset.infer_split!r}, the list of "
            "maps; score a part of that, or choose another --config.dataset.infer_split"
        )
