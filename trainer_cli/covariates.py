"""mssg covariates: fit a study's covariate models and show how well they fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mssg.errors import UsageError
from mssg.files import write_json

if TYPE_CHECKING:
    from mssg.covariates.goodness_of_fit import CovariateFit, FitReport, PairFit
    from mssg.covariates.system import CovariateModels
    from mssg.study.model import Study


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for pairs.png and covariates.json; default: covariates/ beside the study.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the fits and draws."
)
@click.option(
    "--samples", type=click.IntRange(100), default=5000, show_default=True, help="Conditions to draw."
)
def covariates(study: Path, out: Path | None, seed: int, samples: int) -> None:
    """Fit a study's covariate models and show how well they fit.

    Fits on the training split, judges on the validation split (the test split where there is none), and draws
    whole conditions. A pair's energy distance is to be read beside its floor: what halves of the data
    themselves reach.
    """
    import numpy as np

    from mssg.covariates.goodness_of_fit import describe
    from mssg.covariates.system import fit_models
    from mssg.data.dataset import open_sources
    from mssg.plotting.covariates import save_pairs, shown
    from mssg.training.config import load_study

    plan = load_study(study)
    sources = open_sources(plan)
    rng = np.random.default_rng(seed)
    models = fit_models(plan, [s.columns(plan, "train") for s in sources], rng)
    rows = {
        name: np.concatenate([s.values[s.rows(name)] for s in sources]) for name in ("train", "val", "test")
    }
    judge = "val" if len(rows["val"]) else "test"
    report = describe(models, rows["train"], rows[judge], samples, rng)
    folder = out or study.parent / "covariates"
    folder.mkdir(parents=True, exist_ok=True)
    picture = save_pairs(plan, report, folder / "pairs.png")
    numbers = folder / "covariates.json"
    write_json(numbers, _document(plan, models, report, seed), UsageError)

    click.echo(f"{plan.name}: {len(rows['train'])} training rows, {len(rows[judge])} held out ({judge})\n")
    click.echo(_covariate_table(plan, report.covariates))
    for (first, second), (asked, reached) in models.unobserved.items():
        click.echo(
            f"\n{first} and {second} are never recorded together: their correlation given the shared"
            f" covariates is stated, not estimated: {asked:+.2f} (reached {reached:+.2f})"
        )
    if report.pairs:
        click.echo(f"\n{_pair_table(report.pairs)}")
    left = len(plan.covariates) - len(shown(plan))
    click.echo(f"\n{picture}" + (f" (without {left} of {len(plan.covariates)} covariates)" if left else ""))
    click.echo(f"{numbers}")


def _covariate_table(study: Study, fits: tuple[CovariateFit, ...]) -> str:
    rows = [("covariate", "family", "given", "n", "log-lik", "outside", "observed", "sampled")]
    for fit in fits:
        rows.append(
            (
                fit.name,
                fit.family,
                ", ".join(fit.parents) or "–",
                str(fit.rows),
                "–" if fit.log_likelihood is None else f"{fit.log_likelihood:.3f}",
                f"{100 * fit.outside:.1f} %",
                _summary(study, fit, fit.observed),
                _summary(study, fit, fit.sampled),
            )
        )
    note = (
        "log-lik: mean over held-out rows of the encoded value, given its parents; outside: rows it cannot"
        " explain"
    )
    return f"{_aligned(rows, right=(3, 4, 5))}\n{note}"


def _summary(study: Study, fit: CovariateFit, pair: tuple[float, float]) -> str:
    """Mean ± sd, the share of yes, or the commonest level and its share."""
    covariate = study.covariate(fit.name)
    if covariate.kind == "binary":
        return f"yes {100 * pair[0]:.1f} %"
    if covariate.kind == "categorical":
        return f"{covariate.format(pair[0])}: {100 * pair[1]:.1f} %"
    return f"{covariate.format(pair[0], unit=False)} ± {covariate.format(pair[1])}"


def _pair_table(pairs: tuple[PairFit, ...]) -> str:
    rows = [("pair", "n", "r observed", "r sampled", "distance", "floor", "")]
    for pair in pairs:
        note = "sampled differs: look at the plot" if pair.is_far else ""
        if pair.distance is None:
            note = f"only {pair.rows} rows" if pair.rows else "never recorded together"
        numbers = (
            _number(pair.observed_r, "+.2f"),
            _number(pair.sampled_r, "+.2f"),
            _number(pair.distance, ".3f"),
            _number(pair.floor, ".3f"),
        )
        rows.append((f"{pair.first} × {pair.second}", str(pair.rows), *numbers, note))
    note = (
        "distance: energy distance of observed and sampled, encoded units; floor: 95 % of halvings of the"
        " observed stay below"
    )
    return f"{_aligned(rows, right=(1, 2, 3, 4, 5))}\n{note}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _aligned(rows: list[tuple[str, ...]], right: tuple[int, ...]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            text.rjust(w) if k in right else text.ljust(w) for k, (text, w) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("─" * w for w in widths))
    return "\n".join(lines)


def _document(study: Study, models: CovariateModels, report: FitReport, seed: int) -> dict[str, object]:
    """The tables as JSON."""
    return {
        "study": study.name,
        "seed": seed,
        "samples": len(report.rows.sampled),
        "covariates": [dataclasses.asdict(fit) for fit in report.covariates],
        "pairs": [dataclasses.asdict(pair) for pair in report.pairs],
        "unobserved_correlation": [
            {"pair": list(pair), "requested": asked, "achieved": reached}
            for pair, (asked, reached) in models.unobserved.items()
        ],
    }
