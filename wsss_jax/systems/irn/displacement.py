"""The mean displacement of all images, which IRN takes off before it looks for instances."""

import functools
import itertools
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from wsss_jax.data.loader import Sample
from wsss_jax.data.pool import map_ordered
from wsss_jax.hosts import any_host
from wsss_jax.interrupt import stop, stop_requested
from wsss_jax.progress import Progress
from wsss_jax.runs.context import Run
from wsss_jax.sharding import put_batch, replicated, to_host
from wsss_jax.systems.irn.network import look
from wsss_jax.systems.irn.task import InterPixel
from wsss_jax.task import Variables
from wsss_jax.training.checkpoints import Checkpoints


def measure_mean(run: Run, task: InterPixel, ids: Sequence[str], *, batch_size: int, crop: int) -> None:
    """Puts the mean into the trained network, as one more checkpoint, numbered one above the last step.

    It is the mean over global batches of top-left windows; an incomplete last batch is dropped, as in IRN.
    Boundaries, and so masks, do not depend on it.
    """
    with Checkpoints(run.layout.checkpoints(task.name)) as checkpoints:
        trained = checkpoints.newest(run.say)
        if trained is None or "displacement_mean" in trained.meta:
            return
        variables = trained.networks[task.name]
        mean = displacement_mean(run, task, variables, ids, batch_size=batch_size, crop=crop)
        variables = {**variables, "batch_stats": {**variables["batch_stats"], "mean_shift": {"mean": mean}}}
        meta = {**trained.meta, "displacement_mean": mean.tolist()}
        checkpoints.save(trained.step + 1, {task.name: variables}, {}, meta)
        run.say(f"train_irn: mean displacement {mean[0]:.3f}, {mean[1]:.3f} positions")


def displacement_mean(
    run: Run, task: InterPixel, variables: Variables, ids: Sequence[str], *, batch_size: int, crop: int
) -> np.ndarray:
    """float32[2]: the mean (dy, dx) in positions of 4 pixels; arguments as in `measure_mean`."""
    network, share = task.network, batch_size // jax.process_count()

    @jax.jit
    def field_mean(variables: Variables, batch: Mapping[str, jax.Array]) -> jax.Array:
        pixels = network.preprocess.crops(batch["image"][0], batch["box"][0])
        return look(network, variables, pixels).displacements.mean((0, 1, 2))

    placed = jax.device_put(variables, replicated(run.mesh))
    starts = range(0, len(ids) - batch_size + 1, batch_size)
    line, means = Progress("displacements", len(starts), unit="batches"), list[np.ndarray]()
    own = [image_id for k in starts for image_id in ids[k + jax.process_index() * share :][:share]]
    windows = map_ordered(functools.partial(_window, run, crop), own, threads=run.config.loader.threads)
    for _ in starts:
        samples = list(itertools.islice(windows, share))
        batch = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
        means.append(to_host(field_mean(placed, put_batch(batch, run.mesh, 1))))
        line.update(len(means))
        if any_host(stop_requested()):
            stop("train_irn has trained; the mean displacement is measured when it goes on")
    line.end()
    return np.stack(means).mean(0)


def _window(run: Run, crop: int, image_id: str) -> Sample:
    """The top-left window of an image."""
    image = run.source.image(image_id)[:crop, :crop]
    H, W = image.shape[:2]
    padded = np.pad(image, ((0, crop - H), (0, crop - W), (0, 0)))
    return {"image": padded, "box": np.array([0, H, 0, W], np.int32)}
