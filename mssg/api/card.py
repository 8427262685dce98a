"""A model as a short HTML card, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from mssg.study.model import Study
from mssg.text import number


def card(name: str, study: Study, progress: Mapping[str, Any], covariates: Iterable[Any]) -> str:
    """The card.

    Args:
        name: What the model was loaded as.
        study: Its study.
        progress: The snapshot's; "kimg" is shown.
        covariates: `CovariateInfo` of each condition.
    """
    side, kimg = study.resolution, progress.get("kimg")
    trained = f", {kimg:g} thousand training images" if kimg else ""
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(c))}</tr>" for c in covariates
    )
    heads = "".join(
        f"<th>{head}</th>" for head in ("covariate", "unit or levels", "training range", "recorded by")
    )
    return (
        f"<div><b>{escape(name)}</b>: {escape(study.name)}, {side} × {side} pixels{trained}"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(covariate: Any) -> tuple[str, str, str, str]:
    span = "" if covariate.low is None else f"{number(covariate.low)} to {number(covariate.high)}"
    words = " | ".join(covariate.levels) or ("0 | 1" if covariate.kind == "binary" else covariate.unit)
    return covariate.name, words, span, ", ".join(covariate.observed_by)
