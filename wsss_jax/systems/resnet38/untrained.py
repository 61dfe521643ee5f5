"""What `Method` asks of training, for methods that list no stage that trains."""

from collections.abc import Mapping
from typing import ClassVar, NoReturn

import jax

from wsss_jax.method import Path, Progress, Variables
from wsss_jax.systems.resnet38.groups import FROZEN


class Untrained:
    """A method that only makes maps, with weights from elsewhere."""

    metrics: ClassVar[tuple[str, ...]] = ()

    def group(self, path: Path) -> str:
        """Nothing learns."""
        return FROZEN

    def batch_maximum(
        self, variables: Variables, batch: Mapping[str, jax.Array], keys: jax.Array
    ) -> NoReturn:
        """There is no loss."""
        raise TypeError(f"{type(self).__name__} is never trained")

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> NoReturn:
        """There is no loss."""
        raise TypeError(f"{type(self).__name__} is never trained")
