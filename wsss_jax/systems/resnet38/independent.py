"""Methods in whose loss no image of a batch looks at another."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from wsss_jax.method import Variables


class Independent:
    """The loss is a mean over images, so that parts of a batch need to know nothing of each other."""

    def batch_maximum(
        self, variables: Variables, batch: Mapping[str, jax.Array], keys: jax.Array
    ) -> jax.Array:
        """There is none."""
        return jnp.zeros(())
