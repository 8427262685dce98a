"""Layers with equalised learning rates, shared by all networks.

Weights are stored with unit variance and scaled when used, so that Adam's step has the same relative size for
every layer (Karras et al. 2018, "Progressive growing of GANs", section 4.1).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from mssg.errors import UsageError
from mssg.ops import functional as ops

RESAMPLE_TAPS = (1.0, 3.0, 3.0, 1.0)  # the binomial low-pass of StyleGAN2


def normal(*size: int) -> torch.Tensor:
    """Standard normal numbers. On the meta device nothing is drawn: torch would import all of sympy."""
    out = torch.empty(size)
    return out if out.is_meta else out.normal_()


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Scale every row of [B, N] to unit mean square."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def fast_layout(x: torch.Tensor) -> torch.Tensor:
    """The memory layout in which convolutions run fastest: channels_last on the CPU and for float16."""
    if x.stride(1) == 1:
        return x  # channels are innermost already, perhaps with a gap behind them
    if x.device.type == "cpu" or x.dtype == torch.float16:
        return x.contiguous(memory_format=torch.channels_last)
    return x


def block_dtype(x: torch.Tensor, use_fp16: bool) -> torch.dtype:
    """float16 for blocks that want it on CUDA; everywhere else the caller's own precision (at least
    float32)."""
    if use_fp16 and x.is_cuda:
        return torch.float16
    return torch.float32 if x.dtype == torch.float16 else x.dtype


def centred_padding(
    before: int, after: int, kernel_size: int, up: int, down: int, taps: int
) -> tuple[int, int, int, int]:
    """Padding between a full convolution and upsampling that keeps pixel centres aligned (StyleGAN3).

    Args:
        before, after: Samples along a side, before the convolution and after the downsampling.
        up, down: Factors.
        taps: Of both filters together.
    """
    total = (after - 1) * down + 1 - (before + kernel_size - 1) * up + taps - 2
    low = (total + up) // 2  # zeros between pixels lie behind each: up / 2 samples to the right of its centre
    return low, total - low, low, total - low


@dataclass(frozen=True)
class SynthesisInputs:
    """What a synthesis network takes beside ws.

    Attributes:
        noise_mode: "const" (stored noise images), "random" or "none", where the network draws noise.
        noise: Name of a stored noise image -> [B or 1, 1, r, r] in its place.
        transform: [3, 3] on the coordinates that StyleGAN3's input looks at, instead of the stored one.
        full_precision: Nothing is computed in float16.
        update_emas: Let this batch move running statistics (training only).
    """

    noise_mode: str = "const"
    noise: Mapping[str, torch.Tensor] = field(default_factory=dict)
    transform: torch.Tensor | None = None
    full_precision: bool = False
    update_emas: bool = False


def check_ws(network: Any, ws: torch.Tensor) -> None:
    """Refuse intermediate latents that are not [B, num_ws, w_dim].

    Raises:
        UsageError: Another shape.
    """
    if ws.shape[1:] != (network.num_ws, network.w_dim):
        expected = f"[B, {network.num_ws}, {network.w_dim}]"
        raise UsageError("ws has the wrong shape", field="ws", found=tuple(ws.shape), expected=expected)


@dataclass(frozen=True)
class LayerCall:
    """A layer of a synthesis network and what it is about to be called with."""

    layer: nn.Module
    inputs: tuple[Any, ...]

    def __call__(self) -> torch.Tensor:
        return self.layer(*self.inputs)


Result = TypeVar("Result")
Layers = Generator[tuple[str, LayerCall], Any, Result]
"""A network's layers, (name, call), in the order they run, then what they make together. Whoever runs it
sends each call's output back before the next."""


def run(layers: Layers[Result]) -> Result:
    """Call every layer in turn."""
    output = None
    while True:
        try:
            _, call = layers.send(output)
        except StopIteration as finished:
            return finished.value
        output = call()


class FullyConnected(nn.Module):
    """y = act(x W^T + b) with an equalised learning rate.

    Args:
        activation: A name in `mssg.ops.ACTIVATIONS`.
        lr_multiplier: Scales the effective step of weight and bias.
        weight_init: Standard deviation of the effective weights times sqrt(in_features).
        bias_init: Initial bias, one number or one per output.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: str = "linear",
        lr_multiplier: float = 1.0,
        weight_init: float = 1.0,
        bias_init: float | Sequence[float] = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight_gain = lr_multiplier / sqrt(in_features)
        self.bias_gain = lr_multiplier
        # In place, here and elsewhere: networks are also built on the meta device, to learn their shapes, and
        # other arithmetic there imports all of torch._dynamo.
        self.weight = nn.Parameter(normal(out_features, in_features).mul_(weight_init / lr_multiplier))
        bias = np.asarray(bias_init, np.float32) / np.float32(lr_multiplier)
        self.bias = nn.Parameter(torch.tensor(np.broadcast_to(bias, out_features)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in_features] -> [B, out_features], in the dtype of x."""
        w = self.weight.to(x.dtype)
        b = self.bias.to(x.dtype)
        if self.bias_gain != 1:
            b = b * self.bias_gain
        # The last bits of a matrix product depend on how many rows it has. Pictures that are drawn together
        # must not see each other, and few rows cost no more alone.
        alone = x.device.type == "cpu" and torch.is_inference_mode_enabled()
        rows = [torch.addmm(b, row, w.T, alpha=self.weight_gain) for row in (x.split(1) if alone else [x])]
        y = torch.cat(rows) if len(rows) > 1 else rows[0]
        return y if self.activation == "linear" else ops.bias_act(y, act=self.activation)


class Conv2d(nn.Module):
    """A convolution with an equalised learning rate, optional downsampling, bias and activation.

    Args:
        kernel_size: Odd; 1 or 3.
        bias: Whether there is one.
        activation: A homogeneous one of `mssg.ops.ACTIVATIONS`: linear, relu or lrelu.
        down: Downsampling factor.
        conv_clamp: Limit of the output's magnitude; None = no limit.
    """

    resample_filter: torch.Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        bias: bool = True,
        activation: str = "linear",
        down: int = 1,
        conv_clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.down, self.conv_clamp = activation, down, conv_clamp
        self.padding = kernel_size // 2
        self.weight_gain = 1 / sqrt(in_channels * kernel_size**2)
        self.weight = nn.Parameter(normal(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.register_buffer("resample_filter", ops.setup_filter(RESAMPLE_TAPS))

    def forward(self, x: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        """[B, I, H, W] -> [B, O, H/down, W/down]; `gain` scales output and clamp."""
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        gain = gain * ops.ACTIVATIONS[self.activation].gain
        # All gains go into the weights and the bias, which are small: act(gain x) = gain act(x).
        w = self.weight * (self.weight_gain * gain)
        b = None if self.bias is None else self.bias * gain
        x = ops.conv2d_resample(x, w, self.resample_filter, down=self.down, padding=self.padding)
        return ops.bias_act(x, b, act=self.activation, gain=1.0, clamp=clamp)


class ToRGB(nn.Module):
    """1x1 modulated convolution, without demodulation, to image channels."""

    def __init__(self, in_channels: int, out_channels: int, *, w_dim: int, conv_clamp: float | None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.weight_gain = 1 / sqrt(in_channels)
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(normal(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """[B, I, H, W] and w [B, w_dim] -> [B, img_channels, H, W]."""
        styles = self.affine(w) * self.weight_gain
        return ops.modulated_conv2d(
            x, self.weight, styles, demodulate=False, b=self.bias, clamp=self.conv_clamp
        )
