"""Settings of class activation maps."""

from collections.abc import Mapping
from typing import Any

from wsss_jax.errors import ConfigError
from wsss_jax.settings import POSITIVE, Section, Setting, numbers, one_of


def _check(flat: Mapping[str, Any]) -> None:
    if flat["cam.binarised_npy"] and not flat["cam.export_npy"]:
        raise ConfigError(
            "config.cam.binarised_npy=True: only exported files are binarised; set "
            "--config.cam.export_npy=True too"
        )


CAM = Section(
    "cam",
    "Class activation maps",
    {
        "scales": Setting(
            (0.5, 1.0, 1.5, 2.0),
            "The scales whose maps are added up",
            numbers("one or more numbers greater than 0", lambda values: min(values) > 0),
        ),
        "flip": Setting(True, "Whether the maps of the mirrored image are added as well"),
        "class_filter": Setting(
            "given",
            "The classes that have maps: the image-level labels, those that the classifier predicts, or all",
            one_of("given", "predicted", "all"),
        ),
        "checkpoint": Setting(
            "best",
            "'best' by the evaluation of each epoch ('last' if there is none), 'last', a step, or a path",
        ),
        "batch_size": Setting(8, "Images per batch over all devices of a host", POSITIVE),
        "max_buckets": Setting(8, "Padded image sizes, each a compiled program", POSITIVE),
        "export_npy": Setting(False, "Also write the references' pickled {class: map} dictionaries"),
        "binarised_npy": Setting(
            False, "These hold 0 and 255, as SC-CAM's own do; see [methods.md](methods.md)"
        ),
        "heat_maps": Setting(False, "Also draw the maps, `heat/<split>/<id>_<class>.png`"),
    },
    _check,
    free=True,
)
SECTIONS = (CAM,)
