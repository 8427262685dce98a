"""How many strata each model wins: in how many it scores best of all models evaluated side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mssg.metrics.results import REAL, Evaluation, Result

BETTER_HIGH = ("pearson", "accuracy", "balanced_accuracy", "f1", "precision", "recall", "density", "coverage")
"""Statistics of which more is better; of all others less is."""
WON = "_won"
"""Ends the name of a statistic whose wins are counted."""


def with_strata_won(found: Evaluation) -> Evaluation:
    """The evaluation with one more result for each model, statistic, covariate, reference and source: the
    number of strata that it wins. Nothing where there is one model.

    Only strata in which every model has a number count; where two are equally good, nobody wins.
    """
    labels = [model.label for model in found.models]
    return found.add(_won(found.results, labels)) if len(labels) > 1 else found


def won_name(metric: str) -> str:
    """The name of the count of a metric: "strata/mae" -> "strata/mae_won", "strata_kid-F" ->
    "strata_kid_won-F"."""
    head, dash, features = metric.partition("-")
    return f"{head}{WON}{dash}{features}"


def _won(results: Sequence[Result], labels: Sequence[str]) -> Iterator[Result]:
    groups: dict[tuple[str | None, ...], dict[str, dict[str, Result]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for r in results:
        if r.stratum is not None and r.model != REAL and r.metric.startswith("strata"):
            about = (r.metric, r.covariate, r.reference, r.source, r.instrument)
            groups[about][str(sorted(r.stratum.items()))][r.model] = r
    for cells in groups.values():
        shared = [
            cell
            for cell in cells.values()
            if all(label in cell and cell[label].value is not None for label in labels)
        ]
        wins, ties = dict.fromkeys(labels, 0), 0
        for cell in shared:
            best = _best(cell)
            wins[best[0]] += len(best) == 1
            ties += len(best) > 1
        for label in labels if shared else ():
            one = shared[0][label]
            detail = {"strata": len(shared), "ties": ties}
            detail |= {"own": one.detail["own"]} if "own" in one.detail else {}
            yield replace(
                Result(won_name(one.metric), float(wins[label]), label, split=one.split, source=one.source),
                n=sum(cell[label].n for cell in shared),
                n_real=sum(cell[label].n_real or 0 for cell in shared),
                covariate=one.covariate,
                reference=one.reference,
                instrument=one.instrument,
                features=one.features,
                detail=detail,
            )


def _best(cell: dict[str, Result]) -> list[str]:
    """The models with the best number in one stratum."""
    values = {label: r.value for label, r in cell.items() if r.value is not None}
    stat = next(iter(cell.values())).metric.rpartition("/")[2]
    top = (max if stat in BETTER_HIGH else min)(values.values())
    return [label for label, value in values.items() if value == top]
