"""Choosing a backend, and the checks in front of all backends."""

import subprocess
import sys

import pytest
import torch

from mssg.errors import UsageError
from mssg.ops import dispatch
from mssg.ops import functional as ops
from mssg.ops.filters import separable_terms
from mssg.ops.remembered import Remembered


def test_default_environment_context_and_argument(monkeypatch):
    monkeypatch.delenv("MSSG_OPS", raising=False)
    assert ops.backend().name == "torch"
    monkeypatch.setenv("MSSG_OPS", "reference")
    assert ops.backend().name == "reference"
    with ops.use_backend("torch"):
        assert ops.backend().name == "torch"
        assert ops.backend("reference").name == "reference"
    assert ops.backend().name == "reference"


def test_unknown_backend_is_named(monkeypatch):
    monkeypatch.setenv("MSSG_OPS", "abacus")
    with pytest.raises(UsageError, match=r"abacus.*reference.*torch.*MSSG_OPS"):
        ops.bias_act(torch.zeros(1, 1))


def test_a_registered_backend_takes_its_base_for_the_rest(monkeypatch):
    monkeypatch.setattr(dispatch, "_backends", dict(dispatch._backends))
    ops.register_backend("zero", base="reference", bias_act=lambda x, *_: torch.zeros_like(x))
    x = torch.ones(1, 2, 4, 4)
    with ops.use_backend("zero"):
        assert ops.bias_act(x).sum() == 0
        assert ops.upfirdn2d(x, None).sum() == 32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ops.bias_act(x, act="gelu"), "gelu.*lrelu"),
        (lambda x: ops.bias_act(x, torch.zeros(3)), "bias does not fit"),
        (lambda x: ops.upfirdn2d(x, torch.ones(9)), "4x4.*9x9"),
        (lambda x: ops.upfirdn2d(x, None, up=0), "at least 1"),
        (lambda x: ops.setup_filter(torch.zeros(2, 2, 2)), "one or two dimensions"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(UsageError, match=message):
        call(torch.zeros(1, 2, 4, 4))


def test_separable_terms_follow_a_changed_filter():
    f = torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 6))
    assert len(separable_terms(f)) == 1
    f.copy_(torch.eye(5))
    assert len(separable_terms(f)) == 5


def test_filters_of_equal_values_share_what_is_derived_from_them():
    f = torch.outer(torch.arange(1.0, 7), torch.arange(1.0, 7)) + torch.eye(6)
    with torch.inference_mode():  # an evaluation meets the filter first, training then
        first = separable_terms(f.clone())
    assert separable_terms(f) is first
    x = torch.randn(1, 2, 9, 9, requires_grad=True)
    ops.upfirdn2d(x, f, padding=3, backend="torch").sum().backward()
    assert x.grad is not None


def test_derived_values_end_with_their_tensor_and_its_version():
    remembered, t = Remembered(), torch.zeros(3)
    remembered.of(t)["a"] = 1
    assert remembered.of(t) == {"a": 1}
    t += 1
    assert remembered.of(t) == {}
    del t
    assert not remembered._known


@pytest.mark.slow
def test_a_filter_for_the_meta_device_needs_no_compiler():
    """Its arithmetic, done there, would import torch._dynamo: more than a second of every start."""
    code = (
        "import sys, torch\n"
        "from mssg.ops.filters import setup_filter\n"
        "with torch.device('meta'):\n"
        "    f = setup_filter([1, 3, 3, 1])\n"
        "assert f.is_meta and f.shape == (4, 4)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_the_low_rank_path_of_a_large_filter(backend):
    generator = torch.Generator().manual_seed(0)
    columns, rows = torch.randn(2, 12, 1, generator=generator), torch.randn(2, 1, 12, generator=generator)
    f = (columns * rows).sum(0)
    x = torch.randn(1, 3, 20, 20, generator=generator)
    expected = ops.upfirdn2d(x.double(), f.double(), padding=6, backend="reference")
    got = ops.upfirdn2d(x, f, padding=6, backend=backend)
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("kernel", [1, 3])
def test_half_precision_stays_in_range(kernel):
    """Demodulated weights do not depend on the scale of styles and weights, so float16 must survive large
    ones."""
    generator = torch.Generator().manual_seed(0)
    x, s = torch.randn(2, 8, 6, 6, generator=generator), 3e4 * torch.randn(2, 8, generator=generator)
    w = 1e3 * torch.randn(4, 8, kernel, kernel, generator=generator)
    shape = {"padding": kernel // 2, "act": "lrelu"}
    expected = ops.modulated_conv2d(x, w, s, **shape, backend="reference")
    got = ops.modulated_conv2d(x.half(), w, s, **shape)
    assert got.dtype == torch.float16
    assert (got - expected).abs().max() < 0.01 * expected.abs().max()


def test_a_backend_may_claim_tensors_where_nobody_chooses(monkeypatch):
    monkeypatch.delenv("MSSG_OPS", raising=False)
    monkeypatch.setattr(dispatch, "_backends", dict(dispatch._backends))
    ops.register_backend("half", base="torch", serves=lambda x: x.dtype == torch.float16)
    half, double = torch.zeros(1, dtype=torch.float16), torch.zeros(1, dtype=torch.float64)
    assert ops.backend(x=half).name == "half" and ops.backend(x=double).name == "torch"
    assert ops.backend("reference", half).name == "reference"
    monkeypatch.setenv("MSSG_OPS", "torch")
    assert ops.backend(x=half).name == "torch"


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_whole_layer_is_its_two_operations(backend):
    generator = torch.Generator().manual_seed(0)
    x, w, s, b = (torch.randn(*n, generator=generator) for n in ((2, 3, 7, 6), (4, 3, 3, 3), (2, 3), (4,)))
    f, gain = ops.setup_filter([1.0, 2, 3, 4, 5, 6, 7, 8]), torch.tensor(0.7)
    tail = {"up": 2, "down": 2, "padding": (7, 6, 8, 7), "slope": 0.1, "clamp": 0.9}
    whole = ops.modulated_filtered_lrelu(
        x, w, s, f, f, b, conv_padding=2, input_gain=gain, **tail, backend=backend
    )
    y = ops.modulated_conv2d(x, w, s, padding=2, input_gain=gain, backend=backend)
    torch.testing.assert_close(whole, ops.filtered_lrelu(y, f, f, b, **tail, backend=backend))
