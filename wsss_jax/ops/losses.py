"""Losses that several systems share."""

import jax
import jax.numpy as jnp
import optax


def multi_label_soft_margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropy of each class, averaged over classes and then over the batch; logits, labels [B,
    C].

    PyTorch's `multilabel_soft_margin_loss` and its mean `binary_cross_entropy_with_logits` are both this.
    """
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels))
