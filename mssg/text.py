"""Numbers as a person reads them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as 42 s, 12 min, 3 h 05, 2 d 4 h."""
    s = max(0, round(seconds))
    if s < 90:
        return f"{s} s"
    if s < 5400:
        return f"{s // 60} min"
    return f"{s // 3600} h {s % 3600 // 60:02d}" if s < 172_800 else f"{s // 86400} d {s % 86400 // 3600} h"
