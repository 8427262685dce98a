"""Requested against measured: designs a, b, c and shuffled of `mssg.metrics.control`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from mssg.metrics.context import EvalContext
from mssg.metrics.control import ASKED, control
from mssg.metrics.control_report import DESIGNS, ControlRow
from mssg.metrics.metric import Metric, Need
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import JOINT, Result
from mssg.metrics.settings import Settings, option

STATS = ("r", "partial_r", "slope", "mae", "bias", "accuracy")


@dataclass(frozen=True)
class ControlSettings(Settings):
    """Of control, and of the spread within a class."""

    control_images: int = option(1000, "Images a control design and covariate.", least=10)


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    """Requests from the covariate models of the study, the same for all models.

    Where the source is a condition, designs a and b again with every request of one source: what a source
    never recorded is obeyed there, or not, whatever the other sources do.
    """
    yield from _control_of(context, model, None)
    if context.data.study.condition_on_source:
        for source in context.data.study.sources:
            yield from context.attempt(
                f"{model.label}: control, {source.name}",
                lambda name=source.name: _control_of(context, model, name),
            )


def _control_of(context: EvalContext, model: EvaluatedModel, source: str | None) -> Iterator[Result]:
    """Control over all sources, or of requests that are all of one."""
    label = f"{model.label}, control" + (f" of {source}" if source else "")

    def read(values: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        return context.sampler.draw(
            model.generate, model.identity, values, seed=seed, readers=context.instruments.readers
        )

    report = control(
        model.generate,
        context.data.study,
        context.data.models,
        context.instruments.measure,
        n=context.options.of(ControlSettings).control_images,
        seed=context.options.seed,
        designs=("a", "b") if source else ASKED,
        progress=lambda done, total: context.sampler.tell(label, done, total),
        read=read,
        source=source,
    )
    for row in report.rows:
        yield from row_results(context, model, row, source)


def row_results(
    context: EvalContext,
    model: EvaluatedModel,
    row: ControlRow,
    source: str | None = None,
    *,
    metric: str = "control",
    instrument: str = "",
) -> Iterator[Result]:
    """One result for each statistic that a row has; `instrument`: another than the covariate's usual one."""
    detail = {
        "removed": row.removed,
        "requested_sd": row.requested_sd,
        "unmeasurable": row.unmeasurable,
        "asked": DESIGNS[row.design],
    }
    if source:
        detail["recorded"] = row.covariate in context.data.study.source(source).observes
    readings = {"readings": [asdict(bin) for bin in row.readings]}
    intervals = {"r": row.r_ci95, "partial_r": row.partial_r_ci95}
    for stat in STATS:
        value = getattr(row, stat)
        if np.isfinite(value):
            yield context.result(
                model,
                metric=f"{metric}/{stat}",
                value=value,
                n=row.n,
                ci95=intervals.get(stat),
                instrument=instrument or context.instruments.by_covariate[row.covariate],
                source=source or JOINT,
                covariate=row.covariate,
                unit=row.unit or None if stat in ("mae", "bias") else None,
                reference="requested",
                design=row.design,
                detail=detail | (readings if stat in ("r", "accuracy") else {}),
            )


METRICS = (
    Metric(
        name="control",
        help="requested against measured, designs a, b, c",
        of_model=_of_model,
        needs=frozenset({Need.INSTRUMENTS}),
        settings=(ControlSettings,),
        default=True,
        place=50,
    ),
)
