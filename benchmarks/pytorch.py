"""ResNet-38's classifier beside the same network in PyTorch: a training step and a forward pass.

Both sides hold the same weights; the program stops unless their logits agree. PyTorch runs as its users run
it, without `torch.compile`; on a GPU in channels-last layout, which is what its convolutions like there.
Skipped where PyTorch is not installed.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.networks import NUM_CLASSES, method_of, published_config, random_variables
from benchmarks.row import Row, Settings
from benchmarks.timing import Times, interleaved
from benchmarks.train import Step, random_batch
from wsss_jax.errors import RunError
from wsss_jax.models.classifier import score
from wsss_jax.models.resnet38 import ResNet38
from wsss_jax.systems.cam.task import Cam
from wsss_jax.task import Variables
from wsss_jax.weights import from_variables

_TOLERANCE = 1e-4  # of the largest logit; the two sum in different orders


def rows(settings: Settings | None = None) -> list[Row]:
    """Measures; rows of images per second of both, or none where PyTorch is not installed."""
    settings = settings or Settings()
    if find_spec("torch") is None:
        print("skipped, PyTorch is not installed;", end=" ", file=sys.stderr, flush=True)
        return []
    method: Any = method_of(settings, "cam")
    variables = random_variables(method)
    images = settings.batch_size * jax.device_count()
    twin = _Twin(settings, method, variables, images)
    forward = _forward(method, variables, twin.images)
    gap = _gap(forward(), twin.forward())
    step = Step(settings, method, images)
    size = f"width {settings.width:g}, {images} crops of {settings.crop}"
    forwards = interleaved({"jax": forward, "torch": twin.forward}, settings.repeats)
    steps = interleaved({"jax": step, "torch": twin.step}, settings.repeats)
    return [
        *_pair("forward pass", forwards, images, f"{size}; largest relative difference {gap:.0e}"),
        *_pair("training step", steps, images, size),
    ]


def _pair(what: str, times: dict[str, Times], images: int, note: str) -> list[Row]:
    name, faster = f"ResNet-38 classifier, {what}", times["torch"].median / times["jax"].median
    return [
        times["jax"].per_second(
            images, f"{name}, wsss_jax", "images/s", ratio=faster, versus="PyTorch", note=note
        ),
        times["torch"].per_second(images, f"{name}, PyTorch", "images/s", note=note),
    ]


class _Twin:
    """The network in PyTorch, with an optimiser as psa has it but for its parameter groups."""

    def __init__(self, settings: Settings, method: Cam, variables: Variables, images: int) -> None:
        import torch

        from benchmarks.pytorch_network import TorchClassifier

        self._torch, self._device = torch, "cuda" if torch.cuda.is_available() else "cpu"
        network, options = method.network, published_config(settings, "cam").optimizer
        trunk = ResNet38(network.width, network.blocks, network.dilations, network.trunk_dropout)
        self._network = TorchClassifier(trunk, NUM_CLASSES, method.frozen_blocks)
        exported = from_variables(variables[method.name], network.state_dict)
        # A copy, since PyTorch shares NumPy's memory.
        tensors = {name: torch.tensor(np.array(x)) for name, x in exported.items()}
        self._network.load_state_dict(tensors, strict=False)  # but for num_batches_tracked
        layout = torch.channels_last if self._device == "cuda" else torch.contiguous_format
        self._network.to(self._device, memory_format=layout)
        learning = [p for p in self._network.parameters() if p.requires_grad]
        self._optimizer = torch.optim.SGD(learning, 1e-6, options.momentum, weight_decay=options.weight_decay)
        batch = random_batch(images, settings.crop)
        self.images = (batch["image"] / 255 - 0.5).astype(np.float32)
        self._x = torch.tensor(self.images.transpose(0, 3, 1, 2)).to(self._device, memory_format=layout)
        self._labels = torch.tensor(batch["labels"]).to(self._device)

    def forward(self) -> np.ndarray:
        """Logits, as in inference."""
        self._network.eval()
        with self._torch.no_grad():
            return np.asarray(self._network(self._x).cpu())

    def step(self) -> float:
        """One training step; returns its loss."""
        self._network.train()
        loss = self._torch.nn.functional.multilabel_soft_margin_loss(self._network(self._x), self._labels)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())  # waits for the device


def _forward(method: Cam, variables: Variables, images: np.ndarray) -> Callable[[], np.ndarray]:
    placed, x = jax.device_put((variables[method.name], images))
    apply = jax.jit(lambda variables, x: score(method.network, variables, x).logits)
    return lambda: np.asarray(jnp.asarray(apply(placed, x)))


def _gap(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference relative to the largest logit; RunError if the networks are not the same."""
    gap = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not gap < _TOLERANCE:
        raise RunError(f"the network in PyTorch differs by {gap:.0e} of the largest logit")
    return gap
