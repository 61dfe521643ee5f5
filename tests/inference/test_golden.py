"""Multi-scale inference against psa's program, as InferCam runs it for its baseline."""

import jax
import numpy as np

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import FROZEN_BLOCKS, golden_variables, relative
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, Predictor
from wsss_jax.models.classifier import Classifier
from wsss_jax.sharding import data_mesh
from wsss_jax.systems.cam.task import Cam


class OnePicture:
    """A source of the golden image."""

    name = "golden"
    classes = tuple(str(i) for i in range(20))

    def __init__(self, image):
        self._image = image

    def image(self, image_id):
        return self._image


def test_baseline_cam_is_that_of_psa():
    golden = np.load(GOLDEN / "infercam_baseline.npz")
    settings = InferenceSettings(
        scales=(1.0, 0.5, 1.5, 2.0), flip=True, class_filter="given", batch_size=1, max_buckets=1
    )
    method = Cam(network=Classifier(20), frozen_blocks=FROZEN_BLOCKS)
    predictor = Predictor(method, data_mesh(jax.devices()[:1]), settings)
    # A bucket larger than the picture, so that padding takes part.
    batch = PlannedBatch((80, 96), ("golden",))
    given = {"golden": tuple(sorted(int(c) for c in golden["classes"]))}
    variables = {"classifier": golden_variables()}
    ((prediction,),) = predictor.predict(variables, OnePicture(golden["image"]), [batch], given)
    np.testing.assert_array_equal(prediction.maps.class_ids, sorted(golden["classes"]))
    order = np.argsort(golden["classes"])
    assert relative(prediction.maps.planes, golden["baseline_cam"][order]) < 1e-4
