"""Where shipped files are: the checkout's assets/ or, in a wheel, mssg/_assets."""

from __future__ import annotations

from pathlib import Path

from mssg.errors import UsageError

_PACKAGE = Path(__file__).resolve().parent


def root() -> Path:
    """The folder that holds the shipped assets."""
    bundled, checkout = _PACKAGE / "_assets", _PACKAGE.parent / "assets"
    return bundled if bundled.is_dir() else checkout


def path(name: str) -> Path:
    """The path of a shipped file or folder.

    Args:
        name: Path relative to the assets folder, with forward slashes.

    Raises:
        UsageError: Nothing of that name is shipped.
    """
    base = root().resolve()
    found = (base / name).resolve()
    if not found.is_relative_to(base) or not found.exists():
        shipped = ", ".join(sorted(p.name for p in base.iterdir())) if base.is_dir() else "nothing"
        raise UsageError("no such shipped asset", field=name, expected=f"a path inside assets/ ({shipped})")
    return found
