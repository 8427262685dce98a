"""An image's covariates from its cells: decoded, converted and checked."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from mssg.data.cohort import Choice, CohortImage, CohortMap, Condition, CovariateSpec, LeftOut, chosen, fill
from mssg.data.formula import Formula
from mssg.errors import UsageError
from mssg.study.cells import is_missing, parse_number, same_value, top_coded

UNIT_GAP = 20.0
"""Positive values that fall into two groups this factor apart, with nothing between, were taken in two units.
"""
FEWEST = 5
"""Values from which a gap says something."""
NOT_AVAILABLE = "n/a"
"""BIDS's word for an empty cell."""


@dataclass(frozen=True)
class ImageRecord:
    """An image with its covariates in native units; NaN is missing."""

    image: CohortImage
    values: Mapping[str, float]


@dataclass
class TableRecord:
    """What tables say about an image: filled cells, where each stands, and columns that two lines fill
    differently."""

    cells: dict[str, str] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    clashes: dict[str, str] = field(default_factory=dict)

    def add(self, row: Mapping[str, str], place: str) -> None:
        """Take in another row under the same key of the same table."""
        for column, text in row.items():
            if not text or text.lower() == NOT_AVAILABLE:
                continue
            known = self.cells.get(column)
            if known is None or (is_missing(known) and not is_missing(text)):
                self.cells[column], self.lines[column] = text, place
            elif not same_value(known, text) and not is_missing(text):
                self.clashes[column] = f"{known!r} in {self.lines[column]}, {text!r} in {place}"

    def overlaid(self, later: TableRecord) -> TableRecord:
        """This record filled in or overridden by that of a later table."""
        clashes = {k: v for k, v in self.clashes.items() if k not in later.cells} | later.clashes
        return TableRecord(self.cells | later.cells, self.lines | later.lines, clashes)


class Rejected(Exception):
    """An image's row cannot be used: the stage that says so, and why."""

    def __init__(self, stage: str, reason: str) -> None:
        self.stage, self.reason = stage, reason


def values_of(
    image: CohortImage, record: TableRecord, cohort: CohortMap, specs: Sequence[CovariateSpec]
) -> dict[str, float]:
    """An image's covariates in native units; NaN is missing.

    Raises:
        Rejected: A cell that cannot be, two rows that clash, or an exclusion.
    """
    for reason, conditions in cohort.excludes:
        if all(_holds(condition, record.cells, image.facts) for condition in conditions):
            raise Rejected("excluded", reason)
    return {spec.covariate.name: _value(spec, record, image.facts) for spec in specs}


def _value(spec: CovariateSpec, record: TableRecord, facts: Mapping[str, str]) -> float:
    name, unit = spec.covariate.name, spec.covariate.unit
    text = _text(spec, record, facts)
    if text is None:
        return math.nan
    limit = top_coded(text) if spec.covariate.is_continuous else None
    if limit is not None and spec.top_coded != "keep":
        how = "left out as asked" if spec.top_coded else "--top-coded keep takes it as its limit"
        raise Rejected("top-coded", f"{name}: {text!r} states a limit, no value: {how}")
    text = text if limit is None else repr(limit)
    try:
        if spec.factor != 1.0 and not is_missing(text):
            text = repr(parse_number(text) * spec.factor)
        value = spec.covariate.parse(text)
    except ValueError:
        raise Rejected("table", f"{name}: not a finite number, found {text!r}") from None
    except UsageError as error:
        said = f"{error.message}, found {text!r}, expected {error.expected}"
        said += " with a decimal point" if re.fullmatch(r"[+-]?\d+,\d+", text.strip()) else ""
        said += "" if re.search(r"\d", text) else ", or a code that --missing names"
        raise Rejected("table", f"{name}: {said}") from None
    low, high = spec.range or (-math.inf, math.inf)
    if not math.isnan(value) and not low <= value <= high:
        shown = f"{value:g} {unit}".strip()
        why = "another unit, a code that --missing names, or a mistake"
        raise Rejected("table", f"{name}: {shown} is outside {low:g} to {high:g}: {why}")
    return value


def _text(spec: CovariateSpec, record: TableRecord, facts: Mapping[str, str]) -> str | None:
    """What a covariate's cell says, decoded; None: missing."""
    for rule in spec.rules:
        if all(_holds(condition, record.cells, facts) for condition in rule.all):
            return rule.value
    name = spec.covariate.name
    for template in chosen(spec.column, facts):
        found = _filled(fill(template, facts) or "", record, name)
        known = [text for text in found if not _among(text, spec.missing)]
        if known and spec.readings == "mean":
            return _mean(known)
        if found:
            return _decoded(spec, known[0]) if known else None
    for formula in spec.formula:
        cells = [next(iter(_filled(n, record, name)), facts.get(n, "")) for n in formula.names]
        if not any(is_missing(text) or _among(text, spec.missing) for text in cells):
            return _computed(formula, cells, name)
    return None


def _filled(column: str, record: TableRecord, name: str) -> list[str]:
    """What stands in a covariate's column, where it is filled; with * in all columns that fit, in their
    order.

    Raises:
        Rejected: Two rows fill it differently.
    """
    columns = [column]
    if "*" in column and column not in record.cells:
        fits = re.compile(".*".join(map(re.escape, column.split("*"))))
        columns = sorted(filter(fits.fullmatch, record.cells), key=natural)
    for one in columns:
        if one in record.clashes:
            raise Rejected("table", f"{name}: stated twice, {record.clashes[one]}")
    return [record.cells[one] for one in columns if record.cells.get(one)]


def natural(text: str) -> tuple[tuple[bool, int, str], ...]:
    """A key that sorts numbers within texts as numbers: a2 before a10."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts)


def _mean(readings: Sequence[str]) -> str:
    """The mean of several readings; the first that is no number, where there is one."""
    numbers = []
    for text in readings:
        try:
            numbers.append(parse_number(text))
        except ValueError:
            return text
    return repr(sum(numbers) / len(numbers))


def _computed(formula: Formula, cells: Sequence[str], name: str) -> str:
    """A formula's value.

    Raises:
        Rejected: A cell is no number, or 0 where it must not be.
    """
    try:
        return repr(formula.value({n: parse_number(text) for n, text in zip(formula.names, cells)}))
    except (ValueError, ZeroDivisionError, OverflowError):
        found = ", ".join(f"{n} {text!r}" for n, text in zip(formula.names, cells))
        raise Rejected("table", f"{name}: {formula.text} cannot be computed of {found}") from None


def _decoded(spec: CovariateSpec, text: str) -> str | None:
    """What a cell means by the covariate's codes.

    Raises:
        Rejected: None of them.
    """
    if not spec.codes:
        return text
    code = next((c for c in spec.codes if same_value(text, c)), None)
    if code is None and not is_missing(text):
        known = " | ".join(spec.codes)
        how = "--covariate states other codes (LEVEL=CODE), --missing those for no value"
        raise Rejected("table", f"{spec.covariate.name}: unknown code {text!r}, expected {known}; {how}")
    return None if code is None else spec.codes[code]


def _holds(condition: Condition, cells: Mapping[str, str], facts: Mapping[str, str]) -> bool:
    names = [fill(text, facts) or "" for text in chosen(condition.columns, facts)]
    found = [
        code
        for column, text in cells.items()
        if text and any(fnmatchcase(column, name) for name in names)
        for code in _codes_in(text)
    ]

    def hit(choice: Choice) -> bool:
        return any(_among(text, chosen(choice, facts)) for text in found)

    return hit(condition.any) if condition.any else bool(found) and not hit(condition.none)


def _codes_in(text: str) -> list[str]:
    """The codes of a cell: tables of questions with several answers write 1|4 or [1, 4]."""
    listed = re.fullmatch(r"\[(.*)\]", text.strip())
    parts = listed[1].split(",") if listed else text.split("|")
    return [part.strip(" \"'") for part in parts if part.strip(" \"'")]


def _among(text: str, words: Iterable[str]) -> bool:
    return any(same_value(text, word) for word in words)


def consistent(
    records: Sequence[ImageRecord], specs: Sequence[CovariateSpec]
) -> tuple[list[ImageRecord], list[LeftOut]]:
    """Leave out images of one visit with different values, and values in a unit of their own."""
    reasons: dict[int, str] = {}
    visits: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, record in enumerate(records):
        image = record.image
        visits[image.subject, image.session, image.facts.get("side", "")].append(i)
    for (subject, session, _), members in visits.items():
        for name in records[members[0]].values:
            values = {records[i].values[name] for i in members if not math.isnan(records[i].values[name])}
            if len(values) > 1:
                shown = " and ".join(f"{v:g}" for v in sorted(values)[:3])
                visit = f"subject {subject}" + (f", session {session}" if session else "")
                for i in members:
                    reasons[i] = f"{name}: {visit} has {shown}; visits are told apart by a session"
    for spec in specs:
        name = spec.covariate.name
        if spec.covariate.is_continuous:
            values = np.array([record.values[name] for record in records])
            for i in np.flatnonzero(other_unit(values)):
                reasons[int(i)] = f"{name}: {values[i]:g} seems to be in another unit than most values"
    kept = [record for i, record in enumerate(records) if i not in reasons]
    left = [records[i].image.left_out("table", reason) for i, reason in sorted(reasons.items())]
    return kept, left


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
