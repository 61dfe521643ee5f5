"""Settings of OC-CSE."""

from wsss_jax.settings import Section, Setting

CSE = Section(
    "cse",
    "OC-CSE",
    erased_weight=Setting(0.3, "Of the erased images' loss in the first epoch"),
    erased_weight_per_epoch=Setting(0.05, "What it gains with each epoch"),
)
SECTIONS = (CSE,)
