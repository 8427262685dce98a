"""What several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mssg.errors import UsageError


def check_suffix(path: str, known: Sequence[str]) -> str:
    """The suffix of an output file, lower case, before any work is done.

    Raises:
        UsageError: Not one of the known formats.
    """
    for suffix in known:
        if path.lower().endswith(suffix):
            return suffix
    raise UsageError("not a format this command writes", file=path, expected=" | ".join(known))


def checked_device(name: str) -> str:
    """A torch device that exists here.

    Raises:
        UsageError: Unknown, or not on this machine.
    """
    import torch

    kind, _, number = name.partition(":")
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind in usable and not number and usable[kind]:
        return name
    if kind == "cuda" and usable["cuda"] and number.isdecimal() and int(number) < torch.cuda.device_count():
        return name
    here = " | ".join(k for k, ok in usable.items() if ok)
    raise UsageError("not a device of this machine", field="device", found=name, expected=here)


def writable(path: str) -> Path:
    """An output path whose folder exists (made if need be).

    Raises:
        UsageError: The folder cannot be made, or the path is a folder.
    """
    out = Path(path)
    if out.is_dir():
        raise UsageError("this is a folder", file=out, expected="a file to write")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder cannot be made: {error.strerror}", file=out.parent) from None
    return out
