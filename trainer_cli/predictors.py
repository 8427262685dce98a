"""`mssg predictors`: train networks that read covariates off images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mssg.text import aligned, amount, fixed
from trainer_cli.common import device_option


@click.command()
@click.argument("study", type=click.Path())
@click.option(
    "--outdir", required=True, type=click.Path(file_okay=False), help="Folder for predictor.safetensors."
)
@click.option(
    "--architecture", default="resnet18", show_default=True, help="resnet18, resnet50 or resnet101."
)
@click.option(
    "--epochs",
    default=10,
    show_default=True,
    type=click.IntRange(1),
    help="Passes over the training images at most.",
)
@click.option(
    "--patience",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Epochs without improvement before stopping.",
)
@click.option(
    "--limit",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(16),
    help="Training images used at most.",
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of weights and order."
)
@device_option
def predictors(
    study: str, outdir: str, architecture: str, epochs: int, patience: int, limit: int, seed: int, device: str
) -> None:
    """Train a predictor of every covariate of STUDY on its real images, and report its own error on held-out
    ones."""
    from mssg.data.dataset import open_sources
    from mssg.features.predictors import train
    from mssg.ops.device import checked_device
    from mssg.training.config import load_study

    device, loaded = checked_device(device), load_study(study)
    sources = open_sources(loaded)
    fitted = loaded.fit_statistics([s.columns(loaded, "train") for s in sources])

    def report(row: dict[str, Any]) -> None:
        click.echo(f"epoch {row['epoch']:3d}  loss {row['loss']:.4f}  validation {row['validation']:.4f}")

    predictor = train(
        fitted,
        sources,
        architecture,
        epochs=epochs,
        patience=patience,
        limit=limit,
        seed=seed,
        device=device,
        progress=report,
    )
    folder = Path(outdir)
    folder.mkdir(parents=True, exist_ok=True)
    path = predictor.save(folder / "predictor.safetensors")
    rows = []
    for e in predictor.errors:
        mae = amount(e.mae, fitted.covariate(e.covariate).unit)
        rows.append((e.covariate, str(e.n), mae, fixed(e.r), fixed(e.accuracy)))
    click.echo("On real images it has not seen:")
    click.echo(aligned(("covariate", "n", "MAE", "r", "accuracy"), rows))
    click.echo(str(path))
