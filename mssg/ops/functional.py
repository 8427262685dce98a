"""The numerical operations of the StyleGAN family, each with interchangeable backends.

`reference` holds the definitions; `torch` (the default) computes the same without wasted work. Choose with
`use_backend(name)`, the `backend=` argument, or the environment variable MSSG_OPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt

import torch

from mssg.errors import UsageError
from mssg.ops import fast, gpu, reference
from mssg.ops.activations import ACTIVATIONS
from mssg.ops.dispatch import Backend, backend, register_backend, register_loader, use_backend
from mssg.ops.filters import (
    downsampling_padding,
    filter_size,
    padding4,
    pair,
    setup_filter,
    upsampling_padding,
)
from mssg.ops.memory import keep_freed_memory
from mssg.ops.native import backend as native_backend
from mssg.ops.native import training as native_training
from mssg.ops.specs import ActivationSpec, ConvSpec, FilteredLreluSpec, FilterSpec

__all__ = [
    "ACTIVATIONS",
    "Backend",
    "backend",
    "bias_act",
    "conv2d_resample",
    "downsample2d",
    "filter2d",
    "filtered_lrelu",
    "keep_freed_memory",
    "modulated_conv2d",
    "modulated_filtered_lrelu",
    "register_backend",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
    "use_backend",
]

register_loader("reference", lambda: reference.BACKEND)
register_loader("torch", lambda: fast.BACKEND)
register_loader("cuda", gpu.implementation, gpu.serves)
native_backend.register()
native_training.register()

# The same request again is the same object: its hash is asked for and it is compared at every call.
_activation_spec, _filter_spec = lru_cache(ActivationSpec), lru_cache(FilterSpec)
_filtered_lrelu_spec, _conv_spec = lru_cache(FilteredLreluSpec), lru_cache(ConvSpec)
_chosen_backend = backend  # `backend` is also the name of every operation's keyword
Padding = int | Sequence[int]


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    *,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Add a bias, apply an activation, scale, clamp: clamp(gain * act(x + b)).

    Args:
        x: Any shape, any floating dtype.
        b: [x.shape[dim]] bias, or None.
        dim: Dimension the bias runs along.
        act: A name in ACTIVATIONS.
        alpha: Slope of the activation where it has one; None = its default.
        gain: Factor after the activation; None = the activation's default.
        clamp: Limit the result to [-clamp, clamp]; None = no limit.
        backend: Backend for this call only.

    Returns:
        Same shape and dtype as x.

    Raises:
        UsageError: Unknown activation, or a bias of the wrong length.

    Source: Karras et al. 2020 (StyleGAN2), appendix B.
    """
    spec = _activation(act, alpha, gain, clamp)
    if b is not None and b.shape != (x.shape[dim],):
        raise UsageError("the bias does not fit its input", found=tuple(b.shape), expected=(x.shape[dim],))
    return _chosen_backend(backend, x).bias_act(x, b, dim, spec)


def _activation(name: str, alpha: float | None, gain: float | None, clamp: float | None) -> ActivationSpec:
    """An activation by name, with its defaults for what is None (but for the clamp).

    Raises:
        UsageError: There is none of this name.
    """
    if name not in ACTIVATIONS:
        raise UsageError("unknown activation", found=name, expected=" or ".join(ACTIVATIONS))
    default = ACTIVATIONS[name]
    alpha = default.alpha if alpha is None else float(alpha)
    return _activation_spec(name, alpha, default.gain if gain is None else float(gain), clamp)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    *,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
    backend: str | None = None,
) -> torch.Tensor:
    """Upsample with zeros, pad, filter, downsample.

    Args:
        x: [B, C, H, W].
        f: [n] (used along both axes) or [h, w] filter; None = identity.
        up, down: Factors, one number or (x, y).
        padding: After upsampling: one number, (x, y) or (x0, x1, y0, y1); negative crops.
        flip_filter: False = convolution, True = correlation.
        gain: Factor on the result.
        backend: Backend for this call only.

    Returns:
        [B, C, (H*up_y + y0 + y1 - h) // down_y + 1, ...] in the dtype of x.

    Raises:
        UsageError: The padded image is smaller than the filter, or a factor is below 1.

    Source: Crochiere & Rabiner 1983, chapter 2.
    """
    spec = _filter_spec(pair(up), pair(down), padding4(padding), flip_filter, float(gain))
    fw, fh = filter_size(f)
    width = x.shape[3] * spec.up[0] + spec.padding[0] + spec.padding[1]
    height = x.shape[2] * spec.up[1] + spec.padding[2] + spec.padding[3]
    if width < fw or height < fh:
        raise UsageError(
            "the padded image is smaller than the filter",
            found=f"{width}x{height}",
            expected=f"at least {fw}x{fh}",
        )
    return _chosen_backend(backend, x).upfirdn2d(x, f, spec)


def upsample2d(x: torch.Tensor, f: torch.Tensor | None, *, backend: str | None = None) -> torch.Tensor:
    """Enlarge [B, C, H, W] to [B, C, 2H, 2W], keeping the mean: see `upfirdn2d`."""
    padding = upsampling_padding(f, pair(2), padding4(0))
    return upfirdn2d(x, f, up=2, padding=padding, gain=4.0, backend=backend)


def downsample2d(
    x: torch.Tensor, f: torch.Tensor | None, *, down: int = 2, gain: float = 1.0, backend: str | None = None
) -> torch.Tensor:
    """Shrink [B, C, H, W] to [B, C, H/down, W/down] with low-pass filter f: see `upfirdn2d`."""
    padding = downsampling_padding(f, pair(down), padding4(0))
    return upfirdn2d(x, f, down=down, padding=padding, gain=gain, backend=backend)


def filter2d(
    x: torch.Tensor, f: torch.Tensor | None, *, gain: float = 1.0, backend: str | None = None
) -> torch.Tensor:
    """Filter [B, C, H, W] at its own resolution, keeping its size: see `upfirdn2d`."""
    fw, fh = filter_size(f)
    padding = (fw // 2, (fw - 1) // 2, fh // 2, (fh - 1) // 2)
    return upfirdn2d(x, f, padding=padding, gain=gain, backend=backend)


def filtered_lrelu(
    x: torch.Tensor,
    fu: torch.Tensor | None = None,
    fd: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    *,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    gain: float = sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    backend: str | None = None,
) -> torch.Tensor:
    """Leaky ReLU at a temporarily raised sampling rate.

    Args:
        x: [B, C, H, W].
        fu, fd: Filters for up- and downsampling, [n] or [h, w]; None = identity.
        b: [C] bias added first.
        up, down: Factors.
        padding: Applied after upsampling; one number, (x, y) or (x0, x1, y0, y1).
        gain: Factor after the activation (before the clamp).
        slope: Of the negative half.
        clamp: Limit of the activation's magnitude; None = no limit.
        flip_filter: As in `upfirdn2d`, for both filters.
        backend: Backend for this call only.

    Returns:
        [B, C, H', W'] in the dtype of x.

    Source: Karras et al. 2021 (StyleGAN3), section 3.1.
    """
    activation = _activation_spec("lrelu", slope, float(gain), clamp)
    spec = _filtered_lrelu_spec(up, down, padding4(padding), flip_filter, activation)
    return _chosen_backend(backend, x).filtered_lrelu(x, b, (fu, fd), spec)


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    *,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    flip_weight: bool = True,
    backend: str | None = None,
) -> torch.Tensor:
    """Convolve, optionally between an upsampling and a downsampling by low-pass filter f.

    Args:
        x: [B, I, H, W].
        w: [O, I, kh, kw] weights.
        f: Filter of both resamplings (see `setup_filter`), or None.
        up, down: Factors.
        padding: With respect to the upsampled image; one number, (x, y) or (x0, x1, y0, y1).
        flip_weight: True = correlation (as torch convolves), False = convolution.
        backend: Backend for this call only.

    Returns:
        [B, O, H*up/down, W*up/down] for padding = k // 2.

    Source: Karras et al. 2020 (StyleGAN2), appendix B.
    """
    spec = _conv_spec(up, down, padding4(padding), flip_weight)
    return _chosen_backend(backend, x).conv2d_resample(x, w, f, spec)


def modulated_conv2d(
    x: torch.Tensor,
    w: torch.Tensor,
    s: torch.Tensor,
    *,
    f: torch.Tensor | None = None,
    up: int = 1,
    padding: Padding = 0,
    flip_weight: bool = True,
    demodulate: bool = True,
    input_gain: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    act: str = "linear",
    gain: float | None = None,
    clamp: float | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Convolve with weights scaled by per-sample styles and normalised to unit response, then noise, bias,
    activation.

    Args:
        x: [B, I, H, W].
        w: [O, I, k, k] weights.
        s: [B, I] styles.
        f: Low-pass filter of the upsampling.
        up: Upsampling factor.
        padding: With respect to the upsampled image.
        flip_weight: True = correlation, False = convolution.
        demodulate: Normalise the scaled weights of every output channel (StyleGAN2, equation 3).
        input_gain: Scalar factor on x that demodulation does not undo (StyleGAN3's magnitude normalisation).
        noise: [H', W'] or [B, 1, H', W'], added to the convolution's result.
        b, act, gain, clamp: See `bias_act`, which follows.
        backend: Backend for this call only.

    Returns:
        [B, O, H', W'] in the dtype of x.

    Source: Karras et al. 2020 (StyleGAN2), equations 1-3; Karras et al. 2021 (StyleGAN3), appendix D.
    """
    return _chosen_backend(backend, x).modulated_conv2d(
        x,
        w,
        s,
        _conv_spec(up, 1, padding4(padding), flip_weight, demodulate),
        activation=_activation(act, None, gain, clamp),
        f=f,
        input_gain=input_gain,
        noise=noise,
        b=b,
    )


def modulated_filtered_lrelu(
    x: torch.Tensor,
    w: torch.Tensor,
    s: torch.Tensor,
    fu: torch.Tensor | None = None,
    fd: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    *,
    conv_padding: int = 0,
    demodulate: bool = True,
    input_gain: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    gain: float = sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """A whole layer of StyleGAN3: `modulated_conv2d`, then `filtered_lrelu`, which a backend may fuse.

    Args:
        x: [B, I, H, W].
        w: [O, I, k, k] weights.
        s: [B, I] styles.
        fu, fd: Filters for up- and downsampling, [n] or [h, w]; None = identity.
        b: [O] bias added between convolution and upsampling.
        conv_padding: Of the convolution, on every side.
        demodulate, input_gain: See `modulated_conv2d`.
        up, down, padding, gain, slope, clamp: See `filtered_lrelu`.
        backend: Backend for this call only.

    Returns:
        [B, O, H', W'] in the dtype of x.

    Source: Karras et al. 2021 (StyleGAN3), section 3.2 and appendix D.
    """
    activation = _activation_spec("lrelu", slope, float(gain), clamp)
    return _chosen_backend(backend, x).modulated_filtered_lrelu(
        x,
        w,
        s,
        _conv_spec(padding=padding4(conv_padding), demodulate=demodulate),
        filtered=_filtered_lrelu_spec(up, down, padding4(padding), False, activation),
        filters=(fu, fd),
        input_gain=input_gain,
        b=b,
    )
