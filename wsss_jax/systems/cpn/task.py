"""`cpn`: complementary patches.

F. Zhang, C. Gu, C. Zhang, Y. Dai: "Complementary Patch for Weakly Supervised Semantic Segmentation", ICCV
2021 (CPN).

Of each image, some patches are hidden in a second image and alone visible in a third. What the network finds
in the two together is at least what it finds in the whole image, so the sum of their maps is what it should
have found.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from wsss_jax.method import Method
from wsss_jax.models.classifier import Scores
from wsss_jax.ops.losses import multi_label_soft_margin
from wsss_jax.ops.normalise import min_max_normalise
from wsss_jax.ops.resize import resize_bilinear
from wsss_jax.ops.selection import hard_example_mean, max_onehot, min_pooling_loss
from wsss_jax.systems.cpn.network import CpnNetwork, CpnScores, score_cpn
from wsss_jax.systems.resnet38.maps import InputSizeMaps
from wsss_jax.systems.resnet38.one_network import OneNetwork
from wsss_jax.task import Outcome, Progress, Term, Variables

_VIEWS = 3  # the image, with the drawn patches hidden, and with them alone


@dataclass(frozen=True, kw_only=True)
class Cpn(OneNetwork[CpnNetwork], InputSizeMaps, Method):
    """Trains one network on each image and its two complementary parts; it sees all three in one pass.

    Attributes:
      hard_share: share of CPCR's errors, of all positions and channels, that count.
    """

    hard_share: float = 0.2

    name = "cpn"
    terms = ("loss_cls", "loss_rvmin", "loss_tcp", "loss_tcp_improved", "loss_cpcr1", "loss_cpcr2")

    def loss(
        self,
        variables: Variables,
        batch: Mapping[str, jax.Array],
        keys: jax.Array | None,
        progress: Progress,
        maximum: jax.Array | None = None,
    ) -> Outcome:
        """Sum of all terms, of three views in one forward pass.

        The batch also has `keep` uint8[B, H, W]: 1 where the second image shows the first, 0 where the third
        does. keys=None switches dropout off.
        """
        images, keep = batch["images"], batch["keep"][..., None].astype(jnp.float32)
        views = jnp.stack([images, images * keep, images * (1 - keep)], 1)
        scores = self._score(variables[self.name], views, _key_per_view(keys))
        size = (images.shape[1], images.shape[2])
        maps, improved = (resize_bilinear(x, size, align_corners=True) for x in scores[:2])
        kept = keep.mean((1, 2, 3))
        rates = jnp.stack([jnp.ones_like(kept), kept, 1 - kept], 1)
        terms = loss_terms(maps, improved, scores.logits, batch["labels"], rates, self.hard_share)
        return Outcome({name: Term(total) for name, total in terms.items()})

    def _score(self, variables: Variables, views: jax.Array, keys: jax.Array | None) -> CpnScores:
        """Scores [B * 3, ...] of views [B, 3, H, W, 3] with keys [B, 3], in one forward pass.

        Image by image, not view by view, so that what lies on a device stays there.
        """
        flat = views.reshape(-1, *views.shape[2:])
        return score_cpn(self.network, variables, flat, keys=None if keys is None else keys.reshape(-1))

    def cam(self, variables: Variables, images: jax.Array, sizes: jax.Array) -> Scores:
        """The improved maps of the classes, without background; logits are those of the initial CAMs."""
        scores = score_cpn(self.network, variables[self.name], images, sizes)
        return Scores(scores.improved[..., 1:], scores.logits[:, 1:])

    def finish(self, total: jax.Array, sizes: jax.Array) -> jax.Array:
        """Each class from its lowest to its highest value, halved: 0..0.5.

        The halves are CPN's, whose background scores, 0.20 to 0.59, are meant for them. Where a class's
        lowest value is positive, its program zeroes it before it subtracts the minimum, so that these few
        pixels get -min / (max - min) / 2. Here they get 0, since CAM files hold 0..1: no background score of
        0 or more tells the two apart.
        """
        return min_max_normalise(total, sizes) / 2


def loss_terms(
    maps: jax.Array,
    improved: jax.Array,
    logits: jax.Array,
    labels: jax.Array,
    rates: jax.Array,
    hard_share: float = 0.2,
) -> dict[str, jax.Array]:
    """All terms by the names of `Cpn.terms`, each float32[B].

    Args:
      maps: [B * 3, H, W, C + 1] at full size, background first; image, hidden, shown of each image in turn.
      improved: likewise.
      logits: [B * 3, C + 1].
      labels: float32[B, C].
      rates: float32[B, 3], the visible share of each view.
      hard_share: share of CPCR's errors that count, the largest of each image.
    """
    given = jnp.pad(labels, ((0, 0), (1, 0)), constant_values=1)  # the background is always there
    of_views = jnp.repeat(given, _VIEWS, axis=0)
    loss_cls = _over_views(multi_label_soft_margin(logits[:, 1:], of_views[:, 1:]))
    loss_rvmin = _over_views(min_pooling_loss((improved * of_views[:, None, None])[..., 1:]))

    weights = (rates[:, :, None] * given[:, None]).reshape(of_views.shape)[:, None, None]
    cam, cam1, cam2 = _views(min_max_normalise(maps) * weights)
    rv, rv1, rv2 = _views(min_max_normalise(improved) * weights)
    fixed, fixed1, fixed2 = (jax.lax.stop_gradient(x) for x in (cam, cam1, cam2))
    loss_tcp = jnp.abs(fixed2 + fixed1 - cam)[..., 1:].mean((1, 2, 3))
    loss_tcp_improved = jnp.abs(rv - rv1 - rv2)[..., 1:].mean((1, 2, 3))

    # The background comes from maps that are weighted by the rate already, so it is stronger the less of the
    # image is visible, as in CPN's code.
    fixed, fixed1, fixed2, rv1, rv2 = map(_with_background, (fixed, fixed1, fixed2, rv1, rv2))
    loss_cpcr1 = hard_example_mean(jnp.abs(max_onehot(fixed - fixed1) - rv2), hard_share)
    loss_cpcr2 = hard_example_mean(jnp.abs(max_onehot(fixed - fixed2) - rv1), hard_share)

    terms = (loss_cls, loss_rvmin, loss_tcp, loss_tcp_improved, loss_cpcr1, loss_cpcr2)
    return dict(zip(Cpn.terms, terms, strict=True))


def _over_views(x: jax.Array) -> jax.Array:
    """The mean of an image's views: [B * 3] -> [B]."""
    return x.reshape(-1, _VIEWS).mean(1)


def _views(x: jax.Array) -> tuple[jax.Array, ...]:
    """[B * 3, ...] -> image, hidden and shown, [B, ...] each."""
    return tuple(jnp.moveaxis(x.reshape(-1, _VIEWS, *x.shape[1:]), 1, 0))


def _with_background(cams: jax.Array) -> jax.Array:
    """Channel 0 becomes what the classes leave: [..., C + 1]."""
    classes = cams[..., 1:]
    return jnp.concatenate([1 - classes.max(-1, keepdims=True), classes], -1)


def _key_per_view(keys: jax.Array | None) -> jax.Array | None:
    """[B] -> [B, 3]: the three forward passes of CPN's code draw dropout each anew."""
    return None if keys is None else jax.vmap(lambda key: jax.random.split(key, _VIEWS))(keys)
