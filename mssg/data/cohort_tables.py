"""Giving each image its covariates: tables read row by row, joined by key, decoded, converted and checked."""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg.data.cohort import (
    Choice,
    Cohort,
    Condition,
    Found,
    Reading,
    Skip,
    TableSpec,
    alternatives,
    chosen,
    fill,
    names_in,
    pattern,
)
from mssg.data.cohort_files import walk
from mssg.errors import DataError, UsageError
from mssg.study.model import Covariate

UNIT_GAP = 20.0
"""Positive values that fall into two groups this factor apart, with nothing between, were taken in two units.
"""
FEWEST = 5
"""Values from which a gap says something."""
PLAUSIBLE = {"years": (0.0, 120.0)}
"""Ranges of units that leave no doubt, for covariates declared on the command line."""
_PLACE = re.compile(r"\{[^{}]+\}")


@dataclass(frozen=True)
class Item:
    """An image with its covariates in native units; NaN is missing."""

    image: Found
    values: Mapping[str, float]


@dataclass
class _Record:
    """What tables say under one key: filled cells, and columns that two lines fill differently."""

    cells: dict[str, str] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    clashes: dict[str, str] = field(default_factory=dict)

    def add(self, row: Mapping[str, str], place: str) -> None:
        for column, text in row.items():
            if not text:
                continue
            known = self.cells.setdefault(column, text)
            first = self.lines.setdefault(column, place)
            if known != text:
                self.clashes[column] = f"{known!r} in {first}, {text!r} in {place}"


def parse_reading(text: str) -> Reading:
    """A covariate from NAME[@COLUMN]=KIND[:DETAIL…].

    Args:
        text: "age=continuous:years", "ventricle@LatVent=continuous:ml:1..300" (unit, then range),
            "sex=binary:F,M" (0, 1), "site=categorical:x,y,z".

    Raises:
        UsageError: Anything else.
    """
    head, _, rest = text.partition("=")
    name, _, column = head.partition("@")
    kind, *details = rest.split(":")
    unit, span = "", None
    try:
        if kind == "continuous":
            for detail in details:
                if match := re.fullmatch(r"(-?[\d.]+)\.\.(-?[\d.]+)", detail):
                    span = (float(match[1]), float(match[2]))
                else:
                    unit = detail
            covariate = Covariate(name, kind, unit=unit)
            return Reading(covariate, column or name, range=span or PLAUSIBLE.get(unit))
        words = [w.strip() for w in details[0].split(",")] if details else []
        if kind == "binary" and len(words) in (0, 2):
            codes = {words[0]: "0", words[1]: "1"} if words else {}
            return Reading(Covariate(name, kind), column or name, codes=codes)
        if kind == "categorical" and len(set(words)) == len(words) > 1:
            return Reading(Covariate(name, kind, levels=tuple(words)), column or name)
    except ValueError:
        pass
    raise UsageError(
        "cannot be read as a covariate",
        field="--covariate",
        found=repr(text),
        expected="NAME=continuous[:UNIT][:LO..HI], NAME=binary[:ZERO,ONE] or NAME=categorical:LEVEL,LEVEL,…",
    )


def rows_of(
    path: Path, problems: list[Skip] | None = None, columns: set[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """A table's rows, one at a time: line number and cells, stripped.

    Args:
        path: .csv (commas, semicolons or tabs) or .tsv.
        problems: Lines that cannot be read are added here and left out; None: only the header is looked at.
        columns: Only these; all by default. Tables of a cohort may be thousands of columns wide.

    Raises:
        DataError: Not there, not text, or no usable header.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter)
            header = [name.strip() for name in next(reader, [])]
            twice = (
                next((n for n in header if n and header.count(n) > 1), None) if len(header) < 1000 else None
            )
            if not any(header) or twice:
                raise DataError(
                    "no usable line of column names",
                    file=path,
                    field="line 1",
                    found=repr(twice or first[:80]),
                )
            cells = [(i, n) for i, n in enumerate(header) if columns is None or n in columns]
            if problems is None:
                yield 1, dict.fromkeys(header, "")
                return
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    place = f"{path.name}, line {reader.line_num}"
                    problems.append(Skip(place, "table", f"cannot be read: {error}"))
                    continue
                if len(row) == len(header):
                    yield reader.line_num, {n: row[i].strip() for i, n in cells}
                elif any(row):
                    place = f"{path.name}, line {reader.line_num}"
                    problems.append(Skip(place, "table", f"{len(row)} cells instead of {len(header)}"))
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", file=path, expected="a table in UTF-8") from None


def header_of(path: Path) -> list[str]:
    """A table's column names.

    Raises:
        DataError: As `rows_of`.
    """
    return list(next(rows_of(path))[1])


def join(
    found: Sequence[Found], tables: Sequence[Path], root: Path, cohort: Cohort, alone: bool = True
) -> tuple[list[Item], list[Skip], list[Reading]]:
    """Give each image its covariates.

    Args:
        found: From `cohort_files`.
        tables: The user's tables; none: those that the cohort's patterns find in the folder.
        root: That folder.
        cohort: The map.
        alone: Tables are all that is known of an image, so that one without a row or a value is left out.

    Returns:
        Images with covariates; what was left out with its reason; the readings that were used (optional ones
        may lack).

    Raises:
        DataError: A table is missing or lacks a column.
    """
    if not found:
        return [], [], list(cohort.readings)
    problems: list[Skip] = []
    sources = _sources(tables, root, cohort, problems)
    columns, names = {n for _, path, _ in sources for n in header_of(path)}, [p.name for _, p, _ in sources]
    if cohort.column:
        columns |= set(found[0].cells)
        names.append(found[0].facts["table"])
    variant = found[0].facts["variant"]
    readings = _usable(cohort, columns, names, variant)
    needed = _needed(cohort, readings, variant)
    wanted = {n: re.compile("|".join(map(_as_regex, needed))).fullmatch(n) is not None for n in columns}
    records = [
        _records(spec, path, facts, {n for n in columns if wanted[n]}, found, problems)
        for spec, path, facts in sources
    ]
    items: list[Item] = []
    for image in found:
        cells, clashes, known = dict(image.cells), {}, bool(cohort.column)
        for (spec, _, _), record_of in zip(sources, records):
            record = record_of.get(fill(spec.match, image.facts) or "")
            if record:
                known = True
                clashes = {k: v for k, v in clashes.items() if k not in record.cells} | record.clashes
                cells |= record.cells
        try:
            if alone and not known and readings:
                raise _Left("table", "no row in the table")
            items.append(Item(image, _values(image, cells, clashes, cohort, readings, alone)))
        except _Left as left:
            problems.append(Skip(image.name, left.stage, left.reason, image.subject, image.session))
    kept, more = _consistent(items, readings)
    return kept, problems + more, readings


class _Left(Exception):
    def __init__(self, stage: str, reason: str) -> None:
        self.stage, self.reason = stage, reason


def _sources(
    tables: Sequence[Path], root: Path, cohort: Cohort, problems: list[Skip]
) -> list[tuple[TableSpec, Path, dict[str, str]]]:
    """Which table is read by which of the cohort's specs, with what the table's name says."""
    sources = []
    if tables:
        for path in tables:
            header, before = set(header_of(path)), len(sources)
            for spec in cohort.tables:
                facts = _named(spec, path.as_posix())
                if set(names_in(spec.key)) <= header | set(facts):
                    sources.append((spec, path, facts))
            if len(sources) == before:
                keys = [n for spec in cohort.tables for n in names_in(spec.key)]
                near = difflib.get_close_matches(keys[0], sorted(header), 1) if keys else []
                raise DataError(
                    "has no column that says whose a row is",
                    file=path,
                    found=", ".join(sorted(header)[:12]),
                    expected=" | ".join(dict.fromkeys(keys)) or "a cohort map with [[tables]]",
                    hint=f"Is it {near[0]!r}?" if near else None,
                )
        return sources
    specs = [spec for spec in cohort.tables if spec.pattern]
    if specs:
        for path in sorted(walk(root, [])):
            name, before = path.relative_to(root).as_posix(), len(sources)
            fits = [s for s in specs if any(pattern(p).fullmatch(name) for p in chosen(s.pattern, {}))]
            try:
                header = header_of(path) if fits else []
            except DataError as error:
                problems.append(Skip(name, "table", str(error)))
                continue
            for spec in fits:
                facts = _named(spec, name)
                if set(names_in(spec.key)) <= {*header, *facts}:
                    sources.append((spec, path, facts))
            if fits and len(sources) == before:
                keys = " | ".join(spec.key for spec in fits)
                problems.append(Skip(name, "table", f"no column says whose a row is: {keys}"))
        sources.sort(key=lambda source: cohort.tables.index(source[0]))
    if not sources and any(not r.optional for r in cohort.readings) and not cohort.column:
        raise DataError(
            "no table of covariates found",
            file=root,
            expected=" | ".join(p for s in specs for p in alternatives(s.pattern)) or "--table FILE",
            hint="Give it with --table",
        )
    return sources


def _named(spec: TableSpec, name: str) -> dict[str, str]:
    match = re.search(spec.id, name) if spec.id else None
    return {k: v or "" for k, v in match.groupdict().items()} if match else {}


def _as_regex(text: str) -> str:
    """A column's template or glob as a regular expression."""
    return ".*".join(re.escape(part).replace(r"\*", ".*") for part in _PLACE.split(text)) or "(?!)"


def _columns(cohort: Cohort, reading: Reading, variant: str) -> list[str]:
    choices = [reading.column, *(one.columns for rule in reading.rules for one in rule.all)]
    return [text for choice in choices for text in alternatives(choice, cohort.variants, variant)]


def _needed(cohort: Cohort, readings: Sequence[Reading], variant: str) -> list[str]:
    out = [c for reading in readings for c in _columns(cohort, reading, variant)]
    out += [c for _, condition in cohort.excludes for c in alternatives(condition.columns)]
    return out or ["(?!)"]


def _usable(cohort: Cohort, columns: set[str], tables: Sequence[str], variant: str) -> list[Reading]:
    """The readings of a variant whose columns are there.

    Raises:
        DataError: A column that is not optional is missing.
    """
    usable = []
    for reading in cohort.readings:
        texts = _columns(cohort, reading, variant)
        if not texts:
            continue
        if any(re.fullmatch(_as_regex(text), c) for text in texts for c in columns):
            usable.append(reading)
        elif not reading.optional:
            near = difflib.get_close_matches(texts[0], sorted(columns), 1)
            raise DataError(
                "column is missing",
                file=", ".join(dict.fromkeys(tables[:3])) or None,
                field=reading.covariate.name,
                found=", ".join(sorted(columns)[:12]) or "no table",
                expected=" | ".join(texts),
                hint=f"Is it {near[0]!r}? Correct the table or the cohort map"
                if near
                else "Correct the table or the cohort map",
            )
    return usable


def _records(
    spec: TableSpec,
    path: Path,
    facts: Mapping[str, str],
    columns: set[str],
    found: Sequence[Found],
    problems: list[Skip],
) -> dict[str, _Record]:
    """What a table says about the images' keys; other rows are passed over, so that memory does not grow with
    the table."""
    wanted = {fill(spec.match, image.facts) for image in found} - {None}
    records: dict[str, _Record] = defaultdict(_Record)
    for line, row in rows_of(path, problems, columns | set(names_in(spec.key))):
        key = fill(spec.key, {**facts, **row})
        if key is None:
            problems.append(Skip(f"{path.name}, line {line}", "table", f"its key is empty: {spec.key}"))
        elif key in wanted:
            records[key].add({c: row[c] for c in columns if c in row}, f"{path.name} line {line}")
    return records


def _values(
    image: Found,
    cells: Mapping[str, str],
    clashes: Mapping[str, str],
    cohort: Cohort,
    readings: Sequence[Reading],
    alone: bool,
) -> dict[str, float]:
    """An image's covariates in native units.

    Raises:
        _Left: A cell that cannot be, two rows that clash, an exclusion, or nothing known.
    """
    for reason, condition in cohort.excludes:
        if _holds(condition, cells, image.facts):
            raise _Left("excluded", reason)
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
            raise _Left("table", f"{name}: not a number, found {text!r}") from None
        except UsageError as error:
            raise _Left(
                "table", f"{name}: {error.message}, found {text!r}, expected {error.expected}"
            ) from None
        low, high = reading.range or (-math.inf, math.inf)
        if not math.isnan(value) and not low <= value <= high:
            shown = f"{value:g} {reading.covariate.unit}".strip()
            raise _Left(
                "table", f"{name}: {shown} is outside {low:g} to {high:g}: another unit, or a mistake"
            )
        out[name] = value
    if alone and readings and all(math.isnan(v) for v in out.values()):
        raise _Left("table", f"no covariate is known: {', '.join(out)} are all missing")
    return out


def _text(
    reading: Reading, cells: Mapping[str, str], clashes: Mapping[str, str], facts: Mapping[str, str]
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
            raise _Left("table", f"{reading.covariate.name}: stated twice, {clashes[column]}")
        if not text:
            continue
        if _among(text, reading.missing):
            return None
        if reading.codes:
            code = next((c for c in reading.codes if _same(text, c)), None)
            if code is None and text.lower() not in ("nan", "na", "n/a"):
                known = " | ".join(reading.codes)
                raise _Left("table", f"{reading.covariate.name}: unknown code {text!r}, expected {known}")
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


def _consistent(items: Sequence[Item], readings: Sequence[Reading]) -> tuple[list[Item], list[Skip]]:
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
        Skip(items[i].image.name, "table", reason, items[i].image.subject, items[i].image.session)
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
