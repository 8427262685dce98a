"""Seconds per thousand training images, ours against the official implementation's, by turns.

    python tests/benchmarks/training_speed.py --official DIR [--quick] [--out FILE.json]

DIR is a checkout of NVlabs/stylegan3. Both train networks of the same sizes on random images of batch 16 on
the CPU in
float32: a generator and a discriminator phase every step, path lengths (StyleGAN2) every fourth, R1 every
    sixteenth,
Adam and the average of weights. Each lives in a process of its own, as it is run in practice: ours with
`keep_freed_memory`, as `mssg train` sets it, the official as it comes (or with the same setting:
--tune-official). Every phase is timed by itself, official and ours alternating, and a kimg is put together
from the medians. Official phases are its own `accumulate_gradients` and what its training loop does around
it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import json
import multiprocessing
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mssg.losses.covariate import CovariateLoss
from mssg.networks.discriminator import build_discriminator
from mssg.networks.generator import build_generator
from mssg.ops import functional as ops
from mssg.study.schema import from_document
from mssg.study.train_config import TrainConfig
from mssg.training import ema, step
from mssg.training.augment import Augment
from mssg.training.batches import FakeBatch, RealBatch, StepBatch
from mssg.training.distributed import World
from mssg.training.networks import configurations
from mssg.training.state import TrainState, optimisers

BATCH = 16
SHARE = {"G": 1, "D": 1, "path length": 1 / 4, "R1": 1 / 16, "average": 1}  # of steps that run a phase
CASES = {  # name: (architecture, pixels, channel_base, channel_max, target ratio)
    "StyleGAN3-T 32²": ("stylegan3-t", 32, 1024, 64, 5.0),
    "StyleGAN2 32²": ("stylegan2", 32, 1024, 64, 1.5),
    "StyleGAN2 64²": ("stylegan2", 64, 4096, 128, 1.3),
}
Phases = dict[str, Callable[[], object]]


def study(pixels: int):
    """Three covariates and two sources, without data."""
    return from_document(
        {
            "name": "benchmark",
            "image": {"resolution": pixels, "channels": 1},
            "covariates": {
                "age": {"kind": "continuous", "unit": "years", "offset": 0.0, "spread": 1.0},
                "volume": {"kind": "continuous", "unit": "ml", "offset": 0.0, "spread": 1.0},
                "sex": {"kind": "binary"},
            },
            "sources": [
                {"name": "A", "path": "a", "observes": ["age", "sex"]},
                {"name": "B", "path": "b", "observes": ["age", "volume"]},
            ],
        }
    )


def training_case(
    architecture: str, pixels: int, base: int, widest: int, **changes: object
) -> tuple[TrainState, StepBatch, step.TrainSetup]:
    """What a step of ours takes, on torch's default device; changes are fields of the configuration."""
    is_stylegan2 = architecture == "stylegan2"
    usual: dict[str, Any] = {
        "batch": BATCH,
        "gamma": 1.0,
        "lambda_max": 1.0,
        "pl_weight": 2.0 if is_stylegan2 else 0.0,
        "style_mixing": 0.9 if is_stylegan2 else 0.0,
    }
    config = TrainConfig(cfg=architecture, channel_base=base, channel_max=widest, **usual | changes)
    plan = study(pixels)
    g_config, d_config = configurations(plan, config)
    device = torch.get_default_device()
    G, D = (n.train().to(device) for n in (build_generator(g_config), build_discriminator(d_config)))
    average = copy.deepcopy(G).eval().requires_grad_(False)
    opt_G, opt_D = optimisers(G, D, config)
    state = TrainState(
        G=G,
        D=D,
        G_ema=average,
        opt_G=opt_G,
        opt_D=opt_D,
        augment=Augment((), 0.0),
        pl_mean=torch.zeros(()),
        apart=torch.zeros(3),
    )
    setup = step.TrainSetup(config, CovariateLoss(plan), World())
    c = torch.randn(config.batch, plan.layout.width)
    counts, all_rows = torch.full((3,), float(config.batch)), torch.ones(config.batch, 3, dtype=torch.bool)
    fakes = FakeBatch(torch.randn(config.batch, config.z_dim), c, all_rows, counts)
    images = torch.rand(config.batch, 1, pixels, pixels) * 2 - 1
    real = RealBatch(images, c, torch.ones(config.batch, 3, dtype=torch.bool), counts)
    return state, StepBatch(real, fakes, fakes), setup


def ours(architecture: str, pixels: int, base: int, widest: int) -> Phases:
    """Our phases, as `mssg.training.step` calls them."""
    state, batch, setup = training_case(architecture, pixels, base, widest)
    phases: Phases = {
        "G": lambda: step.generator_phase(state, batch, setup),
        "D": lambda: step.discriminator_phase(state, batch, setup),
        "R1": lambda: step.penalty_phase(state, batch, setup),
        "average": lambda: ema.update(state.G_ema, state.G, 0.999),
    }
    if architecture == "stylegan2":
        phases["path length"] = lambda: step.path_length_phase(state, batch, setup)
    return phases


def official(architecture: str, pixels: int, base: int, widest: int) -> Phases:
    """The official phases, as its training loop calls them, on torch's default device; its folder must be on
    sys.path."""
    from training.loss import StyleGAN2Loss
    from training.networks_stylegan2 import Discriminator

    is_stylegan2 = architecture == "stylegan2"
    common = {
        "c_dim": 3,
        "img_resolution": pixels,
        "img_channels": 1,
        "channel_base": base,
        "channel_max": widest,
    }
    device = torch.get_default_device()
    numerics = {"num_fp16_res": 4 if device.type == "cuda" else 0, "conv_clamp": 256}
    if is_stylegan2:
        from training.networks_stylegan2 import Generator

        G = Generator(z_dim=512, w_dim=512, mapping_kwargs={"num_layers": 8}, **common, **numerics)
    else:
        from training.networks_stylegan3 import Generator

        G = Generator(z_dim=512, w_dim=512, mapping_kwargs={"num_layers": 2}, **common, **numerics)
    D = Discriminator(**common, **numerics, epilogue_kwargs={"mbstd_group_size": 4})
    G.train().requires_grad_(False), D.train().requires_grad_(False)
    average = copy.deepcopy(G).eval()
    regularised = {"style_mixing_prob": 0.9, "pl_weight": 2} if is_stylegan2 else {}
    loss = StyleGAN2Loss(device, G, D, r1_gamma=1, **regularised)
    images, c = torch.rand(BATCH, 1, pixels, pixels) * 2 - 1, torch.randn(BATCH, 3)
    z = torch.randn(BATCH, 512)
    optimisers = {m: torch.optim.Adam(m.parameters(), lr=0.002, betas=(0.0, 0.99), eps=1e-8) for m in (G, D)}

    def run(name: str, module: torch.nn.Module, gain: int) -> None:
        optimiser = optimisers[module]
        optimiser.zero_grad(set_to_none=True)
        module.requires_grad_(True)
        loss.accumulate_gradients(name, images, c, z, c, gain, 10**6)
        module.requires_grad_(False)
        weights = [p for p in module.parameters() if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in weights])
        torch.nan_to_num(flat, nan=0, posinf=1e5, neginf=-1e5, out=flat)
        for p, grad in zip(weights, flat.split([p.numel() for p in weights])):
            p.grad = grad.reshape(p.shape)
        optimiser.step()

    @torch.no_grad()
    def keep_average() -> None:
        for kept, new in zip(average.parameters(), G.parameters()):
            kept.copy_(new.lerp(kept, 0.999))
        for kept, new in zip(average.buffers(), G.buffers()):
            kept.copy_(new)

    phases: Phases = {
        "G": lambda: run("Gmain", G, 1),
        "D": lambda: run("Dmain", D, 1),
        "R1": lambda: run("Dreg", D, 16),
        "average": keep_average,
    }
    if is_stylegan2:
        phases["path length"] = lambda: run("Greg", G, 4)
    return phases


def stand_in(module: str, **names: object) -> None:
    """Let `import module` succeed where a package that the official code imports, but does not need here, is
    missing."""
    if importlib.util.find_spec(module) is None:
        sys.modules[module] = types.ModuleType(module)
        vars(sys.modules[module]).update(names)


def serve(connection, rival: str, case: str, arguments: argparse.Namespace) -> None:
    """Run the phases asked for, and answer with the seconds each took. The target of a rival's process."""
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if rival == "ours" or arguments.tune_official:
        ops.keep_freed_memory()
    if rival == "official":
        sys.path.insert(0, str(arguments.official.resolve()))
        stand_in("requests"), stand_in("pkg_resources", parse_version=torch.torch_version.TorchVersion)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    with ops.use_backend(arguments.backend) if arguments.backend else contextlib.nullcontext():
        phases = {"official": official, "ours": ours}[rival](*CASES[case][:4])
        connection.send(list(phases))
        while (phase := connection.recv()) is not None:
            start = clock()
            phases[phase]()
            connection.send(clock() - start)


def measure(case: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Median seconds of every phase of both, by turns, and the ratio per kimg."""
    context, lines, workers = multiprocessing.get_context("spawn"), {}, []
    for rival in ("official", "ours"):
        lines[rival], other = context.Pipe()
        workers.append(context.Process(target=serve, args=(other, rival, case, arguments), daemon=True))
        workers[-1].start()
        other.close()
    names = {rival: line.recv() for rival, line in lines.items()}["ours"]
    seconds: dict[str, dict[str, list[float]]] = {rival: {} for rival in lines}
    for turn in range((2 if arguments.quick else 7) + 1):
        for phase in names:
            for rival, line in lines.items():
                line.send(phase)
                taken = line.recv()
                if turn > 0:  # the first turn warms up
                    seconds[rival].setdefault(phase, []).append(taken)
    for line, worker in zip(lines.values(), workers):
        line.send(None)
        worker.join()
    return summary(case, {r: {p: statistics.median(t) for p, t in s.items()} for r, s in seconds.items()})


def summary(case: str, medians: dict[str, dict[str, float]]) -> dict[str, object]:
    """Put a kimg together, print it, and return what goes into the file."""
    target = CASES[case][4]
    kimg = {r: sum(SHARE[p] * t for p, t in m.items()) * 1000 / BATCH for r, m in medians.items()}
    ratio = kimg["official"] / kimg["ours"]
    print(
        f"{case:16s} official {kimg['official']:7.1f} s/kimg   ours {kimg['ours']:7.1f} s/kimg   "
        f"ratio {ratio:5.2f} (target {target})  {'ok' if ratio >= target else 'BELOW'}",
        flush=True,
    )
    for phase, t in medians["ours"].items():
        o = medians["official"][phase]
        print(f"    {phase:12s} {o:8.4f} s  {t:8.4f} s  {o / t:5.2f}", flush=True)
    return {"case": case, "target": target, "ratio": ratio, "s_per_kimg": kimg, "phases": medians}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--official", type=Path, required=True, help="a checkout of NVlabs/stylegan3")
    parser.add_argument("--quick", action="store_true", help="two turns instead of seven")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend", help="force a backend of mssg.ops")
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor instead of wall time, for a busy machine"
    )
    parser.add_argument(
        "--tune-official", action="store_true", help="keep freed memory in the official process too"
    )
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    results = [measure(case, arguments) for case in arguments.cases]
    if arguments.out:
        report = {"command": " ".join(["python", *sys.argv]), "torch": torch.__version__}
        report |= {"threads": arguments.threads, "clock": "processor" if arguments.cpu_time else "wall"}
        arguments.out.write_text(json.dumps(report | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
