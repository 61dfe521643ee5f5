"""Learning rates by step, counted from 0. A constant rate is `optax.constant_schedule`."""

import jax
import jax.numpy as jnp
import optax


def polynomial(learning_rate: float, max_step: int, power: float, every: int = 1) -> optax.Schedule:
    """learning_rate * (1 - step / max_step) ** power; from max_step on, the last step's rate stays.

    Args:
      learning_rate: at step 0.
      max_step: where the rate would be 0.
      power: of the decay (0.9 in psa's and IRN's recipes).
      every: steps for which a rate stays. DeepLab-v2 sets its rate anew at every tenth step only.
    """

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        last = jnp.minimum(step, max_step - 1) // every * every
        # A difference of integers: in float32, 1 - step / max_step has lost three digits at the last steps.
        return learning_rate * ((max_step - last) / max_step) ** power

    return schedule


def warmup_polynomial(
    learning_rate: float, max_step: int, power: float, *, warmup_steps: int, warmup_ratio: float
) -> optax.Schedule:
    """Linear from learning_rate * warmup_ratio at step 0, then `polynomial`, as SegFormer and AFA train.

    The polynomial counts from step 0 and not from the end of the warm-up, so the rate jumps there, from
    nearly learning_rate to learning_rate * (1 - warmup_steps / max_step) ** power.
    """
    decay = polynomial(learning_rate, max_step, power)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        rising = warmup_ratio + (1 - warmup_ratio) * jnp.minimum(step, warmup_steps) / max(warmup_steps, 1)
        return jnp.where(jnp.asarray(step) < warmup_steps, learning_rate * rising, decay(step))

    return schedule
