"""Training on the native kernels: gradients of any order against the definition in float64."""

from unittest import mock

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from native_cases import CONTRACT, draw, lowpass

from mssg.ops import functional as ops
from mssg.ops.native import training

pytestmark = pytest.mark.usefixtures("native_library")


def away_from_kinks(shape, fu, b, up, padding, gain, slope, clamp, flip_filter, **_):
    """Random x [B, C, H, W] for which rounding decides no sample's derivative; None where every draw
    fails."""
    f = None if fu is None else fu.double()
    for seed in range(100):
        x = draw(seed, *shape)
        raised = (x + b[:, None, None]).double()
        kind = {"up": up, "padding": padding, "flip_filter": flip_filter, "gain": gain * up**2}
        s = ops.upfirdn2d(raised, f, **kind, backend="torch")
        y = torch.where(s > 0, s, s * slope).abs()
        distance = s.abs() if clamp is None else torch.minimum(s.abs(), (y - clamp).abs())
        if (distance[s != 0] > 5e-7 * s.abs().max()).all():
            return x
    return None


def gradients_agree(x, fu, fd, b, **kind):
    """Compare the gradients for x and b with those of the definition in float64."""

    def gradients(name, *tensors):
        x, fu, fd, b = (t if t is None else t.detach() for t in tensors)
        x.requires_grad_(), b.requires_grad_()
        y = ops.filtered_lrelu(x, fu, fd, b, backend=name, **kind)
        made_by = type(y.grad_fn).__name__
        return made_by, torch.autograd.grad((y * draw(8, *y.shape).to(y.dtype)).sum(), (x, b))

    made_by, got = gradients("native-train", x, fu, fd, b)
    assert made_by == "_FilteredLreluOpBackward"
    _, expected = gradients("reference", *(t if t is None else t.double() for t in (x, fu, fd, b)))
    sizes = expected[0].abs().max(), expected[0].abs().sum([0, 2, 3]).max() / 10  # sums for b may cancel
    for g, e, size in zip(got, expected, sizes):
        assert (g - e).abs().max() <= 2e-5 * max(size.item(), 0.1)


@st.composite
def separable(draw_):
    """None, [n] or a product [h, w], of unit length."""
    f = draw_(lowpass())
    if f is None:
        return None
    f = f if f.ndim == 1 else f[:, :1] @ f[:1]
    return f / f.norm()


@CONTRACT
@given(
    st.integers(1, 2),
    st.sampled_from([1, 17]),
    st.integers(2, 20),
    st.integers(2, 12),
    separable(),
    separable(),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 2, 4]),
    st.tuples(*[st.integers(-1, 9)] * 4),
    st.sampled_from([None, 0.8]),
    st.sampled_from([0.1, 1.0, 1.5, 0.0]),
    st.booleans(),
)
def test_gradients_of_filtered_lrelu(batch, c, h, w, fu, fd, up, down, padding, clamp, slope, flip):
    assume(h * up + padding[2] + padding[3] >= 16 and w * up + padding[0] + padding[1] >= 16)
    kind = {
        "up": up,
        "down": down,
        "padding": padding,
        "gain": 1.3,
        "slope": slope,
        "clamp": clamp,
        "flip_filter": flip,
    }
    b = draw(7, c)
    x = away_from_kinks((batch, c, h, w), fu, b, **kind)
    assume(x is not None)
    gradients_agree(x, fu, fd, b, **kind)


SIX_TAPS = {"down": 2, "gain": 1.3, "slope": 0.1, "clamp": 0.8, "flip_filter": False}


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("up", [2, 4])
@pytest.mark.parametrize("size", [(7, 5), (9, 53)])
def test_gradients_of_the_six_tap_design(up, size, symmetric):
    fu, fd = draw(4, 6 * up), draw(1, 12)
    if symmetric:
        fu, fd = fu + fu.flip(0), fd + fd.flip(0)
    fu, fd, b = fu / fu.norm(), fd / fd.norm(), draw(5, 3)
    for shift in range(up):
        kind = {**SIX_TAPS, "up": up, "padding": (up * 6 + shift, 18, 20, 17 - shift)}
        gradients_agree(away_from_kinks((1, 3, *size), fu, b, **kind), fu, fd, b, **kind)


def test_gradients_of_gradients():
    """As a penalty on gradients takes them; through the incoming gradient too."""
    results = []
    for name, dtype in (("native-train", torch.float32), ("reference", torch.float64)):
        x, b, w = draw(0, 1, 3, 9, 8).to(dtype), draw(1, 3).to(dtype), draw(2, 3, 1, 1).to(dtype)
        f = torch.ones(12, dtype=dtype) / 12
        x.requires_grad_(), b.requires_grad_(), w.requires_grad_()
        y = ops.filtered_lrelu(x * w, f, f, b, up=2, down=2, padding=11, backend=name)
        (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        results.append(torch.autograd.grad(gradient.square().sum(), (x, b, w)))
    for got, expected in zip(*results):
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_gradients_where_something_is_not_finite(value, clamp):
    """In x and in the incoming gradient it acts as in the definition."""
    f = torch.ones(12) / 12
    for place in (0, 1):
        tensors = [draw(0, 1, 17, 20, 20), draw(1, 1, 17, 19, 19)]
        tensors[place][0, 4, 9, 11] = value
        results = []
        for name in ("native-train", "reference"):
            x = tensors[0].clone().requires_grad_()
            y = ops.filtered_lrelu(x, f, f, up=2, down=2, padding=10, clamp=clamp, backend=name)
            results.append(torch.autograd.grad(y, x, tensors[1])[0])
        got, expected = results
        assert torch.equal(got.isfinite(), expected.isfinite()) and torch.equal(got.isnan(), expected.isnan())
        finite = expected.isfinite()
        assert finite.any() and torch.allclose(got[finite], expected[finite], atol=1e-5)


@pytest.fixture
def small_ones(monkeypatch):
    """Convolutions too small to be worth it run on the native kernels all the same."""
    monkeypatch.setattr(training, "_FEWEST_TILES", 0)
    monkeypatch.setattr(training, "_FEWEST_PRODUCTS", 0)


def convolution_and_gradients(name, dtype, tensors, **kind):
    """The convolution of x with w, and the gradients for both; tensors: x, w, the incoming gradient if it is
    not noise."""
    x, w = (t.to(dtype, copy=True).requires_grad_() for t in tensors[:2])
    y = ops.conv2d_resample(x, w, backend=name, **kind)
    if name == "native-train":
        assert type(y.grad_fn).__name__ == "_ConvolutionOpBackward"
    grad = draw(8, *y.shape).to(dtype) if len(tensors) == 2 else tensors[2].to(dtype)
    return [y.detach(), *torch.autograd.grad(y, (x, w), grad)]


@CONTRACT
@given(
    st.integers(1, 5),
    st.sampled_from([1, 2, 16, 17, 40, 64, 130]),
    st.sampled_from([1, 3, 16, 31, 33, 80, 130]),
    st.integers(1, 23),
    st.integers(1, 23),
    st.integers(0, 2),
    st.booleans(),
)
def test_gradients_of_convolutions(batch, i, o, h, w, padding, flip):
    assume(min(h, w) + 2 * padding >= 3)
    tensors, kind = (draw(0, batch, i, h, w), draw(1, o, i, 3, 3)), {"padding": padding, "flip_weight": flip}
    with mock.patch.multiple(training, _FEWEST_TILES=0, _FEWEST_PRODUCTS=0):
        got = convolution_and_gradients("native-train", torch.float32, tensors, **kind)
    expected = convolution_and_gradients("reference", torch.float64, tensors, **kind)
    terms = 9 * i, 9 * o, batch * h * w  # sums of few outputs may cancel
    for g, e, count in zip(got, expected, terms):
        assert g.shape == e.shape and g.dtype == torch.float32
        assert (g - e).abs().max() <= 1e-5 * max(e.abs().max(), count**0.5)


def test_training_leaves_convolutions_of_few_pixels_to_torch():
    for x, w in (((1, 512, 8, 8), (512, 512, 3, 3)), ((9, 3, 16, 16), (3, 3, 3, 3))):
        y = ops.conv2d_resample(draw(0, *x), draw(1, *w).requires_grad_(), padding=1, backend="native-train")
        assert type(y.grad_fn).__name__ == "ConvolutionBackward0"


@pytest.mark.usefixtures("small_ones")
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_gradients_of_gradients_of_modulated_convolutions(padding, demodulate):
    """As a penalty on gradients takes them, to the third order."""
    results = []
    for name, dtype in (("native-train", torch.float32), ("reference", torch.float64)):
        tensors = (draw(0, 3, 5, 17, 14), draw(1, 6, 5, 3, 3), draw(2, 3, 5))
        x, w, s = (t.to(dtype, copy=True).requires_grad_() for t in tensors)
        kind = {"padding": padding, "demodulate": demodulate, "input_gain": torch.tensor(0.7, dtype=dtype)}
        y = ops.modulated_conv2d(x, w, s, act="lrelu", backend=name, **kind)
        found = torch.autograd.grad(y.pow(3).sum(), (x, w, s), create_graph=True)
        again = torch.autograd.grad(sum(g.square().mean() for g in found), (x, w, s), create_graph=True)
        results.append([*again, *torch.autograd.grad(sum(g.square().mean() for g in again), (x, w, s))])
    for got, expected in zip(*results):
        assert (got - expected).abs().max() <= 3e-5 * expected.abs().max()


@pytest.mark.usefixtures("small_ones")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_gradients_of_convolutions_where_something_is_not_finite(value):
    """In x, the weight and the incoming gradient it acts as in the definition."""
    for place, index in enumerate([(1, 4, 9, 11), (2, 3, 1, 1), (0, 2, 5, 5)]):
        tensors = [draw(0, 2, 17, 20, 20), draw(1, 5, 17, 3, 3), draw(2, 2, 5, 20, 20)]
        tensors[place][index] = value
        got = convolution_and_gradients("native-train", torch.float32, tensors, padding=1)
        expected = convolution_and_gradients("reference", torch.float32, tensors, padding=1)
        for g, e in zip(got, expected):
            assert torch.equal(g.isnan(), e.isnan()) and torch.equal(g.isposinf(), e.isposinf())
            finite = e.isfinite()
            assert torch.equal(g.isfinite(), finite) and torch.allclose(g[finite], e[finite], atol=1e-3)


def test_training_takes_gradients_and_their_sums_from_any_number_of_threads():
    f, results, before = torch.ones(12) / 12, [], torch.get_num_threads()
    try:
        for threads in (1, 2, 5, 2):
            torch.set_num_threads(threads)
            x = draw(0, 3, 40, 60, 50).requires_grad_()
            y = ops.filtered_lrelu(x, f, f, up=2, down=2, padding=11, backend="native-train")
            tensors = y.detach(), draw(1, 33, 40, 3, 3)
            convolved = convolution_and_gradients("native-train", torch.float32, tensors, padding=1)
            results.append([y.detach(), *torch.autograd.grad(y.square().sum(), x), *convolved])
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(map(torch.equal, others, results[0]))
