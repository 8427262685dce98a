"""A ring of image slots in shared memory: written by the render process, read by the window's process.

One writer, one reader, no locks: the writer fills slot n mod SLOTS and reports n over the pipe; the reader
copies it out and raises `consumed`. A process killed at any point leaves nothing locked.
"""

from __future__ import annotations

import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np

from mssg.errors import RunError
from mssg.files import reserve

SLOTS, FEWEST = 4, 2
SLOT_BYTES = 1024 * 1024 * 4 * 4  # 1024 x 1024 x 4 float32
SHARED = Path("/dev/shm")
"""Where Linux keeps shared memory: a file system with an end, in a container 64 MiB by default."""


class Ring:
    """One end of the ring.

    Args:
        name: Name of an existing block to attach to; None creates one.
        consumed: Shared counter of slots read so far (a raw "q" value; only the reader writes it).

    Raises:
        RunError: There is no room for two slots.
    """

    def __init__(self, name: str | None, consumed: Any) -> None:
        self._owner = name is None
        self._memory = _new_block() if name is None else shared_memory.SharedMemory(name)
        self.slots = self._memory.size // SLOT_BYTES
        self._consumed = consumed
        self._written = 0

    @property
    def name(self) -> str:
        """Name under which the other process attaches."""
        return self._memory.name

    def write(self, image: np.ndarray) -> tuple[int, tuple[int, ...]]:
        """Put a float32 array into the next slot, waiting while all are full.

        Returns:
            Slot number and shape, to be sent to the reader.

        Raises:
            ValueError: The array does not fit into a slot.
        """
        image = np.ascontiguousarray(image, dtype=np.float32)
        if image.nbytes > SLOT_BYTES:
            raise ValueError(
                f"a picture of {image.shape} is too large for the explorer (limit 1024 x 1024 x 4)"
            )
        while self._written - self._consumed.value >= self.slots:
            time.sleep(0.002)
        slot = self._written % self.slots
        self._view(slot, image.shape)[...] = image
        self._written += 1
        return slot, image.shape

    def read(self, slot: int, shape: tuple[int, ...]) -> np.ndarray:
        """Copy a slot out, float32 of this shape, and free it."""
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


def _new_block() -> shared_memory.SharedMemory:
    """A block of as many slots as there is room for, all of it kept: a process that writes to shared memory
    which is full is killed (SIGBUS).

    Raises:
        RunError: There is no room for two slots.
    """
    for slots in range(SLOTS, FEWEST - 1, -1):
        block = None
        try:
            block = shared_memory.SharedMemory(create=True, size=slots * SLOT_BYTES)
            if (SHARED / block.name).is_file():
                reserve(SHARED / block.name, RunError)
            return block
        except (RunError, OSError):
            if block:
                block.close()
                block.unlink()
    raise RunError(
        "no shared memory for pictures",
        file=SHARED,
        expected=f"{FEWEST * SLOT_BYTES / 2**20:.0f} MiB free",
        hint="Free some; in a container, start it with more: docker run --shm-size=256m",
    )
