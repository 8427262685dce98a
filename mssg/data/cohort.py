"""Cohort maps: which files are images, whose they are, and which column of which table is which covariate.
Data, not code.

A cohort is one TOML (assets/cohorts/*.toml, or a user's own; docs/reference/cohort-maps.md has the schema).
`find` lists a folder's images, `mssg.data.cohort_tables.join` gives each its covariates in native units.
Whatever does not fit becomes a `LeftOut` with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from mssg.data.formula import Formula
from mssg.errors import UsageError
from mssg.study.cells import same_value
from mssg.study.covariate import Covariate

CHOICES = ("variant", "side")
"""Facts of an image that may choose among alternatives: { left = "…", right = "…" }."""
_PLACE = re.compile(r"\{([^{}]+)\}")

Choice = str | tuple[str, ...] | Mapping[str, Any]
"""Text, texts, or alternatives keyed by a fact's value."""


@dataclass(frozen=True)
class LeftOut:
    """Something that was left out: a file, or a table and line; the stage that left it out, and why."""

    file: str
    stage: str
    reason: str
    subject: str = ""
    session: str = ""


@dataclass(frozen=True)
class CohortImage:
    """An image that was found: path, path relative to the folder, subject, session, what templates may ask
    for, and its row.

    `facts` hold what the file's name says (or its row), and variant, folder and stem; `cells` the row of a
    table of paths; `runs` further images of the same session, whose mean with this one is wanted.
    """

    path: Path
    name: str
    subject: str
    session: str
    facts: Mapping[str, str]
    cells: Mapping[str, str] = field(default_factory=dict)
    runs: tuple[CohortImage, ...] = ()

    def left_out(self, stage: str, reason: str) -> LeftOut:
        """This image as one that was left out."""
        return LeftOut(self.name, stage, reason, self.subject, session=self.session)


@dataclass(frozen=True)
class Condition:
    """True where a cell of `columns` is one of `any`, or, with `none`, where no cell is one of them."""

    columns: Choice
    any: Choice = ()
    none: Choice = ()


@dataclass(frozen=True)
class Spelling:
    """How other programs write a column's name: what fits `pattern` means `means`, {names} of the pattern's
    groups filled in; a group that is not there is `default`."""

    pattern: str
    means: str
    default: str = ""

    def read(self, column: str) -> str | None:
        """What a column's name means; None: it is not written so."""
        match = re.fullmatch(self.pattern, column)
        if not match:
            return None
        return fill(self.means, {name: text or self.default for name, text in match.groupdict().items()})


@dataclass(frozen=True)
class Nearest:
    """Of several rows under one key the one is taken whose `column` is nearest to the image's `to`, at most
    `within` away."""

    column: str
    to: str
    within: float


@dataclass(frozen=True)
class Rule:
    """The covariate is `value` where all conditions hold."""

    value: str
    all: tuple[Condition, ...]


@dataclass(frozen=True)
class CovariateSpec:
    """How a covariate is read: a column with its codes and unit, a formula of columns where that is empty, or
    rules of which the first that holds decides."""

    covariate: Covariate
    column: Choice = ()
    formula: tuple[Formula, ...] = ()
    readings: str = "first"  # of several filled columns: the "first", or the "mean" of all
    codes: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    factor: float = 1.0
    range: tuple[float, float] | None = None
    optional: bool = False
    rules: tuple[Rule, ...] = ()
    top_coded: str = ""  # what becomes of values such as 89+: "keep" | "drop" | "", which asks the user

    def with_levels(self, texts: Sequence[str], names: Sequence[str] = ()) -> CovariateSpec:
        """A binary covariate whose cells say one of two texts, 0 and 1 in turn.

        Args:
            texts: What cells say; none: 0 and 1.
            names: What the levels are called; the texts where they are not, but for 0 and 1 themselves.
        """
        if not texts:
            return self
        plain = all(same_value(text, str(i)) for i, text in enumerate(texts))
        levels = tuple(names or (() if plain else texts))
        codes = dict(zip(texts, levels or ("0", "1")))
        return replace(self, covariate=replace(self.covariate, levels=levels), codes=codes)


@dataclass(frozen=True)
class TableSpec:
    """A table: where it lies (a pattern), what its name says, its rows' key, and which key an image looks for
    (of several the first that is there). `has` names a column without which a table is not meant."""

    pattern: Choice = ()
    id: str = ""
    key: Choice = "{subject}"
    match: Choice = "{subject}"
    has: str = ""
    nearest: Nearest | None = None


@dataclass(frozen=True)
class CohortMap:
    """One cohort map; see docs/reference/cohort-maps.md for every field."""

    name: str
    kind: str
    title: str = ""
    variants: tuple[str, ...] = ()
    affine: Choice = "none"
    pattern: Choice = ()
    column: str = ""
    id: str = ""
    subject: Choice = "{subject}"
    session: str = ""
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tables: tuple[TableSpec, ...] = ()
    covariates: tuple[CovariateSpec, ...] = ()
    excludes: tuple[tuple[str, tuple[Condition, ...]], ...] = ()
    spellings: tuple[Spelling, ...] = ()
    warnings: Choice = ()  # what a user of the map, or of one of its variants, is told
    qc: Mapping[str, Any] = field(default_factory=dict)
    bids: bool = False  # files are named as BIDS says: entities choose among them
    path: str | None = None

    def spelled(self, column: str) -> str:
        """The map's name for a column."""
        return next((name for s in self.spellings if (name := s.read(column))), column)

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


def first_filled(choice: Choice, facts: Mapping[str, str]) -> str:
    """The first of several templates that facts fill; "" where none does."""
    return next((text for text in (fill(template, facts) for template in texts(choice)) if text), "")


def texts(choice: Choice) -> tuple[str, ...]:
    """A text, or texts, as a tuple."""
    return (choice,) if isinstance(choice, str) else tuple(choice)


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
