"""Every Triton kernel with its gradients: in the interpreter here, and as compiled where there is a GPU."""

import pytest
import torch
from benchmarks.kernel_cases import CASES, LIMITS, kernel_errors

from mssg.ops import triton_backend

CPU = "cpu"
DEVICES = [pytest.param(CPU, marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.cuda)]


def require(device: str) -> None:
    """Skip, saying why, where the kernels cannot run on a device."""
    if device == CPU and not triton_backend.INTERPRETED:
        pytest.skip("Triton's interpreter is off")
    if device != CPU and not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    if device != CPU and triton_backend.INTERPRETED:
        pytest.skip("Triton's interpreter is on: TRITON_INTERPRET=0 pytest -m cuda")


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("device", DEVICES)
def test_kernels_and_their_gradients(device, name, dtype):
    require(device)
    found = kernel_errors(CASES[name], device, dtype)
    assert max(found.values()) < LIMITS[dtype], found
