"""Variables before the first step."""

import flax.linen as nn
import numpy as np

from wsss_jax.models.norms import BatchNorm
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.training.initial import calibrate, fresh_variables


class TwoNorms(nn.Module):
    preprocess = IMAGENET

    @nn.compact
    def __call__(self, x):
        frozen = BatchNorm(name="frozen")(x)
        return BatchNorm(batch_statistics=True, group_size=2, name="learns")(3 * frozen + 1)


def test_calibration_measures_layer_by_layer_and_whatever_a_norm_does_in_training():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    boxes = np.array([[0, 8, 0, 8]] * 3, np.int32)
    before = fresh_variables(TwoNorms(), seed=0)
    after = calibrate(TwoNorms(), before, images, boxes)
    inputs = np.asarray(IMAGENET.crops(images, boxes)).reshape(-1, 3)
    stats = after["batch_stats"]
    np.testing.assert_allclose(stats["frozen"]["mean"], inputs.mean(0), rtol=1e-4)
    np.testing.assert_allclose(stats["frozen"]["var"], inputs.var(0), rtol=1e-4)
    np.testing.assert_allclose(stats["learns"]["mean"], 1, rtol=1e-4)  # of normalised values, tripled, plus 1
    np.testing.assert_allclose(stats["learns"]["var"], 9, rtol=1e-4)
