"""How people state covariates in words, `name=value`, `name=lo:hi` or `name=lo:hi:n`, always in native units,
and what a covariate is where nobody states it. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mssg.errors import UsageError
from mssg.study.cells import did_you_mean
from mssg.study.covariate import SOURCE, Covariate
from mssg.study.model import Study

MAX_STEPS = 200
"""Most values one sweep may have."""


@dataclass(frozen=True)
class Sweep:
    """Values of one covariate to go through, in native units."""

    name: str
    values: tuple[float, ...]


def describe(covariate: Covariate) -> str:
    """A covariate's name with its unit or levels: "age (years)", "digit (0|1|2)"."""
    if not covariate.is_continuous:
        return f"{covariate.name} ({'|'.join(covariate.levels or ('0', '1'))})"
    return f"{covariate.name} ({covariate.unit})" if covariate.unit else covariate.name


def find_covariate(study: Study, name: str) -> Covariate:
    """The condition of this name.

    Raises:
        UsageError: Listing every known name with its unit or levels.
    """
    if name in study.condition_names:
        return study.covariate(name)
    raise UsageError(
        "no such covariate in this study",
        field=name or "covariate",
        expected=", ".join(describe(c) for c in study.conditions),
        hint=did_you_mean(name, study.condition_names),
    )


def plain(covariate: Covariate, value: float) -> str:
    """A native value as it is written on a command line, without loss."""
    return covariate.levels[round(value)] if covariate.levels else number(value)


def number(value: float) -> str:
    """A number in as few digits as read back to exactly itself."""
    short = f"{value:.9g}"
    return short if float(short) == value else repr(float(value))


def parse_value(study: Study, text: str) -> tuple[str, float]:
    """`name=value` in native units -> (name, native value).

    Raises:
        UsageError: No "=", an unknown covariate, or not a value of it.
    """
    name, mark, word = text.partition("=")
    name = name.strip()
    covariate = find_covariate(study, name) if mark or name in study.condition_names else None
    if covariate is None or not word.strip():
        known = ", ".join(describe(c) for c in study.conditions)
        raise UsageError("not of the form name=value", found=repr(text), expected=f"one of {known}")
    value = covariate.parse(word)
    if not math.isfinite(value):
        raise UsageError("a missing value cannot be drawn", field=name, found=repr(word.strip()))
    return name, value


def parse_values(study: Study, texts: Iterable[str]) -> dict[str, float]:
    """Several `name=value` -> mapping; a name given twice is an error.

    Raises:
        UsageError: As `parse_value`, or a name given twice.
    """
    out: dict[str, float] = {}
    for text in texts:
        name, value = parse_value(study, text)
        if name in out:
            raise UsageError("given twice", field=name, found=repr(text))
        out[name] = value
    return out


def parse_sweep(study: Study, text: str, steps: int = 5, summary: Mapping[str, Any] | None = None) -> Sweep:
    """`name`, `name=lo:hi`, `name=lo:hi:n` or `name=a,b,c` in native units -> the values.

    Args:
        study: Names, units and levels.
        text: What the user wrote. For a covariate with levels lo:hi means from level to level.
        steps: Number of values where the text does not say.
        summary: Training summary of the snapshot: `name` alone goes from its 5 % to its 95 % quantile.

    Raises:
        UsageError: Saying what was expected, with unit and levels.
    """
    name, mark, words = text.partition("=")
    name, words = name.strip(), words.strip()
    covariate = find_covariate(study, name)
    if not mark:
        return Sweep(name, default_values(covariate, summary or {}, steps))
    parts = words.split(":")
    if len(parts) == 1:
        values = [_given(covariate, word, text) for word in words.split(",")]
    elif len(parts) <= 3:
        low, high = (_given(covariate, word, text) for word in parts[:2])
        if covariate.is_continuous:
            values = np.linspace(low, high, _count(parts[2], text) if len(parts) == 3 else steps).tolist()
        elif len(parts) == 3:
            raise UsageError(
                "levels take no number of steps", field=name, found=repr(text), expected=f"{name}=lo:hi"
            )
        else:
            step = 1 if high >= low else -1
            values = [float(i) for i in range(int(low), int(high) + step, step)]
    else:
        raise UsageError("not a range", field=name, found=repr(text), expected=f"{name}=lo:hi:n")
    if len(set(values)) != len(values):
        raise UsageError("the range holds the same value twice", field=name, found=repr(text))
    return Sweep(name, tuple(values))


def _given(covariate: Covariate, word: str, text: str) -> float:
    value = covariate.parse(word)
    if not math.isfinite(value):
        raise UsageError(
            "a value is missing",
            field=covariate.name,
            found=repr(text),
            expected=f"{covariate.name}=lo:hi:n with {describe(covariate)}",
        )
    return value


def _count(word: str, text: str) -> int:
    count = int(word) if word.strip().isdecimal() and len(word) < 6 else 0
    if not 1 <= count <= MAX_STEPS:
        raise UsageError(
            "not a number of steps", found=repr(text), expected=f"lo:hi:n with n from 1 to {MAX_STEPS}"
        )
    return count


def default_values(covariate: Covariate, summary: Mapping[str, Any], steps: int) -> tuple[float, ...]:
    """Values that show a covariate: all its levels, or round numbers between the training 5 % and 95 %
    quantiles.

    Raises:
        UsageError: The summary holds no quantiles of this continuous covariate.
    """
    if not covariate.is_continuous:
        return tuple(float(i) for i in range(covariate.num_levels))
    return tuple(round_values(*training_range(covariate, summary), steps))


def round_values(low: float, high: float, count: int) -> list[float]:
    """Multiples of a round step (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6 or 8 times a power of ten), as wide as fits.

    Args:
        low, high: All values lie between these.
    """
    if count < 2 or not high > low:
        return [float(f"{(low + high) / 2:.3g}")][:count] if high > low else [low]
    exponent = math.floor(math.log10((high - low) / (count - 1)))
    for power in (exponent, exponent - 1, exponent - 2):
        for digit in (8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.2, 1.0):
            step = digit * 10.0**power
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) - (count - 1)
            if first <= last:
                start = (first + last) // 2
                return [
                    round((start + i) * step, 2 - power) + 0.0 for i in range(count)
                ]  # + 0.0: no minus zero
    return np.linspace(low, high, count).tolist()


def training_range(
    covariate: Covariate, summary: Mapping[str, Any], low: float = 0.05, high: float = 0.95
) -> tuple[float, float]:
    """Two training quantiles of a continuous covariate, native units, by interpolation in the summary.

    Raises:
        UsageError: The summary does not hold them.
    """
    try:
        table = summary["covariates"][covariate.name]["quantiles"]
        first, last = np.interp([low, high], table["q"], table["values"])
    except (KeyError, TypeError, ValueError):
        raise UsageError(
            "the snapshot records no training range of this covariate",
            field=covariate.name,
            hint=f"State one: {covariate.name}=lo:hi:n",
        ) from None
    return float(first), float(last)


def training_defaults(study: Study, summary: Mapping[str, Any]) -> dict[str, float]:
    """What a covariate is where nobody states it: the training median, or the most frequent level; a slice's
    position is the study's own.

    Everything that draws takes its defaults from here: command line, figures, explorer and `import mssg`.

    Args:
        summary: Its training summary. "source" takes the source with the most images.

    Returns:
        Native value by condition, in the study's order.

    Raises:
        UsageError: The summary lacks a continuous covariate.
    """
    out = {}
    for covariate in study.conditions:
        if study.geometry and covariate.name == study.position:
            out[covariate.name] = float(study.geometry.position_mm or 0.0)
            continue
        if covariate.is_continuous:
            out[covariate.name] = training_range(covariate, summary, 0.5, 0.5)[0]
            continue
        if covariate.name == SOURCE:
            sources = summary.get("sources", {})
            counts = [sources.get(s.name, {}).get("n", 0) for s in study.sources]
        else:
            counts = (
                summary.get("covariates", {}).get(covariate.name, {}).get("histogram", {}).get("counts", [0])
            )
        out[covariate.name] = float(np.argmax(counts))
    return out


def outside_training(
    study: Study, summary: Mapping[str, Any], values: Mapping[str, float | Sequence[float]]
) -> list[str]:
    """One sentence for every continuous covariate whose value, or one of whose values, the training data do
    not hold."""
    notes = []
    for name, stated in values.items():
        covariate, asked = study.covariate(name), np.atleast_1d(stated)
        if not covariate.is_continuous:
            continue
        try:
            low, high = training_range(covariate, summary, 0.0, 1.0)
        except UsageError:
            continue
        first, last = float(asked.min()), float(asked.max())
        if first < low or last > high:
            span = f"{covariate.format(low, unit=False)} to {covariate.format(high)}"
            text = covariate.format(last)
            text = text if first == last else f"{covariate.format(first, unit=False)} to {text}"
            notes.append(f"{name} {text} lies outside the training data ({span})")
    return notes
