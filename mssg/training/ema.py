"""The exponential moving average of the generator's weights (docs/method/method.md section 5)."""

from __future__ import annotations

import torch
from torch import nn


def decay(batch: int, seen_kimg: float, halflife_kimg: float, rampup: float) -> float:
    """β such that weights lose half their influence every `halflife_kimg`, or every `rampup`·seen early in
    the run."""
    if rampup:
        halflife_kimg = min(halflife_kimg, seen_kimg * rampup)
    return 0.5 ** (batch / max(halflife_kimg * 1000, 1e-8))


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, beta: float) -> None:
    """average ← β·average + (1 − β)·network for parameters; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - beta)
    for kept, new in zip(average.buffers(), network.buffers()):
        kept.copy_(new)
