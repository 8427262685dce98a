"""Readings of images against what was asked, what the real image shows, or what its table says.

The strata and the whole split make their results of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mssg.metrics.context import EvalContext
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import JOINT, Result
from mssg.metrics.settings import Settings, option
from mssg.metrics.strata import BootstrapEstimate, Score, normalised_statistics, score
from mssg.study.covariate import Covariate

NATIVE, NORMALISED = UNITS = "native", "normalised"


@dataclass(frozen=True)
class ScoreSettings(Settings):
    """What scores are stated in."""

    strata_units: str = option(
        NATIVE,
        "Units of the errors of `strata` and `overall`: native, or normalised as networks have them.",
        kind=str,
        choices=UNITS,
    )


Floors = Mapping[tuple[str, ...], float | None]
"""The instrument's own error on real images, by what it is about."""


def references(model: EvaluatedModel | None) -> tuple[str, ...]:
    """What readings are compared with; those of real images (None) with their table."""
    return ("label",) if model is None else ("requested", "real")


def compared(
    context: EvalContext, covariate: Covariate, reference: str, *, rows: np.ndarray, measured: np.ndarray
) -> Score:
    """Readings [N] of images that answer the real images `rows` [N], against a reference."""
    known = context.data.values[rows, context.data.study.index(covariate.name)]
    if reference == "requested":
        wanted = context.requests[rows, context.data.study.index(covariate.name)]
    elif reference == "label":
        wanted = known
    else:  # the reading of a real image says something only where what was asked is what that image has
        wanted = np.where(np.isfinite(known), context.real[covariate.name][rows], np.nan)
    beside = normalised_statistics(covariate, wanted, measured) if covariate.is_continuous else {}
    if covariate.is_continuous and context.options.of(ScoreSettings).strata_units == NORMALISED:
        wanted, measured = covariate.normalised(wanted), covariate.normalised(measured)
    found = score(covariate, wanted, measured, rows, rng=context.bootstrap())
    return replace(found, normalised=beside)


@dataclass(frozen=True)
class ScorePlace:
    """Where a score belongs.

    Attributes:
        group: "strata" or "overall".
        model: Whose images; None: real ones.
        reference: What it was compared with.
        source: Whose images, or `JOINT`.
        stratum: Limits of the stratum, or None.
        floors: The instrument's own errors.
    """

    group: str
    model: EvaluatedModel | None
    covariate: Covariate
    reference: str
    source: str = JOINT
    stratum: Mapping[str, Any] | None = None
    floors: Floors = field(default_factory=dict, repr=False)

    def results(self, context: EvalContext, found: Score, n_real: int) -> Iterator[Result]:
        """One result a statistic of a score; none where no real image says what it shows."""
        if found.n or self.reference == "requested":
            detail = {"requested_sd": found.sd, "bias": found.bias, "unmeasurable": found.unmeasurable}
            for stat, estimate in found.stats.items():
                beside = {"normalised": found.normalised[stat]} if stat in found.normalised else {}
                yield self.result(context, stat, estimate, n=found.n, n_real=n_real, detail=detail | beside)

    def result(self, context: EvalContext, stat: str, estimate: BootstrapEstimate, **parts: Any) -> Result:
        """The result of one statistic, beside the instrument's own error."""
        native = context.options.of(ScoreSettings).strata_units == NATIVE
        unit = self.covariate.unit if native else NORMALISED
        result = context.result(
            self.model,
            metric=f"{self.group}/{stat}",
            value=estimate.value,
            ci95=estimate.ci95,
            instrument=context.instruments.by_covariate[self.covariate.name],
            source=self.source,
            stratum=self.stratum,
            covariate=self.covariate.name,
            unit={"mse": f"{unit}²", "mae": unit}.get(stat) if unit else None,
            reference=self.reference,
            **parts,
        )
        return replace(result, real_floor=self.floors.get(_about(result)))


def floors(of_real: list[Result]) -> Floors:
    """Results of the real images as floors of the models'."""
    return {_about(result): result.value for result in of_real}


def _about(result: Result) -> tuple[str, ...]:
    return (result.metric, result.covariate or "", result.source, str(result.stratum))
