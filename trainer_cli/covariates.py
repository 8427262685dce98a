"""mssg covariates: fit a study's covariate models and show how well they fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mssg.errors import UsageError
from mssg.files import write_json
from mssg.study.covariate import SOURCE
from mssg.text import NONE, aligned, fixed, percent, to_scale

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
    from mssg.study.schema import load_study

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
        click.echo("".join(f"{line}\n" for line in _advice(report)), nl=False)
    left = len(plan.covariates) - len(shown(plan))
    click.echo(f"\n{picture}" + (f" (without {left} of {len(plan.covariates)} covariates)" if left else ""))
    click.echo(f"{numbers}")


def _covariate_table(study: Study, fits: tuple[CovariateFit, ...]) -> str:
    header = ("covariate", "family", "given", "n", "log-lik", "outside", "observed", "sampled")
    rows = []
    for fit in fits:
        rows.append(
            (
                fit.name,
                fit.family,
                ", ".join(fit.parents) or NONE,
                str(fit.rows),
                fixed(fit.log_likelihood),
                percent(fit.outside),
                _summary(study, fit, fit.observed),
                _summary(study, fit, fit.sampled),
            )
        )
    note = (
        "log-lik: mean over held-out rows of the encoded value, given its parents; outside: rows it cannot"
        " explain"
    )
    return f"{aligned(header, rows, right=(3, 4, 5))}\n{note}"


def _summary(study: Study, fit: CovariateFit, pair: tuple[float, float]) -> str:
    """Mean ± sd, the share of a binary one's second level, or the commonest level and its share."""
    covariate = study.covariate(fit.name)
    if covariate.kind == "binary":
        return f"{covariate.level_names[1]} {percent(pair[0])}"
    if not covariate.is_ordered:
        return f"{covariate.format(pair[0])}: {percent(pair[1])}"
    if not covariate.is_continuous:
        return f"{pair[0]:.2f} ± {pair[1]:.2f} of 0 to {covariate.num_levels - 1}"
    return f"{covariate.format(pair[0], unit=False)} ± {covariate.format(pair[1])}"


def _advice(report: FitReport) -> Iterator[str]:
    """What to write into the study for pairs whose dependence its models leave out."""
    given = {fit.name: fit.parents for fit in report.covariates}
    place = list(given)
    for pair in report.pairs:
        if pair.is_far and pair.first not in given[pair.second] and pair.second not in given[pair.first]:
            parent, child = sorted((pair.first, pair.second), key=place.index)
            names = ", ".join(f'"{name}"' for name in (*given[child], parent) if name != SOURCE)
            left_out = f"{parent} × {child} is left out of the models"
            yield f"{left_out}; the study can say: [model.{child}] given = [{names}]"


def _pair_table(pairs: tuple[PairFit, ...]) -> str:
    header = ("pair", "n", "r observed", "r sampled", "distance", "floor", "")
    rows = []
    for pair in pairs:
        note = "sampled differs: look at the plot" if pair.is_far else ""
        if pair.distance is None:
            note = f"only {pair.rows} rows" if pair.rows else "never recorded together"
        numbers = (
            fixed(pair.observed_r, 2, signed=True),
            fixed(pair.sampled_r, 2, signed=True),
            to_scale(pair.distance, pair.floor),
            to_scale(pair.floor, pair.floor),
        )
        rows.append((f"{pair.first} × {pair.second}", str(pair.rows), *numbers, note))
    note = (
        "distance: energy distance of observed and sampled, encoded units; floor: 95 % of halvings of the"
        " observed stay below"
    )
    return f"{aligned(header, rows, right=range(1, 6))}\n{note}"


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
