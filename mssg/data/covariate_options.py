"""Covariates named on the command line: what they are, and how tables are to be read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from mssg.data.cohort import CovariateSpec
from mssg.errors import UsageError
from mssg.study.cells import meant, parse_number
from mssg.study.covariate import KINDS, Covariate, name_problem

PLAUSIBLE = {"years": (0.0, 120.0)}
"""Ranges of units that leave no doubt, for covariates declared on the command line."""
MOST_LEVELS = 1000
TOP_CODED = ("keep", "drop")
"""What may become of ages such as 89+: taken as their limit, or left out on purpose."""
_GRAMMAR = (
    "NAME=continuous[:UNIT[*FACTOR]][:LO..HI], NAME=binary[:ZERO,ONE] or"
    " NAME=categorical[:LEVEL,LEVEL,…|:COUNT]; a level may be LEVEL=CODE, which the table says instead"
)


def parse_covariate(text: str, option: str = "--covariate") -> CovariateSpec:
    """A covariate from NAME[@COLUMN]=KIND[:DETAIL…].

    Args:
        text: "age=continuous:years", "ventricle@LatVent=continuous:ml:1..300" (unit, then range; either end
            may be left open), "ventricle=continuous:ml*0.001" or "…:ml:factor=0.001" (the table's numbers are
            in another unit: what to multiply them by), "sex=binary:F,M" (0, 1), "sex=binary:F=2,M=1=male"
            (with the table's codes for them), "site=categorical:x,y,z", "digit=categorical:10" (0 to 9).
        option: For messages.

    Returns:
        How it is read. Levels are empty where none are stated: a description of the table may know them.

    Raises:
        UsageError: Anything else.
    """
    head, _, rest = text.partition("=")
    name, _, column = head.partition("@")
    kind, *details = rest.split(":")
    if problem := name_problem(name):
        hint = "Give it another name: NAME@COLUMN=KIND" if option == "--covariate" else "Give it another name"
        raise UsageError(f"the name is {problem}", field=option, found=repr(name), hint=hint)
    try:
        if kind in KINDS and KINDS[kind].is_continuous:
            unit, factor, span = _unit_and_range(details)
            return CovariateSpec(
                Covariate(name, kind, unit=unit),
                column or name,
                factor=factor,
                range=span or PLAUSIBLE.get(unit),
            )
        if kind in KINDS and KINDS[kind].level_names:
            words, codes = _words(details, len(KINDS[kind].level_names))
            spec = CovariateSpec(Covariate(name, kind), column or name).with_levels(words)
            return replace(
                spec, codes={**spec.codes, **{code: spec.codes[word] for code, word in codes.items()}}
            )
        if kind in KINDS:
            words, codes = _words(details)
            codes = dict(zip(words, words)) | codes if codes else {}
            return CovariateSpec(Covariate(name, kind, levels=words), column or name, codes=codes)
        problem = f"unknown kind {kind!r}"
    except ValueError as error:
        problem = str(error)
    raise UsageError(
        f"cannot be read as a covariate: {problem}", field=option, found=repr(text), expected=_GRAMMAR
    )


def _unit_and_range(details: Sequence[str]) -> tuple[str, float, tuple[float, float] | None]:
    unit, factor, span = "", 1.0, None
    for detail in map(str.strip, details):
        detail, times, number = (part.strip() for part in detail.replace("factor=", "*").partition("*"))
        if times:
            if factor != 1 or not parse_number(number) > 0:
                raise ValueError(f"{number!r} is no factor above 0, or a second one")
            factor = parse_number(number)
        low, dots, high = detail.partition("..")
        if dots and span is None and (low or high):
            span = (parse_number(low) if low else -math.inf, parse_number(high) if high else math.inf)
            if not span[0] < span[1]:
                raise ValueError(f"the range {detail!r} is empty")
        elif detail and not dots and not unit and not re.match(r"[-+.,\d\N{MINUS SIGN}]", detail):
            unit = detail
        elif detail or not times:
            raise ValueError(f"{detail!r} is neither a unit nor a range such as 1..300")
    return unit, factor, span


def _words(details: Sequence[str], count: int | None = None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The levels of a detail "x,y,z" or, where any number will do, "10", and what codes stand for, of
    "x=1,y=2"; none where there is no detail."""
    if not details:
        return (), {}
    words = [word.strip() for word in details[0].split(",")]
    codes = {code.strip(): word.split("=")[0].strip() for word in words for code in word.split("=")[1:]}
    words = [word.split("=")[0].strip() for word in words]
    if count is None and len(words) == 1 and words[0].isdecimal() and int(words[0]) <= MOST_LEVELS:
        words = [str(i) for i in range(int(words[0]))]
    cells = [*words, *(code for word in details[0].split(",") for code in word.split("=")[1:])]
    is_clear = all(map(str.strip, cells)) and len(set(map(meant, cells))) == len(cells)
    if len(details) > 1 or not is_clear or len(words) < 2:
        raise ValueError(f"{':'.join(details)!r} are no two or more different levels")
    if count and len(words) != count:
        raise ValueError(f"{details[0]!r} are not {count} levels")
    return tuple(words), codes


def parse_missing(texts: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Codes that stand for no value, from CODE,CODE,… for all covariates or NAME=CODE,CODE,… for one.

    Returns:
        Pairs of a covariate's name, or "" for all, and its codes.

    Raises:
        UsageError: No code.
    """
    out = []
    for text in texts:
        name, equals, codes = text.rpartition("=")
        words = tuple(word.strip() for word in codes.split(","))
        if not all(words) or (equals and not name):
            raise UsageError(
                "cannot be read as codes",
                field="--missing",
                found=repr(text),
                expected="-4,999 or age=-4,999",
            )
        out.append((name, words))
    return out


def with_missing(specs: Sequence[CovariateSpec], texts: Sequence[str]) -> list[CovariateSpec]:
    """Covariates with further codes that stand for no value (`parse_missing`).

    Raises:
        UsageError: No code, or a covariate that is not there.
    """
    pairs = parse_missing(texts)
    names = [spec.covariate.name for spec in specs]
    for name, _ in pairs:
        if name and name not in names:
            raise UsageError("no such covariate", field="--missing", found=name, expected=" | ".join(names))
    return [
        replace(
            s, missing=(*s.missing, *(c for n, codes in pairs if n in ("", s.covariate.name) for c in codes))
        )
        for s in specs
    ]
