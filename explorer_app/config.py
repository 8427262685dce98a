"""What the explorer remembers between starts: recent files, theme and scale."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from mssg import assets
from mssg.errors import MssgError, SnapshotError
from mssg.files import config_folder, make_folder, parse_json, write_json

RECENT_LIMIT = 12
SIZE = (1280, 800)
"""Of a window that remembers none."""


FIRST_SHOWN = "brain-64"


def default_snapshot() -> str:
    """The shipped snapshot to start with, "" if none is shipped: the best one, else the first by name."""
    shipped = sorted(
        (assets.root() / "snapshots").glob("*.safetensors"), key=lambda p: (p.stem != FIRST_SHOWN, p.name)
    )
    return str(shipped[0]) if shipped else ""


def writable_folder() -> Path | None:
    """The user's configuration folder, made if need be; None where there can be none."""
    folder = config_folder()
    try:
        if folder is not None:
            make_folder(folder, SnapshotError)
    except MssgError:
        return None
    return folder if folder and os.access(folder, os.W_OK) else None


def recent() -> list[str]:
    """Recently opened snapshots, runs and sessions that still exist, newest first."""
    folder = config_folder()
    if folder is None:
        return []
    try:
        names = parse_json((folder / "recent.json").read_text(encoding="utf-8"))
        return [n for n in names if isinstance(n, str) and Path(n).exists()][:RECENT_LIMIT]
    except (OSError, ValueError, TypeError):
        return []


def remember(path: str) -> None:
    """Put a path at the head of the recent list; without a writable folder nothing is remembered."""
    path = str(Path(path).resolve())
    names = [path, *(n for n in recent() if n != path)][:RECENT_LIMIT]
    if folder := writable_folder():
        with suppress(MssgError):
            write_json(folder / "recent.json", names, SnapshotError)


def settings() -> dict[str, Any]:
    """What the user chose for every window: theme and scale; nothing where there is none."""
    folder = config_folder()
    try:
        found = parse_json((folder / "settings.json").read_text(encoding="utf-8")) if folder else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def choose(**changes: Any) -> None:
    """Remember choices; without a writable folder they hold until the window closes."""
    if folder := writable_folder():
        with suppress(MssgError):
            write_json(folder / "settings.json", {**settings(), **changes}, SnapshotError)
