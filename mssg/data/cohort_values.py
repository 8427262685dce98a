"""An image's covariates from its cells: decoded, converted and checked."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from mssg.data.cohort import Choice, Cohort, CohortImage, Condition, CovariateSpec, LeftOut, chosen, fill
from mssg.errors import UsageError

UNIT_GAP = 20.0
"""Positive values that fall into two groups this factor apart, with nothing between, were taken in two units.
"""
FEWEST = 5
"""Values from which a gap says something."""


@dataclass(frozen=True)
class ImageRecord:
    """An image with its covariates in native units; NaN is missing."""

    image: CohortImage
    values: Mapping[str, float]


class Rejected(Exception):
    """An image's row cannot be used."""

    def __init__(self, stage: str, reason: str) -> None:
        self.stage, self.reason = stage, reason


def values_of(
    image: CohortImage,
    cells: Mapping[str, str],
    clashes: Mapping[str, str],
    cohort: Cohort,
    readings: Sequence[CovariateSpec],
    alone: bool,
) -> dict[str, float]:
    """An image's covariates in native units.

    Raises:
        Rejected: A cell that cannot be, two rows that clash, an exclusion, or nothing known.
    """
    for reason, condition in cohort.excludes:
        if _holds(condition, cells, image.facts):
            raise Rejected("excluded", reason)
    out = {}
    for reading in readings:
        name = reading.covariate.name
        text = _text(reading, cells, clashes, image.facts)
        if text is None:
            out[name] = math.nan
            continue
        try:
            value = reading.covariate.parse(text) if reading.factor == 1.0 else float(text) * reading.factor
            if reading.factor != 1.0 and math.isfinite(value):
                value = reading.covariate.parse(repr(value))
        except ValueError:
            raise Rejected("table", f"{name}: not a number, found {text!r}") from None
        except UsageError as error:
            raise Rejected(
                "table", f"{name}: {error.message}, found {text!r}, expected {error.expected}"
            ) from None
        low, high = reading.range or (-math.inf, math.inf)
        if not math.isnan(value) and not low <= value <= high:
            shown = f"{value:g} {reading.covariate.unit}".strip()
            raise Rejected(
                "table", f"{name}: {shown} is outside {low:g} to {high:g}: another unit, or a mistake"
            )
        out[name] = value
    if alone and readings and all(math.isnan(v) for v in out.values()):
        raise Rejected("table", f"no covariate is known: {', '.join(out)} are all missing")
    return out


def _text(
    reading: CovariateSpec, cells: Mapping[str, str], clashes: Mapping[str, str], facts: Mapping[str, str]
) -> str | None:
    """What a covariate's cell says, decoded; None: missing."""
    if reading.rules:
        for rule in reading.rules:
            if all(_holds(condition, cells, facts) for condition in rule.all):
                return rule.value
        return None
    for template in chosen(reading.column, facts):
        column = fill(template, facts) or ""
        text = cells.get(column, "")
        if column in clashes:
            raise Rejected("table", f"{reading.covariate.name}: stated twice, {clashes[column]}")
        if not text:
            continue
        if _among(text, reading.missing):
            return None
        if reading.codes:
            code = next((c for c in reading.codes if _same(text, c)), None)
            if code is None and text.lower() not in ("nan", "na", "n/a"):
                known = " | ".join(reading.codes)
                raise Rejected("table", f"{reading.covariate.name}: unknown code {text!r}, expected {known}")
            return None if code is None else reading.codes[code]
        return text
    return None


def _holds(condition: Condition, cells: Mapping[str, str], facts: Mapping[str, str]) -> bool:
    names = [fill(text, facts) or "" for text in chosen(condition.columns, facts)]
    found = [v for c, v in cells.items() if v and any(fnmatchcase(c, name) for name in names)]

    def hit(choice: Choice) -> bool:
        return any(_among(text, chosen(choice, facts)) for text in found)

    return hit(condition.any) if condition.any else bool(found) and not hit(condition.none)


def _among(text: str, words: Iterable[str]) -> bool:
    return any(_same(text, word) for word in words)


def _same(text: str, word: str) -> bool:
    """Equal as words, or as numbers: spreadsheets turn 1 into 1.0."""
    if text == word:
        return True
    try:
        return float(text) == float(word)
    except ValueError:
        return False


def consistent(
    items: Sequence[ImageRecord], readings: Sequence[CovariateSpec]
) -> tuple[list[ImageRecord], list[LeftOut]]:
    """Leave out images of one visit with different values, and values in a unit of their own."""
    reasons: dict[int, str] = {}
    visits: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, item in enumerate(items):
        image = item.image
        visits[image.subject, image.session, image.facts.get("side", "")].append(i)
    for (subject, session, _), members in visits.items():
        for name in items[members[0]].values:
            values = {items[i].values[name] for i in members if not math.isnan(items[i].values[name])}
            if len(values) > 1:
                shown = " and ".join(f"{v:g}" for v in sorted(values)[:3])
                visit = f"subject {subject}" + (f", session {session}" if session else "")
                for i in members:
                    reasons[i] = f"{name}: {visit} has {shown}; visits are told apart by a session"
    for reading in readings:
        name = reading.covariate.name
        if reading.covariate.is_continuous:
            values = np.array([item.values[name] for item in items])
            for i in np.flatnonzero(other_unit(values)):
                reasons[int(i)] = f"{name}: {values[i]:g} seems to be in another unit than most values"
    kept = [item for i, item in enumerate(items) if i not in reasons]
    skips = [
        LeftOut(items[i].image.name, "table", reason, items[i].image.subject, items[i].image.session)
        for i, reason in sorted(reasons.items())
    ]
    return kept, skips


def other_unit(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Values that were taken in another unit than most: beyond a gap of a factor `UNIT_GAP`, on the side with
    fewer.

    Args:
        values: float64 [N]; nothing is said about columns with values of 0 or below.

    Returns:
        bool [N].
    """
    out = np.zeros(len(values), bool)
    known = np.isfinite(values)
    if known.sum() < FEWEST or (values[known] <= 0).any():
        return out
    while True:
        left = np.flatnonzero(known & ~out)
        order = left[np.argsort(values[left])]
        ratio = values[order][1:] / values[order][:-1]
        if len(order) < 2 or ratio.max() < UNIT_GAP:
            return out
        split = int(ratio.argmax()) + 1
        low, high = order[:split], order[split:]
        out[low if len(low) < len(high) else high] = True
