"""Files written so that readers see the old one or the whole new one; JSON of anybody. No torch."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from mssg.errors import MssgError, SnapshotError


def write_atomically(
    path: Path,
    data: bytes | str | Callable[[BinaryIO], object],
    error: type[MssgError] = SnapshotError,
    lasting: bool = True,
) -> None:
    """Write a file under a temporary name, flush it to disk, and rename it.

    Args:
        path: Final name; what stood there before is replaced in one step.
        data: Content, or a function that writes it to an open file. Text is encoded as UTF-8; what is no
            character of any alphabet (names of files may hold such) is written as an escape.
        error: What to raise.
        lasting: Wait until the disk has it. False is for one of very many that can be made again: after a
            loss of power it may be empty.

    Raises:
        MssgError: The disk is full or the folder cannot be written; what stood at `path` before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            if callable(data):
                data(file)
            else:
                file.write(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if lasting:
            _sync_folder(path.parent)
    except OSError as problem:
        raise error(
            f"cannot be written: {problem.strerror or problem}",
            file=path,
            hint="Free disk space, or write to another folder",
        ) from None
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass  # a folder that went read-only keeps it; the next start sweeps it away


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a loss of power, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def reserve(path: Path, error: type[MssgError]) -> None:
    """Have the disk keep room for all of a file that was made long without being written.

    A program that writes to such a file through a memory map is killed (SIGBUS) where the disk turns out to
    be full.

    Raises:
        MssgError: There is not so much room.
    """
    size = path.stat().st_size
    try:
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except (AttributeError, OSError) as problem:  # not on this system, or not with this C library
                if isinstance(problem, OSError) and problem.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise
                while chunk := file.read(2**20):
                    file.seek(-len(chunk), os.SEEK_CUR)
                    file.write(chunk)
    except OSError as problem:
        raise error(
            f"cannot be written: {problem.strerror or problem}",
            file=path,
            hint=f"Free disk space ({size / 2**20:.0f} MiB are needed), or write to another folder",
        ) from None


def make_folder(path: Path, error: type[MssgError]) -> None:
    """Make a folder, and those above it, where there is none.

    Raises:
        MssgError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise error(f"the folder cannot be made: {problem.strerror}", file=path) from None


def cache_folder(kind: str) -> Path | None:
    """Where a kind of what can be computed again is kept for this user; None where the system knows no
    home."""
    folder = _user_folder("cache")
    return folder and folder / kind


def config_folder() -> Path | None:
    """Where this user's settings are kept, MSSG_CONFIG_DIR above all; None where the system knows no home."""
    given = os.environ.get("MSSG_CONFIG_DIR")
    return Path(given) if given else _user_folder("config")


def _user_folder(kind: str) -> Path | None:
    """The system's place for a user's "cache" or "config" of MSSG."""
    import platformdirs

    try:
        folder = getattr(platformdirs, f"user_{kind}_path")("mssg", appauthor=False)
    except RuntimeError:  # a container's user without a name
        return None
    return folder if folder.is_absolute() else None  # an older platformdirs leaves ~ as it is


def write_json(path: Path, document: Any, error: type[MssgError] = SnapshotError) -> None:
    """Write a JSON document for programs and people; as `write_atomically`."""
    write_atomically(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n", error)


def csv_text(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text from anywhere: whole numbers fit 64 bits, so that no later arithmetic can fail
    on them.

    Raises:
        ValueError: No JSON, nested too deeply, with a larger number or a name twice in one object.
    """

    def integer(digits: str) -> int:
        value = int(digits[:40])
        if len(digits) > 20 or not -(2**63) <= value < 2**64:
            raise ValueError(f"a number of {len(digits)} digits")
        return value

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice!r} is named twice")
        return out

    try:
        return json.loads(text, parse_int=integer, object_pairs_hook=table)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sweep(folder: Path) -> None:
    """Remove what `write_atomically` left under temporary names when a process was killed; call it with a
    lock held."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)
