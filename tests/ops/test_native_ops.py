"""The native backend: float32 inference against the definition in float64, for every variant this processor runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mssg import ops
from mssg.ops import dispatch
from mssg.ops.native import library

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
    """Compare operation(*tensors) in float32 on a backend with the definition in float64; terms are of this size."""
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
    limit = 3e-5 if name == "native" else 5e-6
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
    agree(lambda x, weight, s, f, noise, b, backend: ops.modulated_conv2d(
            x, weight, s, f=f, noise=noise, b=b, backend=backend, **kind),
          [x, weight, s, f, noise, b], name, 5e-6, 3 if demodulate else 6 * i**0.5)  # fmt: skip


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
    agree(lambda x, fu, fd, b, backend: ops.filtered_lrelu(x, fu, fd, b, backend=backend, **kind),
          [draw(6, batch, c, h, w), fu, fd, b], "native", 2e-5)  # fmt: skip


@needs_library
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("terms", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("up", [2, 4])
@pytest.mark.parametrize("size", [(7, 5), (9, 53)])
def test_the_six_tap_design(up, terms, size, symmetric):
    """StyleGAN3's own geometry, which has kernels of its own; every phase of the padding, both orientations."""
    columns, rows = draw(1, 12, max(terms, 1)), draw(2, max(terms, 1), 12)
    if symmetric:
        columns, rows = columns + columns.flip(0), rows + rows.flip(1)
    fd = rows[0] if terms == 0 else columns @ rows
    for shift in (0, up - 1):
        kind = {"up": up, "down": 2, "padding": (up * 6 + shift, 18, 20, 17 - shift), "clamp": 0.8}
        agree(lambda x, fu, fd, b, backend, kind=kind: ops.filtered_lrelu(x, fu, fd, b, backend=backend, **kind),
              [draw(3, 1, 19, *size), draw(4, 6 * up), fd, draw(5, 19)], "native", 2e-5)  # fmt: skip


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
def test_native_serves_inference_and_leaves_training_to_torch(monkeypatch):
    monkeypatch.delenv("MSSG_OPS", raising=False)
    x = torch.zeros(1, 1, 4, 4)
    assert ops.backend(x=x).name == "torch"
    with torch.no_grad():
        assert ops.backend(x=x).name == "torch"  # a training step's own drawing: its weights change at once
    with torch.inference_mode():
        assert ops.backend(x=x).name == "native" and ops.backend(x=x.double()).name == "torch"
    w = draw(1, 2, 1, 3, 3).requires_grad_()
    y = ops.modulated_conv2d(x + 1, w, torch.ones(1, 1), padding=1, backend="native")
    assert torch.autograd.grad(y.square().sum(), w)[0].shape == w.shape


@needs_library
def test_a_forked_process_has_threads_of_its_own():
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    code = """
import os, torch, warnings
warnings.simplefilter("ignore")
from mssg import ops
torch.set_num_threads(2)
def work():
    with torch.no_grad():
        return ops.filtered_lrelu(torch.ones(2, 16, 24, 24), torch.ones(12), torch.ones(12), up=2, down=2, padding=12,
                                  backend="native").sum().item()
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
from mssg import ops
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
    code = "import mssg.ops"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "abacus" in said and "plain" in said


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_no_access_out_of_bounds(tmp_path):
    """The kernels with AddressSanitizer and UndefinedBehaviorSanitizer over random shapes, without Python."""
    flags = "-std=c++17 -O0 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -pthread -Wno-psabi".split()
    sources = [SOURCE / "kernels.cpp", SOURCE / "threads.cpp", Path(__file__).with_name("native_driver.cpp")]
    program = tmp_path / "driver"
    build = ["c++", *flags, f"-I{SOURCE}", *map(str, sources), "-o", str(program)]
    done = subprocess.run(build, capture_output=True, text=True)
    if done.returncode and "sanitize" in done.stderr and "cannot find" in done.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert done.returncode == 0, done.stderr
    done = subprocess.run([str(program), "40"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_the_backends_are_registered_together():
    assert ("native" in dispatch.names()) == ("native-exact" in dispatch.names()) == BUILT
