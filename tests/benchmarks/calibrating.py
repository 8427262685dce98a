"""Fit the calibration of an oracle on phantoms whose covariates are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mssg.measure.calibration import Found, design, value_of

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
        quadratic = design(form | {"linear": False}, columns).shape[1]
        form |= {"linear": True} if fit.sum() < ROWS_A_TERM * quadratic else {}
        target = np.log(truth[name]) if form["log"] else truth[name]
        rows = design(form, columns)
        form["weights"] = np.linalg.lstsq(rows[fit], target[fit], rcond=None)[0].tolist()
        if levels and name in levels:
            share = np.bincount(target[fit].astype(int), minlength=levels[name]) / fit.sum()
            fitted = rows[fit] @ np.array(form["weights"])
            form["cuts"] = np.quantile(fitted, np.cumsum(share)[:-1]).tolist()
        covariates[name] = form
        got, true = value_of(form, columns)[judge], truth[name][judge]
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
