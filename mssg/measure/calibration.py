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
LOGGED = ("ventricle",)
"""Covariates whose logarithm is fitted."""
ROWS_A_TERM = 2.5
"""Phantoms for each term of a quadratic form; with fewer the form is linear."""


def calibrate(
    found: Found,
    truth: Found,
    inputs: Mapping[str, Sequence[str]],
    *,
    levels: Mapping[str, int] | None = None,
    within: float | None = None,
) -> dict[str, Any]:
    """Fit the calibration of one scanner on phantoms whose covariates are known; every second one is kept
    back and judged.

    Args:
        found: What was read off the phantoms.
        truth: Covariate -> float [N], native units.
        inputs: Covariate -> names of the features it is computed from.
        levels: Binary and categorical covariates -> how many levels: their index is fitted, and cut so
            that each level is read as often as it is.
        within: Standard deviations from the phantoms' mean beyond which a feature counts as that far: an
            image unlike all phantoms then reads as the phantom nearest to it, and not as anything.

    Returns:
        A scanner's entry of a calibration: its contrast, coefficients, and the error on phantoms that did not
        calibrate.
    """
    covariates, error = {}, {}
    for name, features in inputs.items():
        columns = [found[f] for f in features]
        usable = np.all(np.isfinite(columns), 0) & np.isfinite(truth[name])
        fit, judge = usable.copy(), usable.copy()
        fit[1::2], judge[::2] = False, False
        centre = [float(x[fit].mean()) for x in columns]
        spread = [float(x[fit].std()) for x in columns]
        form: dict[str, Any] = {"centre": centre, "spread": spread, "log": name in LOGGED}
        form |= {"within": within} if within else {}
        quadratic = _design(form | {"linear": False}, columns).shape[1]
        form |= {"linear": True} if fit.sum() < ROWS_A_TERM * quadratic else {}
        target = np.log(truth[name]) if form["log"] else truth[name]
        design = _design(form, columns)
        form["weights"] = np.linalg.lstsq(design[fit], target[fit], rcond=None)[0].tolist()
        if levels and name in levels:
            share = np.bincount(target[fit].astype(int), minlength=levels[name]) / fit.sum()
            fitted = design[fit] @ np.array(form["weights"])
            form["cuts"] = np.quantile(fitted, np.cumsum(share)[:-1]).tolist()
        covariates[name] = form
        got, true = _apply(form, columns)[judge], truth[name][judge]
        error[name] = {
            "n": int(judge.sum()),
            "mae": float(np.abs(got - true).mean()),
            "guess_mae": float(np.abs(np.median(truth[name][fit]) - true).mean()),
            "bias": float((got - true).mean()),
            "r": float(np.corrcoef(got, true)[0, 1]),
        }
        if "cuts" in form:
            commonest = np.bincount(truth[name][fit].astype(int)).argmax()
            error[name] |= {
                "accuracy": float((got == true).mean()),
                "guess_accuracy": float((true == commonest).mean()),
            }
    contrast = float(np.nanmedian(found["contrast"]))
    return {"contrast": contrast, "covariates": covariates, "error_on_phantoms": error}


def read_calibrated(
    found: Found, scanners: Sequence[Mapping[str, Any]], inputs: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.float64]]:
    """Covariates of images, each by the scanner whose contrast is nearest to its own: name -> [N]."""
    contrasts = np.array([scanner["contrast"] for scanner in scanners])
    nearest = np.abs(found["contrast"][:, None] - contrasts).argmin(1)
    out = {}
    for name, features in inputs.items():
        columns = [found[f] for f in features]
        by_scanner = np.stack([_apply(scanner["covariates"][name], columns) for scanner in scanners])
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


def _design(form: Mapping[str, Any], columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Constant, every feature standardised, and, unless linear, its square and products of pairs: [N, P]."""
    x = [(v - c) / s for v, c, s in zip(columns, form["centre"], form["spread"])]
    if "within" in form:
        x = [np.clip(v, -form["within"], form["within"]) for v in x]
    squares = [] if form.get("linear") else [a * b for i, a in enumerate(x) for b in x[i:]]
    return np.stack([np.ones_like(x[0]), *x, *squares], -1)


def _apply(form: Mapping[str, Any], columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    value = _design(form, columns) @ np.array(form["weights"])
    if "cuts" in form:
        return np.where(np.isfinite(value), np.searchsorted(form["cuts"], value, side="right"), np.nan)
    return np.exp(value) if form["log"] else value
