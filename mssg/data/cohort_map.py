"""Cohort maps as TOML: read, with errors that name file, table and key (docs/reference/cohort-maps.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mssg import assets
from mssg.data.cohort import (
    Choice,
    CohortMap,
    Condition,
    CovariateSpec,
    Nearest,
    Rule,
    Spelling,
    TableSpec,
    names_in,
    texts,
)
from mssg.data.covariate_options import TOP_CODED
from mssg.data.formula import Formula
from mssg.errors import DataError, UsageError
from mssg.study.schema import covariate_of
from mssg.study.toml_table import TomlTable, read_toml

KINDS = ("mri", "fundus")
READINGS = ("first", "mean")
"""Of several filled columns: which counts."""


def shipped() -> list[str]:
    """Names of the cohort maps that come with MSSG."""
    return sorted(p.stem for p in (assets.root() / "cohorts").glob("*.toml"))


def load_cohort(name: str | os.PathLike[str]) -> CohortMap:
    """Read a cohort map: a TOML's path, or the name of a shipped one.

    Raises:
        DataError, StudyError: Missing, not TOML, or it says what cannot be; file, table and key are named.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if str(name) not in shipped():
            raise UsageError(
                "no such cohort map",
                field="--cohort",
                found=str(name),
                expected=f"a TOML, or {' | '.join(shipped())}",
            )
        path = assets.path(f"cohorts/{name}.toml")
    return from_document(read_toml(path, DataError), str(path))


def from_document(document: Mapping[str, Any], file: str | None = None) -> CohortMap:
    """The cohort of a parsed TOML.

    Raises:
        DataError, StudyError: Naming file, table and key.
    """
    top = _table(document, "", file)
    name, kind = top.get("name", "text"), top.get("kind", "text", choices=KINDS)
    title, variants = top.get("title", "any text", ""), tuple(top.get("variants", "texts", []))
    geometry = _table(top.table("geometry"), "geometry", file)
    affine = _choice(geometry, "affine", variants, "none")
    geometry.finish()
    files = _files(_table(top.table("files"), "files", file), variants)
    specs = _table(top.table("covariates"), "covariates", file).rest()
    excludes = [
        _exclude(_table(entry, f"exclude[{i}]", file), variants)
        for i, entry in enumerate(_list(top, "exclude"), 1)
    ]
    spellings = [
        _spelling(entry, f"spellings[{i}]", file) for i, entry in enumerate(_list(top, "spellings"), 1)
    ]
    warnings = _choice(top, "warnings", variants, ())
    tables = [_table_spec(entry, f"tables[{i}]", file) for i, entry in enumerate(_list(top, "tables"), 1)]
    qc = _quality(_table(top.table("qc"), "qc", file))
    top.finish()
    return CohortMap(
        name=name,
        kind=kind,
        title=title,
        variants=variants,
        affine=affine,
        **files,
        tables=tuple(tables),
        covariates=tuple(_covariate(key, entry, variants, file) for key, entry in specs.items()),
        excludes=tuple(excludes),
        spellings=tuple(spellings),
        warnings=warnings,
        qc=qc,
        path=file,
    )


def _files(table: TomlTable, variants: tuple[str, ...]) -> dict[str, Any]:
    """What a map says of its files."""
    values: dict[str, Any] = {
        "pattern": _choice(table, "pattern", variants, ()),
        "column": table.get("column", "text", ""),
        "id": _regex(table, "id"),
        "subject": _choice(table, "subject", (), "{subject}"),
        "session": table.get("session", "any text", ""),
        "bids": table.get("bids", "flag", False),
    }
    codes = _table(table.table("codes"), "files.codes", table.file).rest()
    values["codes"] = {k: _codes(table, v) for k, v in codes.items()}
    table.finish()
    if bool(values["pattern"]) == bool(values["column"]):
        raise table.error(
            "pattern", "needs either a pattern or a column", hint='For example pattern = "*.nii.gz"'
        )
    return values


def _table(document: Any, name: str, file: str | None) -> TomlTable:
    return TomlTable(document, name, file, DataError)


def _list(table: TomlTable, key: str) -> list[Any]:
    value = table.table(key) or []
    if not isinstance(value, list):
        raise table.error(key, "wrong value", found=repr(value), expected=f"tables [[{key}]]")
    return value


def _choice(table: TomlTable, key: str, variants: tuple[str, ...], default: Any) -> Choice:
    """A text, a list of texts, or a table of them keyed by variants or sides."""
    value = table.table(key)
    if value == {} or value is None:
        return default

    def read(part: Any) -> Choice:
        if isinstance(part, str) and part:
            return part
        if isinstance(part, list) and part and all(isinstance(p, str | int) for p in part):
            return tuple(str(p) for p in part)
        if isinstance(part, Mapping) and part:
            unknown = [k for k in part if k not in (*variants, "left", "right")]
            if unknown:
                raise table.error(
                    f"{key}.{unknown[0]}",
                    "neither a variant nor a side",
                    expected=" | ".join((*variants, "left", "right")),
                )
            return {k: read(v) for k, v in part.items()}
        raise table.error(
            key, "wrong value", found=repr(part), expected="a text, texts, or alternatives by variant or side"
        )

    return read(value)


def _regex(table: TomlTable, key: str) -> str:
    text = table.get(key, "any text", "")
    try:
        re.compile(text)
    except re.error as error:
        raise table.error(key, f"not a regular expression: {error}", found=repr(text)) from None
    return text


def _codes(table: TomlTable, document: Any) -> dict[str, str]:
    if not isinstance(document, Mapping) or not all(isinstance(v, str | int) for v in document.values()):
        raise table.error(
            "codes", "wrong value", found=repr(document), expected='a table such as { "M" = 1 }'
        )
    return {str(k): str(v) for k, v in document.items()}


def _table_spec(document: Any, name: str, file: str | None) -> TableSpec:
    table = _table(document, name, file)
    spec = TableSpec(
        _choice(table, "pattern", (), ()),
        _regex(table, "id"),
        _choice(table, "key", (), "{subject}"),
        _choice(table, "match", (), "{subject}"),
        has=table.get("has", "text", ""),
        nearest=_nearest(table),
    )
    table.finish()
    return spec


def _nearest(table: TomlTable) -> Nearest | None:
    document = table.table("nearest")
    if not document:
        return None
    nearest = _table(document, f"{table.name}.nearest", table.file)
    found = Nearest(
        nearest.get("column", "text"), nearest.get("to", "text"), nearest.get("within", "positive")
    )
    nearest.finish()
    return found


def _spelling(document: Any, name: str, file: str | None) -> Spelling:
    table = _table(document, name, file)
    table.get("pattern", "text")
    found = Spelling(
        _regex(table, "pattern"), table.get("means", "text"), table.get("default", "any text", "")
    )
    groups = re.compile(found.pattern).groupindex
    unknown = [group for group in names_in(found.means) if group not in groups]
    if unknown:
        raise table.error(
            "means", "the pattern has no such group", found=unknown[0], expected=", ".join(groups)
        )
    table.finish()
    return found


def _exclude(table: TomlTable, variants: tuple[str, ...]) -> tuple[str, tuple[Condition, ...]]:
    """The reason for leaving images out, and the conditions that must all hold."""
    reason, every = table.get("reason", "text"), _list(table, "all")
    if not every:
        return reason, (_condition(table, variants),)
    conditions = tuple(_condition(_table(c, f"{table.name}.all", table.file), variants) for c in every)
    table.finish()
    return reason, conditions


def _condition(table: TomlTable, variants: tuple[str, ...]) -> Condition:
    columns = _choice(table, "columns", variants, ())
    condition = Condition(columns, _choice(table, "any", variants, ()), _choice(table, "none", variants, ()))
    table.finish()
    if not columns or bool(condition.any) == bool(condition.none):
        raise table.error("columns", "a condition needs columns, and either any or none")
    return condition


def _covariate(name: str, document: Any, variants: tuple[str, ...], file: str | None) -> CovariateSpec:
    table = _table(document, f"covariates.{name}", file)
    column = _choice(table, "column", variants, ())
    formula = _formulas(table)
    readings = table.get("readings", "text", READINGS[0], READINGS)
    codes = _codes(table, table.table("codes"))
    missing = tuple(str(m) for m in _list(table, "missing"))
    factor = float(table.get("factor", "positive", 1.0))
    span = table.get("range", "pair", None)
    optional = table.get("optional", "flag", False)
    top_coded = table.get("top_coded", "text", "", ("", *TOP_CODED))
    rules = _rules(table, variants)
    covariate = covariate_of(name, table.rest(), file)
    if bool(column or formula) == bool(rules):
        raise table.error("column", "needs either a column or rules")
    if (span or factor != 1.0 or formula or readings != READINGS[0]) and not covariate.is_continuous:
        raise table.error("range", "range, factor, formula and readings are for continuous covariates")
    return CovariateSpec(
        covariate,
        column,
        formula,
        readings,
        codes=codes,
        missing=missing,
        factor=factor,
        range=(float(span[0]), float(span[1])) if span else None,
        optional=optional,
        rules=rules,
        top_coded=top_coded,
    )


def _formulas(table: TomlTable) -> tuple[Formula, ...]:
    document = _choice(table, "formula", (), ())
    try:
        return tuple(Formula.parse(text) for text in texts(document))
    except (ValueError, TypeError) as error:
        hint = 'For example formula = "{AgeatEntry} + {days} / 365.25"'
        raise table.error("formula", str(error), found=repr(document), hint=hint) from None


def _rules(table: TomlTable, variants: tuple[str, ...]) -> tuple[Rule, ...]:
    rules = []
    for i, entry in enumerate(_list(table, "rules"), 1):
        rule = _table(entry, f"{table.name}.rules[{i}]", table.file)
        value = rule.table("value")
        if not isinstance(value, str | int | float):
            raise rule.error("value", "is missing", expected="a level, 0 or 1")
        conditions = tuple(
            _condition(_table(c, f"{rule.name}.all", table.file), variants) for c in _list(rule, "all")
        )
        rule.finish()
        if not conditions:
            raise rule.error("all", "a rule needs conditions")
        rules.append(Rule(str(value), conditions))
    return tuple(rules)


def _quality(table: TomlTable) -> dict[str, Any]:
    qc: dict[str, Any] = {}
    for key, kind in (("mean", "pair"), ("border_columns", "count"), ("border_mean", "positive")):
        value = table.get(key, kind, None)
        if value is not None:
            qc[key] = value
    table.finish()
    return qc
