"""Compile every Triton kernel ahead of time for GPUs that need not be present, and record what each costs.

    python tests/benchmarks/compile_triton.py [--quick] [--out docs/results/triton]

The launches are those of the backend itself: layers of StyleGAN2 and StyleGAN3 run forwards and backwards on
CPU tensors with a recorder in the place of the kernels, and every distinct launch is compiled to a cubin for
compute capability 8.0, 9.0 and 10.0. Registers and spills are what ptxas reports for it. Needs Triton, and no
GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "0"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mssg.networks.filter_design import design_lowpass_filter
from mssg.ops import functional as ops
from mssg.ops import triton_backend
from mssg.ops.specs import ActivationSpec, FilteredLreluSpec

TARGETS = (80, 90, 100)
KERNELS = ("tail_kernel", "upfirdn2d_kernel", "filtered_lrelu_kernel")
_POINTER = {torch.float16: "*fp16", torch.float32: "*fp32"}


class Recorder:
    """Stands where a kernel stood: remembers what it would have been compiled for, and computes nothing."""

    def __init__(self, kernel: triton.JITFunction, seen: dict) -> None:
        self.kernel, self.seen, self.label = kernel, seen, ""

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *args, num_warps: int = 4, num_stages: int = 1) -> None:
        signature, constants, attributes = {}, {}, {}
        for i, (parameter, value) in enumerate(zip(self.kernel.params, args, strict=True)):
            name = parameter.name
            if isinstance(value, torch.Tensor):
                signature[name] = _POINTER[value.dtype]
                attributes[(i,)] = [["tt.divisibility", 16]]
            elif parameter.is_constexpr or value is None or value == 1:
                signature[name], constants[name] = "constexpr", value
            else:
                signature[name] = "i64" if value >= 2**31 else "i32"
                if value % 16 == 0:
                    attributes[(i,)] = [["tt.divisibility", 16]]
        key = repr((self.kernel.__name__, signature, constants, attributes, num_warps))
        self.seen.setdefault(key, (self.label, self.kernel, signature, constants, attributes, num_warps))


def layers(quick: bool):
    """Name, operation and input of every layer whose launches are compiled; filters as the networks design
    them."""
    taps = torch.tensor(design_lowpass_filter(12, 32, 16, 256), dtype=torch.float32)
    long = torch.tensor(design_lowpass_filter(24, 32, 16, 512), dtype=torch.float32)
    radial = torch.tensor(design_lowpass_filter(12, 32, 16, 256, radial=True), dtype=torch.float32)
    f4 = ops.setup_filter([1, 3, 3, 1])
    b, scale = torch.zeros(32), torch.ones(2, 32, 1, 1)
    noise, activation = torch.zeros(1, 1, 84, 84), ActivationSpec("lrelu", 0.2, 2**0.5, 256.0)

    def flrelu(fu, fd, up, down):
        def run(x):
            spec = FilteredLreluSpec(up, down, (10, 9, 10, 9), False, activation)
            return triton_backend.filtered_lrelu(x, b, (fu, fd), spec, scale=scale)

        return run

    def tail(x):
        return triton_backend.tail(x, activation, scale=scale, noise=noise, b=b)

    def smooth(x):
        return ops.bias_act(x, b, act="swish")

    cases = {
        "StyleGAN3-T, up 2, down 2": flrelu(taps, taps, 2, 2),
        "StyleGAN3-T, up 4, down 2": flrelu(long, taps, 4, 2),
        "StyleGAN3-R, up 2, down 2, radial": flrelu(taps, radial, 2, 2),
        "layer tail": tail,
        "upsample": lambda x: ops.upsample2d(x, f4),
        "filter": lambda x: ops.filter2d(x, f4),
        "bias_act, swish": smooth,
    }
    if quick:
        cases = {
            k: v for k, v in cases.items() if k in ("StyleGAN3-T, up 2, down 2", "layer tail", "upsample")
        }
    for name, operation in cases.items():
        for dtype in (torch.float16,) if quick else (torch.float32, torch.float16):
            x = torch.zeros(2, 32, 84, 84, dtype=dtype)
            if dtype == torch.float16:
                x = x.contiguous(memory_format=torch.channels_last)
            yield f"{name}, {str(dtype)[6:]}", operation, x.requires_grad_()


def record(quick: bool) -> list[tuple]:
    """Every distinct launch of the layers, forwards and backwards."""
    seen: dict = {}
    recorders = {name: Recorder(getattr(triton_backend.kernels, name), seen) for name in KERNELS}
    for name, recorder in recorders.items():
        setattr(triton_backend.kernels, name, recorder)
    triton_backend.INTERPRETED = True  # CPU tensors take the kernels' path
    with ops.use_backend("cuda"):
        for label, operation, x in layers(quick):
            for recorder in recorders.values():
                recorder.label = label
            y = operation(x)
            for recorder in recorders.values():
                recorder.label = label + ", backwards"
            torch.autograd.grad(y, x, torch.zeros_like(y))
    return list(seen.values())


def resources(cubin: bytes) -> dict[str, int]:
    """Registers, shared memory and stack (where spilled registers go) of a cubin, by cuobjdump."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    found = dict(re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", done.stdout))
    return {"registers": int(found["REG"]), "stack_bytes": int(found["STACK"]) + int(found["LOCAL"])}


def compile_all(launches: list[tuple], targets: tuple[int, ...]) -> list[dict]:
    """Compile every launch for every target."""
    rows = []
    for label, kernel, signature, constants, attributes, warps in launches:
        for capability in targets:
            source = ASTSource(kernel, signature, constants, attributes)
            start = time.perf_counter()
            compiled = triton.compile(
                source,
                target=GPUTarget("cuda", capability, 32),
                options={"num_warps": warps, "num_stages": 1},
            )
            row = {"kernel": kernel.__name__, "layer": label, "capability": capability / 10, "warps": warps}
            cubin = compiled.asm["cubin"]
            row |= resources(cubin) | {"shared_bytes": compiled.metadata.shared, "cubin_bytes": len(cubin)}
            rows.append(row)
            print(
                f"{time.perf_counter() - start:5.1f} s  " + "  ".join(f"{k} {v}" for k, v in row.items()),
                flush=True,
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="float32 only, the most used layers")
    parser.add_argument(
        "--targets", type=int, nargs="+", default=TARGETS, help="compute capabilities times ten"
    )
    parser.add_argument("--out", type=Path, help="write a JSON with all figures here")
    arguments = parser.parse_args()
    rows = compile_all(record(arguments.quick), tuple(arguments.targets))
    if arguments.out:
        report = {"command": " ".join(["python", *sys.argv]), "triton": triton.__version__, "kernels": rows}
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
