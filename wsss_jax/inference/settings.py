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


_SCALES = numbers("one or more numbers greater than 0", lambda values: min(values) > 0)
_CLASSES = one_of("given", "predicted", "all")
_CHECKPOINT = (
    "'best' evaluated epoch (else the last), 'last', a step, or a path; of a system with two networks "
    "NAME=PATH,NAME=PATH"
)
_STORAGES = one_of("float32", "float16")
CAM = Section(
    "cam",
    "Class activation maps",
    check=_check,
    free=True,
    scales=Setting((0.5, 1.0, 1.5, 2.0), "The scales whose maps are added up", _SCALES),
    flip=Setting(True, "Whether the maps of the mirrored image are added as well"),
    class_filter=Setting("given", "Maps of 'given' image-level labels, 'predicted', or all", _CLASSES),
    checkpoint=Setting("best", _CHECKPOINT),
    batch_size=Setting(8, "Images per batch over all devices of a host", POSITIVE),
    max_buckets=Setting(8, "Padded image sizes, each a compiled program", POSITIVE),
    export_npy=Setting(False, "Also write the references' pickled {class: map} dictionaries"),
    binarised_npy=Setting(False, "These hold 0 and 255, as SC-CAM's do; see [methods.md](methods.md)"),
    storage=Setting("float32", "Precision of the files; see [methods.md](methods.md)", _STORAGES),
    heat_maps=Setting(False, "Also draw the maps, `heat/<split>/<id>_<class>.png`"),
)
SECTIONS = (CAM,)
