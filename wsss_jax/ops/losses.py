"""Losses that several systems share."""

import jax
import jax.numpy as jnp
import optax


def multi_label_soft_margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropy of each class, averaged over the classes: logits, labels [B, C] -> [B].

    Its mean over images is PyTorch's `multilabel_soft_margin_loss`, and `binary_cross_entropy_with_logits`.
    """
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean(-1)


def pixel_cross_entropy(logits: jax.Array, labels: jax.Array, void: int) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of label maps: logits [B, h, w, N], integer labels [B, h, w] -> twice float32[B].

    Returns:
      The sum over each image's pixels with a label other than `void`, and the number of these pixels.
    """
    known = labels != void
    target = jnp.where(known, labels, 0).astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), target)
    return jnp.where(known, losses, 0).sum((1, 2)), known.sum((1, 2)).astype(jnp.float32)
