"""Element-wise tails of layers with as few passes over memory as plain torch allows.

A training step on a CPU is bound by memory as much as by arithmetic: written naively, the tail of a StyleGAN2
layer reads and writes its activations seventeen times forwards and backwards. Here each tail is one autograd
function that works through the batch in pieces small enough to stay in the cache. Under `create_graph=True`
the gradients are formed by differentiable torch instead, so that any order of derivative exists.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

_PIECE = 1 << 18  # elements per thread and piece: 1 MiB of float32, which stays in a last-level cache


def scaled_leaky(
    x: torch.Tensor,
    slope: float,
    clamp: float | None,
    *,
    scale: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """clamp(leaky_relu(scale * x + noise + bias)); scale, noise and bias broadcast to x."""
    return _ScaledLeaky.apply(x, scale, noise, bias, slope, clamp)


def modulate(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """scale * x for x [B, C, H, W] and scale [B, C, 1, 1]."""
    return _Modulate.apply(x, scale)


def pieces(x: torch.Tensor) -> Iterator[slice]:
    """Slices of the batch; on CUDA, where launches cost more than passes, the whole of it."""
    rows = len(x)
    step = rows
    if x.device.type == "cpu" and rows > 0:
        step = max(_PIECE * torch.get_num_threads() * rows // max(x.numel(), 1), 1)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def _rows(term: torch.Tensor, piece: slice) -> torch.Tensor:
    """The part of a broadcasting term that belongs to a piece of the batch."""
    return term if len(term) == 1 else term[piece]


class _ScaledLeaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, noise, bias, slope, clamp):
        y = torch.empty_like(x)
        for piece in pieces(x):
            terms = [_rows(term, piece) for term in (noise, bias) if term is not None]
            if scale is None and not terms and slope != 1:
                torch.ops.aten.leaky_relu.out(x[piece], slope, out=y[piece])
            else:
                _affine(x[piece], None if scale is None else _rows(scale, piece), terms, y[piece])
                if slope != 1:
                    F.leaky_relu_(y[piece], slope)
            if clamp is not None:
                y[piece].clamp_(-clamp, clamp)
        ctx.save_for_backward(y, x if ctx.needs_input_grad[1] else None, scale)
        ctx.shapes = [None if term is None else term.shape for term in (scale, noise, bias)]
        ctx.slope, ctx.clamp = slope, clamp
        return y

    @staticmethod
    def backward(ctx, grad):
        y, x, scale = ctx.saved_tensors
        wanted = [shape if need else None for shape, need in zip(ctx.shapes, ctx.needs_input_grad[1:4])]
        if torch.is_grad_enabled():
            g = _masked(grad, y.detach(), ctx.slope, ctx.clamp)
            sums = [
                None if shape is None or term is None else term.sum_to_size(shape)
                for term, shape in zip(_terms(g, x), wanted)
            ]
            return g if scale is None else g * scale, *sums, None, None
        grad_x = torch.empty_like(y)
        sums = [None if shape is None else grad.new_zeros(shape) for shape in wanted]
        for piece in pieces(y):
            g = _masked(grad[piece], y[piece], ctx.slope, ctx.clamp, out=grad_x[piece])
            for total, term in zip(sums, _terms(g, None if x is None else x[piece])):
                if total is not None and term is not None:
                    part = _rows(total, piece)
                    part += term.sum_to_size(part.shape)
            if scale is not None:
                g *= _rows(scale, piece)
        return grad_x, *sums, None, None


def _affine(x, scale, terms, out):
    """out = scale * x + sum(terms), in one pass for each term."""
    if scale is None and not terms:
        out.copy_(x)
    elif scale is None:
        torch.add(x, terms.pop(), out=out)
    elif not terms:
        torch.mul(x, scale, out=out)
    else:
        torch.addcmul(terms.pop(), x, scale, out=out)
    for term in terms:
        out += term


def _masked(grad, y, slope, clamp, out=None):
    """The gradient through leaky ReLU and clamp, both of whose masks can be read off their result y."""
    leaky, tanh = torch.ops.aten.leaky_relu_backward, torch.ops.aten.hardtanh_backward
    if out is None:
        grad = leaky(grad, y, slope, True) if slope != 1 else grad
        return grad if clamp is None else tanh(grad, y, -clamp, clamp)
    if slope != 1:
        grad = leaky.grad_input(grad, y, slope, True, grad_input=out)
    if clamp is not None:
        grad = tanh.grad_input(grad, y, -clamp, clamp, grad_input=out)
    return grad if grad is out else out.copy_(grad)


def _terms(g, x):
    """What is summed for the gradients of scale, noise and bias."""
    return None if x is None else g * x, g, g


class _Modulate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            return grad * scale, (grad * x).sum_to_size(scale.shape)
        grad_x, grad_scale = torch.empty_like(x), torch.empty_like(scale)
        for piece in pieces(x):
            torch.sum(grad[piece] * x[piece], dim=(2, 3), keepdim=True, out=grad_scale[piece])
            torch.mul(grad[piece], scale[piece], out=grad_x[piece])
        return grad_x, grad_scale
