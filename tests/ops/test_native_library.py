"""The native library: that it is there, which of its builds run, who it serves, and that it stays within its
memory."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from native_cases import draw, require_library

from mssg.ops import dispatch
from mssg.ops import functional as ops
from mssg.ops.native import library

SOURCE = Path(library.__file__).parent / "src"
needs_library = pytest.mark.usefixtures("native_library")


def test_a_library_that_was_not_built_is_no_silent_skip(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: "not built")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    with pytest.raises(pytest.fail.Exception, match=r"not built.*compiler, /bin/"):
        require_library()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match=r"not built.*no C\+\+ compiler"):
        require_library()


@needs_library
def test_the_backends_are_registered_together():
    assert {"native", "native-exact", "native-train"} <= set(dispatch.names())


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


@pytest.mark.slow
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


@pytest.mark.slow
@needs_library
@pytest.mark.parametrize("variant", library.VARIANTS)
def test_every_variant_of_this_processor(variant):
    """In a process of its own, since the library is chosen once."""
    if variant not in _usable():  # one that is usable and was not built fails
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
assert type(results[0][0].grad_fn).__name__ == "_ConvolutionOpBackward"
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


@pytest.mark.slow
@needs_library
def test_an_unknown_variant_is_named():
    environment = {**os.environ, library.ENVIRONMENT: "abacus"}
    code = "import mssg.ops.functional"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert "abacus" in said and "plain" in said


@pytest.mark.slow
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
