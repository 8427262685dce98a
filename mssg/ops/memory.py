"""The C library's memory allocator, told not to give large freed buffers back to the system."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # parameters of glibc's mallopt(3)
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process reuse freed buffers at once instead of returning and faulting them in again.

    On the CPU, activations of a few megabytes are allocated and freed for every operation; by default glibc
    unmaps each, and the kernel clears the pages anew. Call once at the start of a training or rendering
    process; the process then keeps its peak memory until it ends.

    Returns:
        Whether the C library took the settings (False outside glibc, where nothing changes).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
