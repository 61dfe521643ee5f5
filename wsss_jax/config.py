"""Every setting with its default, in one place, and checks of what a user sets.

Files in `configs/` start from `defaults()` and change what differs. Imports no JAX.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from wsss_jax.errors import ConfigError


def defaults() -> ConfigDict:
    """Returns the settings that all experiments share, with the values of the published OC-CSE run on VOC."""
    c = ConfigDict()
    c.method = "cam"  # a name in `wsss_jax.systems`
    c.seed = 0
    c.precision = "float32"  # 'float32' exact | 'fast' as the chip prefers | 'bfloat16' activations
    c.batch_size = 8  # images per step over all devices and accumulation steps
    c.accumulation = 1  # forward-backward passes per step; the result does not depend on it
    c.total_epochs = 15
    c.init_from = "scratch"  # 'scratch' | 'classifier': the weights of cse's classifier | a checkpoint's path
    c.compilation_cache = "~/.cache/wsss_jax"  # compiled programs; '' switches the cache off
    c.distributed = False  # several hosts: each starts the same command, see docs/scaling.md
    c.cpu_keep_memory = True  # on CPUs: freed memory stays with the process, see docs/scaling.md
    # checkpoint of the ordinary classifier for methods that need one; "" trains it (stage `classifier`)
    c.classifier_from = ""
    c.cams_from = ""  # method affinity: the folder of the run whose CAMs are refined
    c.refinement = "none"  # what follows eval_cam if no --stages are given: 'none' | 'crf' | 'random_walk'
    c.classifier = ConfigDict()  # what differs from this file when the stage `classifier` trains one
    c.model = _model()
    c.dataset = _dataset()
    c.augment = _augment()
    c.optimizer = _optimizer()
    c.cse = _cse()
    c.sc_cam = _sc_cam()
    c.cpn = _cpn()
    c.infer_cam = _infer_cam()
    c.cam = _cam()
    c.eval = _eval()
    c.crf = _crf()
    c.affinity = _affinity()
    c.walk = _walk()
    c.checkpoint = ConfigDict()
    c.checkpoint.every_steps = 0  # besides the end of each epoch; 0 = no more
    c.loader = ConfigDict()
    c.loader.workers = 4  # processes that decode and augment; 0 = threads of this process
    c.loader.threads = 8
    c.log = ConfigDict()
    c.log.every_steps = 50  # or a twentieth of a shorter training
    c.log.tensorboard = False  # needs the extra `tensorboard`
    c.report = ConfigDict()
    c.report.images = 24  # pictures in the gallery
    return c


def _model() -> ConfigDict:
    """The network."""
    c = ConfigDict()
    c.width = 1.0  # multiplier of all channel counts; 1 = published
    c.blocks = (2, 2, 5, 2)  # plain blocks in b2..b5; (2, 2, 5, 2) = published
    c.dilations = (2, 4, 4)  # of b5, b6 and b7; published; smaller for pictures much smaller than 448
    c.frozen_blocks = ("conv1a", "b2", "b2_1", "b2_2")  # keep their pretrained weights
    c.trunk_dropout = (0.3, 0.5)  # of channels, in b6 and b7
    c.head_dropout = 0.5  # of conv6's channels before fc8; cse never has it
    c.fresh_heads = ()  # heads, such as ("fc8",), that are not taken from `init_from`
    c.calibration_batches = 4  # from scratch: batches on which the frozen batch norms are measured
    return c


def _dataset() -> ConfigDict:
    """Which pictures; see docs/data.md."""
    c = ConfigDict()
    c.name = "voc12"  # 'voc12' | 'folder' | 'shapes'
    c.root = ""
    c.train_split = "train_aug"  # a split's name, or the path of a text file with one id a line
    # of the CAMs and of all that is made from them; 'auto' is eval_split, and with refinement='random_walk'
    # train_split, on whose CAMs AffinityNet then trains and of which eval_split must be a part
    c.infer_split = "auto"
    c.eval_split = "train"
    c.shapes = ConfigDict({"num_train": 800, "num_val": 200, "image_size": 128, "seed": 0})
    return c


def _augment() -> ConfigDict:
    """How a training picture becomes a crop."""
    c = ConfigDict()
    c.resize_long = (256, 448)  # long side in pixels, drawn uniformly
    c.crop = 384
    c.flip = True
    c.jitter = (0.3, 0.3, 0.3, 0.1)  # brightness, contrast, saturation, hue
    return c


def _optimizer() -> ConfigDict:
    """SGD with polynomial decay; see `training.optimizer`."""
    c = ConfigDict()
    c.learning_rate = 0.01  # of pretrained weights
    c.new_layers = 10.0  # times the learning rate
    c.momentum = 5e-4  # not 0.9: the references hand weight decay's value to SGD as momentum
    c.weight_decay = 5e-4
    c.power = 0.9  # of the polynomial decay
    return c


def _cse() -> ConfigDict:
    """OC-CSE."""
    c = ConfigDict()
    c.erased_weight = 0.3
    c.erased_weight_per_epoch = 0.05
    return c


def _sc_cam() -> ConfigDict:
    """SC-CAM."""
    c = ConfigDict()
    c.k = 10  # sub-categories of a class
    c.rounds = 3  # each clusters the features of the round before
    # Epoch of each round that the next one reads and, for the last one, whose CAMs are the result, counted
    # from 0 as in the original's file names (..._ep30.pth is saved after 31 epochs); at most the last one.
    # Training ends there; the learning rate falls as if `total_epochs` were to come.
    c.hand_on = (30, 40, 50)
    c.sub_weight = 5.0  # of the sub-categories' loss
    c.restarts = 10  # of k-means (n_init), scikit-learn's default at the time; since version 1.4 it is 1
    return c


def _cpn() -> ConfigDict:
    """CPN: which patches one view hides and another shows alone (`data.superpixels`), branch and losses."""
    c = ConfigDict()
    c.patches = "slic"  # 'slic' superpixels | 'grid' cells
    c.segments = 300  # superpixels of a crop, about
    c.compactness = 10.0  # of superpixels
    c.share = 0.5  # of them are drawn, with replacement
    c.cells = (224, 448)  # sides of the grid's cells in pixels, one drawn for each crop
    c.probability = 0.5  # of each cell to be hidden
    c.branch_width = 1.0  # multiplier of the channels of the branch that improves the maps; 1 = published
    c.hard_share = 0.2  # of CPCR's errors, of all positions and channels, that count; the largest ones
    return c


def _infer_cam() -> ConfigDict:
    """InferCam."""
    c = ConfigDict()
    c.network = "cam"  # the method whose network is asked: 'cam' psa's classifier | 'cse' | 'sc_cam' | 'seam'
    # Parts go through a JPEG file of this quality, as between the authors' two programs; with 0 they do not,
    # which moves the maps of a photograph by 0.004 in the mean, and 0.8 % of the labels at background 0.3.
    c.jpeg_quality = 95
    c.split_path = ""  # folder with parts that the authors' first program has written, in place of our own
    c.margins = (10, 20)  # pixels that parts reach beyond the centres, in pictures of one class and of two
    c.wrap = True  # starts below 0 count from the end, as in the authors' slices; see `data.parts`
    c.rounds = 5  # a part is asked at most so often
    c.erase_from = 0.7  # score from which a pixel is painted over in the next round
    c.enough = 0.02  # a part is done once a round paints over less than this share of it anew
    c.max_buckets = 16  # padded sizes of parts, each a compiled program
    return c


def _cam() -> ConfigDict:
    """CAM inference."""
    c = ConfigDict()
    c.scales = (0.5, 1.0, 1.5, 2.0)
    c.flip = True
    c.class_filter = "given"  # 'given' image-level labels | 'predicted' by the classifier | 'all' classes
    c.checkpoint = "best"  # by per-epoch evaluation (last if there is none) | 'last' | a step | a path
    c.batch_size = 8  # images per inference batch over all devices of a host
    c.max_buckets = 8  # padded picture sizes, each a compiled program
    c.export_npy = False  # also write the references' pickled {class: map} dictionaries
    c.heat_maps = False  # also write pictures of the maps, heat/<split>/<id>_<class>.png
    c.sc_cam_maps = "parent"  # of sc_cam: 'parent' classes as published | 'sub', merged sub-categories
    c.sc_cam_binarised = False  # the exported .npy hold 0 and 255, as the original's; see `refine.energies`
    return c


def _crf() -> ConfigDict:
    """Dense CRF on CAMs, as psa, SC-CAM, CPN and OC-CSE have it; see docs/refinement.md."""
    c = ConfigDict()
    # exponents of the background score (1 - max CAM)^alpha: psa and SC-CAM 4 and 32, OC-CSE 6, 10 and 24
    c.alphas = (4.0, 32.0)
    c.iterations = 10
    c.gaussian_weight = 3.0
    c.gaussian_sxy = 3.0  # pixels
    c.bilateral_weight = 10.0
    c.bilateral_sxy = 80.0  # pixels
    c.bilateral_srgb = 13.0  # levels of 0..255
    c.sc_cam_binarised = False  # the CRF sees maps of 0 and 255, as SC-CAM's does; see `refine.energies`
    c.backend = "auto"  # 'jax' | 'pydensecrf' | 'auto': pydensecrf on a CPU that has it
    c.batch_size = 0  # pictures per batch on this host; 0 = 8 per accelerator, 1 per CPU device
    c.max_buckets = 4  # padded picture sizes
    c.workers = 0  # processes of pydensecrf; 0 = one per core
    return c


def _affinity() -> ConfigDict:
    """AffinityNet, with psa's values; see `methods.affinity`."""
    c = ConfigDict()
    c.init_from = "trained"  # trunk of the network that made the CAMs | 'classifier' | a checkpoint's path
    c.alpha_low = 4.0  # of the CRF scores that say what is foreground
    c.alpha_high = 32.0  # of those that say what is background; both must be among crf.alphas
    c.batch_size = 8  # images per step over all devices; the loss needs them at once
    c.total_epochs = 8
    c.crop = 448  # side in pixels, a multiple of 8
    c.radius = 5  # pairs are nearer than this, in cells of 8 pixels; of the walk too
    c.learning_rate = 0.1  # of pretrained weights; momentum, decay and power are those of section optimizer
    c.new_layers = 10.0  # times the learning rate
    return c


def _walk() -> ConfigDict:
    """Random walk along affinities, with psa's values; see `refine.walk` and docs/refinement.md."""
    c = ConfigDict()
    c.alpha = 16.0  # background is (1 - max CAM)^alpha
    c.beta = 8.0  # power of the affinities
    c.logt = 8  # 2^logt steps
    c.checkpoint = ""  # AffinityNet's: '' what train_affinity makes | a path, such as one of psa's program
    c.method = "chebyshev"  # 'chebyshev' few terms | 'stencil' every step
    c.batch_size = 8  # images per batch over all devices of a host
    c.fixed_threshold = 0.5  # a class's share against background from which the masks show it; psa's argmax
    c.thresholds = tuple(i / 100 for i in range(10, 92, 2))  # shares of the curve
    c.threshold_from = ""  # metrics JSON of another split, whose best share is applied to this one
    return c


def _eval() -> ConfigDict:
    """Scores of CAMs."""
    c = ConfigDict()
    c.thresholds = tuple(i / 100 for i in range(10, 40))  # background scores of the curve
    c.fixed_threshold = 0.2  # psa's; SC-CAM's is 0.15
    c.threshold_from = ""  # metrics JSON of another split, whose best threshold is applied to this one
    # What a class counts in the mean that does not occur: 'zero' 0, as in OC-CSE and CPN | 'ignore' nothing
    # if it is in neither truth nor prediction, as in IRN | 'truth' nothing if it is not in the truth, as in
    # SC-CAM
    c.absent_classes = "zero"
    c.every_epochs = 1  # during training, on `dataset.eval_split`; 0 = never
    return c


_CHOICES = {
    "refinement": ("none", "crf", "random_walk"),
    "crf.backend": ("auto", "jax", "pydensecrf"),
    "precision": ("float32", "fast", "bfloat16"),
    "dataset.name": ("voc12", "folder", "shapes"),
    "cam.class_filter": ("given", "predicted", "all"),
    "cpn.patches": ("slic", "grid"),
    "cam.sc_cam_maps": ("parent", "sub"),
    "infer_cam.network": ("cam", "cse", "sc_cam", "seam"),
    "walk.method": ("chebyshev", "stencil"),
    "eval.absent_classes": ("zero", "ignore", "truth"),
}
_POSITIVE = (
    "batch_size", "accumulation", "total_epochs", "model.width", "augment.crop", "optimizer.learning_rate",
    "cam.batch_size", "cam.max_buckets", "log.every_steps", "loader.threads", "model.calibration_batches",
    "sc_cam.k", "sc_cam.rounds", "sc_cam.restarts", "infer_cam.rounds", "infer_cam.erase_from",
    "infer_cam.max_buckets", "affinity.batch_size", "affinity.total_epochs", "affinity.learning_rate",
    "walk.alpha", "walk.beta", "walk.batch_size", "crf.iterations", "crf.gaussian_sxy", "crf.bilateral_sxy",
    "crf.bilateral_srgb", "crf.max_buckets", "cpn.branch_width",
)  # fmt: skip
_NOT_NEGATIVE = (
    "optimizer.momentum", "optimizer.weight_decay", "loader.workers", "eval.fixed_threshold",
    "eval.every_epochs", "checkpoint.every_steps", "report.images", "infer_cam.enough",
    "walk.fixed_threshold", "crf.gaussian_weight", "crf.bilateral_weight", "crf.batch_size", "crf.workers",
    "infer_cam.jpeg_quality",
)  # fmt: skip


def validate(config: ConfigDict) -> None:
    """Raises ConfigError, naming key, value and what would be right, if a value cannot be used."""
    flat = dict(flatten(config))
    for key, allowed in _CHOICES.items():
        if flat[key] not in allowed:
            raise ConfigError(f"config.{key}={flat[key]!r}: must be one of {', '.join(map(repr, allowed))}")
    for key in _POSITIVE:
        if not flat[key] > 0:
            raise ConfigError(f"config.{key}={flat[key]!r}: must be greater than 0")
    for key in _NOT_NEGATIVE:
        if not flat[key] >= 0:
            raise ConfigError(f"config.{key}={flat[key]!r}: must be at least 0")
    _check_numbers(flat)
    _check_sc_cam(flat)
    _check_affinity(flat)


def resolved(config: ConfigDict) -> ConfigDict:
    """Returns a copy in which `dataset.infer_split` 'auto' is the split that it stands for."""
    config = ConfigDict(config.to_dict())
    dataset = config.dataset
    if dataset.infer_split == "auto":
        chain = config.refinement == "random_walk"
        dataset.infer_split = dataset.train_split if chain else dataset.eval_split
    return config


def _check_sc_cam(flat: Mapping[str, Any]) -> None:
    """Checks what SC-CAM's rounds need."""
    epochs, rounds = flat["sc_cam.hand_on"], flat["sc_cam.rounds"]
    whole = all(isinstance(epoch, int) and epoch >= 0 for epoch in epochs)
    if not whole or len(epochs) < rounds:
        raise ConfigError(f"config.sc_cam.hand_on={epochs}: must be an epoch for each of {rounds} round(s)")
    if flat["cam.sc_cam_binarised"] and not flat["cam.export_npy"]:
        raise ConfigError(
            "config.cam.sc_cam_binarised=True: only exported files are binarised; set "
            "--config.cam.export_npy=True too"
        )


def _check_affinity(flat: Mapping[str, Any]) -> None:
    """Checks AffinityNet's settings and those of the walk."""
    if (flat["method"] == "affinity") != bool(flat["cams_from"]):
        raise ConfigError(
            f"config.cams_from={flat['cams_from']!r}: the method affinity, and no other, needs the folder of "
            "the run whose CAMs it refines; others refine their own, with --config.refinement=random_walk"
        )
    crop, radius = flat["affinity.crop"], flat["affinity.radius"]
    if radius < 2 or crop % 8 or crop // 8 <= 2 * (radius - 1):
        raise ConfigError(
            f"config.affinity.crop={crop}, affinity.radius={radius}: the crop must be a multiple of 8 and "
            "more than 2 * (radius - 1) cells of 8 pixels, the radius at least 2"
        )
    if not flat["affinity.alpha_low"] < flat["affinity.alpha_high"]:
        raise ConfigError(
            f"config.affinity.alpha_low={flat['affinity.alpha_low']}: must be less than alpha_high, "
            f"{flat['affinity.alpha_high']}"
        )
    wanted = {flat["affinity.alpha_low"], flat["affinity.alpha_high"]}
    if flat["refinement"] == "random_walk" and not wanted <= set(flat["crf.alphas"]):
        raise ConfigError(
            f"config.crf.alphas={flat['crf.alphas']}: AffinityNet learns from alpha_low and alpha_high, "
            f"{sorted(wanted)}, which must be among them"
        )
    levels = flat["walk.thresholds"]
    if not (_are_numbers(levels) and levels[0] >= 0 and all(a < b for a, b in itertools.pairwise(levels))):
        raise ConfigError(f"config.walk.thresholds={levels}: must be one or more rising shares of 0..1")


def _check_numbers(flat: Mapping[str, Any]) -> None:
    """Checks the settings that are several numbers."""
    sides, scales = flat["augment.resize_long"], flat["cam.scales"]
    if not (_are_numbers(sides) and len(sides) == 2 and 0 < sides[0] <= sides[1]):
        raise ConfigError(f"config.augment.resize_long={sides}: must be (smallest, largest) side in pixels")
    if not (_are_numbers(scales) and all(scale > 0 for scale in scales)):
        raise ConfigError(f"config.cam.scales={scales}: must be one or more numbers greater than 0")
    alphas = flat["crf.alphas"]
    if not (_are_numbers(alphas) and min(alphas) > 0 and len(set(alphas)) == len(alphas)):
        raise ConfigError(f"config.crf.alphas={alphas}: must be one or more different numbers greater than 0")
    if flat["crf.sc_cam_binarised"] and any(alpha % 1 for alpha in alphas):
        raise ConfigError(
            f"config.crf.alphas={alphas}: with crf.sc_cam_binarised they must be whole numbers, for the "
            "background's score is then a power of a negative number"
        )
    if flat["infer_cam.jpeg_quality"] > 100:
        raise ConfigError(
            f"config.infer_cam.jpeg_quality={flat['infer_cam.jpeg_quality']!r}: must be 1 to 100, 0 for none"
        )
    share = flat["cpn.hard_share"]
    if not 0 < share <= 1:
        raise ConfigError(f"config.cpn.hard_share={share}: must be greater than 0, at most 1")
    margins = flat["infer_cam.margins"]
    if not (_are_numbers(margins) and len(margins) == 2 and min(margins) >= 0):
        raise ConfigError(f"config.infer_cam.margins={margins}: must be (one class, two classes) in pixels")
    levels = flat["eval.thresholds"]
    if not (_are_numbers(levels) and levels[0] >= 0 and all(a < b for a, b in itertools.pairwise(levels))):
        raise ConfigError(f"config.eval.thresholds={levels}: must be one or more rising background scores")


def _are_numbers(values: Any) -> bool:
    """Whether this is a sequence of one or more finite numbers."""
    return bool(values) and all(isinstance(v, int | float) and math.isfinite(v) for v in values)


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields ('section.key', value) for every value of a configuration."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
