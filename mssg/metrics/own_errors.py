"""What each instrument is worth on real images, beside every number it gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from mssg.measure.own_error import FEWEST_PEOPLE, OwnError, constant_guess, own_error
from mssg.metrics.context import EvalContext
from mssg.metrics.instruments import Instruments
from mssg.metrics.results import REAL, Note, Result
from mssg.study.model import Study

FLOORS = {f"control/{stat}": stat for stat in ("r", "slope", "mae", "accuracy")}
"""Numbers of obedience, and what the instrument gets where real images were what was asked for."""


def judged(
    instruments: Instruments,
    study: Study,
    *,
    read: Mapping[str, np.ndarray],
    values: np.ndarray,
    people: np.ndarray,
    training: np.ndarray,
    split: str,
) -> dict[str, OwnError]:
    """The own error of the instrument of every covariate.

    A predictor's file says its own error on more people than a small test split has. It is believed, unless
    the readings here are worse than a guess: then it was made from other images.

    Args:
        read: Covariate -> readings of real images [N].
        values: What is known of these images, native [N, V].
        people: Whose they are [N].
        training: Native values [M, V] that the guess is made from.
        split: Where the images come from.
    """
    found = {}
    for name in instruments.by_covariate:
        covariate, v = study.covariate(name), study.index(name)
        known = training[:, v] if np.isfinite(training[:, v]).any() else values[:, v]
        guess = constant_guess(covariate, known)
        here = own_error(covariate, values[:, v], read[name], guess=guess, people=people, on=split)
        stated = instruments.stated.get(name)
        fails = here.people >= FEWEST_PEOPLE and not _smaller(here)
        if stated and stated.better is not None and (split != "test" or stated.people > here.people):
            found[name] = here if fails else stated
        else:
            found[name] = here
    return found


def _smaller(own: OwnError) -> bool:
    """Whether its error is smaller than the guess's here."""
    return own.mae < own.guess_mae or own.accuracy > own.guess_accuracy


def beside_own_errors(context: EvalContext, results: Iterable[Result]) -> list[Result]:
    """The results, each with its instrument's own error in `detail.own`, after results that say those.

    Of obedience it also is the `real_floor`: readings that err are drawn towards the mean, so that not even
    real images have a slope of 1. Strata say the instrument's error in the same stratum already.
    """
    results = list(results)
    if not any(r.instrument for r in results) or not context.instruments.readers:
        return results
    data, study = context.data, context.data.study
    own = judged(
        context.instruments,
        study,
        read=context.sampler.read("real images", data.images, len(data), context.covariate_readers()),
        values=data.values,
        people=data.people,
        training=np.concatenate([s.values[s.rows("train")] for s in data.sources]),
        split=data.split,
    )
    for name, error in own.items():
        if not context.instruments.trusted(name, error):
            context.notes.append(Note(name, _warning(error)))
    usual = context.instruments.by_covariate
    beside = [_beside(r, own, usual.get(r.covariate or "")) for r in results]
    return [*_results(context, own), *beside]


def _warning(own: OwnError) -> str:
    what = "is not known to read" if own.better is None else "reads"
    how = "better" if own.better is None else "no better"
    return (
        f"its instrument {what} real images {how} than a constant guess ({own.words()}): no number of it"
        " says anything about a model"
    )


def _beside(result: Result, own: Mapping[str, OwnError], instrument: str | None) -> Result:
    error = own.get(result.covariate or "")
    if error is None or not result.instrument or result.stratum is not None or result.model == REAL:
        return result
    if result.instrument != instrument:  # of another kind of image
        return result
    if result.metric.startswith("utility/"):  # its instrument is the predictor that is judged there
        return result
    found = replace(result, detail={**result.detail, "own": error.to_json()})
    floor = getattr(error, FLOORS[result.metric]) if result.metric in FLOORS else math.nan
    return replace(found, real_floor=floor, real_floor_n=error.n) if math.isfinite(floor) else found


def _results(context: EvalContext, own: Mapping[str, OwnError]) -> Iterable[Result]:
    """One result a covariate: the instrument's error, with the guess's, r and n in `detail`."""
    for name, error in own.items():
        covariate = context.data.study.covariate(name)
        value = error.mae if covariate.is_continuous else error.accuracy
        yield context.result(
            None,
            metric="instrument/mae" if covariate.is_continuous else "instrument/accuracy",
            value=value if error.n else None,
            n=error.n,
            n_real=error.n,
            instrument=context.instruments.by_covariate[name],
            covariate=name,
            unit=covariate.unit or None if covariate.is_continuous else None,
            reference="label",
            detail=error.to_json(),
        )
