"""Settings of the trunk that the systems on ResNet-50 share."""

from wsss_jax.settings import POSITIVE, Section, Setting

RESNET50 = Section(
    "resnet50",
    "ResNet-50, as published if nothing else is said",
    width=Setting(1.0, "Multiplier of all channel counts", POSITIVE),
    blocks=Setting((3, 4, 6, 3), "Blocks of layer1 to layer4, each at least 1"),
    frozen=Setting(("conv1", "bn1"), "These keep their pretrained weights; IRN's classifier has more"),
)
SECTIONS = (RESNET50,)
