"""Covariates named on the command line."""

from __future__ import annotations

import re

from mssg.data.cohort import CovariateSpec
from mssg.errors import UsageError
from mssg.study.model import Covariate

PLAUSIBLE = {"years": (0.0, 120.0)}
"""Ranges of units that leave no doubt, for covariates declared on the command line."""


def parse_reading(text: str) -> CovariateSpec:
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
            return CovariateSpec(covariate, column or name, range=span or PLAUSIBLE.get(unit))
        words = [w.strip() for w in details[0].split(",")] if details else []
        if kind == "binary" and len(words) in (0, 2):
            codes = {words[0]: "0", words[1]: "1"} if words else {}
            return CovariateSpec(Covariate(name, kind), column or name, codes=codes)
        if kind == "categorical" and len(set(words)) == len(words) > 1:
            return CovariateSpec(Covariate(name, kind, levels=tuple(words)), column or name)
    except ValueError:
        pass
    raise UsageError(
        "cannot be read as a covariate",
        field="--covariate",
        found=repr(text),
        expected="NAME=continuous[:UNIT][:LO..HI], NAME=binary[:ZERO,ONE] or NAME=categorical:LEVEL,LEVEL,…",
    )
