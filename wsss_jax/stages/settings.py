"""Settings of the segmentation networks that are trained on pseudo masks, with DeepLab-v2's values."""

from collections.abc import Mapping
from typing import Any

from wsss_jax.errors import ConfigError
from wsss_jax.settings import NOT_NEGATIVE, POSITIVE, Section, Setting, numbers, one_of


def _check(flat: Mapping[str, Any]) -> None:
    batch, group = flat["segmentation.batch_size"], flat["segmentation.group_size"]
    if batch % group:
        raise ConfigError(
            f"config.segmentation.batch_size={batch}: must be a multiple of segmentation.group_size, {group}"
        )


_SCALES = numbers("one or more numbers greater than 0", lambda values: min(values) > 0)
_MASKS = (
    "Folder of masks `<id>.png` of `dataset.train_split` to train on, anybody's; '' is the run's own pseudo "
    "masks of `dataset.infer_split`, 'true' the data set's, for comparison"
)
SECTIONS = (
    Section("", "", masks=Setting("", _MASKS, free=True)),
    Section(
        "segmentation",
        "The network of `train_seg`; see [segmentation.md](segmentation.md)",
        check=_check,
        free=True,
        network=Setting("deeplab_v2", "The system whose network it is"),
        init_from=Setting("weights/deeplabv1_resnet101-imagenet.pth", "'scratch', or a path"),
        batch_size=Setting(10, "Images per step over all devices and accumulation steps", POSITIVE),
        group_size=Setting(5, "Images whose labelled pixels share a mean; the last few are kept", POSITIVE),
        total_steps=Setting(20000, "Steps; the last weights are used", POSITIVE),
        crop=Setting(321, "Side of the crop in pixels", POSITIVE),
        scales=Setting((0.5, 0.75, 1.0, 1.25, 1.5), "One is drawn for each crop", _SCALES),
        flip=Setting(True, "Whether half of the crops are mirrored"),
        learning_rate=Setting(2.5e-4, "Of pretrained weights", POSITIVE),
        new_layers=Setting(10.0, "Times the learning rate, of the head; twice that of its biases", POSITIVE),
        momentum=Setting(0.9, "Of SGD, a real 0.9 here", NOT_NEGATIVE),
        weight_decay=Setting(5e-4, "Of weights, not of biases", NOT_NEGATIVE),
        power=Setting(0.9, "Of the polynomial decay"),
        rate_every=Setting(10, "Steps for which a rate stays", POSITIVE),
        checkpoint=Setting("", "That labels images: '' what `train_seg` makes, a step of it, or a path"),
        infer_batch_size=Setting(8, "Images per batch over all devices of a host", POSITIVE),
        max_buckets=Setting(8, "Padded image sizes, each a compiled program", POSITIVE),
        crf=Setting(True, "Whether `infer_seg` also makes label maps by a dense CRF"),
        crf_image=Setting(
            "network",
            "What that sees: 'network', as the authors' did, or 'image'",
            one_of("network", "image"),
        ),
        absent_classes=Setting("truth", "As `eval.absent_classes`", one_of("zero", "ignore", "truth")),
    ),
)
