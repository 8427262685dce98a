"""The operations as their equations say, slow and obvious. Every other backend is checked against this one.

All work in any floating dtype and are differentiable to any order, since they are plain differentiable torch.
Arguments arrive checked and expanded by `mssg.ops.functional`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mssg.ops.activations import ACTIVATIONS
from mssg.ops.dispatch import Backend
from mssg.ops.filters import downsampling_padding, upsampling_padding
from mssg.ops.specs import ActivationSpec, ConvSpec, FilteredLreluSpec, Filters, FilterSpec

DEMODULATION_EPS = 1e-8


def bias_act(x: Tensor, b: Tensor | None, dim: int, spec: ActivationSpec) -> Tensor:
    """y = clamp(gain * act(x + b)): x of any shape, b [x.shape[dim]] or None; the result is as x.

    Source: Karras et al. 2020 (StyleGAN2), appendix B: bias, activation and gain after every convolution.
    """
    if b is not None:
        x = x + b.to(x.dtype).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
    y = spec.gain * ACTIVATIONS[spec.act].function(x, spec.alpha)
    return y if spec.clamp is None else y.clamp(-spec.clamp, spec.clamp)


def upfirdn2d(x: Tensor, f: Tensor | None, spec: FilterSpec) -> Tensor:
    """Insert zeros, pad, convolve with a FIR filter, keep every down-th pixel: y = gain * ((x up) * f) down.

    x [B, C, H, W], f [h, w], [n] along both axes, or None; y [B, C, H', W'] in x's dtype, of `spec.size`.

    Source: Crochiere & Rabiner 1983, "Multirate digital signal processing", chapter 2.
    """
    (ux, uy), (dx, dy) = spec.up, spec.down
    n, c, h, w = x.shape
    stuffed = x.new_zeros(n, c, h, uy, w, ux)
    stuffed[:, :, :, 0, :, 0] = x
    y = stuffed.reshape(n * c, 1, h * uy, w * ux)
    y = F.pad(y, spec.padding)  # negative values crop
    if f is not None:
        f = f.to(x.dtype)
        kernel = f if f.ndim == 2 else torch.outer(f, f)
        kernel = kernel if spec.flip else kernel.flip([0, 1])  # conv2d itself correlates
        y = F.conv2d(y, kernel[None, None])
    y = spec.gain * y[:, :, ::dy, ::dx]
    return y.reshape(n, c, *y.shape[2:])


def filtered_lrelu(x: Tensor, b: Tensor | None, filters: Filters, spec: FilteredLreluSpec) -> Tensor:
    """Bias, upsample, leaky ReLU, downsample: a non-linearity that creates no frequencies it cannot
    represent.

    x [B, C, H, W], b [C] or None, filters as in `upfirdn2d`; the result is [B, C, H', W'] in x's dtype.

    Source: Karras et al. 2021 (StyleGAN3), section 3.1 and figure 4b.
    """
    x = bias_act(x, b, 1, ActivationSpec())
    x = upfirdn2d(x, filters[0], spec.raising)
    x = bias_act(x, None, 1, spec.activation)
    return upfirdn2d(x, filters[1], spec.lowering)


def conv2d_resample(x: Tensor, w: Tensor, f: Tensor | None, spec: ConvSpec) -> Tensor:
    """Upsample, convolve, downsample, with low-pass filter f at each change of rate.

    x [B, I, H, W], w [O, I, k, k], f as in `upfirdn2d`; the result is [B, O, H', W'] in x's dtype.

    Source: Karras et al. 2020 (StyleGAN2), section 2 and appendix B; Zhang 2019 (anti-aliased downsampling).
    """
    up, down, padding = (spec.up, spec.up), (spec.down, spec.down), spec.padding
    if spec.up > 1:
        padding = upsampling_padding(f, up, padding)
    if spec.down > 1:
        padding = downsampling_padding(f, down, padding)
    raising = FilterSpec(up, padding=padding, gain=float(spec.up**2))
    x = upfirdn2d(x, f if spec.up > 1 else None, raising)
    w = w.to(x.dtype)
    x = F.conv2d(x, w if spec.flip else w.flip([2, 3]))
    return upfirdn2d(x, f, FilterSpec(down=down)) if spec.down > 1 else x


def modulated_conv2d(
    x: Tensor,
    w: Tensor,
    s: Tensor,
    spec: ConvSpec,
    *,
    activation: ActivationSpec,
    f: Tensor | None,
    input_gain: Tensor | None,
    noise: Tensor | None,
    b: Tensor | None,
) -> Tensor:
    """A convolution whose weights are scaled, per sample, by styles.

    w'_oikl = s_i * w_oikl;  w''_oikl = w'_oikl / sqrt(sum_ikl w'^2 + eps);
    y = clamp(gain act(w'' * (input_gain x) + noise + b)).

    x [B, I, H, W], w [O, I, k, k], s [B, I], b [O]; input_gain and noise broadcast to x and to the result
    [B, O, H', W'], which has x's dtype.

    Source: Karras et al. 2020 (StyleGAN2), equations 1 and 3.
    """
    w = w[None] * s[:, None, :, None, None]  # [B, O, I, k, k]
    if spec.demodulate:
        w = w * (w.square().sum([2, 3, 4], keepdim=True) + DEMODULATION_EPS).rsqrt()
    if input_gain is not None:
        w = w * input_gain
    y = torch.cat([conv2d_resample(x[i : i + 1], w[i], f, spec) for i in range(len(x))])
    if noise is not None:
        y = y + noise.to(y.dtype)
    return bias_act(y, b, 1, activation)


def modulated_filtered_lrelu(
    x: Tensor,
    w: Tensor,
    s: Tensor,
    spec: ConvSpec,
    *,
    filtered: FilteredLreluSpec,
    filters: Filters,
    input_gain: Tensor | None,
    b: Tensor | None,
) -> Tensor:
    """A layer of StyleGAN3: a modulated convolution, then bias and filtered leaky ReLU.

    Shapes as in `modulated_conv2d` and `filtered_lrelu`.

    Source: Karras et al. 2021 (StyleGAN3), section 3.2 and appendix D.
    """
    plain = {"activation": ActivationSpec(), "f": None, "noise": None, "b": None}
    x = modulated_conv2d(x, w, s, spec, input_gain=input_gain, **plain)
    return filtered_lrelu(x, b, filters, filtered)


BACKEND = Backend(
    "reference",
    bias_act=bias_act,
    upfirdn2d=upfirdn2d,
    filtered_lrelu=filtered_lrelu,
    conv2d_resample=conv2d_resample,
    modulated_conv2d=modulated_conv2d,
    modulated_filtered_lrelu=modulated_filtered_lrelu,
)
