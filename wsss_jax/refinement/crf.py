"""Fully connected CRFs by mean field, batched, on any device; no compiler needed.

P. Krähenbühl and V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS
2011, in the arithmetic of pydensecrf with its default settings: Q = softmax(-E), then as often as wanted
Q = softmax(-E + sum over kernels of w * N K N Q), where K filters on the permutohedral lattice, the pixel
itself included, and N = (K 1)^(-1/2) normalises symmetrically.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from wsss_jax.errors import ConfigError
from wsss_jax.ops.lattice import (
    Corners,
    Lattice,
    build,
    count,
    embed,
    filter_values,
    largest_coordinate,
    reach,
    sort_order,
    touched,
)
from wsss_jax.refinement.settings import CrfSettings
from wsss_jax.sharding import replicated, split

_EPSILON = 1e-20  # pydensecrf's, in the normalisation
# A lattice table has at least a point for so many pixels, or this many: few sizes, few programs.
_SHARE, _ENOUGH = 8, 1 << 15

Size = tuple[int, int]  # (height, width) in pixels


# Corners, valid, order and number of lattice points of each image; the host may make the last two.
_Index = tuple[Corners, jax.Array, jax.Array | None, jax.Array | None]


class Indexed(NamedTuple):
    """The bilateral lattice of B images, sorted but not yet built: its size must be known before."""

    corners: Corners  # of [B, ...]
    order: jax.Array  # int32[B, H * W * 6]
    counts: jax.Array  # int32[B], lattice points of each image
    valid: jax.Array  # bool[B, H * W], inside the image
    shape: Size


class DenseCrf:
    """Mean field of batches of images that lie in the top-left corner of padded arrays.

    What is outside an image does not change what comes out inside. One program indexes the images of a
    padded size and tells how many lattice points they have, so that no table is too small; another one,
    compiled for the next power of two of that number, iterates.
    """

    def __init__(self, settings: CrfSettings, mesh: Mesh) -> None:
        """Batches must be divisible by the mesh's devices."""
        self.compiled = 0  # programs so far
        self._settings, self._mesh = settings, mesh
        # XLA's sort takes nine times as long as NumPy's on CPU devices.
        self._sorts_on_host = mesh.devices.flat[0].platform == "cpu"
        self._index_program = jax.jit(self._index)
        self._solve_program = jax.jit(self._solve, static_argnames="size")
        self._embed_program = jax.jit(self._embed)
        self._build_program = jax.jit(self._build, static_argnames="size")
        self._spatial_lattices: dict[Size, Lattice] = {}
        self._sizes: dict[Size, int] = {}

    def index(self, images: np.ndarray, sizes: np.ndarray) -> Indexed:
        """Starts to sort the lattice of uint8[B, H, W, 3] images, whose own sizes are int32[B, 2].

        Raises:
          ConfigError: the kernels are too narrow for images of this size.
        """
        shape: Size = (images.shape[1], images.shape[2])
        self._check_reach(shape)
        # Arguments rather than constants, which XLA would spend long on and keep in every program.
        positions = jax.device_put(_positions(shape), replicated(self._mesh))
        corners, valid, order, counts = self._index_program(positions, self._put(images), self._put(sizes))
        if self._sorts_on_host:
            order, counts = _sort_on_host(corners)
        return Indexed(corners, order, counts, valid, shape)

    def solve(self, indexed: Indexed, energies: np.ndarray, size: int | None = None) -> jax.Array:
        """Starts the mean field.

        Args:
          indexed: of B images.
          energies: float32[B, A, L, H, W], unary energies of A alternatives with L labels each, which share
            the lattice; infinite ones for labels that an image does not have.
          size: static number of lattice points; by default what the images need, rounded up.

        Returns:
          float32[B, A, L, H, W], probabilities, summing to 1 over L; meaningless outside the images.

        Raises:
          ValueError: an image has more lattice points than `size`.
        """
        needed = int(np.asarray(indexed.counts).max())
        if size is None:
            # No smaller than before, for smaller tables would only be further programs.
            size = max(table_size(needed, indexed.shape), self._sizes.get(indexed.shape, 0))
            self._sizes[indexed.shape] = size
        elif size < needed:
            raise ValueError(f"a lattice table of {size} points is too small for an image that has {needed}")
        arrays = (indexed.corners, indexed.order, indexed.valid, energies)
        spatial = self._spatial(indexed.shape)
        return self._solve_program(spatial, *(self._put(array) for array in arrays), size=size)

    def _put(self, array: Any) -> Any:
        return jax.device_put(array, split(self._mesh))

    def _check_reach(self, shape: Size) -> None:
        settings = self._settings
        for name, spread in (("gaussian_sxy", self._spatial_spread()), ("bilateral_sxy", self._spread())):
            extent = np.array([shape[1], shape[0], 255, 255, 255][: len(spread)])
            if reach(extent / spread) >= largest_coordinate(len(spread)):
                raise ConfigError(
                    f"a CRF with {settings.describe()}: {name} is too small for images of "
                    f"{shape[1]}x{shape[0]} pixels (width x height); choose wider kernels or shrink them"
                )

    def _spatial_spread(self) -> np.ndarray:
        return np.full(2, self._settings.gaussian_sxy, np.float32)

    def _spread(self) -> np.ndarray:
        settings = self._settings
        return np.array([settings.bilateral_sxy] * 2 + [settings.bilateral_srgb] * 3, np.float32)

    def _spatial(self, shape: Size) -> Lattice:
        """The lattice of the Gaussian kernel, which depends on the padded size alone."""
        if shape not in self._spatial_lattices:
            corners = self._embed_program(_positions(shape) / self._spatial_spread())
            order, counts = _sort_on_host(jax.tree.map(lambda x: x[None], corners))
            lattice = self._build_program(corners, order[0], size=int(counts[0]))
            self._spatial_lattices[shape] = jax.device_put(lattice, replicated(self._mesh))
        return self._spatial_lattices[shape]

    def _embed(self, features: jax.Array) -> Corners:
        self.compiled += 1  # runs when traced only
        return embed(features, jnp.ones(len(features), bool))

    def _build(self, corners: Corners, order: jax.Array, size: int) -> Lattice:
        self.compiled += 1
        return build(corners, order, size)

    def _index(self, positions: jax.Array, images: jax.Array, sizes: jax.Array) -> _Index:
        self.compiled += 1

        def one(positions: jax.Array, image: jax.Array, size: jax.Array) -> _Index:
            valid = (positions[:, 1] < size[0]) & (positions[:, 0] < size[1])
            colours = image.reshape(-1, 3).astype(jnp.float32)
            corners = embed(jnp.concatenate([positions, colours], axis=1) / self._spread(), valid)
            if self._sorts_on_host:
                return corners, valid, None, None
            order = sort_order(corners)
            return corners, valid, order, count(corners, order)

        return self._on_each_device(one, 1)(positions, images, sizes)

    def _solve(
        self,
        spatial: Lattice,
        corners: Corners,
        order: jax.Array,
        valid: jax.Array,
        energies: jax.Array,
        size: int,
    ) -> jax.Array:
        self.compiled += 1

        def one(
            spatial: Lattice, corners: Corners, order: jax.Array, valid: jax.Array, energies: jax.Array
        ) -> jax.Array:
            bilateral = functools.partial(filter_values, build(corners, order, size))
            gaussian = functools.partial(filter_values, spatial, exists=touched(spatial, valid))
            weighted = (
                (self._settings.gaussian_weight, gaussian),
                (self._settings.bilateral_weight, bilateral),
            )
            kernels = [_normalised(weight, kernel, valid) for weight, kernel in weighted]
            return _mean_field(energies, kernels, self._settings.iterations)

        return self._on_each_device(one, 1)(spatial, corners, order, valid, energies)

    def _on_each_device(self, function: Callable[..., Any], shared: int) -> Callable[..., Any]:
        """Runs a function of one image for every image of every device's part of a batch.

        The first `shared` arguments are the same for all.
        """

        def part(*arguments: Any) -> Any:
            one, batch = functools.partial(function, *arguments[:shared]), arguments[shared:]
            if len(jax.tree.leaves(batch)[0]) > 1:
                return jax.vmap(one)(*batch)
            # The usual case on CPU devices, where gathers with a batch axis take much longer to compile.
            return jax.tree.map(lambda x: x[None], one(*jax.tree.map(lambda x: x[0], batch)))

        def run(*arguments: Any) -> Any:
            specs = tuple(
                PartitionSpec() if i < shared else PartitionSpec("data") for i in range(len(arguments))
            )
            mapped = jax.shard_map(
                part, mesh=self._mesh, in_specs=specs, out_specs=PartitionSpec("data"), check_vma=False
            )
            return mapped(*arguments)

        return run


def table_size(needed: int, shape: Size) -> int:
    """The static number of lattice points for images of a padded size: a power of two, >= `needed`."""
    least = max(needed, min(shape[0] * shape[1] // _SHARE, _ENOUGH), 1)
    return 1 << (least - 1).bit_length()


def _positions(shape: Size) -> np.ndarray:
    """float32[H * W, 2]: x and y of each pixel, row by row."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


def _sort_on_host(corners: Corners) -> tuple[np.ndarray, np.ndarray]:
    """`sort_order` and `count` of each image, int32[B, n] and int32[B]."""
    words = np.asarray(corners.high).astype(np.uint64) << np.uint64(32) | np.asarray(corners.low)
    order = np.argsort(words, axis=1)
    ordered = np.take_along_axis(words, order, axis=1)
    there = ordered != np.uint64(0xFFFFFFFFFFFFFFFF)
    begins = np.diff(ordered, axis=1, prepend=~ordered[:, :1]) != 0
    return order.astype(np.int32), (begins & there).sum(axis=1, dtype=np.int32)


def _normalised(
    weight: float, kernel: Callable[[jax.Array], jax.Array], valid: jax.Array
) -> Callable[[jax.Array], jax.Array]:
    """w * N K N of values [N, K]; 0 outside the image."""
    inside = valid[:, None].astype(jnp.float32)
    scale = inside * jax.lax.rsqrt(kernel(inside) + _EPSILON)
    return lambda values: weight * scale * kernel(scale * values)


def _mean_field(
    energies: jax.Array, kernels: list[Callable[[jax.Array], jax.Array]], iterations: int
) -> jax.Array:
    """[A, L, H, W] energies -> probabilities."""
    A, L = energies.shape[:2]
    planes = energies.reshape(A * L, -1).T

    def probabilities(negative: jax.Array) -> jax.Array:
        # jax.nn.softmax takes three times as long on CPU devices.
        split_up = negative.reshape(-1, A, L)
        powers = jnp.exp(split_up - split_up.max(axis=2, keepdims=True))
        return (powers / powers.sum(axis=2, keepdims=True)).reshape(-1, A * L)

    def step(_: int, q: jax.Array) -> jax.Array:
        return probabilities(sum((kernel(q) for kernel in kernels), -planes))

    q = jax.lax.fori_loop(0, iterations, step, probabilities(-planes))
    return q.T.reshape(energies.shape)
