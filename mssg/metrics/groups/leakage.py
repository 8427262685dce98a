"""Every covariate moved in turn: how every reading moves (`mssg.metrics.leakage`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mssg.metrics import leakage
from mssg.metrics.context import EvalContext
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import JOINT, Result
from mssg.metrics.settings import Settings, option
from mssg.study.covariate import Covariate


@dataclass(frozen=True)
class LeakageSettings(Settings):
    """Of leakage."""

    leakage_images: int = option(500, "Images each covariate is moved on.", least=2)


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    study, n = context.data.study, context.options.of(LeakageSettings).leakage_images
    rows = context.rng(17).integers(len(context.requests), size=n)
    parts = {JOINT: np.arange(n)}
    if study.condition_on_source:
        sources = [s for s in context.data.parts if s != JOINT]
        parts |= {s: np.flatnonzero(np.isin(rows, context.data.of(s))) for s in sources}
    movable = leakage.movable(study)
    sd = {c.name: leakage.spread(c, context.requests[:, study.index(c.name)]) for c in movable}
    for moved in movable:
        yield from _moved(context, model, moved, base=context.requests[rows], sd=sd, parts=parts)


def _moved(
    context: EvalContext,
    model: EvaluatedModel,
    moved: Covariate,
    *,
    base: np.ndarray,
    sd: Mapping[str, float],
    parts: Mapping[str, np.ndarray],
) -> Iterator[Result]:
    """Results of moving one covariate of the requests `base` [N, V], for each source's part of them."""
    column = context.data.study.index(moved.name)
    sides = leakage.ends(moved, base, column, sd=sd[moved.name], rng=context.rng(19, column))
    readers = context.instruments.readers
    low, high = (
        context.draw(model, side, stream=3, readers=readers, label=f"moving {moved.name}") for side in sides
    )
    for source, own in parts.items():
        for measured in context.readable:
            name = measured.name
            found = leakage.shift(
                moved, measured, low[name][own], high[name][own], sd=sd[name], rng=context.bootstrap()
            )
            yield context.result(
                model,
                metric="leakage",
                value=found.value,
                n=found.n,
                ci95=found.ci95,
                instrument=context.instruments.by_covariate[name],
                source=source,
                covariate=name,
                unit="sd" if measured.is_continuous else "share changed",
                moved=moved.name,
            )


METRICS = (
    Metric(
        name="leakage",
        help="one covariate moved: how every reading moves",
        of_model=_of_model,
        needs=frozenset({Need.INSTRUMENTS}),
        settings=(LeakageSettings,),
        default=True,
        place=60,
    ),
)
