"""What the explorer remembers between starts: recent files and the window's scale."""

from __future__ import annotations

import os
from pathlib import Path

from mssg.errors import MssgError
from mssg.files import parse_json, write_json

RECENT_LIMIT = 12


def folder() -> Path:
    """The user's configuration folder for the explorer; MSSG_CONFIG_DIR overrides it."""
    base = os.environ.get("MSSG_CONFIG_DIR")
    if base:
        return Path(base)
    if os.name == "nt":
        return Path(os.environ.get("APPDATA", str(Path.home()))) / "mssg"
    return Path(os.environ.get("XDG_CONFIG_HOME", str(Path.home() / ".config"))) / "mssg"


def recent() -> list[str]:
    """Recently opened snapshots, runs and sessions that still exist, newest first."""
    try:
        names = parse_json((folder() / "recent.json").read_text(encoding="utf-8"))
        return [n for n in names if isinstance(n, str) and Path(n).exists()][:RECENT_LIMIT]
    except (OSError, ValueError, TypeError):
        return []


def remember(path: str) -> None:
    """Put a path at the head of the recent list; without a writable folder nothing is remembered."""
    path = str(Path(path).resolve())
    names = [path, *(n for n in recent() if n != path)][:RECENT_LIMIT]
    try:
        folder().mkdir(parents=True, exist_ok=True)
        write_json(folder() / "recent.json", names)
    except (OSError, MssgError):
        return
