"""Studies that preparing data writes to start from, and never over what a person has made of them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from mssg.errors import DataError, warn_once
from mssg.files import write_atomically

_MARK = re.compile(r"# Drafted by mssg prepare \(([0-9a-f]{12})\).*\n")


def write_draft(path: Path, text: str) -> Path:
    """Write a study to start from.

    Its first line holds a hash of the rest. Where that does not fit any more somebody has edited the study:
    it stays, the draft is written beside it, and the user is told.

    Args:
        path: NAME.toml.

    Returns:
        The study to use: `path`.

    Raises:
        DataError: It cannot be written.
    """
    mark = f"# Drafted by mssg prepare ({_hash(text)}). Once edited it is not written over.\n"
    place = path
    if _is_edited(path, text):
        place = path.with_name(f"{path.stem}.draft.toml")
        warn_once(
            f"{path} was edited and stays as it is. What would have been written there is {place.name}."
        )
    write_atomically(place, mark + text, DataError)
    return path


def _is_edited(path: Path, text: str) -> bool:
    try:
        old = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except (OSError, UnicodeError):
        return True
    mark = _MARK.match(old)
    return mark[1] != _hash(old[mark.end() :]) if mark else old != text


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
