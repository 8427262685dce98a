"""Sessions: the explorer's state as JSON, with a format version and the snapshot's hash."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from explorer_app import picture, state
from explorer_app.state import AppState
from mssg.errors import SnapshotError
from mssg.files import parse_json, write_json

FORMAT_VERSION = 1
KIND = "mssg-explorer-session"


@dataclass(frozen=True)
class Session:
    """A saved state, the hash of its snapshot ("" when none was open) and the window layout (imgui's ini
    text)."""

    state: AppState
    snapshot_id: str = ""
    layout: str = ""


def save(path: str | Path, session: Session) -> None:
    """Write a session atomically.

    Raises:
        SnapshotError: The file cannot be written.
    """
    path = Path(path)
    document = {"kind": KIND, "format_version": FORMAT_VERSION, **asdict(session)}
    write_json(path, document)


def load(path: str | Path) -> Session:
    """Read a session.

    Raises:
        SnapshotError: Missing, not a session, or of an unknown format version.
    """
    path = Path(path)
    try:
        document = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SnapshotError(
            f"the session cannot be read: {error.strerror}",
            file=path,
            hint="Give a session saved by the explorer",
        ) from None
    except ValueError:
        raise SnapshotError(
            "not a session: it is no JSON", file=path, hint="Give a session saved by the explorer"
        ) from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise SnapshotError("not a session of the explorer", file=path, field="kind", expected=KIND)
    if document.get("format_version") != FORMAT_VERSION:
        raise SnapshotError(
            "unknown format version",
            file=path,
            found=document.get("format_version"),
            expected=FORMAT_VERSION,
            hint="Update MSSG",
        )
    try:
        return Session(
            _build(AppState, document["state"], "state"),
            str(document["snapshot_id"]),
            str(document.get("layout", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise SnapshotError("a part of the session makes no sense", file=path, found=str(error)) from None


_NESTED = {
    "picture": picture.Picture,
    "latent": picture.Latent,
    "probe": picture.Probe,
    "transform": picture.Transform,
    "display": state.Display,
    "grid": state.Grid,
    "rows": state.Axis,
    "columns": state.Axis,
    "analysis": state.Analysis,
}


def _build(kind: type, document: Any, where: str) -> Any:
    """A frozen dataclass from its JSON object; every key must be known and every value of the right kind."""
    if not isinstance(document, dict) or not is_dataclass(kind):
        raise TypeError(where)
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    if set(document) - known:
        raise ValueError(f"{where}.{min(set(document) - known)}")
    return kind(
        **{name: _value(name, value, hints[name], f"{where}.{name}") for name, value in document.items()}
    )


def _value(name: str, value: Any, hint: Any, where: str) -> Any:
    if name in _NESTED:
        return _build(_NESTED[name], value, where)
    if name == "pins":
        return tuple(_build(state.Pin, pin, where) for pin in value)
    if name == "values":
        return tuple((str(key), _number(number, where)) for key, number in value)
    if name in ("center", "mix_layers"):
        return tuple(_number(v, where) if name == "center" else int(v) for v in value)
    if name == "cutoff":
        return None if value is None else int(value)
    if hint is float:
        return _number(value, where)
    if not isinstance(value, hint):
        raise TypeError(f"{where} = {value!r}")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{where} = {value!r}")
    return float(value)
