"""One contract for every backend: the numbers and the gradients of the reference, in float64, for any
geometry.

MSSG_CONTRACT_EXAMPLES sets how many examples each test draws (`make contract` draws many); the Triton kernels
run in an interpreter here, some hundred times slower than the others, and get a tenth of them.
"""

import os

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mssg.ops import dispatch
from mssg.ops import functional as ops

EXAMPLES = int(os.environ.get("MSSG_CONTRACT_EXAMPLES", 40))
FACTOR = st.sampled_from([1, 2, 4])
PAD = st.integers(-2, 7)
# The native backends hand float64 and gradients to torch: test_native_*.py hold their contract.
BACKENDS = [
    pytest.param(name, max(1, EXAMPLES // 10) if name == "cuda" else EXAMPLES, id=name)
    for name in dispatch.names()
    if name != "reference" and not name.startswith("native")
]


def contract(*strategies):
    """Run a test(backend, *drawn) on examples of the strategies, for every backend but the reference."""

    def decorate(test):
        @pytest.mark.parametrize(("name", "examples"), BACKENDS)
        def run(name, examples):
            @settings(max_examples=examples, deadline=None, derandomize=True)
            @given(st.tuples(*strategies))
            def check(drawn):
                test(name, *drawn)

            check()

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


@st.composite
def filters(draw):
    """None, [n], or [h, w]: of full rank, or separable with more than sixteen taps."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    h, w = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    kind = draw(st.sampled_from(["none", "line", "plane", "product"]))
    if kind == "none":
        return None
    if kind == "line":
        return torch.randn(h, generator=generator)
    if kind == "plane":
        return torch.randn(h, w, generator=generator)
    return torch.outer(torch.randn(h, generator=generator), torch.randn(w, generator=generator))


@st.composite
def images(draw):
    """float64 [B, C, H, W] in either memory layout."""
    shape = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(7, 9)),
        draw(st.integers(7, 9)),
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last) if draw(st.booleans()) else x


def agree(operation, tensors, name):
    """Compare values, gradients and second derivatives of operation(*tensors) between a backend and the
    reference."""
    results = []
    for backend in ("reference", name):
        inputs = [None if t is None else t.detach().clone().requires_grad_() for t in tensors]
        given_inputs = [t for t in inputs if t is not None]
        with ops.use_backend(backend):
            y = operation(*inputs)
            weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
            grads = torch.autograd.grad((y * weights).sum(), given_inputs, create_graph=True)
            plain = torch.autograd.grad((operation(*inputs) * weights).sum(), given_inputs)
            energy = sum(g.square().sum() for g in grads)
            second = (
                torch.autograd.grad(energy, given_inputs, allow_unused=True) if energy.requires_grad else []
            )
        zeros = [torch.zeros_like(t) if s is None else s for t, s in zip(given_inputs, second)]
        results.append([y, *grads, *plain, *zeros])
    for expected, got in zip(*results):
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@contract(images(), filters(), FACTOR, FACTOR, FACTOR, FACTOR, st.tuples(PAD, PAD, PAD, PAD), st.booleans())
def test_upfirdn2d(name, x, f, ux, uy, dx, dy, padding, flip):
    x0, x1, y0, y1 = padding
    assume(x.shape[3] * ux + x0 + x1 >= 6 and x.shape[2] * uy + y0 + y1 >= 6)
    agree(
        lambda x: ops.upfirdn2d(
            x, f, up=(ux, uy), down=(dx, dy), padding=padding, flip_filter=flip, gain=1.3
        ),
        [x],
        name,
    )


@contract(
    images(), filters(), filters(), FACTOR, FACTOR, st.booleans(), st.sampled_from([None, 0.7]), st.booleans()
)
def test_filtered_lrelu(name, x, fu, fd, up, down, with_bias, clamp, flip):
    b = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype) if with_bias else None

    def operation(x, b):
        return ops.filtered_lrelu(
            x, fu, fd, b, up=up, down=down, padding=(5, 4, 6, 3), slope=0.3, clamp=clamp, flip_filter=flip
        )

    agree(operation, [x, b], name)


PADDING = st.tuples(st.integers(-2, 9), st.integers(-2, 9))


@pytest.mark.parametrize("rows", [1, 2, 5])
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(images(), filters(), filters(), FACTOR, FACTOR, PADDING, st.booleans())
def test_filtered_lrelu_in_strips(rows, x, fu, fd, up, down, padding, flip):
    from mssg.ops import fast

    (above, below), kind = padding, {"up": up, "down": down, "clamp": 0.7, "flip_filter": flip}
    assume(x.shape[2] * up + above + below >= 11)
    kind["padding"] = (7, 7, above, below)
    expected = ops.filtered_lrelu(x, fu, fd, **kind, backend="reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "_STRIP", 0)
        patch.setattr(fast, "_LEAST_ROWS", rows)
        got = ops.filtered_lrelu(x, fu, fd, **kind, backend="torch")
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@contract(
    images(),
    st.sampled_from(sorted(ops.ACTIVATIONS)),
    st.booleans(),
    st.sampled_from([None, 0.0, 1.3, -2.0]),
    st.sampled_from([None, 0.6]),
)
def test_bias_act(name, x, act, with_bias, gain, clamp):
    b = torch.linspace(-1, 1, x.shape[1], dtype=x.dtype) if with_bias else None
    agree(lambda x, b: ops.bias_act(x, b, act=act, gain=gain, clamp=clamp), [x, b], name)


@contract(
    images(),
    filters(),
    st.sampled_from([(1, 1), (3, 3), (3, 1), (2, 4)]),
    st.sampled_from([(1, 1), (2, 1), (1, 2), (4, 1), (1, 4), (2, 2)]),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)),
    st.booleans(),
)
def test_conv2d_resample(name, x, f, kernel, factors, padding, flip):
    w = torch.linspace(-1, 1, 2 * x.shape[1] * kernel[0] * kernel[1], dtype=x.dtype)
    w = w.reshape(2, x.shape[1], *kernel)
    up, down = factors

    def operation(x, w):
        return ops.conv2d_resample(x, w, f, up=up, down=down, padding=padding, flip_weight=flip)

    agree(operation, [x, w], name)


@contract(
    images(),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 2]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["none", "const", "random"]),
    st.sampled_from(["linear", "lrelu", "swish"]),
    st.sampled_from([None, 0.5]),
)
def test_modulated_conv2d(name, x, kernel, up, demodulate, with_gain, noise_kind, act, clamp):
    batch, channels, height, width = x.shape
    generator = torch.Generator().manual_seed(batch + channels)
    w = torch.randn(2, channels, kernel, kernel, generator=generator, dtype=x.dtype)
    s = torch.randn(batch, channels, generator=generator, dtype=x.dtype) + 1
    b = torch.randn(2, generator=generator, dtype=x.dtype)
    size = (height * up, width * up) if noise_kind == "const" else (batch, 1, height * up, width * up)
    noise = None if noise_kind == "none" else torch.randn(size, generator=generator, dtype=x.dtype)
    input_gain = torch.tensor(0.6, dtype=x.dtype) if with_gain else None
    f = ops.setup_filter([1, 3, 3, 1])

    def operation(x, w, s, noise, b):
        shape = {"f": f, "up": up, "padding": kernel // 2, "flip_weight": up == 1, "input_gain": input_gain}
        return ops.modulated_conv2d(
            x, w, s, **shape, demodulate=demodulate, noise=noise, b=b, act=act, clamp=clamp
        )

    agree(operation, [x, w, s, noise, b], name)


NOT_FINITE = st.sampled_from([float("nan"), float("inf"), -float("inf")])


@contract(filters(), FACTOR, FACTOR, NOT_FINITE, st.booleans())
def test_non_finite_pixels_spread_as_in_the_reference(name, fu, up, down, value, clamped):
    """NaN and infinities reach as far as the filter does, and no further."""
    assume(value != value or fu is None or fu.ndim == 1)  # a sum of separable terms makes NaN of inf - inf
    x = torch.linspace(-1, 1, 2 * 9 * 8, dtype=torch.float64).reshape(1, 2, 9, 8)
    x[0, 1, 4, 3] = value
    clamp = 0.5 if clamped else None
    with np.errstate(invalid="ignore"):
        expected, got = (
            ops.filtered_lrelu(x, fu, None, up=up, down=down, padding=5, clamp=clamp, backend=backend)
            for backend in ("reference", name)
        )
    torch.testing.assert_close(got, expected, equal_nan=True, rtol=1e-9, atol=1e-9)


OPERATIONS = {
    "bias_act": lambda x, f, b, up, down, clamp, how: ops.bias_act(x, b, act="lrelu", clamp=clamp, **how),
    "upfirdn2d": lambda x, f, b, up, down, clamp, how: ops.upfirdn2d(
        x, f, up=up, down=down, padding=(5, 6, 4, -1), **how
    ),
    "filtered_lrelu": lambda x, f, b, up, down, clamp, how: ops.filtered_lrelu(
        x, f, f, b, up=up, down=down, padding=(9, 7, 8, 9), clamp=clamp, **how
    ),
}


@contract(
    st.sampled_from(sorted(OPERATIONS)),
    st.sampled_from([1, 2, 3, 15, 16, 17, 33, 64, 513]),
    st.sampled_from([5, 6, 8, 11]),
    st.sampled_from([2, 7, 9]),
    st.booleans(),
    FACTOR,
    FACTOR,
    st.sampled_from([None, 0.8]),
)
def test_any_number_of_channels_in_float32(name, operation, channels, height, width, last, up, down, clamp):
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(2, channels, height, width, generator=generator)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    b = torch.randn(channels, generator=generator)
    f = torch.rand(8, generator=generator) - 0.2
    run = OPERATIONS[operation]
    with torch.no_grad():
        expected = run(x.double(), f.double(), b.double(), up, down, clamp, {"backend": "reference"})
        got = run(x, f, b, up, down, clamp, {"backend": name})
    assert got.dtype == torch.float32
    assert (got - expected).abs().max() <= 5e-6 * expected.abs().max()
