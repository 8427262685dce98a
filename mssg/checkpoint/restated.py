"""A snapshot with another statement of licence and data: its description is written anew, no tensor."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mssg.checkpoint.header import read_header
from mssg.errors import SnapshotError
from mssg.files import parse_json


def restate(path: Path, out: Path, about: dict[str, str]) -> Path:
    """Copy a snapshot with what its study says of itself replaced.

    Args:
        about: What `[about]` of its study shall say.

    Returns:
        `out`, which can be read.

    Raises:
        SnapshotError: It cannot be written, or what was written cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        contents = parse_json(file.read(length))
        document = parse_json(contents["__metadata__"]["mssg"])
        document["study"]["about"] = about
        contents["__metadata__"]["mssg"] = json.dumps(document, ensure_ascii=False)
        text = json.dumps(contents, ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        try:
            with out.open("wb") as copy:
                copy.write(len(text).to_bytes(8, "little") + text)
                shutil.copyfileobj(file, copy, 1 << 22)
        except OSError as error:
            raise SnapshotError(f"cannot be written: {error.strerror}", file=out) from None
    read_header(out)
    return out
