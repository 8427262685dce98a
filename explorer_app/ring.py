"""A ring of image slots in shared memory: written by the render process, read by the window's process.

One writer, one reader, no locks: the writer fills slot n mod SLOTS and reports n over the pipe; the reader
    copies it
out and raises `consumed`. A process killed at any point leaves nothing locked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing import shared_memory
from typing import Any

import numpy as np

SLOTS = 4
SLOT_BYTES = (
    1024 * 1024 * 4 * 4
)  # 1024 x 1024 x 4 float32; the system commits pages only once they are written


class Ring:
    """One end of the ring.

    Args:
        name: Name of an existing block to attach to; None creates one.
        consumed: Shared counter of slots read so far (a raw "q" value; only the reader writes it).
    """

    def __init__(self, name: str | None, consumed: Any) -> None:
        self._owner = name is None
        self._memory = shared_memory.SharedMemory(name=name, create=self._owner, size=SLOTS * SLOT_BYTES)
        self._consumed = consumed
        self._written = 0

    @property
    def name(self) -> str:
        """Name under which the other process attaches."""
        return self._memory.name

    def write(self, image: np.ndarray, stop: Callable[[], bool]) -> tuple[int, tuple[int, ...]]:
        """Put a float32 image into the next slot, waiting while all are full.

        Returns:
            Slot number and shape, to be sent to the reader.

        Raises:
            ValueError: The image does not fit into a slot.
            InterruptedError: `stop` said so while waiting.
        """
        image = np.ascontiguousarray(image, dtype=np.float32)
        if image.nbytes > SLOT_BYTES:
            raise ValueError(
                f"a picture of {image.shape} is too large for the explorer (limit 1024 x 1024 x 4)"
            )
        while self._written - self._consumed.value >= SLOTS:
            if stop():
                raise InterruptedError
            time.sleep(0.002)
        slot = self._written % SLOTS
        self._view(slot, image.shape)[...] = image
        self._written += 1
        return slot, image.shape

    def read(self, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        """Copy a slot out and free it."""
        image = self._view(slot, shape).copy()
        self._consumed.value += 1
        return image

    def _view(self, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.ndarray(shape, np.float32, self._memory.buf, offset=slot * SLOT_BYTES)

    def close(self) -> None:
        """Detach; the creator also frees the memory."""
        self._memory.close()
        if self._owner:
            self._memory.unlink()
