"""Sessions: the explorer's state as JSON, with a format version and the snapshot's hash.

Sessions of the first edition (format version 1) described a picture in their own terms; they are read and
converted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from explorer_app import state
from explorer_app.real_image import RealImage
from explorer_app.request_edits import at_place, drag_latent, moved
from explorer_app.state import AppState
from explorer_app.stored_latents import latent_from_json, latent_to_json
from mssg.errors import SnapshotError, UsageError
from mssg.files import parse_json, write_json
from mssg.rendering.request import RenderRequest, StoredLatent

FORMAT_VERSION = 2
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
    document = {"kind": KIND, "format_version": FORMAT_VERSION, **_plain(session)}
    saved = session.state
    requests = (saved.request, *(held.request for held in (*saved.pins, *saved.movie.keyframes)))
    stored = [r.latent for r in requests if isinstance(r, RenderRequest) and r.latent is not None]
    if stored:
        document["latents"] = {latent.digest: latent_to_json(latent) for latent in stored}
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
    if document.get("format_version") not in (1, FORMAT_VERSION):
        raise SnapshotError(
            "unknown format version",
            file=path,
            found=document.get("format_version"),
            expected=FORMAT_VERSION,
            hint="Update MSSG",
        )
    try:
        first = document["format_version"] == 1
        stored = {key: latent_from_json(value) for key, value in document.get("latents", {}).items()}
        plain = _converted(document["state"]) if first else document["state"]
        return Session(
            _build(AppState, plain, "state", stored),
            str(document["snapshot_id"]),
            str(document.get("layout", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, UsageError) as error:
        raise SnapshotError("a part of the session makes no sense", file=path, found=str(error)) from None


def _plain(value: Any) -> Any:
    """A dataclass as JSON; requests write themselves, without what is at its default."""
    if isinstance(value, RenderRequest):
        return value.to_json()
    if isinstance(value, RealImage):
        return {"real": value.to_json()}
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _converted(old: dict[str, Any]) -> dict[str, Any]:
    """The state of a session of format version 1 in the terms of this one."""
    new = dict(old)
    parts = {key: new.pop(key) for key in _PICTURE_V1 if key in new}
    display = {k: v for k, v in parts.get("probe", {}).items() if k in ("normalise", "gain_db")}
    display |= {"channels": parts.get("probe", {}).get("count", 1)}
    display |= {"untransform": parts.get("transform", {}).get("untransform", False)}
    new["request"] = _request_v1(parts).to_json()
    new["display"] = old.get("display", {}) | display
    new["pins"] = [
        {"name": pin["name"], "request": _request_v1(pin["picture"]).to_json()} for pin in old.get("pins", ())
    ]
    return new


_PICTURE_V1 = ("snapshot", "values", "latent", "probe", "transform", "float32")


def _request_v1(picture: dict[str, Any]) -> RenderRequest:
    """The request of what format version 1 called a picture."""
    latent, probe, move = (dict(picture.get(key, {})) for key in ("latent", "probe", "transform"))
    layer = probe.get("layer") or None
    request = RenderRequest(
        snapshot=_checked(picture.get("snapshot", ""), str),
        covariates=tuple((_checked(n, str), _number(v, "values")) for n, v in picture.get("values", ())),
        mix_seed=latent.get("mix_seed", 1),
        mix_layers=tuple(latent.get("mix_layers", ())),
        psi=_number(latent.get("psi", 1.0), "psi"),
        cutoff=latent.get("cutoff"),
        noise_mode=latent.get("noise_mode", "const"),
        noise_seed=latent.get("noise_seed", 0),
        layer=layer and _checked(layer, str),
        channel=probe.get("channel", 0) if layer else None,
        precision="float32" if _checked(picture.get("float32", False), bool) else "auto",
    )
    x, y = (_number(latent.get(key, 0.0), key) for key in ("x", "y"))
    seeded = at_place(request, _checked(latent.get("seed", 0), int))
    return moved(
        drag_latent(seeded, x, y), *(_number(move.get(key, 0.0), key) for key in ("x", "y", "angle"))
    )


_NESTED = {
    "display": state.Display,
    "grid": state.Grid,
    "rows": state.Axis,
    "columns": state.Axis,
    "analysis": state.Analysis,
    "movie": state.Movie,
}
_LISTS = {"pins": state.Pin, "marks": state.Mark, "keyframes": state.Keyframe}


def _build(kind: type, document: Any, where: str, stored: Mapping[str, StoredLatent]) -> Any:
    """A frozen dataclass from its JSON object; every key must be known and every value of the right kind.
    `stored`: latents by digest."""
    if not isinstance(document, dict) or not is_dataclass(kind):
        raise TypeError(where)
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}
    if set(document) - known:
        raise ValueError(f"{where}.{min(set(document) - known)}")
    return kind(
        **{
            name: _value(name, value, hints[name], f"{where}.{name}", stored)
            for name, value in document.items()
        }
    )


def _value(name: str, value: Any, hint: Any, where: str, stored: Mapping[str, StoredLatent]) -> Any:
    if name == "request" and "real" in value and hint is not RenderRequest:
        return RealImage.from_json(value["real"])
    if name == "request":
        return RenderRequest.from_json(value, stored.get(value.get("latent")))
    if name in _NESTED:
        return _build(_NESTED[name], value, where, stored)
    if name in _LISTS:
        return tuple(_build(_LISTS[name], one, where, stored) for one in value)
    if name in ("center", "start", "end", "cross"):
        x, y = (_number(v, where) for v in value)
        return x, y
    return _number(value, where) if hint is float else _checked(value, hint, where)


def _checked(value: Any, kind: type, where: str = "") -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where} = {value!r}")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{where} = {value!r}")
    return float(value)
