"""Several processes through torchrun: the few collective operations training needs (gloo on CPU, nccl on
GPU)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mssg.errors import RunError
from mssg.processes import torchrun_place

PATIENCE = timedelta(hours=1)
"""How long a process waits for one that hangs: longer than the main one's validation takes. A death shows at
once."""


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

    @property
    def rows(self) -> slice:
        """This process's rows of a global batch."""
        return slice(self.rank, None, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor, of any shape, summed over all processes."""
        if self.size > 1:
            tensor = tensor.clone()
            with _together():
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
            with _together():
                dist.all_gather_object(found, list(names))
        return sorted({name for part in found for name in part})

    def broadcast(self, network: nn.Module) -> None:
        """Give every process the main process's parameters and buffers."""
        if self.size > 1:
            with _together():
                for tensor in (*network.parameters(), *network.buffers()):
                    dist.broadcast(tensor.data, src=0)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            with _together():
                dist.barrier()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, of any shapes, by their means over all processes, in one message."""
        if self.size > 1 and tensors:
            flat = torch.cat([t.flatten() for t in tensors])
            with _together():
                dist.all_reduce(flat)
            flat /= self.size
            for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors])):
                tensor.copy_(part.view_as(tensor))

    def reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients over processes and replace NaN by 0 and infinities by ±1e5 (docs/method/method.md
        section 5)."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.average(gradients)
        for gradient in gradients:
            torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)


@contextmanager
def _together() -> Iterator[None]:
    """What one process's death does to the others, said clearly.

    Raises:
        RunError: A collective operation failed: another process has gone.
    """
    try:
        yield
    except RuntimeError as error:  # torch.distributed's errors all are
        raise RunError(
            "another process of this run has ended or does not answer",
            found=(str(error).splitlines() or [""])[0][:160],
            hint="Its own message says why. Every process stops; continue with --resume",
        ) from None


def _store() -> dist.Store:
    """Where processes tell each other their addresses.

    torchrun keeps one store for all of a machine's restarts, with the addresses of those that are gone: each
    start gets a part of its own. Machines count their restarts apart, so several of them need torchrun's own
    remedy (docs/guide/cluster.md).
    """
    store = next(dist.rendezvous("env://", timeout=PATIENCE))[0]
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return (
        dist.PrefixStore(f"start{start}", store) if os.environ.get("GROUP_WORLD_SIZE", "1") == "1" else store
    )


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes torchrun started, if it did; leave together with them.

    Args:
        device: "cpu", "cuda" (each process takes its local rank's GPU), or "mps".

    Raises:
        RunError: Another process has gone.
        UsageError: The environment names other processes, but not how to find them.
    """
    rank, size, local = torchrun_place()
    if device == "cuda":
        device = f"cuda:{local}"
        torch.cuda.set_device(local)
    if size > 1:
        with _together():
            dist.init_process_group(
                "nccl" if device.startswith("cuda") else "gloo",
                store=_store(),
                rank=rank,
                world_size=size,
                timeout=PATIENCE,
            )
    world = World(rank, size, device)
    try:
        yield world
        world.barrier()  # a process that leaves while another still writes would tear the group down under it
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
