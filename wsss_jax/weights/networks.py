"""Name maps: which PyTorch (and MXNet) tensor is which variable of our networks.

A network is a list of modules; a module's kind fixes the names and layouts of its tensors on both sides. Flax
paths mirror PyTorch's names, with the trunk under `trunk/` and the heads at the top. Adding a network is one
line in `NETWORKS`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

Blocks = tuple[int, int, int, int]
"""Of a trunk's four stages: ResNet-38's plain blocks after the first one of b2, b3, b4 and b5; ResNet-50's
blocks of layer1 to layer4, those of DeepLab-v2's ResNet-101 of layer2 to layer5."""
RESNET38_BLOCKS: Blocks = (2, 2, 5, 2)
RESNET50_BLOCKS: Blocks = (3, 4, 6, 3)
RESNET101_BLOCKS: Blocks = (3, 4, 23, 3)
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
    "group_norm": (("weight", "params", "scale", None), ("bias", "params", "bias", None)),
    "mean_shift": (("running_mean", "batch_stats", "mean", None),),
}
_RESNET38_BLOCK = re.compile(r"(?:^|[./])b([2-5])_(\d+)[./]")
_RESNET50_BLOCK = re.compile(r"(?:^|[./])layer([1-4])[._](\d+)[./]")
_CAFFE_BLOCK = re.compile(r"(?:^|[./])layer([2-5])[._]block(\d+)[./]")
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
    """A trunk with what is on top of it, in the order of the state dict.

    Attributes:
      name: a key of `NETWORKS`.
      head: the modules after the trunk.
      trunk: its modules, by its blocks and what PyTorch's names have in front.
      prefix: what PyTorch's names of the trunk have in front; a file may lack it in all of them.
      blocks: of the trunk.
      aliases: (second name, first name) of modules that the state dict holds more than once. A file may hold
        either; all are written, the second names after the first.
      derived: beginnings of names of tensors that the authors' program computes, and that are left out.
    """

    name: str
    head: tuple[Module, ...] = ()
    trunk: "Callable[[str, Blocks], tuple[Module, ...]] | None" = None
    prefix: str = ""
    blocks: Blocks = RESNET38_BLOCKS
    aliases: tuple[tuple[str, str], ...] = ()
    derived: tuple[str, ...] = ()

    @property
    def modules(self) -> tuple[Module, ...]:
        """All modules, in the order of the state dict, then those of second names."""
        trunk = self.trunk(self.prefix, self.blocks) if self.trunk else ()
        first = trunk + self.head
        return first + tuple(
            Module(second + module.torch.removeprefix(name), module.flax, module.kind)
            for second, name in self.aliases
            for module in first
            if f"{module.torch}.".startswith(f"{name}.")
        )

    def entries(self) -> Iterator[Entry]:
        """Every tensor, in the order of the modules."""
        for module in self.modules:
            head = module.flax.split("/")[0]
            for leaf, collection, name, axes in _LEAVES[module.kind]:
                path = (collection, *module.flax.split("/"), name) if collection else None
                yield Entry(f"{module.torch}.{leaf}", path, axes, head)


def trunk_blocks(names: Iterable[str]) -> Blocks:
    """The blocks that occur in names, PyTorch's or Flax's; of a ResNet-50 or DeepLab-v2, if any are."""
    names = list(names)
    patterns = {_RESNET50_BLOCK: "1234", _CAFFE_BLOCK: "2345", _RESNET38_BLOCK: "2345"}
    found = {pattern: _blocks_in(names, pattern) for pattern in patterns}
    pattern = next((each for each in patterns if found[each]), _RESNET38_BLOCK)
    first, second, third, fourth = (
        sum(stage == each for stage, _ in found[pattern]) for each in patterns[pattern]
    )
    return first, second, third, fourth


def _blocks_in(names: Sequence[str], pattern: re.Pattern[str]) -> set[tuple[str, str]]:
    """(stage, number) of the blocks that names name."""
    return {(match[1], match[2]) for name in names for match in pattern.finditer(name)}


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


def _resnet38_trunk(prefix: str = "", blocks: Blocks = RESNET38_BLOCKS) -> tuple[Module, ...]:
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
    return Network(name, tuple(Module(h, h, "conv") for h in heads), _resnet38_trunk)


def _largefov(name: str) -> Network:
    """DeepLab-LargeFOV on ResNet-38, as SEAM's segmentation code names it."""
    head = (
        Module("conv_fov", "conv_fov", "conv"),
        Module("bn_fov", "bn_fov", "batch_norm"),
        Module("conv_fov2", "conv_fov2", "conv"),
        Module("bn_fov2", "bn_fov2", "batch_norm"),
        Module("cls_conv", "cls_conv", "conv_bias"),
    )
    return Network(name, head, _resnet38_trunk, prefix="backbone.")


def _resnet50_trunk(prefix: str = "", blocks: Blocks = RESNET50_BLOCKS) -> tuple[Module, ...]:
    """torchvision's ResNet-50 without its classifier."""
    names = [("conv1", "conv"), ("bn1", "batch_norm")]
    for layer, count in enumerate(blocks, 1):
        for number in range(max(count, 1)):  # the first one of each layer changes the shape
            block = f"layer{layer}.{number}"
            for i in (1, 2, 3):
                names += [(f"{block}.conv{i}", "conv"), (f"{block}.bn{i}", "batch_norm")]
            if number == 0:
                names += [(f"{block}.downsample.0", "conv"), (f"{block}.downsample.1", "batch_norm")]
    return tuple(Module(prefix + name, f"trunk/{_path(name)}", kind) for name, kind in names)


def _path(torch: str) -> str:
    """layer1.0.downsample.1 -> layer1_0/downsample_1: a number belongs to the name in front of it."""
    return re.sub(r"\.(\d+)", r"_\1", torch).replace(".", "/")


def _stages(*stages: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Aliases of a trunk `resnet50`, which IRN's code and its descendants register in parts too: `stage1`,
    ... and again all together as `backbone`. Each stage is a sequence of modules, of which '' has no weights.
    """
    parts = [(i, j, name) for i, stage in enumerate(stages) for j, name in enumerate(stage) if name]
    single = tuple((f"stage{i + 1}.{j}", f"resnet50.{name}") for i, j, name in parts)
    return single + tuple((f"backbone.{i}.{j}", f"resnet50.{name}") for i, j, name in parts)


def _resnet50_cam(name: str, *heads: str) -> Network:
    """IRN's classifier on ResNet-50 and WaveCAM's, whose heads are bias-free convolutions."""
    stages = _stages(("conv1", "bn1", "", "", "layer1"), ("layer2",), ("layer3",), ("layer4",))
    return Network(
        name,
        tuple(Module(head, head, "conv") for head in heads),
        _resnet50_trunk,
        prefix="resnet50.",
        blocks=RESNET50_BLOCKS,
        aliases=(*stages, ("newly_added.0", "classifier")),
    )


def _wavecam_predictor() -> tuple[Module, ...]:
    """WaveCAM's predictor with its wave module."""
    convolutions = ("fc_h", "fc_w", "fc_c", "tfc_h", "tfc_w")
    names = [("classifier", "conv"), *((f"wave.{name}", "conv") for name in convolutions)]
    names += [(f"wave.{name}", "conv_bias") for name in ("w1", "w2")]
    for phase in ("theta_R_conv", "theta_I_conv"):
        names += [(f"wave.{phase}.0", "conv_bias"), (f"wave.{phase}.1", "batch_norm")]
    return tuple(Module(name, _path(name), kind) for name, kind in names)


def _caffe_trunk(prefix: str = "", blocks: Blocks = RESNET101_BLOCKS) -> tuple[Module, ...]:
    """DeepLab-v2's ResNet-101, as deeplab-pytorch names it."""
    names = ["layer1.conv1"]
    for layer, count in enumerate(blocks, 2):
        for number in range(1, max(count, 1) + 1):  # the first one of each layer changes the shape
            layers = ("reduce", "conv3x3", "increase", *(("shortcut",) if number == 1 else ()))
            names += [f"layer{layer}.block{number}.{name}" for name in layers]
    return tuple(
        Module(f"{prefix}{name}.{leaf}", f"trunk/{name.replace('.', '_', 1).replace('.', '/')}/{leaf}", kind)
        for name in names
        for leaf, kind in (("conv", "conv"), ("bn", "batch_norm"))
    )


def _deeplabv2(name: str) -> Network:
    """DeepLab-v2 on ResNet-101: a head of four convolutions. (The multi-scale network has no weights beside.)

    The files that it starts from have the trunk only, without the prefix, and perhaps a classifier `fc`.
    """
    head = tuple(Module(f"base.aspp.c{i}", f"aspp/c{i}", "conv_bias") for i in range(4))
    return Network(name, head, _caffe_trunk, prefix="base.", blocks=RESNET101_BLOCKS)


def _irn(name: str) -> Network:
    """IRN: boundaries, `fc_edge`, and displacements, `fc_dp`. Its training program also saves what it has
    computed of paths."""
    head = [Module("mean_shift", "mean_shift", "mean_shift")]
    for branch, units in (("fc_edge", 5), ("fc_dp", 7)):
        for i in range(1, units + 1):
            head.append(Module(f"{branch}{i}.0", f"{branch}{i}/conv", "conv"))
            head.append(Module(f"{branch}{i}.1", f"{branch}{i}/norm", "group_norm"))
        if branch == "fc_edge":
            head.append(Module("fc_edge6", "fc_edge6", "conv_bias"))
    head.append(Module("fc_dp7.3", "fc_dp7_field", "conv"))
    again = [(f"edge_layers.{i}", f"fc_edge{i + 1}") for i in range(6)]
    again += [(f"dp_layers.{i}", f"fc_dp{i + 1}") for i in range(7)]
    return Network(
        name,
        tuple(head),
        _resnet50_trunk,
        prefix="resnet50.",
        blocks=RESNET50_BLOCKS,
        aliases=(
            *_stages(("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)),
            *again,
            ("fc_dp7.4", "mean_shift"),
            ("dp_layers.6.4", "mean_shift"),
        ),
        derived=("path_indices", "disp_target"),
    )


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
        Network(
            "resnet50_torchvision", (Module("fc", "fc", "linear"),), _resnet50_trunk, blocks=RESNET50_BLOCKS
        ),
        _resnet50_cam("resnet50_cam", "classifier"),
        _resnet50_cam("wavecam_net", "classifier", "bg"),
        Network("wavecam_predictor", _wavecam_predictor(), blocks=(0, 0, 0, 0)),
        _deeplabv2("deeplabv2_resnet101"),
        _irn("irn"),
    )
}
