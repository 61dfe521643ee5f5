"""Tasks that train one network on ResNet-38."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from wsss_jax.models.resnet38 import OnResNet38
from wsss_jax.systems.resnet38.groups import resnet38_group
from wsss_jax.task import Path, Task

Network = TypeVar("Network", bound=OnResNet38)


@dataclass(frozen=True, kw_only=True)
class OneNetwork(Task, Generic[Network]):
    """What such a task says of its network.

    Attributes:
      network: the network that learns.
      frozen_blocks: blocks of the trunk that keep their pretrained weights.
    """

    network: Network
    frozen_blocks: tuple[str, ...]

    @property
    def networks(self) -> Mapping[str, Network]:
        """One network."""
        return {self.name: self.network}

    def group(self, path: Path) -> str:
        """All heads are new, the trunk pretrained."""
        return resnet38_group(path, self.frozen_blocks, new_layers=self.network.heads)
