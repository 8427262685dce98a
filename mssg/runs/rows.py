"""The rows of stats.jsonl: one JSON object a tick, `kimg` in each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mssg.errors import RunError
from mssg.files import parse_json


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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
