"""Maps at the image's size and at a quarter of it, against IRN's program."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import numpy as np

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import relative
from wsss_jax.inference.multiscale import CamProgram
from wsss_jax.inference.predict import InferenceSettings, PlannedBatch, Predictor
from wsss_jax.models.classifier import Scores
from wsss_jax.ops.preprocess import IMAGENET
from wsss_jax.sharding import data_mesh
from wsss_jax.systems.resnet50.maps import IrnMaps

SCALES = (1.0, 0.5, 1.5, 2.0)


@dataclass(frozen=True)
class Given(IrnMaps):
    """A network whose outputs are known: those that IRN's program makes its maps of."""

    name: ClassVar = "given"
    stride: ClassVar = 16
    preprocess: ClassVar = IMAGENET

    def cam(self, variables, images, sizes):
        maps = variables[f"{-(-images.shape[1] // 16)}"]
        return Scores(maps, maps.mean((1, 2)))


class OnePicture:
    """A source of an image of the golden size, of which only that counts."""

    name = "golden"
    classes = tuple(map(str, range(20)))

    def __init__(self, size):
        self._image = np.zeros((*size, 3), np.uint8)

    def image(self, image_id):
        return self._image


def test_maps_are_irns_inside_a_larger_bucket():
    golden, bucket = np.load(GOLDEN / "resnet50_cam.npz"), (96, 128)
    variables = {}
    for i, scale in enumerate(SCALES):
        output = golden[f"make_cam_output{i}"].transpose(1, 2, 0)
        h, w = (-(-round(side * scale) // 16) for side in bucket)
        variables[str(h)] = np.full((1, h, w, 20), 7, np.float32)
        variables[str(h)][0, : output.shape[0], : output.shape[1]] = output
    assert len(variables) == 4
    settings = InferenceSettings(scales=SCALES, flip=False, class_filter="given", batch_size=1, max_buckets=1)
    predictor = Predictor(Given(), data_mesh(jax.devices()[:1]), settings)
    assert isinstance(predictor.program, CamProgram)
    given = {"golden": tuple(golden["make_cam_keys"].tolist())}
    assert given["golden"] == tuple(np.flatnonzero(golden["make_cam_label"]))
    source = OnePicture(tuple(golden["make_cam_size"]))
    ((found,),) = predictor.predict(variables, source, [PlannedBatch(bucket, ("golden",))], given)
    assert found.maps.planes.shape == golden["make_cam_high_res"].shape
    assert relative(found.maps.planes, golden["make_cam_high_res"]) < 1e-4
    assert found.reduced.planes.shape == golden["make_cam_cam"].shape
    assert relative(found.reduced.planes, golden["make_cam_cam"]) < 1e-4
    np.testing.assert_array_equal(found.reduced.class_ids, found.maps.class_ids)
