"""The scores that the programs of IRN and of WaveCAM print, of their own label maps and CAMs."""

import numpy as np
import pytest

from tests.helpers.golden import GOLDEN
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.evaluation import ConfusionMatrix, ThresholdSweep, class_iou, mean_iou, summarise_labels
from wsss_jax.evaluation.confusion import error_shares
from wsss_jax.evaluation.summary import PROVENANCE_KEYS

SETS = {"voc": 20, "voc_low": 20, "voc_wavecam": 20, "coco": 80}


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "segmentation_eval.npz"))


def corner(confusion, wanted):
    """IRN's matrix ends at the highest class that occurs."""
    size = len(wanted)
    assert confusion[size:].sum() == confusion[:, size:].sum() == 0
    np.testing.assert_array_equal(confusion[:size, :size], wanted)


@pytest.mark.parametrize("name", SETS)
def test_cams(golden, name):
    threshold = float(golden[f"{name}_threshold"])
    sweep = ThresholdSweep(num_classes=SETS[name], thresholds=(threshold,))
    for i in range(4):
        truth, keys = golden[f"{name}_truth{i}"], golden[f"{name}_keys{i}"].astype(np.int32)
        maps = golden.get(f"{name}_maps{i}", np.zeros((0, *truth.shape), np.float32))
        sweep.add(ClassMaps(keys, maps), truth)
    (confusion,) = sweep.confusion()
    corner(confusion, golden[f"{name}_cam_confusion"])
    np.testing.assert_allclose(mean_iou(confusion, "ignore"), golden[f"{name}_cam_miou"], rtol=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_final_labels(golden, name):
    matrix = ConfusionMatrix(num_classes=SETS[name], void_prediction="background")
    for i in range(4):
        matrix.add(golden[f"{name}_labels{i}"], golden[f"{name}_truth{i}"])
    wanted = golden[f"{name}_label_confusion"]
    corner(matrix.counts, wanted)
    np.testing.assert_allclose(mean_iou(matrix.counts, "ignore"), golden[f"{name}_label_miou"], rtol=1e-6)
    iou, present = golden[f"{name}_label_iou"], golden[f"{name}_label_iou"] >= 0
    np.testing.assert_allclose(class_iou(matrix.counts)[: len(iou)][present], iou[present], rtol=1e-6)
    provenance = dict.fromkeys(PROVENANCE_KEYS) | {"stage": "", "split": "", "classes": range(SETS[name])}
    fixed = summarise_labels(matrix, provenance=provenance, absent_classes="ignore")["fixed"]
    found = [fixed[kind]["background"] for kind in ("false_positives", "false_negatives")]
    np.testing.assert_allclose(found, 100 * golden[f"{name}_label_fp_fn_background"], rtol=1e-5)
    means = [fixed[kind]["classes"] for kind in ("false_positives", "false_negatives")]
    if name == "voc_low":  # where every class occurs, and IRN's program prints a number
        np.testing.assert_allclose(means, 100 * golden[f"{name}_label_fp_fn_mean"], rtol=1e-5)
    else:
        assert (golden[f"{name}_label_fp_fn_mean"] == -9).all() and np.isfinite(means).all()


def test_shares_of_errors_by_hand():
    """Class 1: 3 pixels of truth, 2 predicted, 1 of both, so 4 in the union; class 2 is nowhere."""
    false_positives, false_negatives = error_shares(np.array([[5, 1, 0], [2, 1, 0], [0, 0, 0]]))
    np.testing.assert_allclose(false_positives, [2 / 8, 1 / 4, np.nan])
    np.testing.assert_allclose(false_negatives, [1 / 8, 2 / 4, np.nan])
