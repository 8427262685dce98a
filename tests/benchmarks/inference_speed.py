"""Seconds per image on the CPU, ours against the official implementation's, same weights, each case its own
process.

    python tests/benchmarks/inference_speed.py --official DIR --out FILE.json [--quick] [--case NAME …]
    [--cpu-time]

DIR is a checkout of NVlabs/stylegan3. Everything is float32, batch 1, the least of several images after one
that warms up. Both are timed twice: with the C library's allocator as it is, and told to keep freed memory
(`mssg.ops.keep_freed_memory`), which is how our explorer runs. Printed are seconds by the wall clock and
(processor seconds per thread); on a quiet machine the two agree. Ratios are of the first, with --cpu-time of
the second. Errors are the largest difference from float64 over the image's largest value. Beside the ratios:
arithmetic per second of the convolutions (as a direct convolution would need it) beside what a large matrix
product reaches here, the least memory traffic beside what a large copy reaches, and the growth of peak memory
by the first image.

Each finished case is written to FILE.json at once; the same command goes on where it was interrupted, and
measures again only the cases named with --case. --sweep DIR instead draws cost against resolution, batch and
threads (`cost.png`, `cost.json`); it needs no --official.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from training_speed import stand_in

from mssg.networks.config import GeneratorConfig
from mssg.networks.generator import Generator, build_generator
from mssg.ops import functional as ops
from mssg.ops.native import library

Clock = Callable[[], float]
Times = tuple[float, float]  # by the wall clock; of the processor, per thread


@dataclass(frozen=True)
class Case:
    """A network, a backend, and the targets: ratio as it is, ratio with the allocator tuned, error,
    seconds."""

    kind: str
    pixels: int
    backend: str
    ratio: float
    tuned_ratio: float = 0.0
    error: float = 1e-5
    seconds: float = 60.0
    base: int = 16384
    widest: int = 512

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.pixels}-{self.backend}"


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
        kind=case.kind,
        img_resolution=case.pixels,
        img_channels=3,
        channel_base=case.base,
        channel_max=case.widest,
    )
    return build_generator(config).eval().requires_grad_(False)


def official(case: Case, ours: Generator) -> torch.nn.Module:
    """The official network with our weights: its parameters have the same names. Its folder must be on
    sys.path."""
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


def least(draw: Callable[[], object], images: int) -> Times:
    """Least wall and least processor seconds of so many images: fewer past five seconds, more within half a
    second."""
    wall: list[float] = []
    processor: list[float] = []
    while not wall or (len(wall) < images and sum(wall) < 5) or (len(wall) < 20 and sum(wall) < 0.5):
        before = process_clock()
        wall.append(seconds(draw, time.perf_counter))
        processor.append(process_clock() - before)
    return min(wall), min(processor)


def convolution_work(network: Generator, ws: torch.Tensor) -> tuple[float, float]:
    """GFLOP of all convolutions done directly, and GB that must at least move: weights, inputs and outputs
    once."""
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


def process_clock() -> float:
    return time.process_time() / torch.get_num_threads()


def machine(clock: Clock) -> dict[str, float]:
    """What a large matrix product and a large copy reach here, best of five."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    x, y = torch.ones(1 << 25), torch.ones(1 << 25)
    product = min(seconds(lambda: torch.mm(a, b), clock) for _ in range(5))
    copy = min(seconds(lambda: y.copy_(x), clock) for _ in range(5))
    return {"gflops": 2 * 2048**3 / product / 1e9, "gb_per_s": 2 * 4 * x.numel() / copy / 1e9}


def measure(case: Case, images: int, cpu_time: bool) -> dict[str, object]:
    """Times, ratios and errors of one case. Tunes this process's allocator, which cannot be undone."""
    peak = machine(process_clock if cpu_time else time.perf_counter)
    ours = build(case)
    theirs = official(case, ours)
    ws = torch.randn(1, ours.num_ws, 512)
    kind = {} if case.kind != "stylegan2" else {"noise_mode": "const"}

    def draw() -> torch.Tensor:
        with ops.use_backend(case.backend):
            return ours.synthesis(ws)

    def draw_theirs() -> torch.Tensor:
        return theirs.synthesis(ws, **kind)

    with torch.inference_mode():
        gflop, gigabytes = convolution_work(ours, ws)
        with ops.use_backend("torch"):
            expected = build(case).double().synthesis(ws.double())
        size = expected.abs().max()
        error, official_error = (((d() - expected).abs().max() / size).item() for d in (draw, draw_theirs))
        times = {"as it is": (least(draw_theirs, images), least(draw, images))}
        ops.keep_freed_memory()
        draw(), draw_theirs()
        times["tuned"] = (least(draw_theirs, images), least(draw, images))
    which = int(cpu_time)
    ratios = {setting: theirs[which] / ours[which] for setting, (theirs, ours) in times.items()}
    targets = {"as it is": case.ratio, "tuned": case.tuned_ratio}
    fastest = min(ours[which] for _, ours in times.values())
    fine = error <= case.error and fastest <= case.seconds and all(ratios[k] >= targets[k] for k in ratios)
    return {
        "case": case.name,
        "seconds": times,
        "ratios": ratios,
        "targets": targets,
        "most_seconds": case.seconds,
        "error": error,
        "most_error": case.error,
        "official_error": official_error,
        "gflops": gflop / fastest,
        "least_gb_per_s": gigabytes / fastest,
        "machine": peak,
        "ok": fine,
    }


def report(found: dict) -> None:
    """Print one case."""
    for setting, (theirs, ours) in found["seconds"].items():
        print(
            f"{found['case']:24s} {setting:9s} official {theirs[0]:7.3f} s ({theirs[1]:.3f})   "
            f"ours {ours[0]:7.3f} s ({ours[1]:.3f})   ratio "
            f"{found['ratios'][setting]:5.1f} (target {found['targets'][setting]:g})",
            flush=True,
        )
    print(
        f"{'':24s} error {found['error']:.1e} (at most {found['most_error']:.0e}; official"
        f" {found['official_error']:.1e})   {found['gflops']:.0f} GFLOP/s of direct convolution (matrix"
        f" product {found['machine']['gflops']:.0f})   at least {found['least_gb_per_s']:.1f} GB/s (copy"
        f" {found['machine']['gb_per_s']:.1f})   {'ok' if found['ok'] else 'BELOW'}",
        flush=True,
    )


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


def own_process(arguments: argparse.Namespace, *more: str) -> str:
    """The last line that this script prints in a process of its own."""
    command = [
        sys.executable,
        __file__,
        f"--official={arguments.official}",
        f"--threads={arguments.threads}",
        *more,
    ]
    command += ["--quick"] * arguments.quick + ["--cpu-time"] * arguments.cpu_time
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]


def memory(arguments: argparse.Namespace) -> dict[str, float]:
    """Growth of peak memory by the first image, MiB, of both."""
    out = {which: float(own_process(arguments, "--first-image", which)) for which in ("official", "ours")}
    print(
        f"peak memory of the first image, {CASES[0].name}: official {out['official']:.0f} MiB, "
        f"ours {out['ours']:.0f} MiB",
        flush=True,
    )
    return out


def compare(arguments: argparse.Namespace) -> None:
    """Every case that the results lack, or those named; the results are complete after each."""
    conditions = {
        "command": (
            "python tests/benchmarks/inference_speed.py --official DIR"
            + " --quick" * arguments.quick
            + " --cpu-time" * arguments.cpu_time
        ),
        "torch": torch.__version__,
        "threads": arguments.threads,
        "variant": library.variant(),
        "seconds": (
            "of each setting: the official's, ours; of each: by the wall clock, of the processor per thread"
        ),
    }
    known: dict = {"conditions": conditions, "peak_memory_mib": None, "results": {}}
    if arguments.out and arguments.out.exists():
        earlier = json.loads(arguments.out.read_text())
        if earlier["conditions"] == conditions:
            known = earlier
        else:
            print(f"{arguments.out} was measured otherwise: everything anew", flush=True)
    for case in CASES:
        if case.name in (arguments.case or [c.name for c in CASES if c.name not in known["results"]]):
            known["results"][case.name] = json.loads(own_process(arguments, "--alone", case.name))
            save(known, arguments.out)
        if case.name in known["results"]:
            report(known["results"][case.name])
    if known["peak_memory_mib"] is None:
        known["peak_memory_mib"] = memory(arguments)
        save(known, arguments.out)


def save(known: dict, out: Path | None) -> None:
    if out:
        unfinished = out.with_suffix(".tmp")
        unfinished.write_text(json.dumps(known, indent=1) + "\n")
        unfinished.replace(out)


def sweep(folder: Path, cpu_time: bool, quick: bool) -> None:
    """Cost of StyleGAN3-T against resolution, batch and threads, as a plot and as numbers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    def cost(pixels: int, batch: int, threads: int, backend: str) -> float:
        torch.set_num_threads(threads)
        network = build(Case("stylegan3-t", pixels, backend, 0, base=4096, widest=128))
        ws = torch.randn(batch, network.num_ws, 512)
        with torch.inference_mode(), ops.use_backend(backend):
            network.synthesis(ws)
            taken = least(lambda: network.synthesis(ws), 2 if quick else 10)[cpu_time]
        return taken / batch

    threads = torch.get_num_threads()
    sizes = [64, 128, 256, 512] if quick else [64, 128, 256, 512, 1024]
    lines: dict[str, dict[str, list]] = {"resolution": {}, "batch": {}, "threads": {}}
    for backend in ("native", "native-exact", "torch"):
        lines["resolution"][backend] = [(n, cost(n, 1, threads, backend)) for n in sizes]
        lines["batch"][backend] = [(n, cost(64, n, threads, backend)) for n in (1, 2, 4, 8, 16)]
        lines["threads"][backend] = [(n, cost(128, 1, n, backend)) for n in range(1, threads + 1)]
    torch.set_num_threads(threads)
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), sharey=True, constrained_layout=True)
    titles = {"resolution": "pixels (batch 1)", "batch": "batch (64²)", "threads": "threads (128²)"}
    for axis, (what, by_backend) in zip(axes, lines.items()):
        for backend, points in by_backend.items():
            axis.plot(*zip(*[(n, 1000 * cost) for n, cost in points]), marker="o", label=backend)
        axis.set_xscale("log", base=2)
        axis.set_xticks([n for n, _ in points], [str(n) for n, _ in points], minor=False)
        axis.set_yscale("log")
        axis.grid(which="both", alpha=0.25)
        axis.set_xlabel(titles[what])
    marks = [20, 50, 100, 200, 500, 1000]
    axes[0].set_yticks(marks, [str(mark) for mark in marks])
    axes[0].yaxis.set_minor_formatter("")
    axes[0].set_ylabel("ms an image")
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
    parser.add_argument("--quick", action="store_true", help="at least 2 images instead of 4")
    names = [case.name for case in CASES]
    parser.add_argument(
        "--case", nargs="+", choices=names, metavar="NAME", help=f"only these of {', '.join(names)}"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time", action="store_true", help="ratios of processor seconds, for a busy machine"
    )
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    parser.add_argument("--sweep", type=Path, metavar="DIR", help="draw cost curves into DIR instead")
    parser.add_argument("--alone", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--first-image", choices=["ours", "official"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.sweep:
        return sweep(arguments.sweep, arguments.cpu_time, arguments.quick)
    if arguments.official is None:
        parser.error("--official DIR is needed")
    sys.path.insert(0, str(arguments.official.resolve()))
    stand_in("requests"), stand_in("pkg_resources", parse_version=torch.torch_version.TorchVersion)
    if arguments.first_image:
        return first_image(arguments.first_image, arguments.official)
    if arguments.alone:
        (case,) = (c for c in CASES if c.name == arguments.alone)
        print(json.dumps(measure(case, 2 if arguments.quick else 4, arguments.cpu_time)))
        return None
    return compare(arguments)


if __name__ == "__main__":
    main()
