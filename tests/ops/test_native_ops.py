"""The native backends: float32 against the definition in float64, for every variant this processor runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mssg.ops import dispatch
from mssg.ops import functional as ops
from mssg.ops.native import library, training

SOURCE = Path(library.__file__).parent / "src"
BUILT = not isinstance(library.load(), str)
needs_library = pytest.mark.skipif(not BUILT, reason="the native library is not built here (no C++ compiler)")
CONTRACT = settings(
    max_examples=int(os.environ.get("MSSG_CONTRACT_EXAMPLES", 25)), deadline=None, derandomize=True
)
MODES = ["native", "native-exact"]


def test_the_library_is_built_where_there_is_a_compiler():
    if shutil.which("c++") or shutil.which("g++"):
        assert BUILT or not list(SOURCE.parent.glob("_native_*")), library.load()


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def agree(operation, tensors, name, limit, size=1e-3):
    """Compare operation(*tensors) in float32 on a backend with the definition in float64; terms are of this
    size."""
    with torch.no_grad():
        got = operation(*tensors, backend=name)
        doubles = [t if t is None else t.double() for t in tensors]
        expected = operation(*doubles, backend="reference")
    assert got.shape == expected.shape and got.dtype == torch.float32
    error = (got - expected).abs().max().item()
    assert error <= limit * max(expected.abs().max().item(), size), error


@needs_library
@pytest.mark.parametrize("name", MODES)
@CONTRACT
@given(
    st.integers(1, 2),
    st.sampled_from([1, 2, 16, 17, 40, 64, 513]),
    st.sampled_from([1, 3, 16, 31, 33, 80]),
    st.integers(1, 23),
    st.integers(1, 23),
    st.sampled_from([1, 3]),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["none", "const", "random"]),
    st.sampled_from(["linear", "lrelu"]),
    st.sampled_from([None, 6.0]),
)
def test_modulated_convolution(name, batch, i, o, h, w, k, padding, demodulate, flip, noise, act, clamp):
    assume(min(h, w) + 2 * padding >= k and i * o < 9000)
    x, weight, s, b = draw(0, batch, i, h, w), draw(1, o, i, k, k), draw(2, batch, i) + 1, draw(3, o)
    size = (h + 2 * padding - k + 1, w + 2 * padding - k + 1)
    noise = {"none": None, "const": draw(4, *size), "random": draw(5, batch, 1, *size)}[noise]

    def operation(x, weight, s, b, noise, gain, backend):
        kind = {
            "demodulate": demodulate,
            "input_gain": gain,
            "noise": noise,
            "b": b,
            "act": act,
            "clamp": clamp,
        }
        return ops.modulated_conv2d(x, weight, s, padding=padding, flip_weight=flip, backend=backend, **kind)

    size = 3 if demodulate else 2 * k * i**0.5  # sums of few outputs may cancel
    limit = 5e-5 if name == "native" else 5e-6  # F(6x6) alone, of 513 channels
    agree(operation, [x, weight, s, b, noise, torch.tensor(0.7)], name, limit, size)


@needs_library
@pytest.mark.parametrize("name", MODES)
@CONTRACT
@given(
    st.integers(1, 2),
    st.sampled_from([1, 16, 40, 64]),
    st.sampled_from([1, 3, 31, 80]),
    st.integers(1, 13),
    st.integers(1, 13),
    st.booleans(),
    st.booleans(),
    st.sampled_from([[1.0, 3.0, 3.0, 1.0], [0.3, -1.0, 2.0, 0.6]]),
    st.sampled_from([None, 6.0]),
)
def test_stylegan2s_layer_onto_twice_the_size(name, batch, i, o, h, w, demodulate, flip, taps, clamp):
    x, weight, s, b = draw(0, batch, i, h, w), draw(1, o, i, 3, 3), draw(2, batch, i) + 1, draw(3, o)
    noise, f = draw(4, 2 * h, 2 * w), ops.setup_filter(taps)
    kind = {
        "up": 2,
        "padding": 1,
        "demodulate": demodulate,
        "flip_weight": flip,
        "act": "lrelu",
        "clamp": clamp,
    }
    agree(
        lambda x, weight, s, f, noise, b, backend: ops.modulated_conv2d(
            x, weight, s, f=f, noise=noise, b=b, backend=backend, **kind
        ),
        [x, weight, s, f, noise, b],
        name,
        5e-6,
        3 if demodulate else 6 * i**0.5,
    )


@st.composite
def lowpass(draw_):
    """None, [n], a product [h, w], or a sum of three products."""
    kind = draw_(st.sampled_from(["none", "line", "product", "sum"]))
    h, w, seed = draw_(st.integers(1, 8)), draw_(st.integers(1, 8)), draw_(st.integers(0, 9))
    if kind == "none":
        return None
    if kind == "line":
        return draw(seed, w)
    terms = 1 if kind == "product" else 3
    return draw(seed, h, terms) @ draw(seed + 1, terms, w)


@needs_library
@CONTRACT
@given(
    st.integers(1, 2),
    st.sampled_from([1, 17]),
    st.integers(2, 40),
    st.integers(2, 12),
    lowpass(),
    lowpass(),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 4]),
    st.tuples(*[st.integers(-1, 9)] * 4),
    st.booleans(),
    st.sampled_from([None, 0.8]),
    st.booleans(),
)
def test_filtered_lrelu(batch, c, h, w, fu, fd, up, down, padding, bias, clamp, flip):
    assume(h * up + padding[2] + padding[3] >= 16 and w * up + padding[0] + padding[1] >= 16)
    kind = {
        "up": up,
        "down": down,
        "padding": padding,
        "gain": 1.3,
        "slope": 0.1,
        "clamp": clamp,
        "flip_filter": flip,
    }
    b = draw(7, c) if bias else None
    agree(
        lambda x, fu, fd, b, backend: ops.filtered_lrelu(x, fu, fd, b, backend=backend, **kind),
        [draw(6, batch, c, h, w), fu, fd, b],
        "native",
        2e-5,
    )


@needs_library
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("terms", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("up", [2, 4])
@pytest.mark.parametrize("size", [(7, 5), (9, 53)])
def test_the_six_tap_design(up, terms, size, symmetric):
    """StyleGAN3's own geometry, which has kernels of its own; every phase of the padding, both
    orientations."""
    columns, rows = draw(1, 12, max(terms, 1)), draw(2, max(terms, 1), 12)
    if symmetric:
        columns, rows = columns + columns.flip(0), rows + rows.flip(1)
    fd = rows[0] if terms == 0 else columns @ rows
    for shift in (0, up - 1):
        kind = {"up": up, "down": 2, "padding": (up * 6 + shift, 18, 20, 17 - shift), "clamp": 0.8}
        agree(
            lambda x, fu, fd, b, backend, kind=kind: ops.filtered_lrelu(
                x, fu, fd, b, backend=backend, **kind
            ),
            [draw(3, 1, 19, *size), draw(4, 6 * up), fd, draw(5, 19)],
            "native",
            2e-5,
        )


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
    assert made_by == "_FilteredLreluBackward"
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


@needs_library
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


@needs_library
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


@needs_library
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


@needs_library
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
        assert type(y.grad_fn).__name__ == "_ConvolutionBackward"
    grad = draw(8, *y.shape).to(dtype) if len(tensors) == 2 else tensors[2].to(dtype)
    return [y.detach(), *torch.autograd.grad(y, (x, w), grad)]


@needs_library
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


@needs_library
def test_training_leaves_convolutions_of_few_pixels_to_torch():
    for x, w in (((1, 512, 8, 8), (512, 512, 3, 3)), ((9, 3, 16, 16), (3, 3, 3, 3))):
        y = ops.conv2d_resample(draw(0, *x), draw(1, *w).requires_grad_(), padding=1, backend="native-train")
        assert type(y.grad_fn).__name__ == "ConvolutionBackward0"


@needs_library
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


@needs_library
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


@needs_library
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


@needs_library
@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_passes_as_in_the_definition(name, value):
    x, w, s, b = draw(0, 1, 17, 20, 20), draw(1, 18, 17, 3, 3), draw(2, 1, 17), draw(3, 18)
    x[0, 4, 9, 11] = value
    f = torch.ones(12) / 12
    with torch.no_grad():
        for clamp in (None, 0.5):
            kind = {"conv_padding": 2, "up": 2, "down": 2, "padding": (11, 10, 11, 10), "clamp": clamp}
            got = ops.modulated_filtered_lrelu(x, w, s, f, f, b, **kind, backend=name)
            expected = ops.modulated_filtered_lrelu(x, w, s, f, f, b, **kind, backend="reference")
            assert torch.equal(got.isnan(), expected.isnan()) and got.isnan().any()
            assert torch.equal(got.isposinf(), expected.isposinf())
            assert torch.equal(got.isneginf(), expected.isneginf())
            finite = expected.isfinite()
            assert finite.any() and torch.allclose(got[finite], expected[finite], atol=1e-4)


@needs_library
def test_threads_and_batches_do_not_change_the_numbers():
    x, w, s, b = draw(0, 3, 40, 30, 30), draw(1, 50, 40, 3, 3), draw(2, 3, 40), draw(3, 50)
    kind = {"padding": 1, "demodulate": False, "b": b, "act": "lrelu"}
    before = torch.get_num_threads()
    results = []
    try:
        with torch.no_grad():
            for threads in (1, 2, 5):
                torch.set_num_threads(threads)
                for name in MODES:
                    many = ops.modulated_conv2d(x, w, s, **kind, backend=name)
                    for i in range(3):
                        one = ops.modulated_conv2d(x[i : i + 1], w, s[i : i + 1], **kind, backend=name)
                        torch.testing.assert_close(one, many[i : i + 1], rtol=1e-5, atol=1e-6)
                results.append(many)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@needs_library
def test_a_changed_weight_is_prepared_anew():
    x, w, s = draw(0, 1, 8, 9, 9), draw(1, 8, 8, 3, 3), draw(2, 1, 8)
    with torch.no_grad():
        first = ops.modulated_conv2d(x, w, s, padding=1, backend="native")
        w.mul_(-1)
        torch.testing.assert_close(ops.modulated_conv2d(x, w, s, padding=1, backend="native"), -first)


@needs_library
def test_a_changed_bias_or_filter_is_seen():
    x, w, s, b = draw(0, 1, 8, 9, 9), draw(1, 8, 8, 3, 3), draw(2, 1, 8), draw(3, 8)
    f = ops.setup_filter([1, 3, 3, 1])

    def layers(backend):
        kind = {"up": 2, "down": 2, "padding": 5, "backend": backend}
        yield ops.modulated_conv2d(x, w, s, b=b, padding=1, backend=backend)
        yield ops.modulated_conv2d(x, w, s, f=f, b=b, up=2, padding=1, backend=backend)
        yield ops.modulated_filtered_lrelu(x, w, s, f[0], f[1], b, conv_padding=2, **kind)

    with torch.no_grad():
        for change in (b.neg_, lambda: f.mul_(torch.arange(4.0)), lambda: b.add_(1)):
            for got, expected in zip(layers("native"), layers("torch")):
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
            change()
        b, f = draw(4, 8), ops.setup_filter([1, 2, 2, 1])  # others, perhaps in the same places
        for got, expected in zip(layers("native"), layers("torch")):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@needs_library
def test_a_layer_of_many_large_images_is_one_of_each():
    """More than the buffer between convolution and filtered leaky ReLU holds at a time."""
    x, w, s, f = draw(0, 3, 3, 600, 600), draw(1, 16, 3, 1, 1), draw(2, 3, 3), torch.ones(12) / 12
    kind = {"up": 2, "down": 2, "padding": 11, "backend": "native"}
    with torch.inference_mode():
        many = ops.modulated_filtered_lrelu(x, w, s, f, f, **kind)
        for i in range(3):
            one = ops.modulated_filtered_lrelu(x[i : i + 1], w, s[i : i + 1], f, f, **kind)
            torch.testing.assert_close(one, many[i : i + 1])
        assert ops.modulated_filtered_lrelu(x[:0], w, s[:0], f, f, **kind).shape == many[:0].shape


@needs_library
def test_each_backend_serves_its_own(monkeypatch):
    monkeypatch.delenv("MSSG_OPS", raising=False)
    x = torch.zeros(1, 1, 4, 4)
    assert ops.backend(x=x).name == "native-train" and ops.backend(x=x.double()).name == "torch"
    with torch.no_grad():
        assert (
            ops.backend(x=x).name == "native-train"
        )  # a training step's own drawing: its weights change at once
    with torch.inference_mode():
        assert ops.backend(x=x).name == "native" and ops.backend(x=x.double()).name == "torch"
    monkeypatch.setenv("MSSG_OPS", "torch")
    assert ops.backend(x=x).name == "torch"
    w = draw(1, 2, 1, 3, 3).requires_grad_()
    y = ops.modulated_conv2d(x + 1, w, torch.ones(1, 1), padding=1, backend="native")
    assert torch.autograd.grad(y.square().sum(), w)[0].shape == w.shape


@needs_library
def test_memory_of_large_results_serves_again_once_they_are_gone(monkeypatch):
    from mssg.ops.native import layout

    monkeypatch.setattr(layout, "_LARGE", 1000)
    monkeypatch.setattr(layout, "_idle", {})
    x, w, s = draw(0, 1, 16, 12, 12), draw(1, 16, 16, 3, 3), draw(2, 1, 16)

    def convolve(sign):
        return ops.modulated_conv2d(x, sign * w, s, padding=1, backend="native")

    with torch.inference_mode():
        first, second = convolve(1), convolve(-1)
        assert first.data_ptr() != second.data_ptr() and first.data_ptr() % 64 == 0
        torch.testing.assert_close(first, -second)
        view, place, kept = first[0, 3], first.data_ptr(), second.clone()
        del first
        assert not layout._idle, "a view of it is still there"
        del view
        third = convolve(1)
        assert third.data_ptr() == place and torch.equal(second, kept)


@needs_library
def test_a_forked_process_has_threads_of_its_own():
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    code = """
import os, torch, warnings
warnings.simplefilter("ignore")
from mssg.ops import functional as ops
torch.set_num_threads(2)
def work():
    with torch.no_grad():
        x, f = torch.ones(2, 16, 24, 24), torch.ones(12)
        return ops.filtered_lrelu(x, f, f, up=2, down=2, padding=12, backend="native").sum().item()
expected = work()
child = os.fork()
if child == 0:
    os._exit(0 if work() == expected else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@needs_library
@pytest.mark.parametrize("variant", library.VARIANTS)
def test_every_variant_of_this_processor(variant):
    """In a process of its own, since the library is chosen once."""
    if isinstance(library._open(variant), str) or variant not in _usable():
        pytest.skip(f"this processor has no {variant}")
    code = """
import torch
from mssg.ops import functional as ops
from mssg.ops.native import library
g = torch.Generator().manual_seed(0)
r = lambda *shape: torch.randn(shape, generator=g)
with torch.no_grad():
    for up, rank in ((2, 1), (4, 3)):
        x, w, s, b, fd = r(1, 21, 15, 18), r(35, 21, 3, 3), r(1, 21), r(35), r(12, rank) @ r(rank, 12)
        for name, limit in (("native", 1e-5), ("native-exact", 3e-6)):
            kind = {"conv_padding": 2, "up": up, "down": 2, "padding": 17, "clamp": 2.0}
            got = ops.modulated_filtered_lrelu(x, w, s, torch.ones(6 * up) / 12, fd, b, **kind, backend=name)
            expected = ops.modulated_filtered_lrelu(
                *(t.double() for t in (x, w, s, torch.ones(6 * up) / 12, fd, b)), **kind, backend="reference")
            assert (got - expected).abs().max() <= limit * expected.abs().max(), (name, up)
for up in (2, 4):
    results, tensors = [], (r(1, 21, 15, 18), torch.ones(6 * up) / 12, torch.ones(12) / 12)
    for dtype, name in ((torch.float32, "native-train"), (torch.float64, "reference")):
        x, fu, fd = (t.to(dtype, copy=True) for t in tensors)
        x.requires_grad_()
        y = ops.filtered_lrelu(x, fu, fd, up=up, down=2, padding=17, clamp=0.5, backend=name)
        results.append(torch.autograd.grad(y.pow(3).sum(), x)[0])
    assert (results[0] - results[1]).abs().max() <= 1e-5 * results[1].abs().max(), up
results, tensors = [], (r(8, 21, 30, 33), r(35, 21, 3, 3))
for dtype, name in ((torch.float32, "native-train"), (torch.float64, "reference")):
    x, w = (t.to(dtype, copy=True).requires_grad_() for t in tensors)
    y = ops.conv2d_resample(x, w, padding=2, backend=name)
    results.append([y, *torch.autograd.grad(y.square().sum(), (x, w))])
assert type(results[0][0].grad_fn).__name__ == "_ConvolutionBackward"
for got, expected in zip(*results):
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()
print(library.variant())
"""
    environment = {**os.environ, library.ENVIRONMENT: variant}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == variant, done.stderr


def _usable():
    best = library._open("plain").mssg_processor().decode()
    return library.VARIANTS[library.VARIANTS.index(best) :]


def test_an_unknown_variant_is_named():
    if not BUILT:
        pytest.skip("the native library is not built here")
    environment = {**os.environ, library.ENVIRONMENT: "abacus"}
    code = "import mssg.ops.functional"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "abacus" in said and "plain" in said


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_no_access_out_of_bounds(tmp_path):
    """The kernels with AddressSanitizer and UndefinedBehaviorSanitizer over random shapes, without Python."""
    flags = "-std=c++17 -O0 -g1 -pthread -Wno-psabi -fsanitize=address,undefined -fno-sanitize-recover=all"
    sources = [SOURCE / "kernels.cpp", SOURCE / "threads.cpp", Path(__file__).with_name("native_driver.cpp")]
    program = tmp_path / "driver"
    build = ["c++", *flags.split(), f"-I{SOURCE}", *map(str, sources), "-o", str(program)]
    done = subprocess.run(build, capture_output=True, text=True)
    if done.returncode and "sanitize" in done.stderr and "cannot find" in done.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert done.returncode == 0, done.stderr
    done = subprocess.run([str(program), "40"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_the_backends_are_registered_together():
    assert ("native" in dispatch.names()) == ("native-exact" in dispatch.names()) == BUILT
