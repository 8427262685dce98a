"""The rows of stats.jsonl: one JSON object a tick, `kimg` in each.

Beside the numbers that an instrument read off generated images, `metric/control/age/r`, a row says what that
instrument is worth on real ones, `metric/control/age/instrument`: its name, its own error, that in words, and
the doubt, empty where it is better than guessing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mssg.errors import RunError
from mssg.files import parse_json

INSTRUMENT = "instrument"
"""How the key of what read a row's numbers ends."""


def parse_rows(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of these lines; what is no row is left out: a crash may leave half a line."""
    rows = []
    for line in lines:
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and _is_number(row.get("kimg")):
            rows.append(row)
    return rows


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a stats.jsonl, oldest first; none where there is no such file yet.

    Raises:
        RunError: It cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror}", file=path) from None
    return parse_rows(text.splitlines())


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What a row says in finite numbers."""
    return {name: float(value) for name, value in row.items() if _is_number(value)}


def instruments(row: Mapping[str, Any]) -> dict[str, Mapping[str, str]]:
    """What a row says about what read its numbers: the start of their names -> `words` and `doubt`."""
    found = {k.removesuffix(INSTRUMENT): v for k, v in row.items() if k.endswith(INSTRUMENT)}
    return {
        k: {part: str(v.get(part, "")) for part in ("name", "words", "doubt")}
        for k, v in found.items()
        if isinstance(v, Mapping)
    }


def worth(name: str, known: Mapping[str, Mapping[str, str]]) -> str:
    """What the instrument of a quantity is worth, in words; "" where nothing read it off an image."""
    one = known.get(name.rpartition("/")[0] + "/")
    if one is None:
        return ""
    doubt = f": {one['doubt'].upper()}" if one["doubt"] else ""
    return f"{one['name']} on real images: {one['words']}{doubt}"


def marked(name: str, known: Mapping[str, Mapping[str, str]]) -> str:
    """A quantity's name as it is shown: with the doubt about its instrument."""
    doubt = known.get(name.rpartition("/")[0] + "/", {}).get("doubt")
    return f"{name} ({doubt})" if doubt else name


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
