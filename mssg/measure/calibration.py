"""From what is read off images to covariates: quadratic forms, fitted on phantoms for each scanner."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.measure.own_error import OwnError

Found = Mapping[str, NDArray[np.float64]]
"""Name of a feature -> its value for each image [N]; among them the contrast, grey over white matter."""
CLEARLY = 0.95
"""An error above this share of a constant guess's counts as no better than guessing."""


def read_calibrated(
    found: Found, scanners: Sequence[Mapping[str, Any]], inputs: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.float64]]:
    """Covariates of images, each by the scanner whose contrast is nearest to its own: name -> [N]."""
    contrasts = np.array([scanner["contrast"] for scanner in scanners])
    nearest = np.abs(found["contrast"][:, None] - contrasts).argmin(1)
    out = {}
    for name, features in inputs.items():
        columns = [found[f] for f in features]
        by_scanner = np.stack([value_of(scanner["covariates"][name], columns) for scanner in scanners])
        out[name] = by_scanner[nearest, np.arange(len(nearest))]
    return out


@cache
def scanners_of(calibration: str) -> list[dict[str, Any]]:
    """What a shipped calibration file says of each scanner, or camera, that phantoms were drawn for."""
    return json.loads(assets.path(calibration).read_text(encoding="utf-8"))["scanners"]


def calibrated_errors(calibration: str, units: Mapping[str, str]) -> tuple[OwnError, ...]:
    """How well phantoms that did not calibrate are read; of several scanners the one read worst."""
    found = []
    for name, unit in units.items():
        worst = max((s["error_on_phantoms"][name] for s in scanners_of(calibration)), key=lambda e: e["mae"])
        known = {k: worst[k] for k in ("mae", "guess_mae", "r", "accuracy", "guess_accuracy") if k in worst}
        better = worst["mae"] < CLEARLY * worst.get("guess_mae", math.inf)
        if "accuracy" in worst:
            better = worst["accuracy"] > worst["guess_accuracy"]
        found.append(OwnError(name, worst["n"], **known, on="phantoms", unit=unit, better=better))
    return tuple(found)


def design(form: Mapping[str, Any], columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Constant, every feature standardised, and, unless linear, its square and products of pairs: [N, P]."""
    x = [(v - c) / s for v, c, s in zip(columns, form["centre"], form["spread"])]
    if "within" in form:
        x = [np.clip(v, -form["within"], form["within"]) for v in x]
    squares = [] if form.get("linear") else [a * b for i, a in enumerate(x) for b in x[i:]]
    return np.stack([np.ones_like(x[0]), *x, *squares], -1)


def value_of(form: Mapping[str, Any], columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    value = design(form, columns) @ np.array(form["weights"])
    if "cuts" in form:
        return np.where(np.isfinite(value), np.searchsorted(form["cuts"], value, side="right"), np.nan)
    return np.exp(value) if form["log"] else value
