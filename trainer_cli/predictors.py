"""`mssg predictors`: what reads covariates off images, made from real ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mssg.text import aligned, amount, fixed, percent
from trainer_cli.common import device_option

if TYPE_CHECKING:
    from mssg.features.predictors import Predictor
    from mssg.measure.own_error import OwnError
    from mssg.study.model import Study


@click.command()
@click.argument("study", type=click.Path())
@click.option(
    "--outdir", required=True, type=click.Path(file_okay=False), help="Folder for predictor.safetensors."
)
@click.option(
    "--architecture",
    default="auto",
    show_default=True,
    help="auto, ridge, resnet18, resnet50 or resnet101. Auto: ridge below 1,000 training images, a regression"
    " on features and pixels chosen by cross-validation over people; else resnet18.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="Passes over the training images at most, of a ResNet. Default: 10, more where they are few.",
)
@click.option(
    "--patience",
    type=click.IntRange(1),
    help="Epochs without improvement before a ResNet stops. Default: 3, or all where they are more than 10.",
)
@click.option(
    "--limit",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(16),
    help="Training images used at most.",
)
@click.option(
    "--each", is_flag=True, help="A predictor for each covariate, predictor-NAME.safetensors, instead of one."
)
@click.option(
    "--class-weights",
    is_flag=True,
    help="Rare levels count as much as frequent ones, in a ResNet's training.",
)
@click.option(
    "--init",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Weights a ResNet starts from, such as ImageNet's of torchvision or RadImageNet's: .pth, .pt or"
    " .safetensors.",
)
@click.option(
    "--observed-only",
    is_flag=True,
    help="Learn a covariate from sources that observe it alone; without it also from what the tables of the"
    " others keep of it.",
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of weights, order and folds."
)
@device_option
def predictors(
    study: str, outdir: str, architecture: str, each: bool, observed_only: bool, device: str, **choices: Any
) -> None:
    """Make a predictor of every covariate of STUDY from its real images, and report its own error on images
    it has not seen, beside that of a constant guess."""
    from mssg.data.dataset import open_sources
    from mssg.features.labelled import of_one
    from mssg.features.predictor_training import train
    from mssg.features.predictors import check_architecture
    from mssg.ops.device import checked_device
    from mssg.study.schema import load_study

    check_architecture(architecture)
    device, loaded = checked_device(device), load_study(study)
    sources = open_sources(loaded)
    fitted = loaded.fit_statistics([s.columns(loaded, "train") for s in sources])
    folder = Path(outdir)
    folder.mkdir(parents=True, exist_ok=True)

    def report(row: dict[str, Any]) -> None:
        click.echo(f"epoch {row['epoch']:3d}  loss {row['loss']:.4f}  validation {row['validation']:.4f}")

    parts = [(fitted, sources)]
    if each:
        parts = [of_one(fitted, sources, c.name, observed_only) for c in fitted.personal]
    for part, opened in parts:
        predictor = train(
            part, opened, architecture, observed_only=observed_only, device=device, progress=report, **choices
        )
        name = f"predictor-{part.covariates[0].name}" if each else "predictor"
        _say(predictor, predictor.save(folder / f"{name}.safetensors"))


def _say(predictor: Predictor, path: Path) -> None:
    """What a predictor is worth, and where it is."""
    from mssg.measure.own_error import ENOUGH_PEOPLE, IN_TURN

    study = predictor.study
    start = "" if predictor.pretrained == "none" else f", started from {predictor.pretrained}"
    click.echo(f"{predictor.architecture}{start}: on real images it has not seen")
    click.echo(_table(predictor.errors, study))
    fewest = min((e.people for e in predictor.errors if e.on != IN_TURN), default=ENOUGH_PEOPLE)
    if fewest < ENOUGH_PEOPLE:
        click.echo(f"Only {fewest} people were kept to test on: these numbers are uncertain.")
    if bad := [e.covariate for e in predictor.errors if not e.better]:
        click.echo(
            f"Not shown to be better than a constant guess: {', '.join(bad)}. What this predictor reads of"
            " them says nothing about a generator; results are marked, and no verdict rests on them."
        )
    if unread := [c.name for c in study.covariates if c.name not in {e.covariate for e in predictor.errors}]:
        click.echo(f"No unseen image says how well this is read: {', '.join(unread)}.")
    click.echo(str(path))


def _table(errors: Sequence[OwnError], study: Study) -> str:
    """One line a covariate: the predictor's error beside the guess's."""
    rows = []
    for e in errors:
        unit, discrete = study.covariate(e.covariate).unit, math.isfinite(e.accuracy)
        own, guess = (e.accuracy, e.guess_accuracy) if discrete else (e.mae, e.guess_mae)
        shown = [percent(x) if discrete else amount(x, unit) for x in (own, guess)]
        what = "right" if discrete else "MAE"
        rows.append((e.covariate, what, *shown, fixed(e.r, 2), str(e.n), str(e.people), e.on, e.verdict))
    header = ("covariate", "", "predictor", "constant guess", "r", "n", "people", "on", "")
    return aligned(header, rows, right=(2, 3, 4, 5, 6))
