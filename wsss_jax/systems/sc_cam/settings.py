"""Settings of SC-CAM."""

from collections.abc import Mapping
from typing import Any

from wsss_jax.errors import ConfigError
from wsss_jax.settings import POSITIVE, Section, Setting, one_of


def _check(flat: Mapping[str, Any]) -> None:
    epochs, rounds = flat["sc_cam.handoff_epochs"], flat["sc_cam.rounds"]
    whole = all(isinstance(epoch, int) and epoch >= 0 for epoch in epochs)
    if not whole or len(epochs) < rounds:
        raise ConfigError(
            f"config.sc_cam.handoff_epochs={epochs}: must be an epoch for each of {rounds} round(s)"
        )


# Counted as in the original's file names: ..._ep30.pth is saved after 31 epochs.
_HANDOFF = (
    "Epoch of each round, counted from 0, that the next one reads and, for the last one, whose CAMs are the "
    "result; at most the last. Training ends there; the learning rate falls as if `total_epochs` were to come"
)
_MAPS = one_of("classes", "subcategories")
SC_CAM = Section(
    "sc_cam",
    "SC-CAM",
    check=_check,
    k=Setting(10, "Subcategories of a class", POSITIVE),
    rounds=Setting(3, "Each clusters the features of the round before", POSITIVE),
    handoff_epochs=Setting((30, 40, 50), _HANDOFF),
    sub_weight=Setting(5.0, "Of the subcategories' loss"),
    restarts=Setting(10, "Of k-means (n_init); scikit-learn's default at the time, now it is 1", POSITIVE),
    maps=Setting("classes", "Of classes, as published, or merged ones of subcategories", _MAPS, free=True),
)
SECTIONS = (SC_CAM,)
