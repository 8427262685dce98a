"""One trainer at a time on a run's folder, and a disk's faults as messages."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mssg.errors import RunError, warn_once
from mssg.files import sweep

HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
"""What a system says where another process holds a lock."""
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
"""What network and cluster file systems say that were mounted without locks."""


@contextmanager
def locked(path: Path, busy: str = "another trainer is working on this run") -> Iterator[None]:
    """Hold a folder's lock; the system releases it when the process ends, however it ends.

    Args:
        busy: What to say where another process holds it.

    Raises:
        RunError: Another process holds it, or the folder cannot be written.
    """
    with disk_trouble(path), open(path / "lock", "a+", encoding="utf-8") as file:
        try:
            if os.name == "nt":
                import msvcrt

                # The byte at this place is locked: the same for everybody, whatever stands in the file.
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                warn_once(
                    f"{path}: no locks on this file system ({error.strerror}): start only one process here."
                )
            elif error.errno in HELD:
                hint = "Wait for it or stop it first"
                raise RunError(busy, file=path, hint=hint) from None
            else:
                raise
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def holder(path: Path) -> int | None:
    """The process that holds a folder's lock; None where nobody does, or this system cannot say."""
    try:
        import fcntl

        with open(path / "lock", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                return int(file.read()) if error.errno in HELD else None
    except (ImportError, OSError, ValueError):  # ImportError: Windows
        return None
    return None


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """Work in a folder beside other processes that do the same.

    What killed processes left half-written is swept away where nobody else is at work. The folder itself is
    locked, so no file is left behind; where a system cannot do that, nothing is swept away.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sweep(folder)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextmanager
def disk_trouble(path: Path) -> Iterator[None]:
    """A full, read-only or failing disk becomes a message; what was saved before stays valid.

    Raises:
        RunError: Naming the file.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read our output has gone; no file is concerned
    except OSError as error:
        raise RunError(
            f"cannot be written: {error.strerror or error}",
            file=error.filename or path,
            hint="Free disk space, or make the folder writable; then continue with --resume",
        ) from None
