"""The `cuda` backend: the Triton kernels as differentiable operations.

Every backward pass is again one of these operations with the roles of its filters exchanged, so gradients of
any order exist (R1 and path length need the second). Only float16, float32 and float64 tensors on a GPU come
here (or on the CPU under Triton's interpreter); everything else is left to the `torch` backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from mssg.ops import fast, reference, triton_kernels
from mssg.ops.dispatch import Backend
from mssg.ops.filters import RANK_TOLERANCE, REMEMBERED_FILTERS, FilterValues, filter_values, separable_terms
from mssg.ops.specs import NO_PADDING, ActivationSpec, FilterSpec

kernels: Any = triton_kernels
"""A launch takes plain numbers for constants, and options of the compiler, which the functions do not
declare."""
INTERPRETED = not isinstance(kernels.tail_kernel, triton.JITFunction)
_ACCUMULATOR = {torch.float16: tl.float32, torch.float32: tl.float32, torch.float64: tl.float64}
_PIECEWISE_LINEAR = ("linear", "relu", "lrelu")  # whose second derivative is zero
_SMALLEST = 16  # side of the smallest block
_LARGEST = 128  # side of the largest: longer filters are left to torch
_POINTS = 1024  # elements a program of the pointwise kernel works on


def _serves(x: Tensor) -> bool:
    if INTERPRETED:
        return x.device.type == "cpu" and x.dtype in _ACCUMULATOR
    return x.is_cuda and x.dtype in (torch.float16, torch.float32)


@dataclass(frozen=True)
class Taps:
    """A filter as a sum of separable terms, to correlate with: y [rank, taps] down the columns, x [rank,
    taps]."""

    y: Tensor
    x: Tensor

    @cached_property
    def flipped(self) -> Taps:
        """The same filter to convolve with."""
        return Taps(self.y.flip(1).contiguous(), self.x.flip(1).contiguous())


@lru_cache(REMEMBERED_FILTERS)
@torch.inference_mode(False)  # what is remembered serves training too
def _taps(
    values: FilterValues | None, dtype: torch.dtype, device: torch.device, flip: bool, gain: float
) -> Taps:
    """gain * a filter for images of this dtype, remembered since layers ask again at every call."""
    if values is None:
        one = torch.ones(1, 1, dtype=dtype, device=device)
        return Taps(one * gain, one)
    f, tolerance = values.tensor().to(device), 0 if dtype == torch.float64 else RANK_TOLERANCE
    terms = [(f, f)] if f.ndim == 1 else separable_terms(f, tolerance)
    y, x = (torch.stack([term[i].to(dtype) for term in terms]) for i in (0, 1))
    taps = Taps((y * gain).contiguous(), x.contiguous())
    return taps if flip else taps.flipped


@dataclass(frozen=True)
class Resampling:
    """upfirdn2d as a linear map: output r gets tap c * up + pad - r * down of input c. Factors and pads as
    (y, x)."""

    taps: Taps
    up: tuple[int, int]
    down: tuple[int, int]
    pad: tuple[int, int]
    size: tuple[int, int]
    out: tuple[int, int]

    @cached_property
    def transposed(self) -> Resampling:
        """The transposed map: from a gradient of the output to one of the input."""
        pad = self.taps.y.shape[1] - 1 - self.pad[0], self.taps.x.shape[1] - 1 - self.pad[1]
        return Resampling(self.taps.flipped, self.down, self.up, pad, self.out, self.size)

    @property
    def lengths(self) -> tuple[int, int]:
        """Taps down the columns and along the rows."""
        return self.taps.y.shape[1], self.taps.x.shape[1]


def _resampling(x: Tensor, size: Sequence[int], f: Tensor | None, spec: FilterSpec) -> Resampling:
    """Of an image of this size, which has the dtype and device of x."""
    taps = _taps(filter_values(f), x.dtype, x.device, spec.flip, spec.gain)
    (ux, uy), (dx, dy), (x0, _, y0, _) = spec.up, spec.down, spec.padding
    return Resampling(taps, (uy, ux), (dy, dx), (y0, x0), (size[0], size[1]), spec.size(size, f))


def _block(n: int) -> int:
    return max(triton.next_power_of_2(n), _SMALLEST)


def _inputs(results: int, up: int, down: int, taps: int) -> int:
    """How many input samples a run of results can depend on, wherever it starts."""
    return ((results - 1) * down + taps - 1) // up + 2


def _blank(x: Tensor, size: tuple[int, int]) -> Tensor:
    """An empty image of a given size with the batch, channels and memory layout of x."""
    return x.new_empty((*x.shape[:2], *size)).contiguous(memory_format=_layout(x))


def _layout(x: Tensor) -> torch.memory_format:
    last = x.stride(1) == 1 and x.shape[1] > 1
    return torch.channels_last if last else torch.contiguous_format


def _group(x: Tensor) -> int:
    """Channels a program works on: enough to share the cache lines of channels_last, and the filters'
    matrices."""
    return 16 if _layout(x) == torch.channels_last else 4


def _warps(*sides: int) -> int:
    return 8 if max(sides) > 32 else 4


def upfirdn2d(x, f, spec):
    """See `reference.upfirdn2d`."""
    if _serves(x):
        resampling = _resampling(x, x.shape[2:], f, spec)
        if _tiles(resampling) and _tiles(resampling.transposed):
            return _Upfirdn.apply(x, resampling)
    return fast.upfirdn2d(x, f, spec)


def _tiles(r: Resampling) -> list[tuple[int, int, int]] | None:
    """For y and x: results in a tile, and the sides of its input and output blocks; None = a filter is too
    long."""
    axes = []
    for up, down, taps, out in zip(r.up, r.down, r.lengths, r.out):
        for block in (32, 64, _LARGEST):
            results = min(((block - 1) * up - taps) // down + 1, out, 32)
            if results >= min(8, out):
                axes.append((results, _block(_inputs(results, up, down, taps)), _block(results)))
                break
    return axes if len(axes) == 2 else None


class _Upfirdn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, resampling):
        ctx.resampling = resampling
        y = _blank(x, resampling.out)
        if y.numel() == 0:
            return y
        axes = _tiles(resampling)
        assert axes is not None  # `upfirdn2d` has looked
        (tile_y, in_y, out_y), (tile_x, in_x, out_x) = axes
        tiles = triton.cdiv(y.shape[2], tile_y), triton.cdiv(y.shape[3], tile_x)
        group = _group(x)
        grid = (tiles[0] * tiles[1] * triton.cdiv(x.shape[1], group) * len(x),)
        r = resampling
        kernels.upfirdn2d_kernel[grid](
            x,
            y,
            r.taps.y,
            r.taps.x,
            *x.shape[1:],
            *y.shape[2:],
            *x.stride(),
            *y.stride(),
            *r.pad,
            *tiles,
            *r.up,
            *r.down,
            *r.lengths,
            len(r.taps.y),
            tile_y,
            tile_x,
            in_y,
            in_x,
            out_y,
            out_x,
            group,
            _ACCUMULATOR[x.dtype],
            num_warps=_warps(in_y, in_x),
            num_stages=1,
        )
        return y

    @staticmethod
    def backward(ctx, grad):
        return _Upfirdn.apply(grad, ctx.resampling.transposed), None


def bias_act(x, b, dim, spec):
    """See `reference.bias_act`."""
    if not _serves(x):
        return fast.bias_act(x, b, dim, spec)
    return _Tail.apply(x, None, None, b, spec, dim % x.ndim)


def tail(x, spec, *, scale=None, noise=None, b=None):
    """See `fast.leaky_tail`: scale [B, C, 1, 1], noise [1 or B, 1, H, W], b of C values; any activation."""
    if not _serves(x):
        return fast.leaky_tail(x, spec, scale=scale, noise=noise, b=b)
    if noise is not None:
        noise = noise.expand(len(noise), 1, *x.shape[2:])
    return _Tail.apply(x, scale, noise, None if b is None else b.reshape(-1), spec, 1)


def _dense(x: Tensor) -> Tensor:
    """x itself if its elements fill a stretch of memory without gaps, else a contiguous copy."""
    return x if torch.ops.aten.is_non_overlapping_and_dense(x) else x.contiguous()


def _like(x: Tensor, model: Tensor) -> Tensor:
    """x in the memory order of a model."""
    return x if x.stride() == model.stride() else torch.empty_like(model, dtype=x.dtype).copy_(x)


def _launch_tail(x, grad, scale, noise, b, spec, dim):
    """clamp(gain * act(scale * x + noise + b)), or grad times its derivative; b runs along dimension dim."""
    y = torch.empty_like(x)
    if x.numel() == 0:
        return y
    pixels = x.shape[2:].numel() if x.ndim > 2 else 1
    pixel_stride = x.stride(-1) if x.ndim > 2 else 1
    scale, noise, b = (None if t is None else t.contiguous() for t in (scale, noise, b))
    grid = (triton.cdiv(x.numel(), _POINTS),)
    kernels.tail_kernel[grid](
        x,
        grad,
        scale,
        noise,
        b,
        y,
        x.numel(),
        x.shape[dim],
        pixels,
        x.stride(dim),
        pixel_stride,
        1 if noise is None else len(noise),
        spec.act,
        spec.alpha,
        spec.gain,
        spec.clamp,
        _ACCUMULATOR[x.dtype],
        x.numel() > 2**31 - _POINTS,
        _POINTS,
    )
    return y


class _Tail(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, noise, b, spec, dim):
        x = _dense(x)
        ctx.save_for_backward(x, scale, noise, b)
        ctx.spec, ctx.dim = spec, dim
        return _launch_tail(x, None, scale, noise, b, spec, dim)

    @staticmethod
    def backward(ctx, grad):
        (x, scale, noise, b), spec, dim = ctx.saved_tensors, ctx.spec, ctx.dim
        if torch.is_grad_enabled() and spec.act not in _PIECEWISE_LINEAR:
            inputs = [t for t in (x, b) if t is not None]
            y = reference.bias_act(x, b, dim, spec)
            grads = iter(torch.autograd.grad(y, inputs, grad, create_graph=True))
            return next(grads), None, None, None if b is None else next(grads), None, None
        g = _TailGradient.apply(grad, x, scale, noise, b, spec, dim)
        return *_sums(ctx, g), None, None


def _sums(ctx, g):
    """Gradients of x, scale, noise and bias from that of scale * x + noise + bias."""
    (x, scale, noise, _), needs = ctx.saved_tensors, ctx.needs_input_grad
    grad_x = g if scale is None else g * scale
    grad_scale = (g * x).sum_to_size(scale.shape) if scale is not None and needs[1] else None
    grad_noise = g.sum_to_size(noise.shape) if needs[2] else None
    grad_b = g.sum([d for d in range(g.ndim) if d != ctx.dim]) if needs[3] else None
    return grad_x, grad_scale, grad_noise, grad_b


class _TailGradient(torch.autograd.Function):
    """grad times the derivative of the tail, which does not depend on x but by jumps."""

    @staticmethod
    def forward(ctx, grad, x, scale, noise, b, spec, dim):
        ctx.save_for_backward(x, scale, noise, b)
        ctx.spec, ctx.dim = spec, dim
        return _launch_tail(x, _like(grad, x), scale, noise, b, spec, dim)

    @staticmethod
    def backward(ctx, grad):
        back = _TailGradient.apply(grad, *ctx.saved_tensors, ctx.spec, ctx.dim)
        return back, None, None, None, None, None, None


@dataclass(frozen=True)
class Layer:
    """filtered_lrelu: the signal goes up, through leaky ReLU, gain and clamp, and down."""

    up: Resampling
    down: Resampling
    activation: ActivationSpec


def filtered_lrelu(x, b, filters, spec, *, scale=None):
    """See `reference.filtered_lrelu`; scale [B, C, 1, 1] is a factor of x before the bias."""
    if _serves(x):
        ups = _resampling(x, x.shape[2:], filters[0], spec.raising)
        downs = _resampling(x, ups.out, filters[1], spec.lowering)
        pairs = ((ups, downs), (downs.transposed, ups.transposed))
        if all(_layer_tiles(ups, value, final, axis) for value, final in pairs for axis in (0, 1)):
            unfiltered = filters[0] is None and filters[1] is None and spec.up == spec.down == 1
            if unfiltered and spec.padding == NO_PADDING:
                return tail(x, spec.activation, scale=scale, b=b)
            return _TritonFilteredLrelu.apply(x, scale, b, Layer(ups, downs, spec.activation))
    return fast.filtered_lrelu(x if scale is None else x * scale, b, filters, spec)


def _layer_tiles(up, value, final, axis) -> tuple[int, ...] | None:
    """Results in a tile, and the sides of the blocks of x, of the value, at the raised rate, and of the
    result."""
    down, taps, out = final.down[axis], final.lengths[axis], final.out[axis]
    for block in (32, 64, _LARGEST):
        results = min((block - taps) // down + 1, out)
        if results >= min(3, out):
            middle = _block((results - 1) * down + taps)
            blocks = [_block(_inputs(middle, r.up[axis], 1, r.lengths[axis])) for r in (up, value)]
            return (results, *blocks, middle, _block(results)) if max(blocks) <= _LARGEST else None
    return None


def _launch_filtered(x, scale, b, grad, value, final, layer):
    y = _blank(x, final.out)
    if y.numel() == 0:
        return y
    up, activation = layer.up, layer.activation
    along_y, along_x = (_layer_tiles(up, value, final, axis) for axis in (0, 1))
    assert along_y is not None and along_x is not None  # `filtered_lrelu` has looked
    blocks = [side for pair in zip(along_y[1:], along_x[1:]) for side in pair]
    tiles = triton.cdiv(y.shape[2], along_y[0]), triton.cdiv(y.shape[3], along_x[0])
    group = _group(x)
    grid = (tiles[0] * tiles[1] * triton.cdiv(x.shape[1], group) * len(x),)
    scale, b = (None if t is None else t.contiguous() for t in (scale, b))
    g = x if grad is None else grad
    kernels.filtered_lrelu_kernel[grid](
        x,
        scale,
        b,
        grad,
        y,
        up.taps.y,
        up.taps.x,
        value.taps.y,
        value.taps.x,
        final.taps.y,
        final.taps.x,
        *x.shape[1:],
        *g.shape[2:],
        *y.shape[2:],
        *x.stride(),
        *g.stride(),
        *y.stride(),
        *up.pad,
        *value.pad,
        *final.pad,
        *tiles,
        up.up[0],
        *up.lengths,
        len(up.taps.y),
        value.up[0],
        *value.lengths,
        len(value.taps.y),
        final.down[0],
        *final.lengths,
        len(final.taps.y),
        activation.gain,
        activation.slope,
        activation.clamp,
        along_y[0],
        along_x[0],
        *blocks,
        group,
        _ACCUMULATOR[x.dtype],
        num_warps=_warps(*blocks) if grad is None else 8,
        num_stages=1,
    )
    return y


class _TritonFilteredLrelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, b, layer):
        ctx.save_for_backward(x, scale, b)
        ctx.layer = layer
        return _launch_filtered(x, scale, b, None, layer.up, layer.down, layer)

    @staticmethod
    def backward(ctx, grad):
        x, scale, b = ctx.saved_tensors
        g = _FilteredGradient.apply(grad, x, scale, b, ctx.layer, True)
        return (
            g if scale is None else g * scale,
            (g * x).sum_to_size(scale.shape) if scale is not None and ctx.needs_input_grad[1] else None,
            g.sum([0, 2, 3]) if ctx.needs_input_grad[2] else None,
            None,
        )


class _FilteredGradient(torch.autograd.Function):
    """The derivative of filtered_lrelu at x applied to a vector: backwards (to a gradient of y) or
    forwards."""

    @staticmethod
    def forward(ctx, vector, x, scale, b, layer, backwards):
        ctx.save_for_backward(x, scale, b)
        ctx.layer, ctx.backwards = layer, backwards
        up, down = layer.up, layer.down
        value, final = (down.transposed, up.transposed) if backwards else (up, down)
        return _launch_filtered(x, scale, b, vector, value, final, layer)

    @staticmethod
    def backward(ctx, grad):
        back = _FilteredGradient.apply(grad, *ctx.saved_tensors, ctx.layer, not ctx.backwards)
        return back, None, None, None, None, None


conv2d_resample = partial(fast.conv2d_resample, fir=upfirdn2d)
convolve_modulated = partial(fast.convolve_modulated, fir=upfirdn2d)
modulated_conv2d = partial(fast.modulated_conv2d, convolve=convolve_modulated, tail=tail)


def modulated_filtered_lrelu(x, w, s, spec, *, filtered, filters, input_gain, b):
    """See `reference.modulated_filtered_lrelu`: demodulation rides on filtered_lrelu."""
    x, d = fast.convolve_modulated(x, w, s, spec, input_gain=input_gain)
    return filtered_lrelu(x, b, filters, filtered, scale=d)


BACKEND = Backend(
    "cuda",
    bias_act=bias_act,
    upfirdn2d=upfirdn2d,
    filtered_lrelu=filtered_lrelu,
    conv2d_resample=conv2d_resample,
    modulated_conv2d=modulated_conv2d,
    modulated_filtered_lrelu=modulated_filtered_lrelu,
)
