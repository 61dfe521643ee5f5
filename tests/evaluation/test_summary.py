import json

import numpy as np
import pytest

from tests.helpers.golden import GOLDEN
from wsss_jax.data.class_maps import ClassMaps
from wsss_jax.errors import ConfigError, DataError
from wsss_jax.evaluation import ConfusionMatrix, ThresholdSweep, describe, summarise, summarise_labels


def provenance(**changes):
    return {
        "stage": "eval_cam",
        "method": "cse",
        "dataset": "shapes",
        "split": "train",
        "list_sha256": "1f0c2a9b" * 8,
        "classes": ("disc", "square", "bar"),
        "scales": (0.5, 1.0),
        "flip": True,
        "crf": False,
        "class_filter": "given",
        "weights_sha256": "77ab01c4" * 8,
    } | changes


def small_sweep():
    """One image: at 0.1 and 0.2 everything is class 0, at 0.4 half of it."""
    sweep = ThresholdSweep(num_classes=3, thresholds=[0.1, 0.2, 0.4])
    cam = np.float32([[[0.3, 0.3, 0.6, 0.6]]])
    sweep.add(ClassMaps(np.array([0], np.int32), cam), np.array([[0, 0, 1, 1]], np.uint8))
    return sweep


def test_points_are_percentages_and_labelled():
    metrics = summarise(small_sweep(), 0.2, provenance=provenance())
    assert metrics["unit"] == "percent"
    assert metrics["images"] == 1
    assert metrics["miou_curve"] == pytest.approx([12.5, 12.5, 50])
    assert metrics["fixed"]["threshold"] == 0.2
    assert metrics["fixed"]["iou"] == pytest.approx([0, 50, 0, 0])
    assert metrics["fixed"]["miou"] == pytest.approx(12.5)
    assert metrics["oracle"]["threshold"] == 0.4
    assert metrics["oracle"]["iou"] == pytest.approx([100, 100, 0, 0])
    assert metrics["chosen"] is None


def test_ignored_classes_are_null_and_not_in_the_mean():
    metrics = summarise(small_sweep(), 0.4, provenance=provenance(), absent_classes="ignore")
    assert metrics["absent_classes"] == "ignore"
    assert metrics["fixed"]["miou"] == pytest.approx(100)
    assert metrics["fixed"]["iou"][2:] == [None, None]


def test_classes_that_the_truth_lacks_are_null_under_its_rule():
    """Class 3 is predicted where the truth has class 1, and class 2 is nowhere."""
    confusion = ConfusionMatrix(num_classes=3)
    confusion.add(np.array([[0, 1, 3]], np.uint8), np.array([[0, 1, 1]], np.uint8))
    metrics = summarise_labels(confusion, provenance=provenance(), absent_classes="truth")
    assert metrics["fixed"]["iou"] == [pytest.approx(100), pytest.approx(50), None, None]
    assert metrics["fixed"]["miou"] == pytest.approx(75)
    assert describe(metrics).endswith(", classes absent from the truth left out")


@pytest.mark.parametrize(
    ("trained", "text"),
    [
        (("train_aug", "e" * 64), ", AffinityNet trained on train_aug"),
        (("train", "1f0c2a9b" + "0" * 56), ", AffinityNet trained on train, the images scored"),
        (None, ", absent classes count 0"),
    ],
)
def test_pseudo_masks_say_what_their_affinity_net_was_trained_on(trained, text):
    given = provenance(list_sha256="1f0c2a9b" + "0" * 56)
    if trained:
        given["trained_on"] = {"AffinityNet": dict(zip(("split", "list_sha256"), trained, strict=True))}
    assert describe(summarise(small_sweep(), 0.2, provenance=given)).endswith(text)


def test_oracle_is_the_maximum_of_the_curve_and_the_lowest_of_equals():
    rng = np.random.default_rng(0)
    sweep = ThresholdSweep(num_classes=3, thresholds=[0.1, 0.3, 0.5, 0.7])
    for _ in range(5):
        cam = rng.random((2, 8, 8), np.float32)
        sweep.add(ClassMaps(np.array([0, 2], np.int32), cam), rng.integers(0, 4, (8, 8)).astype(np.uint8))
    metrics = summarise(sweep, 0.1, provenance=provenance())
    assert metrics["oracle"]["miou"] == max(metrics["miou_curve"])
    assert len(set(metrics["miou_curve"])) == 4
    assert summarise(_flat_sweep(), 0.2, provenance=provenance())["oracle"]["threshold"] == 0.1


def _flat_sweep():
    sweep = ThresholdSweep(num_classes=3, thresholds=[0.1, 0.2])
    sweep.add(ClassMaps(np.zeros(0, np.int32), np.zeros((0, 1, 1), np.float32)), np.zeros((1, 1), np.uint8))
    return sweep


def test_threshold_chosen_on_another_split_is_labelled():
    train = summarise(small_sweep(), 0.2, provenance=provenance())
    metrics = summarise(small_sweep(), 0.1, provenance=provenance(split="val"), threshold_from=train)
    assert metrics["chosen"]["threshold"] == 0.4
    assert metrics["chosen"]["split"] == "train"
    assert metrics["chosen"]["miou"] == pytest.approx(50)
    assert "50.00 at 0.4 (chosen on train)" in describe(metrics)


def test_threshold_from_the_same_split_or_without_one_is_refused():
    train = summarise(small_sweep(), 0.2, provenance=provenance())
    with pytest.raises(ConfigError, match="oracle"):
        summarise(small_sweep(), 0.2, provenance=provenance(), threshold_from=train)
    labels = summarise_labels(_perfect(), provenance=provenance(split="val", stage="eval_seg"))
    with pytest.raises(ConfigError, match=r"eval_seg val.*has no threshold"):
        summarise(small_sweep(), 0.2, provenance=provenance(), threshold_from=labels)


def _perfect():
    confusion = ConfusionMatrix(num_classes=3)
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    confusion.add(labels, labels)
    return confusion


def test_label_maps_have_no_threshold():
    metrics = summarise_labels(
        _perfect(), provenance=provenance(stage="eval_crf", crf="alpha 4", scales=None, flip=None)
    )
    assert metrics["fixed"]["threshold"] is None
    assert metrics["fixed"]["iou"] == pytest.approx([100] * 4)
    assert metrics["oracle"] is None
    assert metrics["thresholds"] == metrics["miou_curve"] == []
    assert describe(metrics) == (
        "eval_crf train: mIoU 100.00; 0.0 % of the foreground is background; 1 image, list 1f0c2a9b, "
        "CRF alpha 4, classes given, weights 77ab01c4, absent classes count 0"
    )


def test_one_line_says_what_the_score_is():
    assert describe(summarise(small_sweep(), 0.2, provenance=provenance())) == (
        "eval_cam train: mIoU 12.50 at background score 0.2 (fixed), 50.00 at 0.4 (oracle); 50.0 % of the "
        "foreground is background; 1 image, list 1f0c2a9b, scales 0.5 1, flip, no CRF, classes given, "
        "weights 77ab01c4, absent classes count 0"
    )


def test_share_of_the_foreground_that_is_background():
    """At 0.2 all four pixels are of a class, two of them rightly or not; at 0.4 half of them; at 1 none."""
    metrics = summarise(small_sweep(), 0.2, provenance=provenance())
    assert metrics["fixed"]["wrong_foreground"] == 50 and metrics["oracle"]["wrong_foreground"] == 0
    nothing = ThresholdSweep(num_classes=3, thresholds=[1.0])
    nothing.add(
        ClassMaps(np.array([0], np.int32), np.ones((1, 1, 1), np.float32)), np.zeros((1, 1), np.uint8)
    )
    metrics = summarise(nothing, 1.0, provenance=provenance())
    assert metrics["fixed"]["wrong_foreground"] is None and "of the foreground" not in describe(metrics)


def test_share_and_mean_are_wavecams():
    """The scores that its program prints, of maps of four images, one of them of class 20."""
    golden = np.load(GOLDEN / "segmentation_eval.npz")
    threshold = round(float(golden["voc_wavecam_threshold"]), 6)
    sweep = ThresholdSweep(num_classes=20, thresholds=[threshold])
    for i in range(4):
        keys, planes = golden[f"voc_wavecam_keys{i}"], golden[f"voc_wavecam_maps{i}"]
        sweep.add(ClassMaps(keys.astype(np.int32), planes), golden[f"voc_wavecam_truth{i}"])
    given = provenance(classes=tuple(map(str, range(20))))
    fixed = summarise(sweep, threshold, provenance=given, absent_classes="ignore")["fixed"]
    assert fixed["wrong_foreground"] / 100 == pytest.approx(float(golden["voc_wavecam_cam_background_share"]))
    assert fixed["miou"] / 100 == pytest.approx(float(golden["voc_wavecam_cam_miou"]), rel=1e-6)


def test_maps_say_what_their_thresholds_are():
    line = describe(summarise(small_sweep(), 0.2, provenance=provenance(level="relative score")))
    assert "mIoU 12.50 at relative score 0.2 (fixed), 50.00 at 0.4 (oracle)" in line
    assert "background score" not in line


@pytest.mark.parametrize("absent_classes", ["zero", "ignore", "truth"])
def test_metrics_are_strict_json_even_from_numpy_values(absent_classes):
    given = provenance(scales=np.float32([0.5, 1]), flip=np.bool_(True), extra={"seed": np.int64(3)})
    metrics = summarise(small_sweep(), np.float32(0.2), provenance=given, absent_classes=absent_classes)
    text = json.dumps(metrics, allow_nan=False)
    assert json.loads(text) == metrics
    assert metrics["extra"] == {"seed": 3}
    assert metrics["classes"] == ["disc", "square", "bar"]


def test_float32_thresholds_are_stored_as_short_decimals():
    sweep = ThresholdSweep(num_classes=3, thresholds=np.float32([0.1, 0.15]))
    sweep.add(ClassMaps(np.zeros(0, np.int32), np.zeros((0, 1, 1), np.float32)), np.zeros((1, 1), np.uint8))
    assert summarise(sweep, 0.15, provenance=provenance())["thresholds"] == [0.1, 0.15]


def test_incomplete_provenance_and_empty_counts_are_refused():
    incomplete = {key: value for key, value in provenance().items() if key not in ("flip", "list_sha256")}
    with pytest.raises(ValueError, match="lacks list_sha256, flip"):
        summarise(small_sweep(), 0.2, provenance=incomplete)
    with pytest.raises(ValueError, match="names 2 classes, the counts have 3"):
        summarise(small_sweep(), 0.2, provenance=provenance(classes=("a", "b")))
    with pytest.raises(ConfigError, match=r"threshold 0.25"):
        summarise(small_sweep(), 0.25, provenance=provenance())
    empty = ThresholdSweep(num_classes=3, thresholds=[0.2])
    empty.add(
        ClassMaps(np.array([0], np.int32), np.ones((1, 1, 1), np.float32)), np.full((1, 1), 255, np.uint8)
    )
    with pytest.raises(DataError, match="eval_cam train: no pixel to score in 1 images"):
        summarise(empty, 0.2, provenance=provenance())
