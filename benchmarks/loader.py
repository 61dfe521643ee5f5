"""The training loader: JPEG files to augmented batches, by threads and by worker processes."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.images import open_images
from benchmarks.networks import published_config
from benchmarks.row import Row, Settings
from benchmarks.timing import Times
from wsss_jax.data.loader import BatchLoader, ClassificationSample
from wsss_jax.data.pool import default_threads
from wsss_jax.data.source import Source
from wsss_jax.data.transforms import Recipe
from wsss_jax.stages.samples import recipe

_PREFETCH = 3  # batches, made while the first is awaited; they do not count
_PUBLISHED_CROP = 384


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures images per second once the loader runs, and seconds until the first batch, for each form.

    The published augmentation for crops of 384 pixels, whatever crop the settings want for the networks.
    """
    settings = settings or Settings()
    published = dataclasses.replace(settings, crop=_PUBLISHED_CROP)
    how = recipe(published_config(published, "cam"))
    threads = default_threads()
    forms: dict[str, dict[str, Any]] = {
        f"{threads} thread(s)": {"threads": threads},
        "1 worker process": {"workers": 1},
        "2 worker processes": {"workers": 2},
    }
    with open_images(settings) as (source, ids):
        batch_size = min(settings.batch_size, len(ids))
        batches = max(2, 2 * len(ids) // batch_size)
        measured: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
        _measure(source, ids, how, batch_size, 1, {"threads": 1})  # imports what the loader needs
        for _ in range(settings.repeats):
            for form, options in forms.items():
                measured[form].append(_measure(source, ids, how, batch_size, batches, options))
    return _rows(measured, batch_size * batches)


def _measure(
    source: Source, ids: Sequence[str], how: Recipe, batch_size: int, batches: int, options: dict[str, Any]
) -> tuple[float, float]:
    """Seconds until a new loader's first batch, and of `batches` once it runs steadily."""
    start = time.perf_counter()
    with BatchLoader(
        ClassificationSample(source, how), ids, batch_size=batch_size, seed=0, prefetch=_PREFETCH, **options
    ) as loader:
        next(loader)
        first = time.perf_counter() - start
        for _ in range(_PREFETCH):
            next(loader)
        start = time.perf_counter()
        for _ in range(batches):
            next(loader)
        return first, time.perf_counter() - start


def _rows(measured: dict[str, list[tuple[float, float]]], images: int) -> list[Row]:
    first = {form: Times(tuple(a for a, _ in pairs)) for form, pairs in measured.items()}
    steady = {form: Times(tuple(b for _, b in pairs)) for form, pairs in measured.items()}
    base, *others = measured
    note = f"JPEG to crops of {_PUBLISHED_CROP} with colour jitter"
    result = [steady[base].per_second(images, f"loader, {base}", "images/s", note=note)]
    for form in others:
        compared = {"ratio": steady[base].median / steady[form].median, "versus": base}
        result.append(steady[form].per_second(images, f"loader, {form}", "images/s", **compared))
    result += [times.row(f"loader, first batch, {form}") for form, times in first.items()]
    return result
