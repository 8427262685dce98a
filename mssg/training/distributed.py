"""Several processes through torchrun: the few collective operations training needs (gloo on CPU, nccl on GPU)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """This process's place among all."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor summed over all processes."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """True everywhere if it is true anywhere."""
        return (
            flag if self.size == 1 else bool(self.sum(torch.tensor([float(flag)], device=self.device)).item())
        )

    def union(self, names: Iterable[str]) -> list[str]:
        """All names known in any process, sorted."""
        found: list[list[str]] = [list(names)]
        if self.size > 1:
            found = [[] for _ in range(self.size)]
            dist.all_gather_object(found, list(names))
        return sorted({name for part in found for name in part})

    def broadcast(self, network: nn.Module) -> None:
        """Give every process the main process's parameters and buffers."""
        if self.size > 1:
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.data, src=0)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over processes and replace NaN by 0 and infinities by ±1e5 (METHOD section 5)."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size > 1 and gradients:
            flat = torch.cat([g.flatten() for g in gradients])
            dist.all_reduce(flat)
            flat /= self.size
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
                gradient.copy_(part.view_as(gradient))
        for gradient in gradients:
            torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)


def join(device: str) -> World:
    """Join the processes torchrun started, if it did.

    Args:
        device: "cpu", "cuda" (each process takes its local rank's GPU), or "mps".
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return World(rank, size, device)


def leave() -> None:
    """Leave the group joined with `join`."""
    if dist.is_initialized():
        dist.destroy_process_group()
