"""Giving each image its covariates: a cohort's tables found, read row by row, and joined by key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mssg.data.bids import labelled
from mssg.data.cohort import (
    CohortImage,
    CohortMap,
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
from mssg.data.cohort_values import ImageRecord, Rejected, TableRecord, consistent, values_of
from mssg.data.delimited import header_of, rows_of
from mssg.errors import DataError, MssgError, UsageError

_PLACE = re.compile(r"\{[^{}]+\}")
_SHOWN = 12
"""Column names that a message lists."""
_SHOWN_KEYS = 3


@dataclass
class JoinedTable:
    """A table that is read: by which of the map's specs, what its name says, and what it holds.

    Attributes:
        records: Key -> what it says, of the keys that images look for alone: memory does not grow with the
            table.
        keys: The first keys of all, for messages.
        bids: Whether its rows say whose they are as BIDS does.
    """

    spec: TableSpec
    path: Path
    facts: Mapping[str, str]
    header: Sequence[str]
    records: dict[str, TableRecord] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    bids: bool = False

    def read(self, columns: set[str], images: Sequence[CohortImage], problems: list[LeftOut]) -> None:
        """Read the rows that images look for."""
        wanted = {fill(self.spec.match, image.facts) for image in images} - {None}
        for line, row in rows_of(self.path, problems, columns | set(names_in(self.spec.key))):
            stated = fill(self.spec.key, {**self.facts, **row})
            if stated is None:
                place = f"{self.path.name}, line {line}"
                problems.append(LeftOut(place, "table", f"its key is empty: {self.spec.key}"))
                continue
            if len(self.keys) < _SHOWN_KEYS and stated not in self.keys:
                self.keys.append(stated)
            key = fill(self.spec.key, {**self.facts, **labelled(row)}) if self.bids else stated
            if key and key in wanted:
                cells = {c: row[c] for c in columns if c in row}
                self.records.setdefault(key, TableRecord()).add(cells, f"{self.path.name} line {line}")


def join(
    images: Sequence[CohortImage], tables: Sequence[Path], root: Path, cohort: CohortMap, alone: bool = True
) -> tuple[list[ImageRecord], list[LeftOut], list[CovariateSpec]]:
    """Give each image its covariates.

    Args:
        images: From `cohort_files`.
        tables: The user's tables; they fill in or override those that the cohort's patterns find in the
            folder.
        root: That folder.
        cohort: The map.
        alone: Tables are all that is known of an image, so that one without a row or a value is left out.

    Returns:
        Images with covariates; what was left out with its reason; the covariates that the tables have
        (optional ones may lack).

    Raises:
        DataError: A table is missing, cannot be used or lacks a column, or none has a covariate.
    """
    if not images:
        return [], [], list(cohort.covariates)
    problems: list[LeftOut] = []
    joined = _found_tables(root, cohort, problems, bool(tables)) + _given_tables(tables, cohort)
    columns = {n for table in joined for n in table.header} | set(images[0].cells)
    names = [table.path.name for table in joined] + ([images[0].facts["table"]] if cohort.column else [])
    variant = images[0].facts["variant"]
    needs_table = alone or any(not spec.optional for spec in cohort.covariates)
    specs = _usable(cohort, columns, names, variant) if columns or not needs_table else []
    if needs_table and not specs:
        raise _no_covariate(cohort, columns, names, root, problems)
    needed = re.compile("|".join(map(_as_regex, _needed(cohort, specs, variant))))
    wanted = {name for name in columns if needed.fullmatch(name)}
    told: set[Path] = set()
    for table in joined:
        table.read(wanted, images, problems if table.path not in told else [])
        told.add(table.path)
    records: list[ImageRecord] = []
    for image in images:
        try:
            record = _record(image, joined, bool(cohort.column) or not alone)
            values = values_of(image, record, cohort, specs)
            if alone and not any(v == v for v in values.values()):
                raise Rejected("table", f"no covariate is known: {', '.join(values)} are all missing")
            records.append(ImageRecord(image, values))
        except Rejected as left:
            problems.append(image.left_out(left.stage, left.reason))
    kept, more = consistent(records, specs)
    return kept, problems + more, specs


def _record(image: CohortImage, tables: Sequence[JoinedTable], known: bool) -> TableRecord:
    """What all tables say about an image.

    Raises:
        Rejected: No table has a row for it, and one must.
    """
    record = TableRecord()
    record.add(image.cells, image.facts.get("table", ""))
    for table in tables:
        row = table.records.get(fill(table.spec.match, image.facts) or "")
        if row:
            record, known = record.overlaid(row), True
    if not known:
        raise Rejected("table", "no row " + "; ".join(filter(None, (_sought(image, t) for t in tables))))
    return record


def _sought(image: CohortImage, table: JoinedTable) -> str:
    key = fill(table.spec.match, image.facts)
    keys = f"which has {', '.join(table.keys)} …" if table.keys else "which has none"
    return f"for {key} in {table.path.name}, {keys}" if key else ""


def _given_tables(paths: Sequence[Path], cohort: CohortMap) -> list[JoinedTable]:
    """The tables that a user names, each with every spec that fits it.

    Raises:
        DataError: One fits none.
    """
    out: list[JoinedTable] = []
    for path in paths:
        fits = _fitting(path, path.as_posix(), cohort.tables, cohort.bids)
        if not fits:
            raise _keyless(path, cohort.tables)
        out += fits
    return out


def _found_tables(root: Path, cohort: CohortMap, problems: list[LeftOut], others: bool) -> list[JoinedTable]:
    """The tables that the map's patterns find in the folder.

    Args:
        root: The folder.
        cohort: The map.
        problems: What cannot be used of many tables alike is added here.
        others: The user has named tables of his own, so that one that cannot be used may be missed.

    Raises:
        DataError: The one table of all images cannot be used.
    """
    out: list[JoinedTable] = []
    specs = [spec for spec in cohort.tables if spec.pattern]
    for path in sorted(walk(root, [])) if specs else ():
        name = path.relative_to(root).as_posix()
        fits = [s for s in specs if any(pattern(p).fullmatch(name) for p in chosen(s.pattern, {}))]
        if not fits:
            continue
        try:
            joined = _fitting(path, name, fits, cohort.bids)
            if not joined:
                raise _keyless(path, fits)
            out += joined
        except DataError as error:
            one_for_all = any(name in chosen(spec.pattern, {}) for spec in fits)
            if one_for_all and not others:
                raise
            problems.append(LeftOut(name, "table", error.brief))
    return sorted(out, key=lambda table: cohort.tables.index(table.spec))


def _fitting(path: Path, name: str, specs: Sequence[TableSpec], bids: bool) -> list[JoinedTable]:
    """A table, once for every spec whose key its columns and its name have."""
    header = header_of(path)
    out = [JoinedTable(spec, path, _named(spec, name), header, bids=bids) for spec in specs]
    return [table for table in out if set(names_in(table.spec.key)) <= {*header, *table.facts}]


def _keyless(path: Path, specs: Sequence[TableSpec]) -> DataError:
    keys = [n for spec in specs for n in names_in(spec.key)]
    header = header_of(path)
    near = difflib.get_close_matches(keys[0], header, 1) if keys else []
    return DataError(
        "has no column that says whose a row is",
        file=path,
        found=_listed(header),
        expected=" | ".join(dict.fromkeys(keys)) or "a cohort map with [[tables]]",
        hint=f"Is it {near[0]!r}?" if near else None,
    )


def _listed(columns: Sequence[str] | set[str]) -> str:
    names = sorted(columns)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _named(spec: TableSpec, name: str) -> dict[str, str]:
    match = re.search(spec.id, name) if spec.id else None
    return {k: v or "" for k, v in match.groupdict().items()} if match else {}


def _as_regex(text: str) -> str:
    """A column's template or glob as a regular expression."""
    return ".*".join(re.escape(part).replace(r"\*", ".*") for part in _PLACE.split(text)) or "(?!)"


def _columns(cohort: CohortMap, spec: CovariateSpec, variant: str) -> list[str]:
    choices = [spec.column, *(one.columns for rule in spec.rules for one in rule.all)]
    return [text for choice in choices for text in alternatives(choice, cohort.variants, variant)]


def _needed(cohort: CohortMap, specs: Sequence[CovariateSpec], variant: str) -> list[str]:
    out = [c for spec in specs for c in _columns(cohort, spec, variant)]
    out += [c for _, condition in cohort.excludes for c in alternatives(condition.columns)]
    return out or ["(?!)"]


def _usable(cohort: CohortMap, columns: set[str], tables: Sequence[str], variant: str) -> list[CovariateSpec]:
    """The covariates of a variant whose columns are there.

    Raises:
        DataError: A column is missing that is not optional, or that is there in another spelling.
    """
    usable = []
    for spec in cohort.covariates:
        texts = _columns(cohort, spec, variant)
        if not texts:
            continue
        if any(re.fullmatch(_as_regex(text), c) for text in texts for c in columns):
            usable.append(spec)
            continue
        name, alike = spec.covariate.name, _alike(texts, columns)
        if alike or not spec.optional:
            near = alike or difflib.get_close_matches(texts[0], sorted(columns), 1)
            raise DataError(
                "column is missing",
                file=", ".join(dict.fromkeys(tables[:3])) or None,
                field=name,
                found=_listed(columns) or "no table",
                expected=" | ".join(texts),
                hint=f"Is it {near[0]!r}? {_named_by(spec, near[0])}"
                if near
                else "Correct the table, or the map",
            )
    return usable


def _alike(texts: Sequence[str], columns: set[str]) -> list[str]:
    """Columns that differ from the texts in case, blanks or underscores alone."""

    def folded(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).casefold()

    return sorted(column for column in columns if folded(column) in map(folded, texts))


def _named_by(spec: CovariateSpec, column: str) -> str:
    c = spec.covariate
    words = list(spec.codes)
    detail = f":{c.unit}" if c.unit else f":{','.join(c.levels)}" if c.levels else ""
    detail = f":{words[0]},{words[-1]}" if c.kind == "binary" and words and not c.levels else detail
    return f"Name it with --covariate {c.name}@{column}={c.kind}{detail}"


def _no_covariate(
    cohort: CohortMap, columns: set[str], tables: Sequence[str], root: Path, problems: Sequence[LeftOut]
) -> MssgError:
    """No table has any of the map's covariates: what there is instead."""
    wanted = [text for spec in cohort.covariates for text in _columns(cohort, spec, "")]
    if tables:
        return UsageError(
            "no covariate: none of the map's columns is there, and --covariate names none",
            file=", ".join(dict.fromkeys(tables[:3])),
            found=_listed(columns),
            expected=" | ".join(wanted) or None,
            hint="Name columns, for example --covariate age@COLUMN=continuous:years",
        )
    patterns = [p for spec in cohort.tables for p in alternatives(spec.pattern)]
    return DataError(
        "no table of covariates found",
        file=root,
        found="; ".join(f"{p.file}: {p.reason}" for p in problems[:3]) or None,
        expected=" | ".join(patterns) or "--table FILE",
        hint="Give it with --table",
    )
