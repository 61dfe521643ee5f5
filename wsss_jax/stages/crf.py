"""Stages `crf` and `eval_crf`: CAMs refined by a dense CRF, for each exponent of the background score."""

import contextlib
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from wsss_jax.data.class_maps import ClassMaps, read_maps, write_maps
from wsss_jax.data.lists import split_name
from wsss_jax.errors import DataError, RunError
from wsss_jax.evaluation import ConfusionMatrix, labels_from_scores, summarise_labels
from wsss_jax.files import is_whole
from wsss_jax.inference.buckets import Size, plan_buckets
from wsss_jax.refinement import native
from wsss_jax.refinement.energies import binarised_energies, cam_energies
from wsss_jax.refinement.jobs import CamJobs, Refined, Refused
from wsss_jax.refinement.settings import CrfSettings
from wsss_jax.refinement.stream import CrfStream, StreamSettings
from wsss_jax.runs.context import EVAL_SPLIT, INFER_SPLIT, Facts, Run, Stage, require, require_cams
from wsss_jax.runs.layout import alpha_name
from wsss_jax.runs.provenance import read_provenance, record_provenance
from wsss_jax.runs.scored import CRF as CRF_LABELS
from wsss_jax.runs.scored import Scored
from wsss_jax.runs.space import map_bytes
from wsss_jax.settings import made_of
from wsss_jax.stages.batches import write_results
from wsss_jax.stages.evaluate import provenance, with_masks, write_metrics
from wsss_jax.stages.refused import refusal, without_refused


def crf(run: Run) -> None:
    """Refines the CAMs of `dataset.infer_split` that are not refined yet, for every alpha of `crf.alphas`.

    An image whose CAM file is damaged or does not fit is refused by name; the others are refined all the
    same.

    Raises:
      RunError: there are no CAMs, the folder holds scores of other settings, or images were refused.
    """
    split, ids = run.config.dataset.infer_split, run.ids(run.config.dataset.infer_split)
    _record(run, split)
    own = ids[jax.process_index() :: jax.process_count()]
    alphas = [a for a in run.config.crf.alphas if not all(_is_done(run, split, a, i) for i in own)]
    todo = [i for i in own if not all(_is_done(run, split, a, i) for a in alphas)]
    name = f"crf {split_name(split)}"
    if not todo:
        return run.say(f"{name}: done already")
    energies = functools.partial(_energies(run.config), alphas=alphas)
    write = functools.partial(_write, run, split, alphas)
    refine_cams(run, name, crf_settings(run.config), own, todo, energies, write, f"alphas {_text(alphas)}, ")


def refine_cams(
    run: Run,
    name: str,
    settings: CrfSettings,
    own: Sequence[str],
    todo: Sequence[str],
    energies: Callable[[np.ndarray], np.ndarray],
    write: Callable[[Refined], None],
    how: str = "",
) -> None:
    """Refines the CAMs of images by dense CRFs, and shows the progress.

    Args:
      run: whose section `crf` says how to compute.
      name: of stage and split.
      settings: the CRF.
      own: this host's images.
      todo: those of them that are left.
      energies: float32[A, K + 1, H, W] of CAMs float32[K, H, W] with K at least 1; picklable.
      write: writes one result.
      how: what else there is to say.

    Raises:
      RunError: images were refused, when all others are done.
    """
    split, stage = run.config.dataset.infer_split, name.split()[0]
    stream = CrfStream(stream_settings(run.config, settings), run.local_mesh)
    run.say(f"{name}: {len(run.ids(split))} images, {how}{stream.backend}")
    path, classes = functools.partial(run.layout.cam, split), len(run.source.classes)
    load = CamJobs(run.source.image, path, energies, classes)
    refused: list[Refused] = []
    buckets = buckets_of(run, own) if stream.backend == "jax" else []
    results = stream.refine(load, todo, buckets)
    sound = without_refused(results, refused, lambda text: run.say(f"{stage}: {text}"))
    rate = write_results(stage, len(own), len(own) - len(todo), sound, write)
    run.say(f"{name}: {rate:.1f} images/s, {stream.program.compiled} compiled program(s)")
    if refused:
        raise RunError(refusal(name, refused, len(own)))


def eval_crf(run: Run) -> None:
    """Evaluates the argmax of the scores of `dataset.eval_split` for every alpha, and writes its metrics.

    As in OC-CSE, a class that an image does not have is a plane of zeros.
    """
    for alpha in run.config.crf.alphas:
        _evaluate(run, alpha)


def stream_settings(config: ConfigDict, settings: CrfSettings) -> StreamSettings:
    """How section `crf` of the configuration has CRFs computed."""
    section = config.crf
    return StreamSettings(
        crf=settings,
        backend=section.backend,
        batch_size=section.batch_size,
        workers=section.workers,
        threads=config.loader.threads,
    )


def crf_settings(config: ConfigDict) -> CrfSettings:
    """The kernels and iterations of section `crf`."""
    return made_of(CrfSettings, config.crf)


def _energies(config: ConfigDict) -> Callable[..., np.ndarray]:
    """Energies float32[A, K + 1, H, W] of CAMs float32[K, H, W] and `alphas`."""
    return binarised_energies if config.crf.binarised else cam_energies


def _record(run: Run, split: str) -> None:
    """Says beside the scores which CAMs and settings they were made with, or checks it."""
    cams, kernels = read_provenance(require_cams(run).parent), crf_settings(run.config).describe()
    if run.config.crf.binarised:
        kernels += ", of maps of 0 and 255"
    if run.config.crf.storage != "float32":
        kernels += f", stored as {run.config.crf.storage}"
    for alpha in run.config.crf.alphas:
        settings = {**cams, "crf": f"alpha {alpha:g}, {kernels}"}
        record_provenance(run.layout.crfs(split, alpha), settings, "CRF scores")


def _is_done(run: Run, split: str, alpha: float, image_id: str) -> bool:
    return is_whole(run.layout.crf(split, alpha, image_id))


def buckets_of(run: Run, ids: Sequence[str]) -> list[Size]:
    """Padded sizes for the images of the whole list, so that a resumed run pads alike."""
    sizes = []
    for image_id in ids:
        with contextlib.suppress(DataError):  # told when the image is read
            sizes.append(run.source.size(image_id))
    return plan_buckets(sizes, run.config.crf.max_buckets)


def _write(run: Run, split: str, alphas: Sequence[float], result: Refined) -> None:
    for alpha, maps in zip(alphas, result.maps, strict=True):
        write_maps(run.layout.crf(split, alpha, result.image_id), maps, run.config.crf.storage)


def _read(run: Run, image_id: str, size: tuple[int, ...], alpha: float) -> ClassMaps:
    """What a CRF has made of an image's CAMs; DataError if it cannot be used."""
    path = run.layout.crf(run.config.dataset.infer_split, alpha, image_id)
    return read_maps(path, image_id, size, background=True, stage="crf")


def _evaluate(run: Run, alpha: float) -> None:
    stage, split = f"eval_crf_{alpha_name(alpha)}", run.config.dataset.infer_split
    settings_file = run.layout.crfs(split, alpha) / "settings.json"
    require(settings_file, f"CRF scores at alpha {alpha:g}", "crf")
    confusion = ConfusionMatrix(num_classes=len(run.source.classes))
    for image_id, scores, mask in with_masks(run, stage, functools.partial(_read, alpha=alpha)):
        labels = labels_from_scores(scores, confusion.num_classes, image_id=image_id)
        confusion.add(labels, mask, image_id=image_id)
    made = provenance(run, stage, settings_file)
    absent = run.config.eval.absent_classes
    write_metrics(run, stage, summarise_labels(confusion, provenance=made, absent_classes=absent))


def _text(alphas: Sequence[float]) -> str:
    return " ".join(f"{alpha:g}" for alpha in alphas)


def room(run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes of the scores that are not there yet."""
    split, total = run.config.dataset.infer_split, 0
    for alpha in run.config.crf.alphas:
        path = functools.partial(run.layout.crf, split, alpha)
        total += map_bytes(run, facts, path, storage=run.config.crf.storage)
    return {"CRF scores": total}


def check_backend(run: Run) -> None:
    """ConfigError if pydensecrf is chosen and not installed."""
    if run.config.crf.backend == "pydensecrf":
        native.check_installed()


def scored(run: Run, name: str, metrics: dict[str, Any]) -> Scored | None:
    """The labels of one alpha; None if the name has none."""
    found = re.fullmatch(r"eval_crf_alpha_(\d+(?:\.\d+)?)", name)
    if not found:
        return None
    alpha = float(found[1])
    there = run.layout.crfs(run.config.dataset.infer_split, alpha).is_dir()
    read = functools.partial(_labels, run, alpha) if there else None
    return Scored(f"CRF, alpha {alpha:g}", CRF_LABELS, metrics, read, order=alpha)


def _labels(run: Run, alpha: float, image_id: str) -> np.ndarray:
    scores = _read(run, image_id, run.source.size(image_id), alpha)
    return labels_from_scores(scores, len(run.source.classes), image_id=image_id)


CRF = Stage(
    name="crf",
    function=crf,
    reads=lambda config: (INFER_SPLIT,),
    room=room,
    check=check_backend,
    all_hosts=True,
)
EVAL_CRF = Stage(
    name="eval_crf", function=eval_crf, reads=lambda config: (INFER_SPLIT, EVAL_SPLIT), scored=scored
)
REFINEMENT = (CRF, EVAL_CRF)
