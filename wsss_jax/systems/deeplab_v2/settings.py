"""Settings of DeepLab-v2's network."""

from wsss_jax.settings import POSITIVE, Section, Setting

SECTIONS = (
    Section(
        "deeplab_v2",
        "DeepLab-v2 on ResNet-101, as published if nothing else is said",
        width=Setting(1.0, "Multiplier of all channel counts but those of the head", POSITIVE),
        blocks=Setting((3, 4, 23, 3), "Of the four layers"),
        dilations=Setting((1, 1, 2, 4), "In these layers"),
        atrous=Setting((6, 12, 18, 24), "Dilations of the head; smaller for images much smaller than 321"),
        free=True,
    ),
)
