"""The operations as their equations say, slow and obvious. Every other backend is checked against this one.

All work in any floating dtype and are differentiable to any order, since they are plain differentiable torch.
Arguments arrive checked and expanded by `mssg.ops`: factors as (x, y), paddings as (x0, x1, y0, y1).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mssg.ops.activations import ACTIVATIONS
from mssg.ops.filters import downsampling_padding, upsampling_padding

DEMODULATION_EPS = 1e-8
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


def bias_act(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None
) -> Tensor:
    """y = clamp(gain * act(x + b)).

    Source: Karras et al. 2020 (StyleGAN2), appendix B: bias, activation and gain after every convolution.
    """
    if b is not None:
        x = x + b.to(x.dtype).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
    y = gain * ACTIVATIONS[act].function(x, alpha)
    return y if clamp is None else y.clamp(-clamp, clamp)


def upfirdn2d(
    x: Tensor, f: Tensor | None, up: Pair, down: Pair, padding: Padding, flip_filter: bool, gain: float
) -> Tensor:
    """Insert zeros, pad, convolve with a FIR filter, keep every down-th pixel: y = gain * ((x up) * f) down.

    Source: Crochiere & Rabiner 1983, "Multirate digital signal processing", chapter 2.
    """
    (ux, uy), (dx, dy) = up, down
    n, c, h, w = x.shape
    stuffed = x.new_zeros(n, c, h, uy, w, ux)
    stuffed[:, :, :, 0, :, 0] = x
    y = stuffed.reshape(n * c, 1, h * uy, w * ux)
    y = F.pad(y, padding)  # negative values crop
    if f is not None:
        f = f.to(x.dtype)
        kernel = f if f.ndim == 2 else torch.outer(f, f)
        y = F.conv2d(
            y, (kernel if flip_filter else kernel.flip([0, 1]))[None, None]
        )  # conv2d itself correlates
    y = gain * y[:, :, ::dy, ::dx]
    return y.reshape(n, c, *y.shape[2:])


def filtered_lrelu(
    x: Tensor,
    fu: Tensor | None,
    fd: Tensor | None,
    b: Tensor | None,
    up: int,
    down: int,
    padding: Padding,
    gain: float,
    slope: float,
    clamp: float | None,
    flip_filter: bool,
) -> Tensor:
    """Bias, upsample, leaky ReLU, downsample: a non-linearity that creates no frequencies it cannot
    represent.

    Source: Karras et al. 2021 (StyleGAN3), section 3.1 and figure 4b.
    """
    x = bias_act(x, b, 1, "linear", 0.0, 1.0, None)
    x = upfirdn2d(x, fu, (up, up), (1, 1), padding, flip_filter, float(up**2))  # up^2 restores the mean
    x = bias_act(x, None, 1, "lrelu", slope, gain, clamp)
    return upfirdn2d(x, fd, (1, 1), (down, down), (0, 0, 0, 0), flip_filter, 1.0)


def conv2d_resample(
    x: Tensor, w: Tensor, f: Tensor | None, up: int, down: int, padding: Padding, flip_weight: bool
) -> Tensor:
    """Upsample, convolve, downsample, with low-pass filter f at each change of rate.

    Source: Karras et al. 2020 (StyleGAN2), section 2 and appendix B; Zhang 2019 (anti-aliased downsampling).
    """
    if up > 1:
        padding = upsampling_padding(f, (up, up), padding)
    if down > 1:
        padding = downsampling_padding(f, (down, down), padding)
    x = upfirdn2d(x, f if up > 1 else None, (up, up), (1, 1), padding, False, float(up**2))
    w = w.to(x.dtype)
    x = F.conv2d(x, w if flip_weight else w.flip([2, 3]))
    if down > 1:
        x = upfirdn2d(x, f, (1, 1), (down, down), (0, 0, 0, 0), False, 1.0)
    return x


def modulated_conv2d(
    x: Tensor,
    w: Tensor,
    s: Tensor,
    f: Tensor | None,
    up: int,
    padding: Padding,
    flip_weight: bool,
    demodulate: bool,
    input_gain: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
    act: str,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """A convolution whose weights are scaled, per sample, by styles.

    w'_oikl = s_i * w_oikl;  w''_oikl = w'_oikl / sqrt(sum_ikl w'^2 + eps);
    y = clamp(gain act(w'' * (input_gain x) + noise + b)).

    Source: Karras et al. 2020 (StyleGAN2), equations 1 and 3.
    """
    w = w[None] * s[:, None, :, None, None]  # [B, O, I, k, k]
    if demodulate:
        w = w * (w.square().sum([2, 3, 4], keepdim=True) + DEMODULATION_EPS).rsqrt()
    if input_gain is not None:
        w = w * input_gain
    y = torch.cat(
        [conv2d_resample(x[i : i + 1], w[i], f, up, 1, padding, flip_weight) for i in range(len(x))]
    )
    if noise is not None:
        y = y + noise.to(y.dtype)
    return bias_act(y, b, 1, act, ACTIVATIONS[act].alpha, gain, clamp)
