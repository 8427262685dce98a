"""How many threads a training takes, and whether it gets the processor time that they could use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mssg.study.train_config import TrainConfig

SMALL_SIDE, SMALL_BASE = 32, 512
"""StyleGAN2 with so many pixels and `channel_base` (`cpu-demo`, `small`) gains nothing from a second thread:
docs/results/speed.md."""
MEASURED_SECONDS = 60.0
"""So much work is measured before anything is said."""
LEAST_SHARE = 0.5
"""Of threads x wall time; a training alone on its cores uses more."""


@contextmanager
def threads_for(
    config: TrainConfig, resolution: int, device: str, asked: int | None = None
) -> Iterator[None]:
    """Compute inside with as many threads as are asked for.

    If nobody asks: with torch's number, or with one where the CPU trains networks too small to gain from a
    second.

    Args:
        asked: By the user; OMP_NUM_THREADS asks, too.
    """
    before = torch.get_num_threads()
    is_small = resolution <= SMALL_SIDE and config.channel_base <= SMALL_BASE and config.cfg == "stylegan2"
    if asked is None and is_small and device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        asked = 1
    try:
        if asked:
            torch.set_num_threads(asked)
        yield
    finally:
        torch.set_num_threads(before)


class CoreUse:
    """Processor time of the steps against what the threads could use.

    Args:
        device: Where the training runs; elsewhere than on the CPU, threads do not matter.
    """

    def __init__(self, device: str) -> None:
        self._threads = torch.get_num_threads()
        self._is_told = device != "cpu"
        self._wall = self._processor = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is done inside."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self._wall += time.perf_counter() - wall
        self._processor += time.process_time() - processor

    def advice(self) -> str:
        """What to tell the user, once, where the share is low; else ""."""
        if self._is_told or self._wall < MEASURED_SECONDS:
            return ""
        self._is_told = True
        share = self._processor / (self._wall * self._threads)
        if share >= LEAST_SHARE:
            return ""
        text = (
            f"slower than it could be: {share:.0%} of the time of {self._threads} threads was used, because"
        )
        text += " other processes share these cores"
        if self._threads > 1:
            text += " or the networks are small for so many threads: fewer (--workers) may be as fast"
        return text
