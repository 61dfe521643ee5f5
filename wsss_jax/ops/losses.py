"""Losses that several systems share."""

import jax
import optax


def multi_label_soft_margin(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropy of each class, averaged over the classes: logits, labels [B, C] -> [B].

    Its mean over images is PyTorch's `multilabel_soft_margin_loss`, and `binary_cross_entropy_with_logits`.
    """
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean(-1)
