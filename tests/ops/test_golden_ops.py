"""The operations against arrays computed with the official implementations, for every backend."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mssg.ops import dispatch
from mssg.ops import functional as ops

GOLDEN = Path(__file__).parents[1] / "golden" / "ops.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as data:
        return {key: torch.tensor(data[key]) for key in data.files}


def flrelu_u2d2(g):
    fu, fd = g["f12"], g["f12"].flip(0)
    shape = {"up": 2, "down": 2, "padding": (10, 9, 11, 8)}
    return ops.filtered_lrelu(g["x"], fu, fd, g["b"], **shape, gain=1.7, slope=0.1, clamp=0.8)


def flrelu_u4d2_radial(g):
    fu = torch.cat([g["f12"], g["f12"].flip(0)])
    shape = {"up": 4, "down": 2, "padding": (20, 19, 21, 18)}
    return ops.filtered_lrelu(g["x"], fu, g["fr"], g["b"], **shape, gain=1.3, slope=0.2, flip_filter=True)


def gen_u3d2(g):
    return ops.upfirdn2d(g["x"], g["f12"], up=3, down=2, padding=(4, 3, -1, 5), flip_filter=True, gain=2.5)


CASES = {
    "up2_f4": lambda g: ops.upsample2d(g["x"], g["f4"]),
    "down2_f4": lambda g: ops.downsample2d(g["x"], g["f4"]),
    "filter_f4": lambda g: ops.filter2d(g["x"], g["f4"]),
    "gen_u3d2": gen_u3d2,
    "gen_radial_u2d1": lambda g: ops.upfirdn2d(g["x"], g["fr"], up=2, padding=(6, 5, 5, 6), gain=4),
    "flrelu_u2d2": flrelu_u2d2,
    "flrelu_u4d2_radial": flrelu_u4d2_radial,
} | {
    f"bias_act_{act}": lambda g, act=act: ops.bias_act(g["x"], g["b"], act=act, gain=1.5, clamp=0.9)
    for act in ops.ACTIVATIONS
}


BACKENDS = [pytest.param(n, marks=pytest.mark.slow) if n == "cuda" else n for n in dispatch.names()]
"""Triton's interpreter, which stands in for a GPU, is slow."""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_matches(name, backend, golden):
    with ops.use_backend(backend):
        result = CASES[name](golden)
    expected = golden[name]
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= 1e-5 * max(expected.abs().max().item(), 1.0)


def test_every_golden_array_is_tested(golden):
    assert set(golden) - set(CASES) == {"x", "b", "f4", "f12", "fr"}


def test_setup_filter(golden):
    assert torch.equal(ops.setup_filter([1, 3, 3, 1]), golden["f4"])
    assert ops.setup_filter([1.0] * 8).shape == (8,)  # long filters stay one-dimensional
    assert ops.setup_filter([1, 2], normalize=False, gain=3.0).tolist() == [[3.0, 6.0], [6.0, 12.0]]
