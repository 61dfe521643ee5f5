"""CAMs carried along what a trained network says of neighbouring positions, and the pseudo masks that they
give: what the stages of this kind share."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from ml_collections import ConfigDict

from wsss_jax.config import value_of
from wsss_jax.data.class_maps import ClassMaps, ImageMaps, read_maps, write_maps
from wsss_jax.data.images import palette_png
from wsss_jax.data.lists import sha256, split_name
from wsss_jax.data.pool import map_ordered
from wsss_jax.errors import RunError
from wsss_jax.files import is_whole, write_bytes, write_json
from wsss_jax.inference.predict import InferenceSettings
from wsss_jax.interrupt import stop_here
from wsss_jax.progress import Progress
from wsss_jax.refinement.jobs import Attempt, Refused
from wsss_jax.refinement.pseudo import foreground
from wsss_jax.refinement.walk import WalkSettings
from wsss_jax.refinement.walker import Walk, Walker, WalkInput
from wsss_jax.report import Figure
from wsss_jax.runs.context import INFER_SPLIT, Facts, Run, Stage, require_cams
from wsss_jax.runs.provenance import FILE, read_provenance, record_provenance
from wsss_jax.runs.space import map_bytes
from wsss_jax.stages.batches import own_batches, write_batches
from wsss_jax.stages.evaluate import Size
from wsss_jax.stages.refused import refusal, without_refused
from wsss_jax.task import Variables

SHARE, SCORE = "share", "background score"  # what the threshold of masks is: see `refinement.pseudo`


@dataclass(frozen=True, kw_only=True)
class Propagation:
    """What tells one stage of this kind from another.

    Attributes:
      stage: its name.
      section: of the configuration, from `refinement.settings.walk_section`.
      checkpoint: key of the setting that names weights which need no training.
      level: SHARE where background is carried along like a class, else SCORE.
      make: the network and the walk.
      variables: the network's, and what is known of them for the provenance.
      seeds: what is carried along, of an image of a size at a stride.
      settings: keys of the configuration that the scores depend on.
      draw: draws something else once there are new scores, on the first host.
      figures: see `Stage`.
    """

    stage: str
    section: str
    checkpoint: str
    level: str
    make: Callable[[ConfigDict], Walk]
    variables: Callable[[Run], tuple[Variables, dict[str, Any]]]
    seeds: Callable[[Run, str, Size, int], ClassMaps]
    settings: tuple[str, ...]
    draw: Callable[[Run, Any, Variables], None] = lambda run, walk, variables: None
    figures: Callable[[Run], Iterable[Figure]] = lambda run: ()

    def declared(self) -> Stage:
        """The stage."""
        return Stage(
            name=self.stage,
            function=functools.partial(propagate, self),
            reads=lambda config: (INFER_SPLIT,),
            weights=lambda run: {self.checkpoint: value_of(run.config, self.checkpoint)},
            room=functools.partial(_room, self),
            all_hosts=True,
            refining=True,
            figures=self.figures,
        )


def propagate(by: Propagation, run: Run) -> None:
    """Propagates the CAMs that are left, and draws the masks that are missing or of another level.

    Raises:
      RunError: the folder holds scores of other weights or settings, or some CAMs cannot be used (at the end,
        when all others are done).
    """
    split, walk = run.config.dataset.infer_split, by.make(run.config)
    ids, name = run.ids(split), f"{by.stage} {split_name(split)}"
    require_cams(run)
    variables, known = by.variables(run)
    record_provenance(
        run.layout.propagated(split), _provenance(by, run, walk.stride, ids, known), "propagated scores"
    )
    plan, path = _plan_settings(by, run), functools.partial(run.layout.pseudo_scores, split)
    batches, todo = own_batches(run, ids, plan, path)
    own = [image_id for batch in batches for image_id in batch.image_ids]
    refused: list[Refused] = []
    if todo:
        run.say(f"{name}: {len(ids)} images, {walk.settings.describe()}")
        walker = Walker(walk, run.local_mesh, plan)
        load = Attempt(functools.partial(_load, by, run, walk.stride))
        results = walker.walk(variables, todo, load, run.config.loader.threads)
        done = without_refused(results, refused, lambda text: run.say(f"{by.stage}: {text}"))
        rate = write_batches(by.stage, batches, todo, done, functools.partial(write_scores, run))
        run.say(f"{name}: {rate:.1f} images/s, {walker.compiled} compiled program(s)")
    _draw_masks(by, run, own)
    if todo and jax.process_index() == 0:
        by.draw(run, walk, variables)
    if refused:
        raise RunError(refusal(name, refused, len(own)))


def walk_settings(section: ConfigDict) -> WalkSettings:
    """How far the walk of a section goes."""
    return WalkSettings(beta=section.beta, logt=section.logt, method=section.method)


def read_foreground(run: Run, image_id: str, size: Size) -> ClassMaps:
    """What the threshold of masks is compared with, for each class of an image of a size, at that size."""
    split = run.config.dataset.infer_split
    made = read_provenance(run.layout.propagated(split))
    stride, background = made["stride"], made["level"] == SHARE
    positions = (-(-size[0] // stride), -(-size[1] // stride))
    path = run.layout.pseudo_scores(split, image_id)
    return foreground(
        read_maps(path, image_id, positions, background=background, stage=made["stage"]), stride, size
    )


def write_scores(run: Run, result: ImageMaps) -> None:
    """Writes the propagated scores of an image."""
    write_maps(run.layout.pseudo_scores(run.config.dataset.infer_split, result.image_id), result.maps)


def draw_mask(run: Run, level: float, image_id: str) -> None:
    """Draws the pseudo mask of an image's propagated scores."""
    mask = read_foreground(run, image_id, run.source.size(image_id)).labels(level)
    write_bytes(run.layout.pseudo(run.config.dataset.infer_split, image_id), palette_png(mask))


def _load(by: Propagation, run: Run, stride: int, image_id: str) -> WalkInput:
    """Reads an image and its CAMs; DataError if they cannot be used."""
    image = run.source.image(image_id)
    return WalkInput(image_id, image, by.seeds(run, image_id, image.shape[:2], stride))


def _plan_settings(by: Propagation, run: Run) -> InferenceSettings:
    section = value_of(run.config, by.section)
    return InferenceSettings(
        scales=(1.0,),
        flip=False,
        class_filter="given",
        batch_size=section.batch_size,
        max_buckets=section.max_buckets,
    )


def _draw_masks(by: Propagation, run: Run, ids: Sequence[str]) -> None:
    """Draws the masks of all images that have scores; those that are there stay if they are of this level."""
    split, level = run.config.dataset.infer_split, value_of(run.config, by.section).fixed_threshold
    note = run.layout.pseudos(split) / FILE
    made_of = {**read_provenance(run.layout.propagated(split)), "threshold": level}
    fresh = note.exists() and read_provenance(note.parent) == made_of
    todo = [
        image_id
        for image_id in ids
        if run.layout.pseudo_scores(split, image_id).exists()
        and not (fresh and is_whole(run.layout.pseudo(split, image_id)))
    ]
    line = Progress("masks", len(todo))
    draw = functools.partial(draw_mask, run, level)
    for done, _ in enumerate(map_ordered(draw, todo, threads=run.config.loader.threads), 1):
        line.update(done)
        stop_here(f"{by.stage} has drawn {done} of {len(todo)} masks")
    line.end()
    if jax.process_index() == 0:
        write_json(note, made_of)


def _provenance(
    by: Propagation, run: Run, stride: int, ids: Sequence[str], known: dict[str, Any]
) -> dict[str, Any]:
    """What the scores were made with: how the CAMs were, the network's weights, and the walk."""
    cams = read_provenance(run.layout.cams(run.config.dataset.infer_split))
    return {
        **cams,
        "list_sha256": sha256(ids),
        "cam_weights_sha256": cams["weights_sha256"],
        **known,
        "stage": by.stage,
        "section": by.section,
        "level": by.level,
        "stride": stride,
        **{key.replace(".", "_"): value_of(run.config, key) for key in by.settings},
    }


def _room(by: Propagation, run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes of the scores that are not there yet."""
    path = functools.partial(run.layout.pseudo_scores, run.config.dataset.infer_split)
    pixels = map_bytes(run, facts, path, by.level == SHARE)
    return {"propagated scores": pixels // by.make(run.config).stride ** 2}
