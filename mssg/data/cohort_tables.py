"""Giving each image its covariates: a cohort's tables found, read row by row, and joined by key."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mssg.data.cohort import (
    CohortImage,
    CohortMap,
    CovariateSpec,
    LeftOut,
    TableSpec,
    alternatives,
    chosen,
    first_filled,
    names_in,
    pattern,
    texts,
)
from mssg.data.cohort_files import walk
from mssg.data.cohort_values import ImageRecord, Rejected, TableRecord, consistent, values_of
from mssg.data.delimited import header_of
from mssg.data.joined_table import JoinedTable
from mssg.errors import DataError, MssgError, UsageError

_PLACE = re.compile(r"\{[^{}]+\}")
_SHOWN = 12
"""Column names that a message lists."""


def join(
    images: Sequence[CohortImage], tables: Sequence[Path], root: Path, cohort: CohortMap, alone: bool = True
) -> tuple[list[ImageRecord], list[LeftOut], list[CovariateSpec]]:
    """Give each image its covariates.

    Args:
        images: From `cohort_files`.
        tables: The user's tables; they fill in or override those that the cohort's patterns find in the
            folder.
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
    columns = {n for table in joined for n in table.columns.values()} | set(images[0].cells)
    names = [table.path.name for table in joined] + ([images[0].facts["table"]] if cohort.column else [])
    variant = images[0].facts["variant"]
    needs_table = alone or any(not spec.optional for spec in cohort.covariates)
    facts = set(images[0].facts)
    specs = _usable(cohort, columns, names, variant, facts) if columns or not needs_table else []
    if needs_table and not specs:
        raise _no_covariate(cohort, columns, names, root, problems)
    needed = re.compile("|".join(map(_as_regex, _needed(cohort, specs, variant))))
    wanted = {name for name in columns if needed.fullmatch(name)}
    asked = (_asked(cohort) & columns) - facts
    told: set[Path] = set()
    for table in joined:
        table.read(wanted | asked, images, problems if table.path not in told else [])
        told.add(table.path)
        images = [table.informed(image, asked) for image in images]
    records: list[ImageRecord] = []
    for image in images:
        try:
            image = _known(image, cohort)
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
        row = table.about(image)
        if row:
            record, known = record.overlaid(row), True
    if not known:
        raise Rejected("table", "no row " + "; ".join(filter(None, (t.missed(image) for t in tables))))
    return record


def _known(image: CohortImage, cohort: CohortMap) -> CohortImage:
    """An image whose subject is known, from its name or from a table.

    Raises:
        Rejected: Nothing says it.
    """
    subject = image.subject or first_filled(cohort.subject, image.facts)
    if not subject:
        raise Rejected("table", f"its subject is not known: {' | '.join(texts(cohort.subject))}")
    return image if image.subject else replace(image, subject=subject)


def _asked(cohort: CohortMap) -> set[str]:
    """Names that templates ask for, which tables may have to say."""
    templates = [*texts(cohort.subject), *(text for spec in cohort.tables for text in texts(spec.match))]
    templates += [spec.nearest.to for spec in cohort.tables if spec.nearest]
    return {name for template in templates for name in names_in(template)}


def _given_tables(paths: Sequence[Path], cohort: CohortMap) -> list[JoinedTable]:
    """The tables that a user names, each with every spec that fits it, in the map's order.

    Raises:
        DataError: One fits none.
    """
    out: list[JoinedTable] = []
    for path in paths:
        fits = _fitting(path, path.as_posix(), cohort.tables, cohort)
        if not fits:
            raise _keyless(path, cohort.tables)
        out += fits
    return sorted(out, key=lambda table: cohort.tables.index(table.spec))


def _found_tables(root: Path, cohort: CohortMap, problems: list[LeftOut], others: bool) -> list[JoinedTable]:
    """The tables that the map's patterns find in the folder.

    Args:
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
            joined = _fitting(path, name, fits, cohort)
            if not joined:
                raise _keyless(path, fits)
            out += joined
        except DataError as error:
            one_for_all = any(name in chosen(spec.pattern, {}) for spec in fits)
            if one_for_all and not others:
                raise
            problems.append(LeftOut(name, "table", error.brief))
    return sorted(out, key=lambda table: cohort.tables.index(table.spec))


def _fitting(path: Path, name: str, specs: Sequence[TableSpec], cohort: CohortMap) -> list[JoinedTable]:
    """A table, once for every key that its columns and its name have.

    Raises:
        DataError: Two of its columns mean the same.
    """
    columns = {column: cohort.spelled(column) for column in header_of(path)}
    twice = [name for name, count in Counter(columns.values()).items() if count > 1]
    if twice:
        found = " and ".join(column for column, name in columns.items() if name == twice[0])
        raise DataError("two columns mean the same", file=path, field=twice[0], found=found)
    out = []
    for spec in specs:
        facts = _named(spec, name)
        there = {*columns.values(), *facts}
        needed = {spec.has, spec.nearest.column if spec.nearest else ""} - {""}
        keys = [key for key in texts(spec.key) if {*names_in(key), *needed} <= there]
        out += [JoinedTable(spec, key, path, facts, columns=columns, bids=cohort.bids) for key in keys]
    all_keys = tuple(table.key for table in out)
    return [replace(table, others=tuple(key for key in all_keys if key != table.key)) for table in out]


def _keyless(path: Path, specs: Sequence[TableSpec]) -> DataError:
    keys = [n for spec in specs for key in texts(spec.key) for n in names_in(key)]
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
    """What a covariate may be read from, as templates and globs; of formulas in `_needed`."""
    choices = [spec.column, *(one.columns for rule in spec.rules for one in rule.all)]
    return [text for choice in choices for text in alternatives(choice, cohort.variants, variant)]


def _needed(cohort: CohortMap, specs: Sequence[CovariateSpec], variant: str) -> list[str]:
    out = [c for spec in specs for c in _columns(cohort, spec, variant)]
    out += [n for spec in specs for formula in spec.formula for n in formula.names]
    conditions = [condition for _, every in cohort.excludes for condition in every]
    out += [c for condition in conditions for c in alternatives(condition.columns)]
    return out or ["(?!)"]


def _usable(
    cohort: CohortMap, columns: set[str], tables: Sequence[str], variant: str, facts: set[str]
) -> list[CovariateSpec]:
    """The covariates of a variant whose columns are there; a formula may also use what files' names say.

    Raises:
        DataError: A column is missing that is not optional, or that is there in another spelling.
    """
    usable = []
    for spec in cohort.covariates:
        templates = _columns(cohort, spec, variant)
        sums = [formula.names for formula in spec.formula]
        if not templates and not sums:
            continue
        there = any(re.fullmatch(_as_regex(text), c) for text in templates for c in columns)
        if there or any(set(names) <= columns | facts for names in sums):
            usable.append(spec)
            continue
        name, alike = spec.covariate.name, _alike(templates, columns)
        if alike or not spec.optional:
            near = alike or difflib.get_close_matches((templates or [name])[0], sorted(columns), 1)
            raise DataError(
                "column is missing",
                file=", ".join(dict.fromkeys(tables[:3])) or None,
                field=name,
                found=_listed(columns) or "no table",
                expected=" | ".join((*templates, *(formula.text for formula in spec.formula))),
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
