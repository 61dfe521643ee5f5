"""WaveCAM's wave module: a classifier's maps and their complements as amplitudes of waves, whose phases are
learnt; mixed along the rows and along the columns.

Its quirks stand as they are, since weights were trained with them. Parameters are named as in the state dict.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from wsss_jax.models.layers import Conv
from wsss_jax.models.norms import BatchNorm

_TAPS = 7


class WaveModule(nn.Module):
    """See the file; its batch norms train with the statistics of the global batch.

    Attributes:
      channels: C, the number of classes.
    """

    channels: int

    @nn.compact
    def __call__(self, cams: jax.Array) -> jax.Array:
        """Maps float32[B, h, w, C] of 0..1, mixed along rows and then along columns: [B, h, w, 2 * C]."""
        foreground = nn.relu(cams / 3 + 0.1)
        background = (1 - foreground) / 3
        self._pointwise("fc_c")(foreground)  # in the state dict, and never used
        rows = self._wave(foreground, "fc_h", "theta_R_conv")
        columns = self._wave(background, "fc_w", "theta_I_conv")
        # A group's two inputs are neighbours in [cosines, sines]: cosine and sine of one channel never meet,
        # and the outputs' first half sees cosines only, the second half sines only.
        along_rows = Conv(self.channels, (1, _TAPS), groups=self.channels, name="tfc_h")(rows)
        along_columns = Conv(self.channels, (_TAPS, 1), groups=self.channels, name="tfc_w")(columns)
        first, second = self._gates(foreground)
        return jnp.concatenate([along_rows * first, along_columns * second], -1)

    def _wave(self, amplitude: jax.Array, mix: str, phase: str) -> jax.Array:
        """[B, h, w, C] -> [B, h, w, 2 * C], cosines and then sines."""
        theta = self._pointwise(f"{phase}_0", bias=True)(amplitude)
        theta = nn.relu(BatchNorm(batch_statistics=True, name=f"{phase}_1")(theta))
        mixed = self._pointwise(mix)(amplitude)
        return jnp.concatenate([mixed * jnp.cos(theta), mixed * jnp.sin(theta)], -1)

    def _gates(self, foreground: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Shares of rows and of columns in each channel, each [B, 1, 1, C]; together they are 1.

        The two logits of a channel are neighbours in [w1, w2], which is *reshaped*: those of the first half
        of the channels both come from w1, those of the second from w2.
        """
        mean = foreground.mean((1, 2), keepdims=True)
        logits = [self._pointwise(name, bias=True)(mean) for name in ("w1", "w2")]
        gates = nn.softmax(jnp.concatenate(logits, -1).reshape(len(mean), 1, 1, self.channels, 2))
        return gates[..., 0], gates[..., 1]

    def _pointwise(self, name: str, *, bias: bool = False) -> Conv:
        return Conv(self.channels, 1, bias=bias, name=name)
