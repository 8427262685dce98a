"""General controllability: readings of the images drawn for the whole split, per source and joint."""

from __future__ import annotations

from collections.abc import Iterator

from mssg.metrics.context import EvalContext, SplitSettings
from mssg.metrics.metric import Metric
from mssg.metrics.model import EvaluatedModel
from mssg.metrics.results import Result
from mssg.metrics.scores import Floors, ScorePlace, ScoreSettings, compared, floors, references


def _scores(context: EvalContext, model: EvaluatedModel | None, own: Floors) -> Iterator[Result]:
    numbers = context.real if model is None else context.drawn(model)
    for source in context.data.parts:
        real, fake = context.part(source)
        rows, images = (real, real) if model is None else (context.picks[fake], fake)
        for covariate in context.readable:
            for reference in references(model):
                measured = numbers[covariate.name][images]
                found = compared(context, covariate, reference, rows=rows, measured=measured)
                place = ScorePlace("overall", model, covariate, reference, source=source, floors=own)
                yield from place.results(context, found, len(real))


def _of_real(context: EvalContext) -> list[Result]:
    return context.once("overall, real", lambda: list(_scores(context, None, {})))


def _of_model(context: EvalContext, model: EvaluatedModel) -> Iterator[Result]:
    return _scores(context, model, floors(_of_real(context)))


METRICS = (
    Metric(
        name="overall",
        help="general controllability over the whole split",
        of_model=_of_model,
        of_real=_of_real,
        settings=(SplitSettings, ScoreSettings),
        reads_real=EvalContext.covariate_readers,
        reads_split=EvalContext.covariate_readers,
        default=True,
        place=40,
    ),
)
