"""A snapshot and what draws with it, for callers with threads and forked children."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch

from mssg.api.arguments import argument_errors
from mssg.api.picture import Picture
from mssg.checkpoint.snapshot import Snapshot
from mssg.errors import MssgError
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest

_HOME = os.getpid()
"""The process that loaded this module: where another one runs it, it was forked."""


@contextmanager
def safe_after_fork() -> Iterator[None]:
    """In a forked child, compute with the one thread that a fork leaves; elsewhere as ever."""
    if os.getpid() == _HOME:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # OpenMP would wait for ever for threads that the fork did not copy
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Hand:
    """A renderer, the process that it belongs to, and whose turn it is."""

    process: int
    turn: AbstractContextManager[Any]
    renderer: Renderer


class LoadedSnapshot:
    """One loaded snapshot.

    Args:
        snapshot: What draws.
        name: What the caller called it; stands in commands that draw a picture again.
    """

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        self.snapshot, self.name = snapshot, name
        self.header, self.study = snapshot.header, snapshot.study
        self._hand = _Hand(os.getpid(), RLock(), Renderer(snapshot))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around everything that computes, as `safe_after_fork`.

        Raises:
            MssgError: In a forked child, with a model on a GPU.
        """
        if self._hand.process != os.getpid() and not self.snapshot.device.startswith("cpu"):
            raise MssgError(
                "a model on a GPU cannot be used in a forked child",
                field="device",
                found=self.snapshot.device,
                hint='Start the child with multiprocessing\'s "spawn", or load the model with device="cpu"',
            )
        with safe_after_fork():
            yield

    @contextmanager
    def renderer(self) -> Iterator[Renderer]:
        """The renderer, to one thread at a time."""
        with self.at_work():
            if self._hand.process != os.getpid():  # the parent may have forked amid a picture
                self._hand = _Hand(os.getpid(), RLock(), Renderer(self.snapshot))
            hand = self._hand
            with hand.turn:
                yield hand.renderer

    def pictures(self, requests: Iterable[RenderRequest]) -> list[Picture]:
        """Draw requests, in order.

        Raises:
            ArgumentError: A request that cannot be carried out.
        """
        out, names, requests = [], self.study.condition_names, list(requests)
        with argument_errors(), self.renderer() as renderer:
            for request, image in zip(requests, renderer.pictures(requests)):
                if request.latent:
                    stated = request.latent.edited(names, request.covariates)
                else:
                    stated = dict(zip(names, renderer.values(request.covariates).tolist()))
                out.append(Picture.of(request, image, stated, self.header, self.name))
        return out
