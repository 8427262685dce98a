"""StyleGAN3's preview against the full picture: milliseconds, and how close it looks.

    python tests/benchmarks/preview.py cost [--threads N]
    python tests/benchmarks/preview.py closeness FILE.safetensors [--kind stylegan3-r] [--minutes M] [--sheet
    FILE.png]

`cost`: random weights, float32 on the CPU, batch 1, the least of several images; each case in a process of
    its own. The
first preview also fits filters and kernels; memory is what it makes the process grow by, behind a full
picture.

`closeness` needs a network that has learnt something. Where FILE is not there yet, it is made: a small
StyleGAN3 64² that redraws the shipped brain's pictures from the same w (half an hour on one core; training
stops after M minutes). Then 64 pictures are compared with their previews, enlarged as the explorer enlarges
them: root mean square of the difference (black -1, white 1) everywhere, on the outer eighth and inside of it,
    and SSIM; beside them what else would be quick.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from explorer_app.engine import _enlarged
from mssg import assets
from mssg.checkpoint.snapshot import load_snapshot
from mssg.metrics.pairwise import ssim
from mssg.networks.config import GeneratorConfig
from mssg.networks.generator import Generator, build_generator
from mssg.networks.preview import preview_network

COSTS = {  # as in inference_speed.py: kind, pixels, channel_base, channel_max
    "StyleGAN3-T 64²": ("stylegan3-t", 64, 4096, 128),
    "StyleGAN3-T 128²": ("stylegan3-t", 128, 16384, 512),
    "StyleGAN3-T 256²": ("stylegan3-t", 256, 16384, 512),
    "StyleGAN3-R 128²": ("stylegan3-r", 128, 32768, 1024),
}
WIDTHS = {"stylegan3-t": (1024, 48), "stylegan3-r": (1024, 96)}
BATCH, LEARNING_RATE, COMPARED = 4, 2.5e-3, 64
Draw = Callable[[torch.Tensor], torch.Tensor]


def milliseconds(draw: Callable[[], object], images: int = 6) -> tuple[float, float]:
    """Of the first image; the least of those after it."""
    times = []
    for _ in range(images + 1):
        start = time.perf_counter()
        draw()
        times.append((time.perf_counter() - start) * 1e3)
    return times[0], min(times[1:])


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def cost(case: str, threads: int) -> str:
    """One row of the table."""
    torch.set_num_threads(threads)
    kind, pixels, base, widest = COSTS[case]
    torch.manual_seed(1)
    G = build_generator(
        GeneratorConfig(kind, img_resolution=pixels, img_channels=3, channel_base=base, channel_max=widest)
    )
    G.eval().requires_grad_(False)
    ws = torch.randn(1, G.num_ws, G.w_dim)
    with torch.inference_mode():
        _, full = milliseconds(lambda: G.synthesis(ws))
        before, start = resident_mib(), time.perf_counter()
        network = preview_network(G.synthesis)
        assert network is not None
        built = (time.perf_counter() - start) * 1e3
        first, quick = milliseconds(lambda: network(ws))
        grown = resident_mib() - before
    return f"| {case} | {full:.0f} | {quick:.0f} | {quick / full:.2f} | {built + first:.0f} | {grown:.0f} |"


def redrawn(kind: str, minutes: float) -> Generator:
    """A StyleGAN3 fitted to the shipped brain: same mapping network, pictures as near as they get in so many
    minutes."""
    teacher = load_snapshot(assets.path("snapshots/brain.safetensors")).G
    base, widest = WIDTHS[kind]
    torch.manual_seed(0)
    changes = {"kind": kind, "channel_base": base, "channel_max": widest, "magnitude_ema_beta": 0.98}
    wanted = replace(teacher.config, **changes, conv_kernel=None, radial_filters=None, conv_clamp=256.0)
    G = build_generator(wanted)
    G.mapping.load_state_dict(teacher.mapping.state_dict())
    adam = torch.optim.Adam(G.synthesis.parameters(), lr=0.0, betas=(0.0, 0.99))
    average = {name: tensor.clone() for name, tensor in G.state_dict().items()}
    start, step = time.monotonic(), 0
    while (progress := (time.monotonic() - start) / 60 / minutes) < 1:
        rate = LEARNING_RATE * min(1, step / 50) * min(1, max(0.02, 2 * (1 - progress)))
        for group in adam.param_groups:
            group["lr"] = rate
        with torch.no_grad():
            w = teacher.mapping(torch.randn(BATCH, 64), torch.randn(BATCH, 3).clamp(-2, 2))
            wanted_image = teacher.synthesis(w, noise_mode="none")
        image = G.synthesis(w[:, :1].expand(-1, G.num_ws, -1), update_emas=progress < 0.7)
        loss = pyramid_loss(image, wanted_image)
        adam.zero_grad()
        loss.backward()
        adam.step()
        step += 1
        with torch.no_grad():
            for name, tensor in G.state_dict().items():
                average[name].lerp_(tensor, 1 - min(0.998, (1 + step) / (10 + step)))
        if step % 100 == 0:
            print(f"step {step}, {100 * progress:.0f} %: loss {float(loss):.3f}", flush=True)
    G.load_state_dict(average)
    return G


def pyramid_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Absolute and squared differences at four scales."""
    total = a.new_zeros([])
    for _ in range(4):
        total = total + (a - b).abs().mean() + 2 * (a - b).square().mean()
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total


def stored(path: Path, kind: str, minutes: float) -> Generator:
    """The network of a file, which is made if it is missing."""
    if not path.exists():
        G = redrawn(kind, minutes)
        save_file(G.state_dict(), path, metadata={"config": json.dumps(G.config.to_json())})
    with safe_open(path, "pt") as file:
        G = build_generator(GeneratorConfig.from_json(json.loads(file.metadata()["config"])))
        G.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    return G.eval().requires_grad_(False)


def narrower(G: Generator, margin: int) -> Draw:
    """The full network with fewer samples around the picture."""
    other = build_generator(replace(G.config, margin_size=margin))
    other.load_state_dict(
        {  # layers have the same order, but are named after their sizes
            new: tensor for new, tensor in zip(other.state_dict(), G.state_dict().values())
        }
    )
    return other.eval().requires_grad_(False).synthesis


def closeness(G: Generator, sheet: Path | None) -> None:
    """Print the table; write previews under full pictures."""
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(1)
    z = torch.randn(COMPARED, G.z_dim, generator=random)
    c = torch.randn(COMPARED, G.c_dim, generator=random).clamp(-2, 2)
    preview = preview_network(G.synthesis)
    assert preview is not None
    rivals: dict[str, Draw] = {
        "means of 2 x 2 pixels (no candidate)": lambda ws: F.avg_pool2d(G.synthesis(ws), 2),
        "preview": preview,
        **{f"full rates, margin {margin}": narrower(G, margin) for margin in (6, 4, 2)},
    }
    with torch.inference_mode():
        ws = G.mapping(z, c)
        full = G.synthesis(ws)
        _, whole = milliseconds(lambda: G.synthesis(ws[:1]), 20)
        print(
            f"full picture {whole:.1f} ms, sd {full.std():.2f}\n\n| | time | difference | inside | border |"
            " SSIM |"
        )
        print("|---|---|---|---|---|---|")
        shown = [full]
        for name, draw in rivals.items():
            drawn = draw(ws)
            _, taken = milliseconds(lambda draw=draw: draw(ws[:1]), 20)
            drawn = torch.stack([torch.from_numpy(_enlarged(i.numpy(), full.shape[-1])) for i in drawn])
            shown.append(drawn)
            print(
                f"| {name} | {taken / whole:.2f} | {' | '.join(f'{v:.3f}' for v in compared(drawn, full))} |"
            )
    if sheet:
        save_sheet(shown, sheet)


def compared(drawn: torch.Tensor, full: torch.Tensor) -> tuple[float, ...]:
    """Root mean square differences everywhere, inside and on the border; SSIM."""
    difference = drawn - full
    edge = full.shape[-1] // 8
    border = torch.ones(full.shape[-2:], dtype=torch.bool)
    border[edge:-edge, edge:-edge] = False
    parts = (difference, difference[..., ~border], difference[..., border])
    squares = [float(part.square().mean().sqrt()) for part in parts]
    return *squares, float(np.mean(ssim(drawn.clamp(-1, 1).numpy(), full.clamp(-1, 1).numpy(), 2.0)))


def save_sheet(rows: list[torch.Tensor], path: Path) -> None:
    """Six pictures of every row, four times enlarged."""
    from PIL import Image

    strips = [F.interpolate(row[:6], scale_factor=4, mode="bicubic")[:, 0].numpy() for row in rows]
    grid = np.concatenate([np.concatenate(list(strip), axis=1) for strip in strips])
    Image.fromarray(((grid.clip(-1, 1) + 1) * 127.5).astype(np.uint8)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["cost", "closeness"])
    parser.add_argument("network", nargs="?", type=Path, help="made if it is not there")
    parser.add_argument("--kind", choices=list(WIDTHS), default="stylegan3-t")
    parser.add_argument("--minutes", type=float, default=28.0)
    parser.add_argument("--sheet", type=Path, help="write pictures, full ones on top, in the table's order")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "closeness":
        if arguments.network is None:
            parser.error("closeness needs a FILE")
        torch.set_num_threads(1)
        return closeness(stored(arguments.network, arguments.kind, arguments.minutes), arguments.sheet)
    print("| | full, ms | preview, ms | ratio | first preview, ms | memory, MiB |\n|---|---|---|---|---|---|")
    for case in COSTS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(cost, (case, arguments.threads)), flush=True)
    return None


if __name__ == "__main__":
    main()
