"""Seconds for a whole head on the CPU, of the shipped model and of networks with random weights.

    python tests/benchmarks/head_speed.py [--threads N] [--heads N]

The first head of each prepares the weights and is not counted. Printed are the least and the median by the
wall clock, and the median of the processor's seconds: on a quiet machine that is the wall clock's times the
threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from mssg import assets
from mssg.checkpoint.snapshot import load_snapshot
from mssg.networks.config import GeneratorConfig
from mssg.networks.generator import build_generator
from mssg.rendering.renderer import CPU_PIXELS, Renderer
from mssg.rendering.request import RenderRequest
from mssg.rendering.volume import draw_volume
from mssg.study.presets import PRESETS

SLICES = 61


def times(draw: Callable[[int], object], heads: int) -> str:
    """What so many heads take after a first one."""
    wall, processor = [], []
    for number in range(heads + 1):
        start = time.perf_counter(), time.process_time()
        draw(number)
        wall.append(time.perf_counter() - start[0])
        processor.append(time.process_time() - start[1])
    least, middle, busy = min(wall[1:]), np.median(wall[1:]), np.median(processor[1:])
    return f"{least:.3f} s at best, {middle:.3f} s in the middle, {busy:.3f} s of the processor"


def preset(name: str, side: int) -> Callable[[int], object]:
    """Draws heads with a preset's network."""
    settings = PRESETS[name].fields
    shared = {key: settings[key] for key in ("z_dim", "w_dim", "channel_base", "channel_max")}
    config = GeneratorConfig(kind="stylegan2", img_resolution=side, img_channels=1, c_dim=4, **shared)
    network, batch = build_generator(config).eval().requires_grad_(False), CPU_PIXELS // side**2

    def draw(number: int) -> None:
        torch.manual_seed(number)
        with torch.inference_mode():
            ws = network.mapping(torch.randn(SLICES, network.z_dim), torch.randn(SLICES, 4))
            for part in ws.split(batch):
                network.synthesis(part)

    return draw


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--heads", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shipped = Renderer(load_snapshot(assets.path("snapshots/brain-heads.safetensors"), "cpu"))
    print("brain-heads 64²:", times(lambda n: draw_volume(shipped, RenderRequest(seed=n)), options.heads))
    for side in (64, 128):
        print(f"small-{side}, {SLICES} slices:", times(preset(f"small-{side}", side), options.heads))


if __name__ == "__main__":
    main()
