"""What the tests of the native backends share: inputs, comparison with the definition, and that the kernels
are there."""

from __future__ import annotations

import os
import shutil

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st

from mssg.ops.native import library

CONTRACT = settings(
    max_examples=int(os.environ.get("MSSG_CONTRACT_EXAMPLES", 25)), deadline=None, derandomize=True
)


def compiler() -> str | None:
    """The C++ compiler that an installation would have used, if there is one."""
    names = (os.environ.get("CXX", "c++"), "c++", "g++", "clang++")
    return next(filter(None, map(shutil.which, names)), None)


def require_library() -> None:
    """Fail where the kernels could have been built and were not; skip where there is no compiler."""
    reason = library.load()
    if not isinstance(reason, str):
        return
    if found := compiler():
        advice = "install mssg again (pip install -e .) and read what it says"
        pytest.fail(f"no native kernels ({reason}), but a C++ compiler, {found}: {advice}", pytrace=False)
    pytest.skip(f"no native kernels ({reason}): there is no C++ compiler here")


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
