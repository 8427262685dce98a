"""What a text in a table or on the command line means: one parser of numbers, one notion of missing."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

MISSING = ("", "nan", "na", "n/a")
"""Texts that stand for no value, whatever their case."""
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
_TOP_CODED = re.compile(rf"(?:(?:>=?|≥)\s*({_NUMBER})\s*\+?|({_NUMBER})\s*\+)", re.IGNORECASE | re.ASCII)


def is_missing(text: str) -> bool:
    """Whether a text stands for no value."""
    return text.strip().lower() in MISSING


def parse_number(text: str) -> float:
    """The finite number that a text states: "12", "-.5", "3e1"; a typographic minus is one too.

    Raises:
        ValueError: Anything else: words, 1e999, 1_000, 1,5.
    """
    word = text.strip().replace("\N{MINUS SIGN}", "-")
    value = float(word) if re.fullmatch(_NUMBER, word, re.IGNORECASE | re.ASCII) else math.inf
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {text!r}")
    return value


def same_value(text: str, other: str) -> bool:
    """Equal as texts, or as numbers: programs that write tables turn 1 into 1.0, 1.00 or 0.5 into .50."""
    return text == other or meant(text) == meant(other)


def meant(text: str) -> str | float:
    """What a text says in whatever spelling: its number, or itself."""
    try:
        return parse_number(text)
    except ValueError:
        return text


def top_coded(text: str) -> float | None:
    """The limit that "89+", "> 89" or "≥90" states, or None; ages are written so that would tell a person."""
    match = _TOP_CODED.fullmatch(text.strip())
    return parse_number(match[1] or match[2]) if match else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A question for whoever wrote a word that is not known; None where nothing known is like it."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"Did you mean {near[0]!r}?" if near else None
