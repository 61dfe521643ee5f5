"""Every hyper-parameter of the published configurations, written out by hand as its authors published it.

The sections named beside them are those of the project's specification of the systems: 1 data, 2 ResNet-38,
3 optimiser, 4.1 to 4.5 the methods, 5 refinement, 10 WaveCAM, 12 DeepLab-v2, 15 means of IoU. What no author
gives is in `OURS`.
"""

import dataclasses

import pytest

from tests.helpers.runs import load
from wsss_jax.config import flatten, resolved
from wsss_jax.data.loader import groups_per_epoch, steps_per_epoch
from wsss_jax.refinement.settings import PRESETS
from wsss_jax.systems.cam.classifier import classifier_config
from wsss_jax.systems.sc_cam.rounds import last_epoch

IMAGENET = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
PSA_CLASSIFIER = "weights/res38_cls.pth"
TRAIN_AUG = 10582  # section 1

RESNET38 = {  # section 2
    "model.width": 1.0,
    "model.blocks": (2, 2, 5, 2),
    "model.dilations": (2, 4, 4),
    "model.frozen_blocks": ("conv1a", "b2", "b2_1", "b2_2"),
    "model.trunk_dropout": (0.3, 0.5),
}
HEAD = {"model.head_dropout": 0.5}  # sections 4.1 to 4.3; OC-CSE has none whatever this says
SGD = {  # section 3
    "optimizer.new_layers": 10.0,
    "optimizer.momentum": 5e-4,
    "optimizer.weight_decay": 5e-4,
    "optimizer.power": 0.9,
}
AUGMENT = {"augment.flip": True, "augment.jitter": (0.3, 0.3, 0.3, 0.1)}  # section 1
SPLITS = {  # sections 1 and 5
    "dataset.name": "voc12",
    "dataset.train_split": "train_aug",
    "dataset.infer_split": "auto",
    "dataset.eval_split": "train",
}
CRF = {  # section 5, psa's; the alphas are each method's own
    "crf.iterations": 10,
    "crf.gaussian_weight": 3.0,
    "crf.gaussian_sxy": 3.0,
    "crf.bilateral_weight": 10.0,
    "crf.bilateral_sxy": 80.0,
    "crf.bilateral_srgb": 13.0,
}
PSA_ALPHAS = {"crf.alphas": (4.0, 32.0), "affinity.alpha_low": 4.0, "affinity.alpha_high": 32.0}  # section 5
AFFINITY = {  # section 5
    "affinity.init_from": IMAGENET,
    "affinity.batch_size": 8,
    "affinity.total_epochs": 8,
    "affinity.crop": 448,
    "affinity.radius": 5,
    "affinity.learning_rate": 0.1,
    "affinity.new_layers": 10.0,
    "walk.alpha": 16.0,
    "walk.beta": 8.0,
    "walk.logt": 8,
    "walk.fixed_threshold": 0.5,  # argmax
}
DEEPLAB_V2 = {  # section 12
    "deeplab_v2.width": 1.0,
    "deeplab_v2.blocks": (3, 4, 23, 3),
    "deeplab_v2.dilations": (1, 1, 2, 4),
    "deeplab_v2.atrous": (6, 12, 18, 24),
    "segmentation.network": "deeplab_v2",
    "segmentation.init_from": "weights/deeplabv1_resnet101-imagenet.pth",
    "segmentation.batch_size": 10,
    "segmentation.group_size": 5,
    "segmentation.total_steps": 20000,
    "segmentation.crop": 321,
    "segmentation.scales": (0.5, 0.75, 1.0, 1.25, 1.5),
    "segmentation.flip": True,
    "segmentation.learning_rate": 2.5e-4,
    "segmentation.new_layers": 10.0,
    "segmentation.momentum": 0.9,
    "segmentation.weight_decay": 5e-4,
    "segmentation.power": 0.9,
    "segmentation.rate_every": 10,
    "segmentation.crf": True,
    "segmentation.crf_image": "network",
    "segmentation.absent_classes": "truth",  # section 15
    "dataset.seg_split": "val",
}
IRN = {  # section 11, IRN's own program
    "irn.init_from": "weights/resnet50-19c8e357.pth",
    "irn.width": 1.0,
    "irn.blocks": (3, 4, 6, 3),
    "irn.foreground": 0.30,
    "irn.background": 0.05,
    "irn.batch_size": 32,
    "irn.total_epochs": 3,
    "irn.scales": (0.5, 1.5),
    "irn.crop": 512,
    "irn.radius": 10,
    "irn.learning_rate": 0.1,
    "irn.displacement_rate": 10.0,
    "irn.momentum": 1e-4,
    "irn.weight_decay": 1e-4,
    "irn.pad": 0,
    "irn.walk.beta": 10.0,
    "irn.walk.logt": 8,
    "irn.walk.radius": 5,
    "irn.walk.fixed_threshold": 0.25,
}
WAVE_CAMS_IRN = {  # section 11, WaveCAM's program on VOC
    **IRN,
    "irn.foreground": 0.35,
    "irn.background": 0.10,
    "irn.walk.fixed_threshold": 0.28,
}
OVER_CAMS = {  # of other runs
    **SPLITS,
    **IRN,
    "method": "irn",
    "refinement": "irn",
    "augment.flip": True,
    "optimizer.power": 0.9,
    "eval.absent_classes": "ignore",  # section 15
}
TRUNK = {
    **RESNET38,
    **HEAD,
    **SGD,
    **AUGMENT,
    **SPLITS,
    **CRF,
    **AFFINITY,
    **IRN,
    **DEEPLAB_V2,
    "cam.flip": True,
}
PSA = {  # section 4.1
    "init_from": IMAGENET,
    "batch_size": 16,
    "total_epochs": 15,
    "augment.resize_long": (256, 512),
    "augment.crop": 448,
    "optimizer.learning_rate": 0.1,
    "eval.fixed_threshold": 0.2,
}
PSA_SCALES = {"cam.scales": (1.0, 0.5, 1.5, 2.0)}  # sections 4.2, 4.5 and psa's own
OTHERS_SCALES = {"cam.scales": (0.5, 1.0, 1.5, 2.0)}  # sections 4.3, 4.4
FIRST_30 = {"eval.thresholds": tuple(i / 100 for i in range(10, 40))}

WAVE_CAM = {  # section 10; both trainings
    "resnet50.width": 1.0,
    "resnet50.blocks": (3, 4, 6, 3),
    "resnet50.frozen": ("conv1", "bn1"),
    "augment.resize_long": (320, 640),
    "augment.crop": 512,
    "augment.flip": True,
    "augment.jitter": (0.0, 0.0, 0.0, 0.0),
    "optimizer.momentum": 1e-4,
    "optimizer.weight_decay": 1e-4,
    "optimizer.power": 0.9,
    "cam.scales": (1.0, 0.5, 1.5, 2.0),
    "cam.flip": True,
}

RECIPES = {
    "cam_voc": {
        **TRUNK,
        **PSA,
        **PSA_SCALES,
        **PSA_ALPHAS,
        "method": "cam",
        "refinement": "none",
        "eval.absent_classes": "zero",
        "eval.every_epochs": 0,
    },
    "sc_cam_voc": {  # section 4.2
        **TRUNK,
        **PSA_SCALES,
        **PSA_ALPHAS,
        "method": "sc_cam",
        "refinement": "none",
        "init_from": IMAGENET,
        "classifier_from": PSA_CLASSIFIER,
        "batch_size": 16,
        "total_epochs": 61,
        "augment.resize_long": (256, 512),
        "augment.crop": 224,
        "optimizer.learning_rate": 0.01,
        "sc_cam.k": 10,
        "sc_cam.rounds": 3,
        "sc_cam.handoff_epochs": (30, 40, 50),
        "sc_cam.sub_weight": 5.0,
        "sc_cam.restarts": 10,
        "sc_cam.maps": "classes",
        "cam.binarised_npy": False,
        "crf.binarised": False,
        "eval.fixed_threshold": 0.15,
        "eval.absent_classes": "truth",  # section 15
        "eval.every_epochs": 0,
    },
    "cpn_voc": {  # section 4.3
        **TRUNK,
        **OTHERS_SCALES,
        **PSA_ALPHAS,
        "method": "cpn",
        "refinement": "none",
        "init_from": IMAGENET,
        "classifier_from": "none",
        "batch_size": 4,
        "total_epochs": 8,
        "augment.resize_long": (448, 768),
        "augment.crop": 448,
        "optimizer.learning_rate": 0.01,
        "cpn.patches": "slic",
        "cpn.segments": 300,
        "cpn.compactness": 10.0,
        "cpn.share": 0.5,
        "cpn.cells": (224, 448),
        "cpn.probability": 0.5,
        "cpn.branch_width": 1.0,
        "cpn.hard_share": 0.2,
        "eval.thresholds": tuple(i / 100 for i in range(20, 60)),
        "eval.absent_classes": "zero",  # section 15
        "eval.every_epochs": 0,
    },
    "cse_voc": {  # section 4.4
        **TRUNK,
        **OTHERS_SCALES,
        **FIRST_30,
        "method": "cse",
        "refinement": "none",
        "init_from": IMAGENET,
        "classifier_from": PSA_CLASSIFIER,
        "batch_size": 8,
        "total_epochs": 15,
        "augment.resize_long": (256, 448),
        "augment.crop": 384,
        "optimizer.learning_rate": 0.01,
        "cse.erased_weight": 0.3,
        "cse.erased_weight_per_epoch": 0.05,
        "crf.alphas": (6.0, 10.0, 24.0),
        "eval.absent_classes": "zero",  # section 15
        "eval.every_epochs": 1,
    },
    "infer_cam_voc": {  # section 4.5
        **TRUNK,
        **PSA_SCALES,
        **PSA_ALPHAS,
        "method": "infer_cam",
        "refinement": "none",
        "init_from": IMAGENET,
        "classifier_from": PSA_CLASSIFIER,
        "infer_cam.network": "cam",
        "infer_cam.margins": (10, 20),
        "infer_cam.wrap": True,
        "infer_cam.iterations": 5,
        "infer_cam.erase_threshold": 0.7,
        "infer_cam.min_erased_fraction": 0.02,
        "infer_cam.jpeg_quality": 95,
        "infer_cam.split_path": "",
    },
    "wave_cam_voc": {  # section 10
        **WAVE_CAM,
        **SPLITS,
        **DEEPLAB_V2,
        "method": "wave_cam",
        "refinement": "none",
        "init_from": "classifier",
        "classifier_from": "",
        "batch_size": 16,
        "total_epochs": 4,
        "optimizer.learning_rate": 5e-5,  # 0.1 x 5e-4
        "optimizer.new_layers": 10.0,  # the predictor: 1 x 5e-4
        "wave_cam.ce_weight": 1.0,
        "wave_cam.wave": True,
        "wave_cam.maps": "product",
        "eval.fixed_threshold": 0.21,
        "eval.absent_classes": "ignore",  # section 15
        "eval.every_epochs": 0,
        **WAVE_CAMS_IRN,
    },
    "affinity_voc": {  # section 5
        **TRUNK,
        **PSA_ALPHAS,
        "method": "affinity",
        "refinement": "random_walk",
    },
    "irn_voc": {**OVER_CAMS, **WAVE_CAMS_IRN, "eval.fixed_threshold": 0.21},
    "irn_cam_voc": {**OVER_CAMS, "irn.pad": 512, "eval.fixed_threshold": 0.15},
    "deeplab_v2_voc": {  # section 12; `masks` are the user's
        **DEEPLAB_V2,
        "method": "deeplab_v2",
        "refinement": "none",
        "dataset.name": "voc12",
        "dataset.train_split": "train_aug",
        "dataset.eval_split": "val",
    },
}
RECIPES["deeplab_v2_coco"] = RECIPES["deeplab_v2_voc"] | {  # section 12
    "dataset.name": "coco14",
    "dataset.train_split": "train",
    "segmentation.batch_size": 20,
    "segmentation.group_size": 10,
    "segmentation.total_steps": 100000,
    "segmentation.learning_rate": 2e-4,
}
# Sections of the configuration that a method does not read.
NOT_IRN = (
    "sc_cam.", "cse.", "cpn.", "infer_cam.", "cam.", "crf.", "affinity.", "walk.", "model.", "augment.",
    "optimizer.", "batch_size", "total_epochs", "init_from", "classifier_from", "segmentation.",
    "deeplab_v2.", "dataset.seg_split",
)  # fmt: skip
NOT_SC_CAM = ("sc_cam.", "cam.binarised_npy", "crf.binarised")
NOT_WAVE_CAM = ("resnet50.", "wave_cam.")
UNREAD = {
    "wave_cam_voc": (*NOT_SC_CAM, "cse.", "cpn.", "infer_cam.", "model.", "crf.", "affinity.", "walk."),
    "cam_voc": (*NOT_SC_CAM, "cse.", "cpn.", "infer_cam.", "classifier_from", "classifier."),
    "sc_cam_voc": ("cse.", "cpn.", "infer_cam."),
    "cpn_voc": (*NOT_SC_CAM, "cse.", "infer_cam."),
    "cse_voc": (*NOT_SC_CAM, "cpn.", "infer_cam."),
    "infer_cam_voc": (
        *NOT_SC_CAM, "cse.", "cpn.", "augment.", "optimizer.", "batch_size", "total_epochs",
    ),
    "affinity_voc": (
        *NOT_SC_CAM, "cse.", "cpn.", "infer_cam.", "augment.resize_long", "augment.crop", "batch_size",
        "total_epochs", "init_from", "optimizer.learning_rate", "classifier_from", "cam.scales",
    ),
    "deeplab_v2_voc": (
        *NOT_SC_CAM, "cse.", "cpn.", "infer_cam.", "augment.", "optimizer.", "batch_size", "total_epochs",
        "init_from", "classifier_from", "model.", "crf.", "affinity.", "walk.", "cam.", "dataset.infer_split",
        "resnet50.", "wave_cam.", "irn.",
    ),
    "irn_voc": NOT_IRN,
    "irn_cam_voc": NOT_IRN,
}  # fmt: skip
UNREAD["deeplab_v2_coco"] = UNREAD["deeplab_v2_voc"]
# What no author gives: how to compute, what to write, and scores of systems that publish no evaluation.
OURS = (
    "seed", "precision", "accumulation", "compilation_cache", "distributed", "cpu_keep_memory",
    "cams_from", "classifier.", "model.fresh_heads", "model.calibration_batches", "dataset.root",
    "dataset.shapes.", "cam.class_filter", "cam.checkpoint", "cam.batch_size", "cam.max_buckets",
    "cam.export_npy", "cam.heat_maps", "cam.storage", "infer_cam.max_buckets", "crf.backend",
    "crf.batch_size", "crf.storage",
    "crf.max_buckets", "crf.workers", "affinity.alpha_", "walk.checkpoint", "walk.method", "walk.batch_size",
    "walk.max_buckets", "walk.threshold", "eval.threshold", "eval.fixed_threshold", "eval.absent_classes",
    "eval.every_epochs", "irn.checkpoint", "irn.walk.method", "irn.walk.batch_size", "irn.walk.max_buckets",
    "irn.walk.threshold", "checkpoint.", "loader.", "log.", "report.", "masks", "segmentation.checkpoint",
    "segmentation.infer_batch_size", "segmentation.max_buckets",
)  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_every_published_value(name):
    found = dict(flatten(load(name)))
    assert {key: found[key] for key in RECIPES[name]} == RECIPES[name]


@pytest.mark.parametrize("name", RECIPES)
def test_no_value_is_left_out(name):
    """A new setting must be pinned here, or be named as one that no author gives or no method reads."""
    left = [
        key
        for key, _ in flatten(load(name))
        if key not in RECIPES[name]
        and not key.startswith((*OURS, *UNREAD[name], *(() if "wave" in name else NOT_WAVE_CAM)))
    ]
    assert left == []


@pytest.mark.parametrize("name", ["cpn_voc", "cse_voc", "infer_cam_voc", "sc_cam_voc"])
def test_a_classifier_trained_on_the_way_is_psas(name):
    """The section `classifier` must take back what the method's own file changes."""
    found = dict(flatten(classifier_config(load(name))))
    wanted = {**RESNET38, **HEAD, **SGD, **AUGMENT, **PSA, "method": "cam", "eval.every_epochs": 0}
    assert {key: found[key] for key in wanted} == wanted
    assert sorted(found["cam.scales"]) == [0.5, 1.0, 1.5, 2.0]
    assert found["eval.thresholds"][:30] == FIRST_30["eval.thresholds"]


@pytest.mark.parametrize(
    ("name", "batch_size", "epochs", "steps"),
    [
        ("cam_voc", 16, 15, 9915),
        ("cpn_voc", 4, 8, 21160),
        ("cse_voc", 8, 15, 19830),
        ("sc_cam_voc", 16, 61, 40321),
        ("wave_cam_voc", 16, 4, 2644),
    ],
)
def test_number_of_steps(name, batch_size, epochs, steps):
    """floor(images / batch) * epochs, by hand (section 3)."""
    config = load(name)
    assert (config.batch_size, config.total_epochs) == (batch_size, epochs)
    assert steps_per_epoch(TRAIN_AUG, config.batch_size) * config.total_epochs == steps


def test_wave_cams_classifier_is_recams():
    """3305 steps from ImageNet weights, of which the gradient reaches all but the stem (section 10)."""
    config = classifier_config(load("wave_cam_voc"), "resnet50_cam")
    found, wanted = (
        dict(flatten(config)),
        {
            **WAVE_CAM,
            "method": "resnet50_cam",
            "init_from": "weights/resnet50-19c8e357.pth",
            "batch_size": 16,
            "total_epochs": 5,
            "optimizer.learning_rate": 0.1,
            "optimizer.new_layers": 10.0,
            "eval.absent_classes": "ignore",
            "eval.every_epochs": 0,
        },
    )
    assert {key: found[key] for key in wanted} == wanted
    assert steps_per_epoch(TRAIN_AUG, config.batch_size) * config.total_epochs == 3305


def test_wave_cam_on_coco():
    """Batch 8 for 5 epochs of 10347 steps, batch 3 for 4 of 27594; the rest as on VOC (section 10)."""
    config, images = load("wave_cam_coco"), 82783
    found, wanted = dict(flatten(config)), {**WAVE_CAM, "wave_cam.ce_weight": 0.1, "wave_cam.maps": "plain"}
    assert {key: found[key] for key in wanted} == wanted
    assert (config.eval.fixed_threshold, config.total_epochs) == (0.15, 4)
    irn = config.irn
    assert (irn.foreground, irn.background, irn.walk.fixed_threshold) == (0.35, 0.1, 0.25)
    assert steps_per_epoch(images, irn.batch_size) * irn.total_epochs == 15519
    assert steps_per_epoch(images, config.batch_size) == 27594
    classifier = classifier_config(config, "resnet50_cam")
    assert (steps_per_epoch(images, classifier.batch_size), classifier.total_epochs) == (10347, 5)


def test_deeplab_v2_takes_two_of_2117_groups_a_step():
    """Section 12: 2116 groups of 5 and one of 2, two of them in each of 20000 steps."""
    settings = load("deeplab_v2_voc").segmentation
    groups = groups_per_epoch(TRAIN_AUG, settings.group_size)
    assert (groups, TRAIN_AUG % settings.group_size) == (2117, 2)
    assert settings.batch_size // settings.group_size == 2 and settings.total_steps == 20000


def test_sc_cams_rounds_end_where_the_authors_read_them():
    """Epochs 30, 40 and 50 counted from 0, while the rate falls as if there were 61 (section 4.2)."""
    config, epochs = load("sc_cam_voc"), []
    for number in (1, 2, 3):
        config.sc_cam.rounds = number
        epochs.append(last_epoch(config))
    assert epochs == [31, 41, 51]


_NOT_PSAS = {"wave_cam_voc", "deeplab_v2_voc", "deeplab_v2_coco"}  # the first one's refinement is IRN


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - _NOT_PSAS))
def test_affinity_net_trains_on_train_aug_for_10576_steps(name):
    config = load(name)
    config.refinement = "random_walk"
    chain = resolved(config)
    assert (chain.dataset.infer_split, chain.dataset.eval_split) == ("train_aug", "train")
    per_epoch = steps_per_epoch(TRAIN_AUG, chain.affinity.batch_size)
    assert (per_epoch, per_epoch * chain.affinity.total_epochs) == (1322, 10576)


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - {"deeplab_v2_voc", "deeplab_v2_coco"}))
def test_irn_trains_on_train_aug_for_990_steps(name):
    config = load(name)
    config.refinement = "irn"
    assert resolved(config).dataset.infer_split == "train_aug"
    per_epoch = steps_per_epoch(TRAIN_AUG, config.irn.batch_size)
    assert (per_epoch, per_epoch * config.irn.total_epochs) == (330, 990)


@pytest.mark.parametrize("refinement", ["none", "crf"])
def test_without_affinity_net_only_what_is_scored_is_inferred(refinement):
    config = load("cam_voc")
    config.refinement = refinement
    assert resolved(config).dataset.infer_split == "train"
    config.dataset.eval_split = "val"
    assert resolved(config).dataset.infer_split == "val"
    assert config.dataset.infer_split == "auto"  # the caller's own is left alone


def test_a_split_that_is_named_is_taken():
    config = load("cam_voc")
    config.refinement, config.dataset.infer_split = "random_walk", "val"
    assert resolved(config).dataset.infer_split == "val"


def test_crf_presets():
    """Sections 5 and 4.3 for CAMs; the others are those of the segmentation networks and of IRN."""
    names = ("iterations", "gaussian_weight", "gaussian_sxy", "bilateral_weight", "bilateral_sxy",
             "bilateral_srgb")  # fmt: skip
    found = {
        preset: tuple(dataclasses.asdict(settings)[name] for name in names)
        for preset, settings in PRESETS.items()
    }
    assert found == {
        "psa": (10, 3.0, 3.0, 10.0, 80.0, 13.0),
        "cpn": (5, 3.0, 3.0, 10.0, 50.0, 13.0),
        "irn": (10, 3.0, 3.0, 10.0, 50.0, 5.0),
        "deeplab": (10, 3.0, 1.0, 4.0, 67.0, 3.0),
        "seam_deeplab": (1, 3.0, 3.0, 10.0, 32.0, 13.0),
        "afa": (10, 3.0, 3.0, 4.0, 64.0, 5.0),
    }
