"""Units as tables write them, and numbers that look as if they were in another one."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from mssg.data.cohort import CovariateSpec
from mssg.errors import UsageError

UNITS = {
    # how it may be written: (dimension, size)
    **dict.fromkeys(("years", "year", "yrs", "yr", "y"), ("time", 1.0)),
    **dict.fromkeys(("months", "month", "mo"), ("time", 1 / 12)),
    **dict.fromkeys(("weeks", "week", "wk"), ("time", 7 / 365.25)),
    **dict.fromkeys(("days", "day", "d"), ("time", 1 / 365.25)),
    **dict.fromkeys(("ml", "cm3", "cm^3", "cm³", "cc"), ("volume", 1.0)),
    **dict.fromkeys(("mm3", "mm^3", "mm³", "ul", "µl"), ("volume", 1e-3)),
    **dict.fromkeys(("l", "litres", "liters"), ("volume", 1e3)),
    **dict.fromkeys(("mm", "millimetres", "millimeters"), ("length", 1.0)),
    **dict.fromkeys(("cm", "centimetres", "centimeters"), ("length", 10.0)),
    **dict.fromkeys(("m", "metres", "meters"), ("length", 1e3)),
    **dict.fromkeys(("kg", "kilograms"), ("mass", 1.0)),
    **dict.fromkeys(("g", "grams"), ("mass", 1e-3)),
}
WHOLE_HEAD_ML = 2000.0
"""No part of a brain is as large: the inside of a skull holds about 1,500 ml."""


def known_unit(text: str) -> tuple[str, float] | None:
    """What a unit measures, and how large it is, of "years" or "age in years"; None where it is not known or
    words may change it, as in "10^3 mm3" and "ml/year"."""
    if text.strip() in UNITS:
        return UNITS[text.strip()]
    words = [word for word in re.split(r"[\s(),;]+", text.lower()) if word]
    known = [UNITS[word] for word in words if word in UNITS]
    others = [word for word in words if word not in UNITS]
    plain = len(known) == 1 and all(word.isalpha() and word != "per" for word in others)
    return known[0] if plain else None


def ask_unit(spec: CovariateSpec, values: NDArray[np.float64], option: str = "--covariate") -> None:
    """Ask about volumes that are said to be in ml and look like mm³.

    Args:
        spec: The covariate. One whose range is stated leaves no question.
        values: Native values [N], NaN where missing.
        option: Where it can be stated.

    Raises:
        UsageError: The question, with what to write for each answer.
    """
    covariate, known = spec.covariate, values[np.isfinite(values)]
    if not known.size or spec.range or known_unit(covariate.unit) != ("volume", 1.0):
        return
    middle = float(np.median(known))
    if middle > WHOLE_HEAD_ML:
        name, unit = covariate.name, covariate.unit
        place = name if spec.column == name or not isinstance(spec.column, str) else f"{name}@{spec.column}"
        raise UsageError(
            f"is said to be in {unit} and looks like mm³: are these mm³?",
            field=name,
            found=f"a median of {middle:,.0f} {unit}",
            expected=f"less than {WHOLE_HEAD_ML:,.0f} {unit}, more than a head holds",
            hint=f"If so, {option} {place}=continuous:{unit}*0.001; if not, state their range:"
            f" {option} {place}=continuous:{unit}:0..{known.max():.0f}",
        )
