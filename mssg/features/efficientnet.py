"""EfficientNet-Lite0 with ImageNet weights, which are shipped (assets/features): features without a network
connection.

Source: Tan & Le 2019, "EfficientNet", table 1 (B0: blocks, channels, strides); the Lite variants drop
squeeze-and-excitation, use ReLU6, and keep stem and head unscaled (their release notes, 2020). Padding is
TensorFlow's "SAME", batch norm's ε 1e-3.
"""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mssg import assets
from mssg.errors import DataError

WIDTH = 1280
RESOLUTION = 224
EPSILON = 1e-3
STAGES = (
    # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
WEIGHTS = "features/efficientnet_lite0.safetensors"  # float16, batch norm folded in


def _relu6(x: Tensor) -> Tensor:
    return F.relu6(x, inplace=True)  # in place: a third faster, and the input is never needed again


class _Conv(nn.Module):
    """A convolution with "SAME" padding; batch norm is folded into its weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.stride, self.groups = stride, groups

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        high, wide = (max(0, (-(-s // self.stride) - 1) * self.stride + kernel - s) for s in x.shape[-2:])
        # "SAME" puts an odd row of zeros last. A row of zeros before the kernel does the same, and copies no
        # image.
        weight = F.pad(self.weight, (wide % 2, 0, high % 2, 0))
        padding = ((high + 1) // 2, (wide + 1) // 2)
        return F.conv2d(x, weight, self.bias, stride=self.stride, padding=padding, groups=self.groups)


class _InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _Conv(inputs, inner) if expansion > 1 else None
        self.depthwise = _Conv(inner, inner, kernel, stride, groups=inner)
        self.project = _Conv(inner, outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = _relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(_relu6(self.depthwise(y)))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """The classifier: 1000 ImageNet classes, 1280 features before them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, blocks, width = _Conv(3, 32, 3, 2), [], 32
        for count, kernel, stride, expansion, channels in STAGES:
            for i in range(count):
                first = stride if i == 0 else 1
                blocks.append(
                    _InvertedBottleneck(width, channels, kernel=kernel, stride=first, expansion=expansion)
                )
                width = channels
        self.blocks = nn.ModuleList(blocks)
        self.head = _Conv(width, WIDTH)
        self.classifier = nn.Linear(WIDTH, 1000)

    def features(self, x: Tensor) -> Tensor:
        """Images [N, 3, 224, 224], (grey level − 127) / 128 -> features [N, 1280], each ≥ 0."""
        x = _relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return _relu6(self.head(x)).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Images as for `features` -> logits [N, 1000]."""
        return self.classifier(self.features(x))


def embed(network: EfficientNetLite0, x: Tensor) -> Tensor:
    """Images float [N, C, H, W] in 0..255, grey or colour and of any size -> features [N, 1280]."""
    size = (RESOLUTION, RESOLUTION)
    x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    x = as_colour((x - 127) / 128)
    return network.features(x.contiguous(memory_format=torch.channels_last))


def as_colour(x: Tensor) -> Tensor:
    """Images [B, 1 or 3, H, W] with three channels: grey ones are repeated.

    Raises:
        DataError: Neither one channel nor three.
    """
    if x.shape[1] not in (1, 3):
        raise DataError(
            "features need grey or colour images", found=f"{x.shape[1]} channels", expected="1 or 3"
        )
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def load() -> EfficientNetLite0:
    """The network with its ImageNet weights, batch norm folded in, ready to run.

    Raises:
        UsageError: The weights are not there.
        DataError: The file is damaged.
    """
    path = assets.path(WEIGHTS)
    network = EfficientNetLite0()
    try:
        network.load_state_dict({name: half.float() for name, half in load_file(path).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(
            "the shipped weights cannot be read", file=path, found=error, hint="Install mssg again"
        ) from None
    network.eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
