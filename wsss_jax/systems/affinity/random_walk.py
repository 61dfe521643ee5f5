"""Stage `random_walk`: CAMs carried along AffinityNet's affinities, and the pseudo masks that they give."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

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
from wsss_jax.refinement.pseudo import relative_foreground, walk_seeds
from wsss_jax.refinement.walk import WalkSettings
from wsss_jax.refinement.walker import Walker, WalkInput
from wsss_jax.runs.context import INFER_SPLIT, Facts, Run, Stage, require_cams
from wsss_jax.runs.provenance import FILE, read_provenance, record_provenance
from wsss_jax.runs.space import map_bytes
from wsss_jax.stages.batches import own_batches, write_batches
from wsss_jax.stages.evaluate import Size, read_cams
from wsss_jax.stages.refused import refusal, without_refused
from wsss_jax.systems.affinity.make import affinity_net
from wsss_jax.systems.affinity.train import affinity_variables


def random_walk(run: Run) -> None:
    """Propagates the CAMs that are left, and draws the masks that are missing or of another level.

    Raises:
      RunError: the folder holds scores of other weights or settings, or some CAMs cannot be used (at the end,
        when all others are done).
    """
    split, method = run.config.dataset.infer_split, affinity_net(run.config)
    ids, name = run.ids(split), f"random_walk {split_name(split)}"
    require_cams(run)
    variables, known = affinity_variables(run, method)
    record_provenance(run.layout.propagated(split), _provenance(run, ids, known), "propagated scores")
    plan, path = _plan_settings(run), functools.partial(run.layout.pseudo_scores, split)
    batches, todo = own_batches(run, ids, plan, path)
    own = [image_id for batch in batches for image_id in batch.image_ids]
    refused: list[Refused] = []
    if todo:
        run.say(f"{name}: {len(ids)} images, {_describe(run)}")
        walker = Walker(method.network, method.radius, walk_settings(run), run.local_mesh, plan)
        load = Attempt(functools.partial(load_input, run, method.network.stride))
        results = walker.walk(variables, todo, load, run.config.loader.threads)
        done = without_refused(results, refused, lambda text: run.say(f"random_walk: {text}"))
        rate = write_batches("random_walk", batches, todo, done, functools.partial(_write, run))
        run.say(f"{name}: {rate:.1f} images/s")
    _draw_masks(run, own)
    if refused:
        raise RunError(refusal(name, refused, len(own)))


def walk_settings(run: Run) -> WalkSettings:
    """Section `walk` of the configuration."""
    c = run.config.walk
    return WalkSettings(beta=c.beta, logt=c.logt, method=c.method)


def load_input(run: Run, stride: int, image_id: str) -> WalkInput:
    """Reads an image and its CAMs; DataError if they cannot be used."""
    image = run.source.image(image_id)
    maps = read_cams(run, image_id, image.shape[:2])
    return WalkInput(image_id, image, walk_seeds(maps, run.config.walk.alpha, stride))


def mask_of(run: Run, image_id: str) -> np.ndarray:
    """The pseudo mask uint8[H, W] of an image's propagated scores at `walk.fixed_threshold`."""
    shares = read_relative_foreground(run, image_id, run.source.size(image_id))
    return shares.labels(run.config.walk.fixed_threshold)


def read_relative_foreground(run: Run, image_id: str, size: Size) -> ClassMaps:
    """How far each class of an image of a size outweighs the background, at that size."""
    path = run.layout.pseudo_scores(run.config.dataset.infer_split, image_id)
    stride = affinity_net(run.config).network.stride
    positions = (-(-size[0] // stride), -(-size[1] // stride))
    scores = read_maps(path, image_id, positions, background=True, stage="random_walk")
    return relative_foreground(scores, stride, size)


def _plan_settings(run: Run) -> InferenceSettings:
    return InferenceSettings(
        scales=(1.0,),
        flip=False,
        class_filter="given",
        batch_size=run.config.walk.batch_size,
        max_buckets=run.config.cam.max_buckets,
    )


def _write(run: Run, result: ImageMaps) -> None:
    write_maps(run.layout.pseudo_scores(run.config.dataset.infer_split, result.image_id), result.maps)


def _draw_masks(run: Run, ids: Sequence[str]) -> None:
    """Draws the masks of all images that have scores; those that are there stay if they are of this level."""
    split, level = run.config.dataset.infer_split, run.config.walk.fixed_threshold
    note = run.layout.pseudos(split) / FILE
    made_of = {"level": level, **read_provenance(run.layout.propagated(split))}
    fresh = note.exists() and read_provenance(note.parent) == made_of
    todo = [
        image_id
        for image_id in ids
        if run.layout.pseudo_scores(split, image_id).exists()
        and not (fresh and is_whole(run.layout.pseudo(split, image_id)))
    ]
    line = Progress("masks", len(todo))
    draw = functools.partial(_draw, run)
    for done, _ in enumerate(map_ordered(draw, todo, threads=run.config.loader.threads), 1):
        line.update(done)
        stop_here(f"random_walk has drawn {done} of {len(todo)} masks")
    line.end()
    if jax.process_index() == 0:
        write_json(note, made_of)


def _draw(run: Run, image_id: str) -> None:
    path = run.layout.pseudo(run.config.dataset.infer_split, image_id)
    write_bytes(path, palette_png(mask_of(run, image_id)))


def _provenance(run: Run, ids: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    """What the scores were made with: how the CAMs were, AffinityNet's weights, and the walk."""
    split, walk = run.config.dataset.infer_split, run.config.walk
    cams = read_provenance(run.layout.cams(split))
    return {
        **cams,
        "list_sha256": sha256(ids),
        "cam_weights_sha256": cams["weights_sha256"],
        **known,
        "stride": affinity_net(run.config).network.stride,
        "radius": run.config.affinity.radius,
        **{f"walk_{key}": walk[key] for key in ("alpha", "beta", "logt", "method")},
    }


def _describe(run: Run) -> str:
    c = run.config.walk
    return f"2^{c.logt} steps ({c.method}), beta {c.beta:g}, background alpha {c.alpha:g}"


def room(run: Run, facts: Mapping[str, Facts]) -> dict[str, int]:
    """Bytes of the scores that are not there yet."""
    path = functools.partial(run.layout.pseudo_scores, run.config.dataset.infer_split)
    return {"propagated scores": map_bytes(run, facts, path) // affinity_net(run.config).network.stride ** 2}


RANDOM_WALK = Stage(
    name="random_walk",
    function=random_walk,
    reads=lambda config: (INFER_SPLIT,),
    weights=lambda run: {"walk.checkpoint": run.config.walk.checkpoint},
    room=room,
    all_hosts=True,
    refinement="random_walk",
)
