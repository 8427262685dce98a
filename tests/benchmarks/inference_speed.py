"""Seconds per image on the CPU, ours against the official implementation's, same weights, one process, by turns.

    python tests/benchmarks/inference_speed.py --official DIR [--quick] [--cpu-time] [--out FILE.json]

DIR is a checkout of NVlabs/stylegan3. Everything is float32, batch 1. Both are timed twice: with the C library's
allocator as it is, and told to keep freed memory (`mssg.ops.keep_freed_memory`), which is how our explorer runs.
Errors are the largest difference from float64 over the image's largest value. Beside the ratios: arithmetic per
second of the convolutions (as a direct convolution would need it) beside what a large matrix product reaches here, the
least memory traffic beside what a large copy reaches, and the growth of peak memory by the first image.
--sweep DIR instead draws cost against resolution, batch and threads (`cost.png`, `cost.json`); it needs no --official.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from training_speed import stand_in

from mssg import ops
from mssg.networks import Generator, GeneratorConfig, build_generator

Clock = Callable[[], float]


@dataclass(frozen=True)
class Case:
    """A network, a backend, and the targets: ratio as it is, ratio with the allocator tuned, error, seconds."""

    kind: str
    pixels: int
    backend: str
    ratio: float
    tuned_ratio: float = 0.0
    error: float = 1e-5
    seconds: float = float("inf")
    base: int = 16384
    widest: int = 512

    @property
    def name(self) -> str:
        return f"{self.kind} {self.pixels}² {self.backend}"


CASES = [
    Case("stylegan3-t", 256, "native", 14, 8),
    Case("stylegan3-t", 256, "native-exact", 9, 3.5, 5e-6),
    Case("stylegan3-t", 256, "torch", 4),
    Case("stylegan3-t", 128, "native", 10),
    Case("stylegan3-t", 64, "native", 8, seconds=0.03, base=4096, widest=128),
    Case("stylegan3-r", 128, "native", 15, base=32768, widest=1024),
    Case("stylegan2", 128, "native", 1.5, 1.5),
    Case("stylegan2", 256, "native", 1.5, 1.5),
]


def build(case: Case) -> Generator:
    """Our network of a case with random weights and styles that differ from channel to channel."""
    torch.manual_seed(1)
    config = GeneratorConfig(
        kind=case.kind, img_resolution=case.pixels, img_channels=3, channel_base=case.base, channel_max=case.widest
    )  # fmt: skip
    return build_generator(config).eval().requires_grad_(False)


def official(case: Case, ours: Generator) -> torch.nn.Module:
    """The official network with our weights: its parameters have the same names. Its folder must be on sys.path."""
    common = {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": case.pixels, "img_channels": 3}
    common |= {"channel_base": case.base, "channel_max": case.widest, "num_fp16_res": 0, "conv_clamp": 256}
    if case.kind == "stylegan2":
        from training.networks_stylegan2 import Generator as Official
    else:
        from training.networks_stylegan3 import Generator as Official

        common["mapping_kwargs"] = {"num_layers": 2}
        if case.kind == "stylegan3-r":
            common |= {"conv_kernel": 1, "use_radial_filters": True}
    network = Official(**common).eval().requires_grad_(False)
    missing = network.load_state_dict(ours.state_dict(), strict=False)
    wrong = [key for key in (*missing.missing_keys, *missing.unexpected_keys) if not key.endswith("filter")]
    assert not wrong, wrong
    return network


def seconds(draw: Callable[[], object], clock: Clock) -> float:
    start = clock()
    draw()
    return clock() - start


def by_turns(draws: list[Callable[[], object]], turns: int, clock: Clock) -> list[float]:
    """Median seconds of each, taken in turns after one turn of warming up."""
    taken = [[seconds(draw, clock) for draw in draws] for _ in range(turns + 1)][1:]
    return [statistics.median(column) for column in zip(*taken)]


def convolution_work(network: Generator, ws: torch.Tensor) -> tuple[float, float]:
    """GFLOP of all convolutions done directly, and GB that must at least move: weights, inputs and outputs once."""
    flops, floats = 0.0, 0.0

    def count(module, inputs, output) -> None:
        nonlocal flops, floats
        x, y, w = inputs[0], output, module.weight
        pixels = max(x.shape[2] * x.shape[3], y.shape[2] * y.shape[3] // getattr(module, "up", 1) ** 2)
        flops += 2 * pixels * w.numel()
        floats += w.numel() + x.numel() + y.numel()

    layers = [m for m in network.synthesis.modules() if hasattr(m, "affine") and hasattr(m, "bias")]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    network.synthesis(ws)
    for hook in hooks:
        hook.remove()
    return flops / 1e9, floats * 4 / 1e9


def machine(clock: Clock) -> dict[str, float]:
    """What a large matrix product and a large copy reach here, best of five."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    x, y = torch.ones(1 << 25), torch.ones(1 << 25)
    product = min(seconds(lambda: torch.mm(a, b), clock) for _ in range(5))
    copy = min(seconds(lambda: y.copy_(x), clock) for _ in range(5))
    return {"gflops": 2 * 2048**3 / product / 1e9, "gb_per_s": 2 * 4 * x.numel() / copy / 1e9}


def measure(
    case: Case, arguments: argparse.Namespace, clock: Clock, peak: dict[str, float]
) -> dict[str, object]:
    """Times, ratios and errors of one case."""
    ours = build(case)
    theirs = official(case, ours)
    ws = torch.randn(1, ours.num_ws, 512)

    def draw() -> torch.Tensor:
        with ops.use_backend(case.backend):
            return ours.synthesis(ws)

    kind = {} if case.kind != "stylegan2" else {"noise_mode": "const"}
    draws = [lambda: theirs.synthesis(ws, **kind), draw]
    with torch.inference_mode():
        gflop, gigabytes = convolution_work(ours, ws)
        with ops.use_backend("torch"):
            expected = build(case).double().synthesis(ws.double())
        size = expected.abs().max()
        error, official_error = (((d() - expected).abs().max() / size).item() for d in (draw, draws[0]))
        turns = 1 if arguments.quick else 3
        times = {"as it is": by_turns(draws, turns, clock)}
    return {
        "case": case, "times": times, "draws": draws, "error": error, "official_error": official_error,
        "gflop": gflop, "gb": gigabytes, "turns": turns,
    }  # fmt: skip


def report(found: dict, peak: dict[str, float]) -> dict[str, object]:
    case, times = found["case"], found["times"]
    ratios = {kind: theirs / ours for kind, (theirs, ours) in times.items()}
    ours = min(t[1] for t in times.values())
    wanted = {"as it is": case.ratio, "tuned": case.tuned_ratio}
    fine = (
        all(ratios[k] >= wanted[k] for k in ratios) and found["error"] <= case.error and ours <= case.seconds
    )
    for kind, (theirs, mine) in times.items():
        print(f"{case.name:28s} {kind:9s} official {theirs:7.3f} s   ours {mine:7.3f} s   "
              f"ratio {ratios[kind]:5.1f} (target {wanted[kind]:g})", flush=True)  # fmt: skip
    speed, traffic = found["gflop"] / ours, found["gb"] / ours
    print(f"{'':28s} error {found['error']:.1e} (target {case.error:.0e}; official {found['official_error']:.1e})   "
          f"{speed:.0f} GFLOP/s of direct convolution (matrix product {peak['gflops']:.0f})   at least "
          f"{traffic:.1f} GB/s (copy {peak['gb_per_s']:.1f})   {'ok' if fine else 'BELOW'}", flush=True)  # fmt: skip
    return {
        "case": case.name, "seconds": times, "ratios": ratios, "targets": wanted, "error": found["error"],
        "official_error": found["official_error"], "gflops": speed, "least_gb_per_s": traffic, "ok": fine,
    }  # fmt: skip


def first_image(which: str, folder: Path | None) -> None:
    """Print by how many MiB this process's peak grows for one image; run in a process of its own."""
    case = CASES[0]
    network: torch.nn.Module = build(case)
    if which == "official":
        network = official(case, build(case))
    ws = torch.randn(1, network.num_ws, 512)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.inference_mode(), ops.use_backend("native" if which == "ours" else "torch"):
        network.synthesis(ws)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Growth of peak memory by the first image, MiB, of both."""
    out = {}
    for which in ("official", "ours"):
        command = [sys.executable, __file__, "--official", str(arguments.official), "--first-image", which]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        out[which] = float(done.stdout.split()[-1])
    print(
        f"peak memory of the first image, {CASES[0].name}: official {out['official']:.0f} MiB, ours {out['ours']:.0f} MiB"
    )
    return out


def sweep(folder: Path, clock: Clock, quick: bool) -> None:
    """Cost of StyleGAN3-T against resolution, batch and threads, as a plot and as numbers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    def cost(pixels: int, batch: int, threads: int, backend: str) -> float:
        torch.set_num_threads(threads)
        network = build(Case("stylegan3-t", pixels, backend, 0, base=4096, widest=128))
        ws = torch.randn(batch, network.num_ws, 512)
        with torch.inference_mode(), ops.use_backend(backend):
            (taken,) = by_turns([lambda: network.synthesis(ws)], 1 if quick else 3, clock)
        return taken / batch

    threads = torch.get_num_threads()
    sizes = [64, 128, 256, 512] if quick else [64, 128, 256, 512, 1024]
    lines: dict[str, dict[str, list]] = {"resolution": {}, "batch": {}, "threads": {}}
    for backend in ("native", "native-exact", "torch"):
        lines["resolution"][backend] = [(n, cost(n, 1, threads, backend)) for n in sizes]
        lines["batch"][backend] = [(n, cost(64, n, threads, backend)) for n in (1, 2, 4, 8, 16)]
        lines["threads"][backend] = [(n, cost(128, 1, n, backend)) for n in range(1, threads + 1)]
    torch.set_num_threads(threads)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), constrained_layout=True)
    titles = {"resolution": "pixels (batch 1)", "batch": "batch (64²)", "threads": "threads (128²)"}
    for axis, (what, by_backend) in zip(axes, lines.items()):
        for backend, points in by_backend.items():
            axis.plot(*zip(*points), marker="o", label=backend)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel(titles[what])
        axis.set_ylabel("seconds an image")
    axes[0].legend()
    figure.suptitle("StyleGAN3-T, channel_base 4096, channel_max 128, float32 on the CPU")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "cost.png", dpi=110)
    (folder / "cost.json").write_text(json.dumps(lines, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", type=Path, help="a checkout of NVlabs/stylegan3")
    parser.add_argument("--quick", action="store_true", help="one turn instead of three")
    parser.add_argument(
        "--cases", nargs="+", default=[c.name for c in CASES], metavar="NAME", help="some cases only"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor seconds per thread, for a busy machine"
    )
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--sweep", type=Path, metavar="DIR", help="draw cost curves into DIR instead")
    parser.add_argument("--first-image", choices=["ours", "official"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock: Clock = time.perf_counter
    if arguments.cpu_time:
        clock = lambda: time.process_time() / arguments.threads  # noqa: E731
    if arguments.sweep:
        return sweep(arguments.sweep, clock, arguments.quick)
    if arguments.official is None:
        parser.error("--official DIR is needed")
    sys.path.insert(0, str(arguments.official.resolve()))
    stand_in("requests"), stand_in("pkg_resources", parse_version=torch.torch_version.TorchVersion)
    if arguments.first_image:
        return first_image(arguments.first_image, arguments.official)
    peak = machine(clock)
    used = memory(arguments)
    found = [measure(case, arguments, clock, peak) for case in CASES if case.name in arguments.cases]
    ops.keep_freed_memory()  # cannot be undone: every case as it is comes first
    results = []
    for one in found:
        with torch.inference_mode():
            one["times"]["tuned"] = by_turns(one.pop("draws"), one["turns"], clock)
        results.append(report(one, peak))
    if arguments.out:
        head = {
            "command": " ".join(["python", *sys.argv]),
            "torch": torch.__version__,
            "threads": arguments.threads,
        }
        head |= {"machine": peak, "peak_memory_mib": used, "variant": native_variant()}
        arguments.out.write_text(json.dumps(head | {"results": results}, indent=1) + "\n")


def native_variant() -> str:
    from mssg.ops.native import library

    return library.variant()


if __name__ == "__main__":
    main()
