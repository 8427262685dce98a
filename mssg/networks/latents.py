"""Seeds as latents: the one way from a number to z."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch


def seeds_of(seed: int, count: int) -> list[int]:
    """One seed as many, for pictures that are decided together."""
    return np.random.SeedSequence(seed).generate_state(count, np.uint32).tolist()


def latents(seeds: Iterable[int], z_dim: int) -> torch.Tensor:
    """The latent of each seed, float32 [N, z_dim], whatever its neighbours.

    Source: the convention of NVlabs' StyleGAN tools, `numpy.random.RandomState(seed).randn(1, z_dim)`.
    """
    rows = [np.random.RandomState(int(seed) & 0xFFFFFFFF).randn(1, z_dim) for seed in seeds]
    return torch.from_numpy(np.concatenate(rows)).float()
