"""The Triton kernels beyond the contract: what they are made for, non-finite pixels, compilation, and doing
without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mssg.ops import fast, gpu, triton_backend
from mssg.ops import functional as ops
from mssg.ops.filters import separable_terms

ROOT = Path(__file__).parents[2]
F4 = ops.setup_filter([1, 3, 3, 1])
F12 = ops.setup_filter([1, 2, 4, 6, 8, 9, 9, 8, 6, 4, 2, 1])


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=dtype)


def test_the_interpreter_runs_the_kernels(monkeypatch):
    monkeypatch.setattr(triton_backend.kernels, "upfirdn2d_kernel", {})
    with pytest.raises(KeyError):  # no kernel, no result: nothing serves in its place
        ops.upsample2d(draw(1, 1, 4, 4), F4, backend="cuda")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "layout", "dtype", "tolerance"),
    [
        ((1, 5, 24, 13), torch.contiguous_format, torch.float32, 1e-5),
        ((1, 17, 13, 12), torch.channels_last, torch.float16, 5e-3),
    ],
)
def test_many_tiles_and_many_channels(shape, layout, dtype, tolerance):
    x = draw(*shape).to(dtype).contiguous(memory_format=layout).requires_grad_()
    b, results = draw(shape[1]), []
    for backend, y in (("reference", x.double()), ("cuda", x)):
        y = ops.filtered_lrelu(
            y, F12, F12, b.to(y.dtype), up=2, down=2, padding=(10, 9, 10, 9), clamp=1.0, backend=backend
        )
        results.append((y, torch.autograd.grad(y.sum(), x)[0]))
    for expected, got in zip(*results):
        assert got.dtype == dtype
        error = (
            (got - expected).double().square().mean().sqrt()
        )  # rounding may move single samples past the clamp
        assert error < tolerance * expected.double().square().mean().sqrt()
    assert results[1][0].is_contiguous(memory_format=layout)


def test_a_radial_filter_is_a_sum_of_separable_ones():
    r = torch.hypot(*torch.meshgrid(torch.arange(12) - 5.5, torch.arange(12) - 5.5, indexing="ij"))
    radial = ops.setup_filter(torch.exp(-r / 3))
    assert len(separable_terms(radial)) > 1
    x = draw(1, 2, 20, 18)
    shape = {"up": 2, "down": 2, "padding": 11, "clamp": 1.5}
    expected = ops.filtered_lrelu(x.double(), F12, radial, **shape, backend="reference")
    got = ops.filtered_lrelu(x, F12, radial, **shape, backend="cuda")
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_filter_too_long_for_a_tile_is_left_to_torch():
    x, f = draw(1, 1, 9, 9), torch.ones(150)
    shape = {"padding": 150, "up": 2, "down": 1}
    assert torch.equal(
        ops.upfirdn2d(x, f, **shape, backend="cuda"), ops.upfirdn2d(x, f, **shape, backend="torch")
    )


@pytest.mark.slow
def test_every_kernel_compiles_for_gpus_that_are_not_here():
    command = [sys.executable, ROOT / "tests/benchmarks/compile_triton.py", "--quick"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for kernel in ("tail_kernel", "upfirdn2d_kernel", "filtered_lrelu_kernel"):
        for capability in ("8.0", "9.0", "10.0"):
            lines = [
                line
                for line in done.stdout.splitlines()
                if f"{kernel} " in line and f"y {capability} " in line
            ]
            assert len(lines) == 2, f"{kernel} forwards and backwards for {capability}"
            assert all("cubin_bytes" in line for line in lines)


def test_without_triton_the_torch_backend_serves_and_says_so_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "mssg.ops.triton_backend", None)
    monkeypatch.delattr("mssg.ops.triton_backend")
    gpu.implementation.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="torch backend serves"):
            assert gpu.implementation() is fast.BACKEND
        x = draw(1, 2, 5, 5)  # a second warning would be an error
        assert torch.equal(ops.upsample2d(x, F4, backend="cuda"), ops.upsample2d(x, F4, backend="torch"))
    finally:
        gpu.implementation.cache_clear()


def test_an_old_gpu_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    gpu._new_enough.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"7\.5.*8\.0"):
        assert not gpu._new_enough(0)
    assert not gpu._new_enough(0)
    gpu._new_enough.cache_clear()


def test_cpu_tensors_do_not_come_here_unasked():
    assert not gpu.serves(draw(1, 1, 2, 2))


@pytest.mark.slow
def test_kernels_need_no_home(tmp_path):
    code = "from mssg.ops import gpu; gpu.implementation(); from triton import knobs; print(knobs.cache.dir)"
    place = {"HOME": "/proc/none", "TMPDIR": str(tmp_path)}
    environment = {
        k: v for k, v in os.environ.items() if k not in ("TRITON_CACHE_DIR", "TRITON_HOME")
    } | place
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    assert done.stderr.count("compiled anew") == 1 and not list(tmp_path.iterdir())
