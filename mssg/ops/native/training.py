"""Convolutions with gradients of any order on the native kernels: 3x3, stride 1.

Input, weight and the result's gradient enter each other's formulas linearly, so two functions, each made of
the other, give all derivatives: a convolution, which is also the gradient of one with respect to its input,
and the gradient with respect to the weight. Styles and demodulation are factors of what they read and write.
All by Winograd's F(4x4, 3x3), with weights that are packed anew each time: they change every step.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from mssg.ops import fast
from mssg.ops.dispatch import register_backend
from mssg.ops.fused import pieces
from mssg.ops.native import backend, layout, library
from mssg.ops.native.library import NOT_FINITE, Convolution, Epilogue, WeightGradient

TILE = 4  # pixels along Winograd's tiles
_FEWEST_TILES, _FEWEST_PRODUCTS = 32, 5e7  # of a convolution that is not left to torch
_PADDINGS = [(n,) * 4 for n in range(3)]  # 2 - n is the gradient's


def register() -> None:
    """Add `native-train` where the library has been built; it then serves float32 on the CPU by default."""
    if isinstance(library.load(), str):
        return
    filtered = partial(backend.filtered_lrelu, True)
    register_backend(
        "native-train",
        base="torch",
        serves=serves,
        filtered_lrelu=filtered,
        conv2d_resample=partial(fast.conv2d_resample, convolve=convolve),
        modulated_conv2d=partial(fast.modulated_conv2d, convolve=convolve_modulated),
        modulated_filtered_lrelu=partial(
            fast.modulated_filtered_lrelu, convolve=convolve_modulated, filtered_lrelu=filtered
        ),
    )


def serves(x: Tensor) -> bool:
    """Whether `native-train` is the best choice for an operation on x: float32 on the CPU outside of
    `torch.inference_mode`.

    Also under `no_grad`: that is how training steps draw, with weights that change before `native` would have
    prepared them for a second use.
    """
    return layout.plain(x) and not torch.is_inference_mode_enabled()


def convolve(x, w, stride, padding):
    """See `fast.convolve`."""
    if stride != 1 or not _takes(x, w, padding):
        return fast.convolve(x, w, stride, padding)
    return _ConvolutionOp.apply(x, w, None, None, padding[0], False)


def convolve_modulated(x, w, s, spec, *, f=None, input_gain=None):
    """See `fast.convolve_modulated`; nothing is lacking afterwards."""
    if spec.up != 1 or not _takes(x, w, spec.padding, s, input_gain):
        return fast.convolve_modulated(x, w, s, spec, f=f, input_gain=input_gain)
    d = fast.demodulation(w, s) if spec.demodulate else None
    s = s if input_gain is None else s * input_gain
    return _ConvolutionOp.apply(x, w if spec.flip else w.flip([2, 3]), s, d, spec.padding[0], False), None


def _takes(x: Tensor, w: Tensor, padding: tuple[int, ...], *others: Tensor | None) -> bool:
    """Whether these kernels do this convolution sooner than torch: not where it is so small that all else
    takes longer."""
    if w.shape[2:] != (3, 3) or padding not in _PADDINGS or not layout.plain(x, w, *others):
        return False
    height, width = (n + 2 * padding[0] - 2 for n in x.shape[2:])
    tiles = -(-height // TILE) * -(-width // TILE) * len(x)
    return tiles >= _FEWEST_TILES and len(x) * height * width * w.numel() >= _FEWEST_PRODUCTS


# ---- The kernels


def _arguments(x: Tensor, y: Tensor, s: Tensor, d: Tensor | None, padding: int) -> Convolution:
    """Of d * convolved(s * x), both in layout; s and d as the kernels read them."""
    arguments = Convolution()
    layout.place(arguments, x, y)
    arguments.styles, arguments.scale = s.data_ptr(), layout.pointer(d)
    arguments.in_channels, arguments.out_channels = x.shape[1], y.shape[1]
    arguments.kernel, arguments.padding, arguments.up = 3, padding, 1
    arguments.winograd, arguments.input_gain = TILE, 1.0
    arguments.epilogue = Epilogue(None, None, 0, 1.0, 1.0, backend.NO_CLAMP)
    return arguments


def _styles(x: Tensor, s: Tensor | None) -> Tensor:
    return x.new_ones(x.shape[:2]) if s is None else s.detach().contiguous()


def _convolve(x: Tensor, w: Tensor, s: Tensor | None, d: Tensor | None, padding: int, turned: bool) -> Tensor:
    """d * (w with s * x), w's taps turned by half a turn if asked for."""
    x = layout.in_layout(x)
    height, width = (n + 2 * padding - 2 for n in x.shape[2:])
    y = layout.new(x, len(w), height, width)
    s, d = _styles(x, s), layout.padded_channels(d)
    arguments = _arguments(x, y, s, d, padding)
    for tile in (TILE, 0):
        packed = backend.pack(w, turned, 1, tile)
        arguments.weight, arguments.winograd = packed.data_ptr(), tile
        # Winograd would spread an Inf or NaN over the whole tile: then convolve directly, as the definition
        # says.
        if library.convolve(arguments) != NOT_FINITE:
            break
    return y


def _weight_gradient(x: Tensor, grad: Tensor, s: Tensor | None, d: Tensor | None, padding: int) -> Tensor:
    """Of the sum of grad * d * (w with s * x), for w."""
    x, grad = layout.in_layout(x), layout.in_layout(grad)
    result = x.new_empty(grad.shape[1], x.shape[1], 3, 3)
    styles, scale = _styles(x, s), layout.padded_channels(d)
    arguments = _arguments(x, grad, styles, scale, padding)
    n, _, h, w = grad.stride()
    given = WeightGradient(arguments, grad.data_ptr(), result.data_ptr(), n, h, w)
    if library.weight_gradient(given) == NOT_FINITE:
        x, grad = (t if by is None else t * by[:, :, None, None] for t, by in ((x, s), (grad, d)))
        return conv2d_weight(x, result.shape, grad, padding=padding)
    return result


# ---- Derivatives


class _ConvolutionOp(torch.autograd.Function):
    """d * (w with s * x), where s and d [B, C] may be None; or backwards: from the result's gradient to that
    of x."""

    @staticmethod
    def forward(ctx, x, w, s, d, padding, backwards):
        if backwards:
            y = _convolve(x, w.transpose(0, 1), s, d, 2 - padding, True)
        else:
            y = _convolve(x, w, s, d, padding, False)
        ctx.save_for_backward(x, w, s, d, None if d is None else y)
        ctx.how = padding, backwards
        return y

    @staticmethod
    def backward(ctx, grad):
        (x, w, s, d, y), (padding, backwards) = ctx.saved_tensors, ctx.how
        for_x = for_w = for_s = for_d = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            for_x = _ConvolutionOp.apply(grad, w, d, None, padding, not backwards)
            for_x, for_s = _through_scale(for_x, x, s)
        if ctx.needs_input_grad[1]:
            pair = (grad, x, d, s) if backwards else (x, grad, s, d)
            for_w = _WeightGradientOp.apply(*pair, padding)
        if ctx.needs_input_grad[3]:
            for_d = _sum_of_products(grad, y) / d
        return for_x, for_w, for_s, for_d, None, None


class _WeightGradientOp(torch.autograd.Function):
    """Of the sum of grad * d * (w with s * x), for w."""

    @staticmethod
    def forward(ctx, x, grad, s, d, padding):
        ctx.save_for_backward(x, grad, s, d)
        ctx.padding = padding
        return _weight_gradient(x, grad, s, d, padding)

    @staticmethod
    def backward(ctx, v):
        (x, grad, s, d), padding = ctx.saved_tensors, ctx.padding
        for_x = for_grad = for_s = for_d = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            for_x = _ConvolutionOp.apply(grad, v, d, None, padding, True)
            for_x, for_s = _through_scale(for_x, x, s)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[3]:
            for_grad = _ConvolutionOp.apply(x, v, s, None, padding, False)
            for_grad, for_d = _through_scale(for_grad, grad, d)
        return for_x, for_grad, for_s, for_d, None


def _through_scale(grad: Tensor, x: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """From the gradient of s * x, which nobody else holds, to those of x and s."""
    if s is None:
        return grad, None
    for_s, s = _sum_of_products(grad, x), s[:, :, None, None]
    return grad * s if torch.is_grad_enabled() else grad.mul_(s), for_s


def _sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """[B, C]: the sums of a * b over pixels."""
    if torch.is_grad_enabled():
        return (a * b).sum([2, 3])
    return torch.cat([(a[part] * b[part]).sum([2, 3]) for part in pieces(a)])
