"""First and second derivatives of the differentiable backends against finite differences."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from mssg.ops import functional as ops

F4 = ops.setup_filter([1, 3, 3, 1])
F12 = ops.setup_filter([1, 2, 4, 6, 8, 9, 9, 8, 6, 4, 2, 1])


def draw(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def modulated(x, w, s, b, noise):
    return ops.modulated_conv2d(
        x, w, s, f=F4, up=2, padding=1, flip_weight=False, noise=noise, b=b, act="lrelu", clamp=0.9
    )


CASES = {
    "up": (lambda x: ops.upsample2d(x, F4), [(2, 2, 3, 4)]),
    "down": (lambda x: ops.downsample2d(x, F4), [(2, 2, 4, 6)]),
    "up and down": (lambda x: ops.upfirdn2d(x, F12, up=3, down=2, padding=(6, 5, -1, 9)), [(1, 2, 4, 5)]),
    "filtered_lrelu": (
        lambda x, b: ops.filtered_lrelu(x, F12, F12, b, up=2, down=2, padding=10, clamp=0.5),
        [(1, 2, 3, 4), (2,)],
    ),
    "bias_act": (lambda x, b: ops.bias_act(x, b, act="lrelu", clamp=1.0), [(2, 3, 2, 2), (3,)]),
    "conv down": (
        lambda x, w: ops.conv2d_resample(x, w, F4, down=2, padding=1),
        [(2, 2, 4, 4), (2, 2, 3, 3)],
    ),
    "modulated": (modulated, [(2, 2, 3, 3), (2, 2, 3, 3), (2, 2), (2,), (6, 6)]),
    "modulated 1x1": (
        lambda x, w, s: ops.modulated_conv2d(x, w, s, act="lrelu"),
        [(2, 2, 2, 3), (3, 2, 1, 1), (2, 2)],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    operation, shapes = CASES[name]
    inputs = [draw(*shape) for shape in shapes]
    with ops.use_backend("torch"):
        assert gradcheck(operation, inputs)
        assert gradgradcheck(operation, inputs)


SMALL = {  # for Triton's interpreter
    "up and down": (lambda x: ops.upfirdn2d(x, F4, up=2, down=(1, 2), padding=(3, 1, 2, -1)), [(1, 1, 2, 3)]),
    "filtered_lrelu": (
        lambda x, b: ops.filtered_lrelu(x, F4[0], F4[0], b, up=2, down=2, padding=3, gain=9.0, clamp=0.5),
        [(1, 1, 2, 3), (1,)],
    ),
    "bias_act": (lambda x, b: ops.bias_act(x, b, act="swish"), [(1, 2, 2, 1), (2,)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_derivatives_of_the_triton_kernels(name):
    operation, shapes = SMALL[name]
    inputs = [draw(*shape) for shape in shapes]
    with ops.use_backend("cuda"):
        assert gradcheck(operation, inputs)
        assert gradgradcheck(operation, inputs)


def test_third_derivative_exists():
    x = draw(1, 2, 4, 4)
    y = ops.upsample2d(x.exp(), F4).square().sum()
    for _ in range(3):
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        y = g.square().sum()
    assert torch.isfinite(y)
