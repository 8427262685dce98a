"""Files written so that readers see the old one or the whole new one; JSON and TOML read from anybody. No
torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mssg.errors import MssgError, SnapshotError


def write_atomically(path: Path, data: bytes | str, error: type[MssgError] = SnapshotError) -> None:
    """Write a file under a temporary name, flush it to disk, and rename it.

    Args:
        path: Final name; what stood there before is replaced in one step.
        data: Content; text is encoded as UTF-8.
        error: What to raise.

    Raises:
        MssgError: The disk is full or the folder cannot be written; what stood at `path` before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as problem:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass  # a folder that went read-only keeps it; the next start sweeps it away
        raise error(
            f"cannot be written: {problem.strerror}",
            file=path,
            hint="Free disk space or choose another --outdir, then resume",
        ) from None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text from anywhere: whole numbers fit 64 bits, so that no later arithmetic can fail
    on them.

    Raises:
        ValueError: No JSON, nested too deeply, or with a larger number.
    """

    def integer(digits: str) -> int:
        value = int(digits[:40])
        if len(digits) > 20 or not -(2**63) <= value < 2**64:
            raise ValueError(f"a number of {len(digits)} digits")
        return value

    try:
        return json.loads(text, parse_int=integer)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text from anywhere.

    Raises:
        ValueError: No TOML, or nested too deeply.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sweep(folder: Path) -> None:
    """Remove what `write_atomically` left under temporary names when a process was killed; call it with a
    lock held."""
    for leftover in folder.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)
