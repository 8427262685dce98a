"""Everything that runs on a GPU, checked and timed there in under ten minutes: `make cuda`.

    python tests/benchmarks/gpu_checks.py [--official DIR] [--out FILE.json]

Every Triton kernel with its gradients against the definitions in float64, StyleGAN3-T and -R at 256² (images
in float32 and float16, gradients and phases of training), and a picture as the explorer asks for it, on the
GPU beside the CPU. DIR is a checkout of NVlabs/stylegan3: its images and phases are then timed beside ours.

The results go to docs/results/cuda.json, with the device's name. Without a GPU the same command runs what
Triton's interpreter can, lists what did not run, and writes cuda-interpreter.json instead, whose device is
null. The file is complete after each check. No check starts after seven minutes. Exit status 1: one failed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

os.environ["TRITON_INTERPRET"] = "0" if torch.cuda.is_available() else "1"  # before anything imports Triton

import triton
from inference_speed import Case, build, official, save
from kernel_cases import CASES, LIMITS, kernel_errors, relative_error
from training_speed import Phases, ours, stand_in, training_case
from training_speed import official as official_phases

from mssg.checkpoint.snapshot import load_snapshot
from mssg.networks.generator import Generator
from mssg.networks.layers import SynthesisInputs, run
from mssg.ops import functional as ops
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest
from mssg.training import step

RESULTS = Path(__file__).parents[2] / "docs" / "results"
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
LAST_START_S = 420
IMAGE_LIMITS = {"float32": 1e-4, "float16": 0.05}  # of the largest value of the image in float64
GRADIENT_LIMIT = 0.01  # relative; rounding decides the sign of a few samples, and so their derivative
EXPLORER_LIMIT = 2  # of 255 grey values, float32 on the GPU against the CPU
BATCHES = (1, 8)
FULL = {  # the networks of the papers
    "stylegan3-t": Case("stylegan3-t", 256, "cuda", 0),
    "stylegan3-r": Case("stylegan3-r", 256, "cuda", 0, base=32768, widest=1024),
}
SMALL = {k: Case(k, 32, "cuda", 0, base=32, widest=2) for k in FULL}  # for the interpreter
Figures = dict[str, object]


@dataclass(frozen=True)
class Check:
    """Something to find out; `run` gives the figures, with "ok" among them."""

    name: str
    run: Callable[[], Figures]
    needs_gpu: bool = True


def synchronise() -> None:
    if GPU:
        torch.cuda.synchronize()


def median_ms(call: Callable[[], object], times: int = 7) -> float:
    """Of one call, after one that warms up."""
    call()
    taken = []
    for _ in range(times):
        synchronise()
        start = time.perf_counter()
        call()
        synchronise()
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)


def kernel(name: str, dtype: torch.dtype) -> Figures:
    """A kernel's case against the definition."""
    errors = kernel_errors(CASES[name], DEVICE, dtype)
    return {"ok": max(errors.values()) < LIMITS[dtype], "limit": LIMITS[dtype], "relative_errors": errors}


def draw(network: Generator, ws: torch.Tensor, precision: str) -> torch.Tensor:
    """The network's image, in float32 throughout or in float16 where it is built for that."""
    return run(network.synthesis.layers(ws, SynthesisInputs(full_precision=precision == "float32")))


def official_image(case: Case, network: Generator, ws: torch.Tensor, truth: torch.Tensor) -> Figures:
    """Error and time of the official network with our weights, float32."""
    theirs = official(case, network).to(DEVICE)
    error = ((theirs.synthesis(ws) - truth).abs().max() / truth.abs().max()).item()
    times = {n: median_ms(partial(theirs.synthesis, ws.expand(n, -1, -1))) / n for n in BATCHES}
    return {"error": error, "ms_per_image": times}


@torch.inference_mode()
def images(case: Case, rival: bool) -> Figures:
    """An image of random weights against float64; milliseconds an image by precision, backend and batch."""
    network = build(case).to(DEVICE)
    ws = torch.randn(1, network.num_ws, 512, device=DEVICE)
    with ops.use_backend("torch"):
        truth = draw(build(case).double().to(DEVICE), ws.double(), "float32")
    found: Figures = {"limits": IMAGE_LIMITS}
    errors, times = {}, {}
    for precision in ("float32", "float16") if GPU else ("float32",):
        with torch.backends.cudnn.flags(allow_tf32=False), ops.use_backend("cuda"):
            image = draw(network, ws, precision)
        errors[precision] = ((image - truth).abs().max() / truth.abs().max()).item()
        for backend in ("cuda", "torch") if GPU else ():
            with ops.use_backend(backend):
                calls = {n: partial(draw, network, ws.expand(n, -1, -1), precision) for n in BATCHES}
                times[f"{precision} {backend}"] = {n: median_ms(call) / n for n, call in calls.items()}
    if rival:
        found["official float32"] = attempted(partial(official_image, case, network, ws, truth))
    return found | {
        "ok": all(error <= IMAGE_LIMITS[precision] for precision, error in errors.items()),
        "errors": errors,
        "ms_per_image": times,
    }


class _Collect(torch.optim.SGD):
    """Keeps the gradient that it is given, and leaves the weights as they are."""

    def step(self) -> None:
        """Instead of a step."""
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.gradient = torch.cat([p.grad.double().flatten() for p in weights])


def gradients(case: Case, backend: str) -> dict[str, torch.Tensor]:
    """The gradients that the phases of a training step hand to the optimisers, float32, batch 4."""
    torch.manual_seed(0)
    with torch.device(DEVICE):
        sizes = case.kind, case.pixels, case.base, case.widest
        state, batch, setup = training_case(*sizes, batch=4, num_fp16_res=0)
    collect_G, collect_D = _Collect(state.G.parameters(), 1.0), _Collect(state.D.parameters(), 1.0)
    state.opt_G, state.opt_D = collect_G, collect_D
    found = {}
    phases = {
        "G": (step.generator_phase, collect_G),
        "D": (step.discriminator_phase, collect_D),
        "R1": (step.penalty_phase, collect_D),
    }
    with torch.backends.cudnn.flags(allow_tf32=False), ops.use_backend(backend):
        for name, (phase, collect) in phases.items():
            phase(state, batch, setup)
            found[name] = collect.gradient
    return found


def training_gradients(case: Case) -> Figures:
    """Of the losses of G and D and of R1, against the `torch` backend."""
    expected, got = gradients(case, "torch"), gradients(case, "cuda")
    errors = {name: relative_error(got[name], expected[name]) for name in expected}
    return {"ok": max(errors.values()) < GRADIENT_LIMIT, "limit": GRADIENT_LIMIT, "relative_errors": errors}


def phase_times(phases: Callable[..., Phases], case: Case) -> Figures:
    """Milliseconds of each phase of a training step, batch 16, float16 as configured."""
    with torch.device(DEVICE):
        made = phases(case.kind, case.pixels, case.base, case.widest)
    return {name: median_ms(phase, 3) for name, phase in made.items()}


def training_times(case: Case, rival: bool) -> Figures:
    """Our phases on both backends, and the official ones."""
    found: Figures = {}
    for backend in ("cuda", "torch"):
        with ops.use_backend(backend):
            found[f"ms {backend}"] = phase_times(ours, case)
    if rival:
        found["ms official"] = attempted(partial(phase_times, official_phases, case))
    return {"ok": True} | found


def explorer() -> Figures:
    """A picture of the shipped digits as the explorer asks for it, on the GPU beside the CPU."""
    on_gpu, on_cpu = (Renderer(load_snapshot("digits", device)) for device in (DEVICE, "cpu"))
    request = RenderRequest(seed=3, precision="float32")
    picture, expected = on_gpu.render(request), on_cpu.render(request)
    assert picture.image is not None and expected.image is not None, picture.error or expected.error
    difference = 127.5 * float(abs(picture.image - expected.image).max())
    half = on_gpu.render(RenderRequest(seed=3, precision="float16"))
    seeds = iter(range(100, 200))
    drag = median_ms(lambda: on_gpu.render(RenderRequest(seed=next(seeds))), 20)
    return {
        "ok": difference <= EXPLORER_LIMIT and half.error is None,
        "limit": EXPLORER_LIMIT,
        "grey_values_off": difference,
        "float16": half.error or "drawn",
        "ms_per_picture": drag,
    }


def checks(rival: bool) -> list[Check]:
    """All, the quickest and most telling first."""
    kernels = [
        Check(f"kernel: {name}, {str(dtype)[6:]}", partial(kernel, name, dtype), False)
        for name in CASES
        for dtype in LIMITS
    ]
    small = [
        Check(f"image: {kind} {case.pixels}², narrow", partial(images, case, False), False)
        for kind, case in SMALL.items()
    ]
    full = {f"{kind} {case.pixels}²": case for kind, case in FULL.items()}
    return [
        *kernels,
        *([] if GPU else small),
        Check("explorer: a picture on the GPU", explorer),
        *(Check(f"images: {name}", partial(images, case, rival)) for name, case in full.items()),
        *(Check(f"training gradients: {name}", partial(training_gradients, c)) for name, c in full.items()),
        *(Check(f"training times: {name}", partial(training_times, c, rival)) for name, c in full.items()),
    ]


def attempted(find: Callable[[], Figures]) -> Figures:
    """What is found out, or why it is not."""
    try:
        return find()
    except Exception as error:
        traceback.print_exc()
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", type=Path, help="a checkout of NVlabs/stylegan3")
    parser.add_argument("--out", type=Path, help="the file of results, instead of the one above")
    arguments = parser.parse_args()
    if arguments.official:
        sys.path.insert(0, str(arguments.official.resolve()))
        stand_in("requests"), stand_in("pkg_resources", parse_version=torch.torch_version.TorchVersion)
    out = arguments.out or RESULTS / ("cuda.json" if GPU else "cuda-interpreter.json")
    done: dict[str, Figures] = {}
    skipped: dict[str, str] = {}
    report = {
        "command": "python tests/benchmarks/gpu_checks.py" + " --official DIR" * bool(arguments.official),
        "device": torch.cuda.get_device_name() if GPU else None,
        "kernels_run": "on the device" if GPU else "in Triton's interpreter, on the CPU",
        "capability": ".".join(map(str, torch.cuda.get_device_capability())) if GPU else None,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "checks": done,
        "not_run": skipped,
    }
    start = time.monotonic()
    for check in checks(arguments.official is not None):
        if check.needs_gpu and not GPU:
            skipped[check.name] = "needs a GPU"
        elif time.monotonic() - start > LAST_START_S:
            skipped[check.name] = f"{LAST_START_S} s had passed"
        else:
            began = time.monotonic()
            done[check.name] = attempted(check.run)
            verdict = "ok    " if done[check.name]["ok"] else "FAILED"
            print(f"{time.monotonic() - began:6.1f} s  {verdict}  {check.name}", flush=True)
            if GPU:
                torch.cuda.empty_cache()
        save(report | {"seconds": round(time.monotonic() - start)}, out)
    for name, reason in skipped.items():
        print(f"not run: {name}: {reason}")
    print(f"{out}, device: {report['device'] or 'none'}")
    return int(not all(figures["ok"] for figures in done.values()))


if __name__ == "__main__":
    sys.exit(main())
