"""The classifier on ResNet-38 in PyTorch, to be timed beside ours: the same network by the same names.

Written from the description in `wsss_jax.models.resnet38`. It needs PyTorch, which is not among the project's
requirements.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from wsss_jax.models.resnet38 import ResNet38

_STAGES = (("b2", 128, 128, 2), ("b3", 256, 256, 2), ("b4", 512, 512, 2), ("b5", 512, 1024, 1))


class TorchClassifier(nn.Module):
    """Images [B, 3, H, W] to logits [B, C]; frozen batch norms, channel dropout in training."""

    def __init__(self, trunk: ResNet38, num_classes: int, frozen: tuple[str, ...]) -> None:
        """As large as `trunk`; the blocks named in `frozen` get no gradient."""
        super().__init__()

        def scaled(published: int) -> int:
            return max(1, int(published * trunk.width))

        self.conv1a = nn.Conv2d(3, scaled(64), 3, padding=1, bias=False)
        self.order: list[str] = []
        channels = scaled(64)
        for (name, middle, out, stride), plain in zip(_STAGES, trunk.blocks, strict=True):
            dilation = trunk.dilations[0] if name == "b5" else 1
            for i in range(plain + 1):
                block = f"{name}_{i}" if i else name
                dilations = (dilation, dilation) if i else (1, dilation)
                size = (channels, scaled(middle), scaled(out))
                self._add(block, Block(*size, 1 if i else stride, *dilations))
                channels = scaled(out)
        for i, (name, out) in enumerate((("b6", 2048), ("b7", 4096))):
            self._add(name, Bottleneck(channels, scaled(out), trunk.dilations[i + 1], trunk.dropout[i]))
            channels = scaled(out)
        self.bn7, self.fc8 = nn.BatchNorm2d(channels), nn.Conv2d(channels, num_classes, 1, bias=False)
        for name, parameter in self.named_parameters():
            parameter.requires_grad = ".bn" not in f".{name}" and name.split(".")[0] not in frozen

    def _add(self, name: str, block: nn.Module) -> None:
        self.add_module(name, block)
        self.order.append(name)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.conv1a(x)
        for name in self.order:
            x = self.get_submodule(name)(x)
        x = functional.dropout2d(_normalised(self.bn7, x), 0.5, self.training)
        return self.fc8(x.mean((2, 3), keepdim=True))[:, :, 0, 0]


class Block(nn.Module):
    """BN - ReLU - 3x3 - BN - ReLU - 3x3 and a shortcut."""

    def __init__(
        self, inputs: int, middle: int, out: int, stride: int, first_dilation: int, dilation: int
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = _conv3(inputs, middle, stride, first_dilation)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = _conv3(middle, out, 1, dilation)
        if stride != 1 or inputs != out:
            self.conv_branch1 = nn.Conv2d(inputs, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cin, H, W] -> [B, Cout, h, w]."""
        h = _normalised(self.bn_branch2a, x)
        shortcut = self.conv_branch1(h) if hasattr(self, "conv_branch1") else x
        return shortcut + self.conv_branch2b1(_normalised(self.bn_branch2b1, self.conv_branch2a(h)))


class Bottleneck(nn.Module):
    """1x1 - 3x3 dilated - 1x1 with channel dropout, and a 1x1 shortcut."""

    def __init__(self, inputs: int, out: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch1 = nn.Conv2d(inputs, out, 1, bias=False)
        self.conv_branch2a = nn.Conv2d(inputs, out // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(out // 4)
        self.conv_branch2b1 = _conv3(out // 4, out // 2, 1, dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(out // 2)
        self.conv_branch2b2 = nn.Conv2d(out // 2, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, Cin, H, W] -> [B, Cout, H, W]."""
        h = _normalised(self.bn_branch2a, x)
        shortcut = self.conv_branch1(h)
        h = _normalised(self.bn_branch2b1, self.conv_branch2a(h))
        h = self.conv_branch2b1(functional.dropout2d(h, self.dropout, self.training))
        h = functional.dropout2d(_normalised(self.bn_branch2b2, h), self.dropout, self.training)
        return shortcut + self.conv_branch2b2(h)


def _normalised(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """The frozen norm, by its running statistics in training too, and the ReLU after it."""
    return torch.relu(
        functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    )


def _conv3(inputs: int, out: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, out, 3, stride, padding=dilation, dilation=dilation, bias=False)
