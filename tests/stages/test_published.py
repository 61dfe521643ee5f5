"""From a published-style PyTorch file through the converter and the main program to the references' CAMs."""

import numpy as np
import pytest

from tests.helpers.golden import GOLDEN
from tests.helpers.networks import relative
from tests.helpers.published import published_cams


@pytest.mark.slow
@pytest.mark.parametrize("converted", [True, False])
def test_a_pytorch_file_gives_the_cams_of_psa(tmp_path, converted):
    golden = np.load(GOLDEN / "infercam_baseline.npz")
    classes = sorted(int(c) for c in golden["classes"])
    keys, cam = published_cams(tmp_path, "cam_voc", "resnet38_cls", golden["image"], classes, converted)
    np.testing.assert_array_equal(keys, classes)
    assert relative(cam, golden["baseline_cam"][np.argsort(golden["classes"])]) < 1e-4
