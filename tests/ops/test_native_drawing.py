"""Drawing on the native kernels: float32 against the definition in float64, what is not finite, threads, and
what is remembered."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from native_cases import CONTRACT, agree, draw, lowpass

from mssg.ops import functional as ops
from mssg.ops.native import layout

pytestmark = pytest.mark.usefixtures("native_library")
MODES = ["native", "native-exact"]


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_changed_weight_is_prepared_anew():
    x, w, s = draw(0, 1, 8, 9, 9), draw(1, 8, 8, 3, 3), draw(2, 1, 8)
    with torch.no_grad():
        first = ops.modulated_conv2d(x, w, s, padding=1, backend="native")
        w.mul_(-1)
        torch.testing.assert_close(ops.modulated_conv2d(x, w, s, padding=1, backend="native"), -first)


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


def test_memory_of_large_results_serves_again_once_they_are_gone(monkeypatch):
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
