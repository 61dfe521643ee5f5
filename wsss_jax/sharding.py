"""Data parallelism: one mesh axis `data`, parameters replicated, batches split."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from wsss_jax.errors import ConfigError


def data_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices (or the given ones) with the single axis `data`.

    The axis is of type Auto: with JAX's newer default, Explicit, gathers and reshapes of a split batch fail.
    """
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The array's given axis is divided among the devices."""
    return NamedSharding(mesh, PartitionSpec(*([None] * axis), "data"))


def check_batch_size(
    batch_size: int, accumulation: int, devices: int, processes: int = 1, key: str = "batch_size"
) -> None:
    """Raises ConfigError unless each device gets as many images in each accumulation step; `key` is named."""
    if batch_size % (accumulation * devices) or batch_size < 1:
        parts = f"{devices} device(s) x accumulation {accumulation}"
        step = accumulation * devices
        nearest = max(step, round(batch_size / step) * step)
        raise ConfigError(
            f"config.{key}={batch_size} cannot be divided evenly by {parts}; "
            f"set --config.{key}={nearest}, or another multiple of {step}"
        )
    if batch_size % processes:
        raise ConfigError(f"config.{key}={batch_size} is not a multiple of the {processes} processes")


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh, accumulation: int) -> dict[str, jax.Array]:
    """Moves this process's part of a batch to the devices as [accumulation, images, ...], images split over
    `data`."""
    sharding = split(mesh, axis=1)

    def put(x: np.ndarray) -> jax.Array:
        parts = x.reshape(accumulation, -1, *x.shape[1:])
        return jax.make_array_from_process_local_data(sharding, parts)

    return {name: put(x) for name, x in batch.items()}


def to_host(tree: Any) -> Any:
    """NumPy copies of replicated arrays, also where other processes hold further copies.

    Real copies: on a CPU device `np.asarray` shares the buffer, which the next training step may overwrite.
    """
    return jax.tree.map(
        lambda x: np.array(x.addressable_data(0)) if isinstance(x, jax.Array) else np.asarray(x), tree
    )
