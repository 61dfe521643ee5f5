"""Settings of the network that the systems on ResNet-38 share."""

from wsss_jax.settings import POSITIVE, Section, Setting

MODEL = Section(
    "model",
    "ResNet-38, as published if nothing else is said",
    width=Setting(1.0, "Multiplier of all channel counts", POSITIVE),
    blocks=Setting((2, 2, 5, 2), "Plain blocks in b2 to b5"),
    dilations=Setting((2, 4, 4), "Of b5, b6 and b7; smaller for images much smaller than 448 pixels"),
    frozen_blocks=Setting(("conv1a", "b2", "b2_1", "b2_2"), "These keep their pretrained weights"),
    trunk_dropout=Setting((0.3, 0.5), "Of channels, in b6 and b7"),
    head_dropout=Setting(0.5, "Of conv6's channels before the head; OC-CSE never has it"),
    fresh_heads=Setting((), "Heads, such as `('fc8',)`, that are not taken from `init_from`"),
    calibration_batches=Setting(4, "They set the batch norms of `init_from=scratch`", POSITIVE),
)
SECTIONS = (MODEL,)
