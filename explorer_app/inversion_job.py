"""Inverting a picture in a process of its own: torch is imported there only, and drags go on undisturbed."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer_app.real_image import RealImage
from mssg.errors import MssgError
from mssg.rendering.request import StoredLatent

NICE = 10
"""So much less urgent than the window: frames come first."""


@dataclass(frozen=True)
class InversionTask:
    """What is to be inverted.

    Attributes:
        image: The picture, cut for the snapshot that is to explain it.
        values: Native value of every covariate that it is explained with.
        steps: Steps of the optimiser.
        device, threads: Where, and with how many threads of torch.
        file: Where the latent is written, a file of `mssg invert`.
    """

    image: RealImage
    values: tuple[tuple[str, float], ...]
    steps: int
    device: str
    threads: int
    file: str


@dataclass(frozen=True)
class InversionStep:
    """So many steps are done."""

    number: int


@dataclass(frozen=True)
class InvertedPicture:
    """The picture as a latent; `error`: how far its reconstruction is from it, root of the mean squared
    difference in grey levels."""

    latent: StoredLatent
    error: float


@dataclass(frozen=True)
class FailedInversion:
    """Why there is no latent."""

    reason: str


class InversionJob:
    """An inversion under way.

    Attributes:
        step: Steps done; 0 while the model is loaded.
        done: What came of it.
        problem: Why nothing came of it.
    """

    def __init__(self, task: InversionTask) -> None:
        self.task, self.step, self.problem = task, 0, ""
        self.done: InvertedPicture | None = None
        context = mp.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, task), name="mssg-invert", daemon=True)
        self._process.start()
        theirs.close()
        self._cancelled = False
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        try:
            while self.running:
                match self._pipe.recv():
                    case InversionStep() as step:
                        self.step = step.number
                    case FailedInversion() as failed:
                        self.problem = failed.reason
                    case InvertedPicture() as done:
                        self.done = done
        except (EOFError, OSError, TypeError, ValueError):
            self.problem = self.problem or "the process that inverts has ended"

    @property
    def running(self) -> bool:
        """True until something came of it, or it was cancelled."""
        return self.done is None and not self.problem and not self._cancelled

    def cancel(self) -> None:
        """End the process; what it has found is dropped."""
        self._cancelled = True
        with suppress(OSError):
            self._pipe.close()
        self._process.kill()
        self._process.join(2)


def work(pipe: Any, task: InversionTask) -> None:
    """Entry point of the process; it ends with the window's, however that ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the window
    if hasattr(os, "nice"):
        os.nice(NICE)
    os.environ["OMP_NUM_THREADS"] = str(task.threads)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    import torch

    torch.set_num_threads(task.threads)
    try:
        pipe.send(_inverted(task, lambda step: pipe.send(InversionStep(step))))
    except MssgError as error:
        pipe.send(FailedInversion(str(error)))
    except Exception as error:  # whatever happens must end as a message in the window
        pipe.send(FailedInversion(f"{type(error).__name__}: {error}"))


def _end_with(pipe: Any) -> None:
    with suppress(EOFError, OSError):
        pipe.recv()
    os._exit(0)


def _inverted(task: InversionTask, tell: Callable[[int], None]) -> InvertedPicture:
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.inversion.latent_file import InvertedImage, search
    from mssg.inversion.projector import InvertConfig
    from mssg.ops.device import checked_device
    from mssg.rendering.renderer import Renderer
    from mssg.rendering.request import RenderRequest, to_uint8

    snapshot = load_snapshot(task.image.snapshot, checked_device(task.device))
    config, given = InvertConfig(steps=task.steps), dict(task.values)
    to_do = InvertedImage.to_do(snapshot, task.image.pixels, given, config, place=task.image.place)
    done = search(snapshot, to_do, progress=lambda step: bool(tell(step)))
    done.save(Path(task.file))
    latent = done.stored_latent(task.file)
    request = RenderRequest(latent=latent, covariates=task.values)
    drawn = to_uint8(next(Renderer(snapshot).pictures([request])))
    difference = drawn.astype(np.float64) - task.image.pixels
    return InvertedPicture(latent, float(np.sqrt(np.square(difference).mean())))
