"""Cohort maps: which files are images, whose they are, and which column of which table is which covariate.
Data, not code.

A cohort is one TOML (assets/cohorts/*.toml, or a user's own; docs/cohort-maps.md has the schema). `find`
lists a folder's images, `mssg.data.cohort_tables.join` gives each its covariates in native units. Whatever
does not fit becomes a `Skip` with a reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mssg import assets
from mssg.errors import DataError, UsageError
from mssg.files import parse_toml
from mssg.study.model import Covariate
from mssg.study.schema import covariate_of
from mssg.study.toml_table import Table

KINDS = ("mri", "fundus")
CHOICES = ("variant", "side")
"""Facts of an image that may choose among alternatives: { left = "…", right = "…" }."""
_PLACE = re.compile(r"\{([^{}]+)\}")

Choice = str | tuple[str, ...] | Mapping[str, Any]
"""Text, texts, or alternatives keyed by a fact's value."""


@dataclass(frozen=True)
class Skip:
    """Something that was left out: a file, or a table and line; the stage that left it out, and why."""

    file: str
    stage: str
    reason: str
    subject: str = ""
    session: str = ""


@dataclass(frozen=True)
class Found:
    """An image that was found: path, path relative to the folder, subject, session, what templates may ask
    for, and its row.

    `facts` hold what the file's name says (or its row), and variant, folder and stem; `cells` the row of a
    table of paths.
    """

    path: Path
    name: str
    subject: str
    session: str
    facts: Mapping[str, str]
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Condition:
    """True where a cell of `columns` is one of `any`, or, with `none`, where no cell is one of them."""

    columns: Choice
    any: Choice = ()
    none: Choice = ()


@dataclass(frozen=True)
class Rule:
    """The covariate is `value` where all conditions hold."""

    value: str
    all: tuple[Condition, ...]


@dataclass(frozen=True)
class Reading:
    """How a covariate is read: a column with its codes and unit, or rules of which the first that holds
    decides."""

    covariate: Covariate
    column: Choice = ()
    codes: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    factor: float = 1.0
    range: tuple[float, float] | None = None
    optional: bool = False
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class TableSpec:
    """A table: where it lies (a pattern), what its name says, its rows' key, and which key an image looks
    for."""

    pattern: Choice = ()
    id: str = ""
    key: str = "{subject}"
    match: str = "{subject}"


@dataclass(frozen=True)
class Cohort:
    """One cohort map; see docs/cohort-maps.md for every field."""

    name: str
    kind: str
    title: str = ""
    variants: tuple[str, ...] = ()
    affine: Choice = "none"
    pattern: Choice = ()
    column: str = ""
    id: str = ""
    subject: str = "{subject}"
    session: str = ""
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tables: tuple[TableSpec, ...] = ()
    readings: tuple[Reading, ...] = ()
    excludes: tuple[tuple[str, Condition], ...] = ()
    qc: Mapping[str, Any] = field(default_factory=dict)
    path: str | None = None

    def variant(self, name: str | None) -> str:
        """A variant's name: the one asked for, or the first.

        Raises:
            UsageError: The cohort has no such variant.
        """
        if name is None:
            return self.variants[0] if self.variants else ""
        if name not in self.variants:
            raise UsageError(
                f"cohort {self.name} has no such variant",
                field="--variant",
                found=name,
                expected=" | ".join(self.variants) or "none",
            )
        return name


def fill(template: str, facts: Mapping[str, str]) -> str | None:
    """A template with every {name} replaced by a fact; None where one of them is missing or empty."""
    try:
        parts = {name: facts[name] for name in _PLACE.findall(template)}
    except KeyError:
        return None
    return _PLACE.sub(lambda m: parts[m.group(1)], template) if all(parts.values()) else None


def names_in(template: str) -> tuple[str, ...]:
    """The names that a template asks for."""
    return tuple(_PLACE.findall(template))


def alternatives(choice: Choice, variants: Sequence[str] = (), variant: str = "") -> tuple[str, ...]:
    """Every text that a choice can come to; of those keyed by variants, those of one variant."""
    if isinstance(choice, str):
        return (choice,)
    if isinstance(choice, Mapping):
        if any(key in variants for key in choice):
            return alternatives(choice.get(variant, ()), variants, variant)
        return tuple(text for part in choice.values() for text in alternatives(part, variants, variant))
    return tuple(choice)


def chosen(choice: Choice, facts: Mapping[str, str]) -> tuple[str, ...]:
    """The texts of a choice for an image; none where the fact that chooses is not known."""
    if isinstance(choice, Mapping):
        for name in CHOICES:
            if facts.get(name) in choice:
                return chosen(choice[facts[name]], facts)
        return ()
    return (choice,) if isinstance(choice, str) else tuple(choice)


@lru_cache(maxsize=256)
def pattern(text: str) -> re.Pattern[str]:
    """A glob as a regular expression: * and ? stay within a folder, ** spans folders; case does not matter
    for suffixes."""
    out, i = "", 0
    while i < len(text):
        if text.startswith("**/", i):
            out, i = out + "(?:[^/]+/)*", i + 3
        elif text.startswith("**", i):
            out, i = out + ".*", i + 2
        elif text[i] in "*?":
            out, i = out + ("[^/]*" if text[i] == "*" else "[^/]"), i + 1
        else:
            out, i = out + re.escape(text[i]), i + 1
    return re.compile(out, re.IGNORECASE)


def shipped() -> list[str]:
    """Names of the cohort maps that come with MSSG."""
    return sorted(p.stem for p in (assets.root() / "cohorts").glob("*.toml"))


def load_cohort(name: str | os.PathLike[str]) -> Cohort:
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
    try:
        document = parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError("no such file", file=path) from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as TOML: {error}", file=path) from None
    return from_document(document, str(path))


def from_document(document: Mapping[str, Any], file: str | None = None) -> Cohort:
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
    files = _table(top.table("files"), "files", file)
    values: dict[str, Any] = {
        "pattern": _choice(files, "pattern", variants, ()),
        "column": files.get("column", "text", ""),
        "id": _regex(files, "id"),
        "subject": files.get("subject", "text", "{subject}"),
        "session": files.get("session", "any text", ""),
    }
    codes = _table(files.table("codes"), "files.codes", file).rest()
    values["codes"] = {k: _codes(files, v) for k, v in codes.items()}
    files.finish()
    if bool(values["pattern"]) == bool(values["column"]):
        raise files.error(
            "pattern", "needs either a pattern or a column", hint='For example pattern = "*.nii.gz"'
        )
    tables = tuple(
        _table_spec(entry, f"tables[{i}]", file) for i, entry in enumerate(_list(top, "tables"), 1)
    )
    readings = tuple(
        _reading(key, entry, variants, file)
        for key, entry in _table(top.table("covariates"), "covariates", file).rest().items()
    )
    excludes = []
    for i, entry in enumerate(_list(top, "exclude"), 1):
        table = _table(entry, f"exclude[{i}]", file)
        reason = table.get("reason", "text")
        excludes.append((reason, _condition(table, variants)))
    qc = _quality(_table(top.table("qc"), "qc", file))
    top.finish()
    return Cohort(
        name,
        kind,
        title,
        variants,
        affine,
        **values,
        tables=tables,
        readings=readings,
        excludes=tuple(excludes),
        qc=qc,
        path=file,
    )


def _table(document: Any, name: str, file: str | None) -> Table:
    return Table(document, name, file, DataError)


def _list(table: Table, key: str) -> list[Any]:
    value = table.table(key) or []
    if not isinstance(value, list):
        raise table.error(key, "wrong value", found=repr(value), expected=f"tables [[{key}]]")
    return value


def _choice(table: Table, key: str, variants: tuple[str, ...], default: Any) -> Choice:
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


def _regex(table: Table, key: str) -> str:
    text = table.get(key, "any text", "")
    try:
        re.compile(text)
    except re.error as error:
        raise table.error(key, f"not a regular expression: {error}", found=repr(text)) from None
    return text


def _codes(table: Table, document: Any) -> dict[str, str]:
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
        table.get("key", "text", "{subject}"),
        table.get("match", "text", "{subject}"),
    )
    table.finish()
    return spec


def _condition(table: Table, variants: tuple[str, ...]) -> Condition:
    columns = _choice(table, "columns", variants, ())
    condition = Condition(columns, _choice(table, "any", variants, ()), _choice(table, "none", variants, ()))
    table.finish()
    if not columns or bool(condition.any) == bool(condition.none):
        raise table.error("columns", "a condition needs columns, and either any or none")
    return condition


def _reading(name: str, document: Any, variants: tuple[str, ...], file: str | None) -> Reading:
    table = _table(document, f"covariates.{name}", file)
    column = _choice(table, "column", variants, ())
    codes = _codes(table, table.table("codes"))
    missing = tuple(str(m) for m in _list(table, "missing"))
    factor = float(table.get("factor", "positive", 1.0))
    span = table.get("range", "pair", None)
    optional = table.get("optional", "flag", False)
    rules = []
    for i, entry in enumerate(_list(table, "rules"), 1):
        rule = _table(entry, f"covariates.{name}.rules[{i}]", file)
        value = rule.table("value")
        if not isinstance(value, str | int | float):
            raise rule.error("value", "is missing", expected="a level, 0 or 1")
        conditions = tuple(
            _condition(_table(c, f"{rule.name}.all", file), variants) for c in _list(rule, "all")
        )
        rule.finish()
        if not conditions:
            raise rule.error("all", "a rule needs conditions")
        rules.append(Rule(str(value), conditions))
    covariate = covariate_of(name, table.rest(), file)
    if bool(column) == bool(rules):
        raise table.error("column", "needs either a column or rules")
    if (span or factor != 1.0) and not covariate.is_continuous:
        raise table.error("range", "range and factor are for continuous covariates")
    return Reading(
        covariate,
        column,
        codes,
        missing,
        factor,
        (float(span[0]), float(span[1])) if span else None,
        optional,
        tuple(rules),
    )


def _quality(table: Table) -> dict[str, Any]:
    qc: dict[str, Any] = {}
    for key, kind in (("mean", "pair"), ("border_columns", "count"), ("border_mean", "positive")):
        value = table.get(key, kind, None)
        if value is not None:
            qc[key] = value
    table.finish()
    return qc
