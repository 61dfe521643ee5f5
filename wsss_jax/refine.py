"""Refines class activation maps that any program has made; nothing is trained and no run is needed.

Examples:
  python -m wsss_jax.refine --images=JPEGImages --cams=out_cam --out=crf --alphas=4,24 --scores
  python -m wsss_jax.refine --images=JPEGImages --cams=irn_cam --out=ir_label --preset=irn
  python -m wsss_jax.refine --images=JPEGImages --cams=out_cam --out=out_rw --affinity=res38_aff.pth

Maps are .npy files as psa, SC-CAM and OC-CSE ({class: map}) or IRN ({'keys', 'high_res'}) pickle them, of
which no code is run, or .npz files with `keys` int[K] and `cam` float[K, H, W]. Classes count from 0, values
are at most 1, sizes those of the images; a file of maps belongs to the image of the same name.

Refines by a dense CRF or, given AffinityNet's weights, by a random walk. Writes palette PNGs: 0 background,
class + 1, with the preset irn also 255 where the label is not clear. The same command again makes only what
is missing.
"""

if __name__ == "__main__":  # above the imports, so that Ctrl-C ends these with one line too
    from wsss_jax.commandline import run_command

    run_command("wsss_jax.refine:main")

import argparse
import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wsss_jax.commandline import STATUS, one_line_errors
from wsss_jax.errors import ConfigError, DataError, RunError
from wsss_jax.files import is_whole
from wsss_jax.refinement.folder import (
    LabelTask,
    Pairs,
    ScoreTask,
    Task,
    is_done,
    pair_files,
    write_propagated,
    write_result,
)
from wsss_jax.refinement.jobs import Attempt, Refused
from wsss_jax.refinement.pseudo import walk_seeds
from wsss_jax.refinement.settings import BACKENDS, CRF, PRESETS, CrfSettings

if TYPE_CHECKING:
    from wsss_jax.refinement.walker import WalkInput

# JAX is imported inside functions: `--help` and a misspelt folder should not take seconds.

Result = TypeVar("Result")
_ALPHAS: tuple[float, ...] = CRF.settings["alphas"].default
_THRESHOLDS = (0.3, 0.05)
_TASK_PRESETS = ("psa", "cpn", "irn")
_BACKEND_HELP = "auto: pydensecrf on a CPU that has it, else jax"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; ends the program with one line and status 1 if something is wrong."""
    options = _parse(argv)
    with one_line_errors():
        task, settings = _task(options), _settings(options)
        pairs, out = pair_files(options.images, options.cams), Path(options.out)
        batches = {"batch_size": options.batch_size, "max_buckets": options.max_buckets}
        if options.affinity:
            return walk_folder(pairs, out, options.affinity, **batches)
        refine_folder(
            pairs,
            out,
            task,
            settings,
            scores=options.scores,
            backend=options.backend,
            workers=options.workers,
            **batches,
        )


def refine_folder(
    pairs: Pairs,
    out: Path,
    task: Task,
    settings: CrfSettings,
    *,
    scores: bool = False,
    backend: str = "auto",
    batch_size: int = 0,
    max_buckets: int = 4,
    workers: int = 0,
) -> None:
    """Refines the images that are not refined yet; see docs/refinement.md.

    Raises:
      RunError: the folder holds results of other settings, or maps were refused (when the others are done).
      ConfigError: a setting cannot be used, or the backend is not installed.
    """
    import jax

    from wsss_jax.inference.buckets import plan_buckets
    from wsss_jax.refinement.stream import CrfStream, StreamSettings
    from wsss_jax.runs.provenance import record_provenance
    from wsss_jax.sharding import data_mesh

    todo = [image_id for image_id in pairs.files if not is_done(task, out, scores, image_id)]
    options = StreamSettings(crf=settings, backend=backend, batch_size=batch_size, workers=workers)
    stream = CrfStream(options, data_mesh(jax.local_devices()))
    record_provenance(out, _provenance(task, settings), "results", "--out")
    buckets = plan_buckets(_sizes(pairs), max_buckets) if stream.backend == "jax" and todo else []
    results = stream.refine(task.load(pairs), todo, buckets)
    _write_all(pairs, todo, results, functools.partial(write_result, task, out, scores), stream.backend)


def walk_folder(
    pairs: Pairs, out: Path, checkpoint: str, *, batch_size: int = 0, max_buckets: int = 4
) -> None:
    """Carries the maps along AffinityNet's affinities, with psa's numbers, and writes `<out>/<id>.png`.

    Args:
      pairs: images and their maps.
      out: folder for the masks.
      checkpoint: psa's `res38_aff.pth`, or `checkpoints/affinity` of a run.
      batch_size: images per batch; 0 is 8.
      max_buckets: padded sizes.

    Raises:
      CheckpointError: the weights cannot be read or are of another network.
      RunError: as `refine_folder`.
    """
    import jax

    from wsss_jax.config import defaults
    from wsss_jax.data.pool import default_threads
    from wsss_jax.inference.predict import InferenceSettings, plan_batches
    from wsss_jax.refinement.walker import Walker
    from wsss_jax.runs.provenance import record_provenance
    from wsss_jax.sharding import data_mesh
    from wsss_jax.stages.walk import walk_settings
    from wsss_jax.systems.affinity.load import load_affinity
    from wsss_jax.systems.affinity.walk import AffinityWalk

    net, variables, digest = load_affinity(checkpoint)
    walk = defaults().walk
    numbers = {name: walk[name] for name in ("alpha", "beta", "logt", "fixed_threshold")}
    record_provenance(out, {"weights_sha256": digest, **numbers}, "masks", "--out")
    todo = [image_id for image_id in pairs.files if not is_whole(out / f"{image_id}.png")]
    plan = InferenceSettings(
        scales=(1.0,),
        flip=False,
        class_filter="given",
        batch_size=batch_size or walk.batch_size,
        max_buckets=max_buckets,
    )
    mesh = data_mesh(jax.local_devices())
    way = AffinityWalk(network=net.network, radius=net.radius, settings=walk_settings(walk))
    walker = Walker(way, mesh, plan)
    load = Attempt(functools.partial(walk_input, pairs, walk.alpha, net.network.stride))
    unreadable = [size for size in map(Attempt(pairs.size), todo) if isinstance(size, Refused)]
    sound = [image_id for image_id in todo if image_id not in {refused.image_id for refused in unreadable}]
    source: Any = pairs  # only sizes are asked for
    batches = plan_batches(source, sound, plan, mesh.size)
    propagated = walker.walk(variables, batches, load, default_threads())
    results: Iterable[Sequence[Any]] = itertools.chain([unreadable], propagated)
    write = functools.partial(write_propagated, pairs, out, net.network.stride, walk.fixed_threshold)
    _write_all(pairs, todo, results, write, "random walk")


def _write_all(
    pairs: Pairs,
    todo: Sequence[str],
    results: Iterable[Sequence[Result | Refused]],
    write: Callable[[Result], None],
    how: str,
) -> None:
    """Writes what comes; RunError at the end if something was refused."""
    from wsss_jax.interrupt import stop_on_signals
    from wsss_jax.stages.batches import write_results
    from wsss_jax.stages.refused import without_refused

    total = len(pairs.files) + len(pairs.refused)
    done, refused = len(pairs.files) - len(todo), list[Refused]()
    print(f"{total} images, {done} of them done before, {how}", flush=True)
    with stop_on_signals():
        say = functools.partial(print, file=sys.stderr, flush=True)
        sound = without_refused(itertools.chain([pairs.refused], results), refused, say)
        write_results("refine", len(pairs.files), done, sound, write)
    if refused:
        first = refused[0].reason
        raise RunError(
            f"{len(refused)} of {total} images were refused, the others are done; the first: {first}"
        )


def _provenance(task: Task, settings: CrfSettings) -> dict[str, Any]:
    """What must be the same when a folder of results is gone on with."""
    numbers = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(task).items()}
    return {"task": type(task).__name__, **numbers, "crf": settings.describe()}


def _sizes(pairs: Pairs) -> Iterator[tuple[int, int]]:
    for image_id in pairs.files:
        with contextlib.suppress(DataError):  # told when the image is read
            yield pairs.size(image_id)


def walk_input(pairs: Pairs, alpha: float, stride: int, image_id: str) -> "WalkInput":
    """An image and the scores of its positions; DataError if it or its maps cannot be used."""
    from wsss_jax.refinement.walker import WalkInput

    image, maps = pairs.read(image_id)
    return WalkInput(image_id, image, walk_seeds(maps, alpha, stride))


def _task(options: argparse.Namespace) -> Task:
    if options.affinity and (options.alphas or options.thresholds or options.scores):
        raise ConfigError("--alphas, --thresholds and --scores are of the CRF; --affinity walks instead")
    if options.preset != "irn":
        if options.thresholds is not None:
            raise ConfigError("--thresholds belongs to --preset=irn; psa's way and CPN's have --alphas")
        alphas = tuple(options.alphas or _ALPHAS)
        if min(alphas) <= 0 or len(set(alphas)) < len(alphas):
            raise ConfigError(f"--alphas: {_listed(alphas)} are not different numbers greater than 0")
        return ScoreTask(alphas)
    if options.alphas is not None or options.scores:
        raise ConfigError(
            "--alphas and --scores belong to psa's way and CPN's; --preset=irn has --thresholds"
        )
    thresholds = options.thresholds or _THRESHOLDS
    if len(thresholds) != 2 or not 0 <= thresholds[1] < thresholds[0] < 1:
        raise ConfigError(f"--thresholds: {_listed(thresholds)} are not a high and a low one of 0..1")
    return LabelTask(high=thresholds[0], low=thresholds[1])


def _settings(options: argparse.Namespace) -> CrfSettings:
    """The preset's kernels with what was given in place of its own."""
    names = [field.name for field in dataclasses.fields(CrfSettings)]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return dataclasses.replace(PRESETS[options.preset], **given)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m wsss_jax.refine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUS,
    )
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="folder of images")
    add("--cams", required=True, metavar="DIR", help="folder of their maps, .npy or .npz")
    add("--out", required=True, metavar="DIR", help="folder for the label maps")
    add("--preset", choices=_TASK_PRESETS, default="psa", help="whose CRF; default: %(default)s")
    add(
        "--alphas",
        type=_numbers,
        metavar="A,...",
        help=f"psa, cpn: background is (1 - max)^A; {_listed(_ALPHAS)}",
    )
    add("--thresholds", type=_numbers, metavar="H,L", help=f"irn: of the background; {_listed(_THRESHOLDS)}")
    add("--affinity", metavar="FILE", help="walk: AffinityNet's weights, or checkpoints/affinity of a run")
    add("--scores", action="store_true", help="psa, cpn: also write .npz files with keys and scores")
    add("--backend", choices=BACKENDS, default="auto", help=_BACKEND_HELP)
    add("--batch-size", type=int, default=0, metavar="N", help="images per batch; 0: as the devices need it")
    add("--max-buckets", type=int, default=4, metavar="N", help="padded sizes; default: %(default)s")
    add("--workers", type=int, default=0, metavar="N", help="processes of pydensecrf; 0: one per core")
    kernels = parser.add_argument_group("the CRF, in place of the preset's")
    for field in dataclasses.fields(CrfSettings):
        kind = int if field.name == "iterations" else float
        values = ", ".join(f"{name} {getattr(PRESETS[name], field.name):g}" for name in _TASK_PRESETS)
        kernels.add_argument("--" + field.name.replace("_", "-"), type=kind, metavar="X", help=values)
    return parser.parse_args(argv)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _listed(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
