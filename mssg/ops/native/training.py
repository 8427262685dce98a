"""Convolutions with gradients of any order on the native kernels: 3x3, stride 1.

Input, weight and the gradients of both enter each other's formulas linearly, so two functions, each made of the other,
give all derivatives: a convolution, which is also the gradient of one with respect to its input, and the gradient with
respect to the weight. All by Winograd's F(4x4, 3x3), with weights that are packed anew each time: they change every step.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mssg.ops import fast
from mssg.ops.dispatch import register_backend
from mssg.ops.native import backend, library
from mssg.ops.native.library import NOT_FINITE, Convolution, Epilogue, WeightGradient

TILE = 4  # pixels along Winograd's tiles
_FEWEST_TILES = 32
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
        modulated_conv2d=partial(fast.modulated_conv2d, convolve=convolve),
        modulated_filtered_lrelu=partial(fast.modulated_filtered_lrelu, filtered=filtered, convolve=convolve),
    )


def serves(x: Tensor) -> bool:
    """Whether `native-train` is the best choice for an operation on x: float32 on the CPU outside of that.

    Also under `no_grad`: that is how training steps draw, with weights that change before `native` would have
    prepared them for a second use.
    """
    return backend._plain(x) and not torch.is_inference_mode_enabled()


def convolve(x, w, stride, padding):
    """See `fast.convolve`."""
    if (
        w.shape[2:] != (3, 3)
        or stride != 1
        or padding not in _PADDINGS
        or not backend._plain(x, w)
        or _few(x, padding[0])
    ):
        return fast.convolve(x, w, stride, padding)
    return _Convolution.apply(x, w, padding[0], False)


def _few(x: Tensor, padding: int) -> bool:
    """Whether so few tiles leave the transforms of the weights dearer than what they save."""
    height, width = (-(-(n + 2 * padding - 2) // TILE) for n in x.shape[2:])
    return height * width * len(x) < _FEWEST_TILES


def _arguments(x: Tensor, y: Tensor, styles: Tensor, padding: int) -> Convolution:
    """From styles * x to y, both in layout."""
    arguments = Convolution()
    backend._place(arguments, x, y)
    arguments.styles = styles.data_ptr()
    arguments.in_channels, arguments.out_channels = x.shape[1], y.shape[1]
    arguments.kernel, arguments.padding, arguments.up = 3, padding, 1
    arguments.winograd, arguments.input_gain = TILE, 1.0
    arguments.epilogue = Epilogue(None, None, 0, 1.0, 1.0, backend.NO_CLAMP)
    return arguments


def _convolve(x: Tensor, w: Tensor, padding: int, turned: bool) -> Tensor:
    x = backend._in_layout(x)
    height, width = (n + 2 * padding - 2 for n in x.shape[2:])
    y = backend._new(x, len(w), height, width)
    ones = x.new_ones(x.shape[:2])
    arguments = _arguments(x, y, ones, padding)
    for tile in (TILE, 0):
        packed = backend._pack(w, turned, 1, tile)
        arguments.weight, arguments.winograd = packed.data_ptr(), tile
        # Winograd would spread an Inf or NaN over the whole tile: then convolve directly, as the definition says.
        if library.convolve(arguments) != NOT_FINITE:
            break
    return y


def _weight_gradient(x: Tensor, grad: Tensor, padding: int) -> Tensor:
    x, grad = backend._in_layout(x), backend._in_layout(grad)
    result = x.new_empty(grad.shape[1], x.shape[1], 3, 3)
    ones = x.new_ones(x.shape[:2])
    arguments = _arguments(x, grad, ones, padding)
    n, _, h, w = grad.stride()
    given = WeightGradient(arguments, grad.data_ptr(), result.data_ptr(), n, h, w)
    if library.weight_gradient(given) == NOT_FINITE:
        return torch.nn.grad.conv2d_weight(x, result.shape, grad, padding=padding)
    return result


class _Convolution(torch.autograd.Function):
    """x with w, or backwards: from the result's gradient, in place of x, to that of x."""

    @staticmethod
    def forward(ctx, x, w, padding, backwards):
        ctx.save_for_backward(x, w)
        ctx.how = padding, backwards
        if backwards:
            return _convolve(x, w.transpose(0, 1), 2 - padding, True)
        return _convolve(x, w, padding, False)

    @staticmethod
    def backward(ctx, grad):
        (x, w), (padding, backwards) = ctx.saved_tensors, ctx.how
        for_x = _Convolution.apply(grad, w, padding, not backwards) if ctx.needs_input_grad[0] else None
        pair = (grad, x) if backwards else (x, grad)
        for_w = _WeightGradient.apply(*pair, padding) if ctx.needs_input_grad[1] else None
        return for_x, for_w, None, None


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, grad, padding):
        ctx.save_for_backward(x, grad)
        ctx.padding = padding
        return _weight_gradient(x, grad, padding)

    @staticmethod
    def backward(ctx, v):
        (x, grad), padding = ctx.saved_tensors, ctx.padding
        for_x = _Convolution.apply(grad, v, padding, True) if ctx.needs_input_grad[0] else None
        for_grad = _Convolution.apply(x, v, padding, False) if ctx.needs_input_grad[1] else None
        return for_x, for_grad, None
