"""Giving each image its covariates: tables read row by row, joined by key, decoded, converted and checked."""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mssg.data.cohort import (
    Cohort,
    CohortImage,
    CovariateSpec,
    LeftOut,
    TableSpec,
    alternatives,
    chosen,
    fill,
    names_in,
    pattern,
)
from mssg.data.cohort_files import walk
from mssg.data.cohort_values import ImageRecord, Rejected, consistent, values_of
from mssg.data.delimited import header_of, rows_of
from mssg.errors import DataError

_PLACE = re.compile(r"\{[^{}]+\}")


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


def join(
    found: Sequence[CohortImage], tables: Sequence[Path], root: Path, cohort: Cohort, alone: bool = True
) -> tuple[list[ImageRecord], list[LeftOut], list[CovariateSpec]]:
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
    problems: list[LeftOut] = []
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
    items: list[ImageRecord] = []
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
                raise Rejected("table", "no row in the table")
            items.append(ImageRecord(image, values_of(image, cells, clashes, cohort, readings, alone)))
        except Rejected as left:
            problems.append(LeftOut(image.name, left.stage, left.reason, image.subject, image.session))
    kept, more = consistent(items, readings)
    return kept, problems + more, readings


def _sources(
    tables: Sequence[Path], root: Path, cohort: Cohort, problems: list[LeftOut]
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
                problems.append(LeftOut(name, "table", str(error)))
                continue
            for spec in fits:
                facts = _named(spec, name)
                if set(names_in(spec.key)) <= {*header, *facts}:
                    sources.append((spec, path, facts))
            if fits and len(sources) == before:
                keys = " | ".join(spec.key for spec in fits)
                problems.append(LeftOut(name, "table", f"no column says whose a row is: {keys}"))
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


def _columns(cohort: Cohort, reading: CovariateSpec, variant: str) -> list[str]:
    choices = [reading.column, *(one.columns for rule in reading.rules for one in rule.all)]
    return [text for choice in choices for text in alternatives(choice, cohort.variants, variant)]


def _needed(cohort: Cohort, readings: Sequence[CovariateSpec], variant: str) -> list[str]:
    out = [c for reading in readings for c in _columns(cohort, reading, variant)]
    out += [c for _, condition in cohort.excludes for c in alternatives(condition.columns)]
    return out or ["(?!)"]


def _usable(cohort: Cohort, columns: set[str], tables: Sequence[str], variant: str) -> list[CovariateSpec]:
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
    found: Sequence[CohortImage],
    problems: list[LeftOut],
) -> dict[str, _Record]:
    """What a table says about the images' keys; other rows are passed over, so that memory does not grow with
    the table."""
    wanted = {fill(spec.match, image.facts) for image in found} - {None}
    records: dict[str, _Record] = defaultdict(_Record)
    for line, row in rows_of(path, problems, columns | set(names_in(spec.key))):
        key = fill(spec.key, {**facts, **row})
        if key is None:
            problems.append(LeftOut(f"{path.name}, line {line}", "table", f"its key is empty: {spec.key}"))
        elif key in wanted:
            records[key].add({c: row[c] for c in columns if c in row}, f"{path.name} line {line}")
    return records
