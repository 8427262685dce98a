"""Every Triton kernel against the definitions in float64: results, gradients, gradients of gradients.

On a GPU, or on CPU tensors in Triton's interpreter: the test suite and `make cuda` share these cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor

from mssg.ops import functional as ops
from mssg.ops import triton_backend

LIMITS = {torch.float32: 1e-5, torch.float16: 1e-2}
"""Largest root mean square error, over the root mean square of what is true."""
TAIL, UPFIRDN, FILTERED = "tail_kernel", "upfirdn2d_kernel", "filtered_lrelu_kernel"
F4 = ops.setup_filter([1, 3, 3, 1])
F12 = ops.setup_filter([1, 2, 4, 6, 8, 9, 9, 8, 6, 4, 2, 1])
F24 = F12.repeat_interleave(2) / 2
_X, _Y = torch.meshgrid(torch.arange(12) - 5.5, torch.arange(12) - 5.5, indexing="ij")
RADIAL = ops.setup_filter(torch.exp(-torch.hypot(_X, _Y) / 3))


@dataclass(frozen=True)
class KernelCase:
    """An operation of tensors of these shapes, and the kernels that it must reach."""

    kernels: frozenset[str]
    shapes: tuple[tuple[int, ...], ...]
    operation: Callable[..., Tensor]


def _case(kernels: str, shapes: list[tuple[int, ...]], operation: Callable[..., Tensor]) -> KernelCase:
    return KernelCase(frozenset(kernels.split()), tuple(shapes), operation)


def _filtered(fu: Tensor, fd: Tensor, up: int) -> KernelCase:
    def operation(x: Tensor, b: Tensor) -> Tensor:
        filters = fu.to(x.device), fd.to(x.device)
        return ops.filtered_lrelu(x, *filters, b, up=up, down=2, padding=(10, 9, 11, 8), clamp=1.5)

    return _case(FILTERED, [(1, 3, 14, 12), (3,)], operation)


def _layer_of_stylegan2(x: Tensor, w: Tensor, s: Tensor, noise: Tensor, b: Tensor) -> Tensor:
    tail = {"noise": noise, "b": b, "act": "lrelu", "clamp": 2.0}
    return ops.modulated_conv2d(x, w, s, f=F4.to(x.device), up=2, padding=1, flip_weight=False, **tail)


def _layer_of_stylegan3(x: Tensor, w: Tensor, s: Tensor, b: Tensor) -> Tensor:
    f, kind = F12.to(x.device), {"up": 2, "down": 2, "padding": (10, 9, 11, 8)}
    return ops.modulated_filtered_lrelu(x, w, s, f, f, b, conv_padding=2, clamp=1.5, **kind)


CASES = {
    "upsampling": _case(UPFIRDN, [(2, 3, 9, 7)], lambda x: ops.upsample2d(x, F4.to(x.device))),
    "resampling": _case(
        UPFIRDN,
        [(1, 3, 14, 12)],
        lambda x: ops.upfirdn2d(x, F12.to(x.device), up=(2, 1), down=(1, 2), padding=(7, 6, 5, -1)),
    ),
    "filtered leaky ReLU, up 2": _filtered(F12, F12, 2),
    "filtered leaky ReLU, up 4": _filtered(F24, F12, 4),
    "filtered leaky ReLU, radial": _filtered(F12, RADIAL, 2),
    "leaky ReLU": _case(TAIL, [(2, 3, 9, 7), (3,)], lambda x, b: ops.bias_act(x, b, act="lrelu", clamp=1.5)),
    "swish": _case(TAIL, [(2, 3, 9, 7), (3,)], lambda x, b: ops.bias_act(x, b, act="swish")),
    "downsampling convolution": _case(
        UPFIRDN,
        [(2, 3, 12, 10), (4, 3, 3, 3)],
        lambda x, w: ops.conv2d_resample(x, w, F4.to(x.device), down=2, padding=1),
    ),
    "layer of StyleGAN2": _case(
        f"{TAIL} {UPFIRDN}", [(2, 3, 9, 7), (4, 3, 3, 3), (2, 3), (2, 1, 18, 14), (4,)], _layer_of_stylegan2
    ),
    "layer of StyleGAN3": _case(FILTERED, [(1, 3, 12, 10), (4, 3, 3, 3), (1, 3), (4,)], _layer_of_stylegan3),
}


@contextmanager
def counted_launches() -> Iterator[dict[str, int]]:
    """How often each kernel is launched inside a `with` block."""
    counts: dict[str, int] = {}

    class Counting:
        def __init__(self, name: str, kernel: object) -> None:
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid: object):
            counts[self.name] = counts.get(self.name, 0) + 1
            return self.kernel[grid]

    with ExitStack() as stack:
        for name in (TAIL, UPFIRDN, FILTERED):
            counting = Counting(name, getattr(triton_backend.kernels, name))
            stack.enter_context(mock.patch.object(triton_backend.kernels, name, counting))
        yield counts


def _derivatives(case: KernelCase, inputs: list[Tensor], backend: str) -> dict[str, Tensor]:
    """Result, gradients of a function of it, gradients of their squares: each flat, float64."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    with ops.use_backend(backend):
        y = case.operation(*inputs)
        wide = y.double()
        weights = torch.linspace(-1, 1, y.numel(), dtype=wide.dtype, device=y.device).reshape(y.shape)
        function = (wide * weights + wide.square() / 2).sum()
        first = torch.autograd.grad(function, inputs, create_graph=True)
        penalty = sum(g.double().square().sum() for g in first) / 64  # stays in float16's range
        second = torch.autograd.grad(penalty, inputs, materialize_grads=True)
    flat = {"result": [y], "gradients": first, "gradients of gradients": second}
    return {name: torch.cat([t.detach().double().flatten() for t in ts]) for name, ts in flat.items()}


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over that of what is expected."""
    return ((got - expected).square().mean() / expected.square().mean()).sqrt().item()


def kernel_errors(case: KernelCase, device: str, dtype: torch.dtype) -> dict[str, float]:
    """Relative errors of result, gradients and their gradients.

    Raises:
        AssertionError: A kernel was not reached: something else served.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator).to(device, dtype) for shape in case.shapes]
    with torch.backends.cudnn.flags(allow_tf32=False):
        expected = _derivatives(case, [t.double() for t in inputs], "reference")
        with counted_launches() as launches:
            got = _derivatives(case, inputs, "cuda")
    missed = case.kernels - set(launches)
    assert not missed, f"{', '.join(sorted(missed))} did not run"
    return {name: relative_error(got[name], expected[name]) for name in expected}
