"""Name maps: which PyTorch (and MXNet) tensor is which variable of our networks.

A network is a list of modules; a module's kind fixes the names and layouts of its tensors on both sides. Flax
paths mirror PyTorch's names, with the trunk under `trunk/` and the heads at the top. Adding a network is one
line in `NETWORKS`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Blocks = tuple[int, int, int, int]
PUBLISHED_BLOCKS: Blocks = (2, 2, 5, 2)  # plain blocks after the first one of b2, b3, b4 and b5
MXNET_DROPPED = ("linear1000.weight", "linear1000.bias")  # ImageNet's classifier, which no method uses

# Convolutions, depthwise and grouped ones too: PyTorch (out, in / groups, kh, kw), Flax (kh, kw, in / groups,
# out).
_CONV = (2, 3, 1, 0)
_LINEAR = (1, 0)
# kind -> (PyTorch leaf, collection, Flax leaf, axes of the Flax array in PyTorch's; None keeps a vector).
# No collection: Flax has no counterpart; the tensor is left out, and written as an int64 zero.
_LEAVES: dict[str, tuple[tuple[str, str | None, str, tuple[int, ...] | None], ...]] = {
    "conv": (("weight", "params", "kernel", _CONV),),
    "conv_bias": (("weight", "params", "kernel", _CONV), ("bias", "params", "bias", None)),
    "linear": (("weight", "params", "kernel", _LINEAR), ("bias", "params", "bias", None)),
    "layer_norm": (("weight", "params", "scale", None), ("bias", "params", "bias", None)),
    "batch_norm": (
        ("weight", "params", "scale", None),
        ("bias", "params", "bias", None),
        ("running_mean", "batch_stats", "mean", None),
        ("running_var", "batch_stats", "var", None),
        ("num_batches_tracked", None, "", None),
    ),
}
_PLAIN_BLOCK = re.compile(r"(?:^|[./])b([2-5])_(\d+)[./]")
_MXNET_LEAVES = {
    "conv": (("arg", "weight", "weight"),),
    "batch_norm": (
        ("arg", "gamma", "weight"),
        ("arg", "beta", "bias"),
        ("aux", "moving_mean", "running_mean"),
        ("aux", "moving_var", "running_var"),
    ),
}


@dataclass(frozen=True)
class Module:
    """One layer: its PyTorch name, its Flax path (parts joined by `/`) and a key of the layout table."""

    torch: str
    flax: str
    kind: str


@dataclass(frozen=True)
class Entry:
    """One tensor on both sides.

    Attributes:
      torch: its name in the state dict.
      path: (collection, module, ..., leaf) of the Flax variable; None if there is none.
      axes: which axis of the PyTorch tensor each axis of the Flax array is; None for vectors and scalars.
      rank: number of axes.
      head: the top-level name by which a caller may let it be missing.
    """

    torch: str
    path: tuple[str, ...] | None
    axes: tuple[int, ...] | None
    head: str

    @property
    def rank(self) -> int:
        """Number of axes."""
        if self.path is None:
            return 0
        return len(self.axes) if self.axes else 1


@dataclass(frozen=True)
class Network:
    """A ResNet-38 with what is on top of it, in the order of the state dict.

    Attributes:
      name: a key of `NETWORKS`.
      head: the modules after the trunk.
      prefix: what PyTorch's names of the trunk have in front.
      blocks: plain blocks after the first one of b2, b3, b4 and b5, as in `models.resnet38`.
    """

    name: str
    head: tuple[Module, ...] = ()
    prefix: str = ""
    blocks: Blocks = PUBLISHED_BLOCKS

    @property
    def modules(self) -> tuple[Module, ...]:
        """All modules, in the order of the state dict."""
        return _resnet38_trunk(self.prefix, self.blocks) + self.head

    def entries(self) -> Iterator[Entry]:
        """Every tensor, in the order of the state dict."""
        for module in self.modules:
            head = module.flax.split("/")[0]
            for leaf, collection, name, axes in _LEAVES[module.kind]:
                path = (collection, *module.flax.split("/"), name) if collection else None
                yield Entry(f"{module.torch}.{leaf}", path, axes, head)


def trunk_blocks(names: Iterable[str]) -> Blocks:
    """The plain blocks of b2, b3, b4 and b5 that occur in names, PyTorch's or Flax's."""
    found = {match.groups() for name in names for match in _PLAIN_BLOCK.finditer(name)}
    b2, b3, b4, b5 = (sum(stage == wanted for stage, _ in found) for wanted in "2345")
    return b2, b3, b4, b5


def mxnet_names() -> dict[str, str]:
    """MXNet name with prefix -> PyTorch name, for the published ResNet-38 without `MXNET_DROPPED`."""
    names = {}
    for module in _resnet38_trunk():
        for prefix, theirs, ours in _MXNET_LEAVES[module.kind]:
            names[f"{prefix}:{_mxnet_module(module.torch)}_{theirs}"] = f"{module.torch}.{ours}"
    return names


def _mxnet_module(torch: str) -> str:
    """b2_1.conv_branch2a -> res2b1_branch2a, b4.bn_branch2a -> bn4a_branch2a; conv1a and bn7 stay."""
    block, _, layer = torch.rpartition(".")
    if not block:
        return layer
    stage, _, number = block.removeprefix("b").partition("_")
    kind, _, branch = layer.partition("_")
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{'b' + number if number else 'a'}_{branch}"


def _resnet38_trunk(prefix: str = "", blocks: Blocks = PUBLISHED_BLOCKS) -> tuple[Module, ...]:
    """psa's ResNet-38: conv1a, 17 blocks if published, bn7."""
    names = [("conv1a", "conv")]
    for stage, plain in zip((2, 3, 4, 5), blocks, strict=True):
        for number in range(1 + plain):
            block = f"b{stage}_{number}" if number else f"b{stage}"
            names += [(f"{block}.{layer}", kind) for layer, kind in _block(2, shortcut=number == 0)]
    for stage in (6, 7):
        names += [(f"b{stage}.{layer}", kind) for layer, kind in _block(3, shortcut=True)]
    names.append(("bn7", "batch_norm"))
    return tuple(Module(prefix + name, "trunk/" + name.replace(".", "/"), kind) for name, kind in names)


def _block(depth: int, shortcut: bool) -> Iterator[tuple[str, str]]:
    for branch in ("branch2a", "branch2b1", "branch2b2")[:depth]:
        yield f"bn_{branch}", "batch_norm"
        yield f"conv_{branch}", "conv"
    if shortcut:
        yield "conv_branch1", "conv"


def _resnet38(name: str, *heads: str) -> Network:
    """psa's trunk and bias-free convolutions at the top."""
    return Network(name, tuple(Module(h, h, "conv") for h in heads))


def _largefov(name: str) -> Network:
    """DeepLab-LargeFOV on ResNet-38, as SEAM's segmentation code names it."""
    head = (
        Module("conv_fov", "conv_fov", "conv"),
        Module("bn_fov", "bn_fov", "batch_norm"),
        Module("conv_fov2", "conv_fov2", "conv"),
        Module("bn_fov2", "bn_fov2", "batch_norm"),
        Module("cls_conv", "cls_conv", "conv_bias"),
    )
    return Network(name, head, prefix="backbone.")


# Where two networks have the same tensors, the first is the one that is detected.
NETWORKS: dict[str, Network] = {
    entry.name: entry
    for entry in (
        _resnet38("resnet38_cls", "fc8"),
        _resnet38("cse_net_er", "fc8"),
        _resnet38("resnet38_base"),
        _resnet38("resnet38_mxnet_a1"),
        _resnet38("sccam_k10", "fc8_20", "fc8_200"),
        _resnet38("resnet38_aff", "f8_3", "f8_4", "f8_5", "f9"),
        _resnet38("cpn", "fc8", "f8_3", "f8_4", "f9", "f10"),
        _resnet38("infercam_seam", "fc8", "f8_3", "f8_4", "f9"),
        _largefov("seam_deeplabv1_resnet38"),
    )
}
