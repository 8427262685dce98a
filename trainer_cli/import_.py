"""`mssg import`: a network pickle of the official trainers becomes a snapshot. Nothing in the pickle is
run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer_cli.common import check_suffix, writable

if TYPE_CHECKING:
    from mssg.checkpoint.legacy import OfficialPickle
    from mssg.covariates.system import CovariateModels
    from mssg.study.model import Study

ROWS = 2001  # of the evenly spaced table that stands for the assumed distributions
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
REACH = 3.0  # standard deviations to either side that a z-scored covariate is assumed to span


@click.command("import")
@click.argument("pickle", metavar="FILE.pkl")
@click.option("-o", "--out", required=True, help="Snapshot to write, ending in .safetensors.")
@click.option(
    "--study",
    "toml",
    help=(
        "Study TOML that names the label columns, in their order. Without it they are called label1, label2 …"
    ),
)
def import_(pickle: str, out: str, toml: str | None) -> None:
    """Turn FILE.pkl, of stylegan2-ada-pytorch, stylegan3 or the multi-source research code, into a snapshot.

    The pickle holds no names, units or scales of its label columns: the study's covariates state them, in the
    order of the columns; without a study a native value is the label, and there is little to understand in
    the explorer. `offset` and `spread` of a continuous covariate turn native values into labels, (value -
    offset) /
    spread; without them a native value is the label itself. The training data are not there, so the covariate
    models
    are assumed: independent, every level equally likely, continuous labels normal (zscore) or uniform
        (minmax); only
    [model] tables of analytic families without parents are kept. The snapshot is marked as imported.
    """
    check_suffix(out, (".safetensors",))
    from mssg.checkpoint.legacy import read_official_pickle
    from mssg.checkpoint.snapshot import save_snapshot
    from mssg.rendering.stored_picture import stored_picture
    from mssg.study.schema import load_study

    study = load_study(toml) if toml else None
    official = read_official_pickle(pickle)
    G = official.G_ema
    study = fitted(checked(study or unnamed(official, pickle), official))
    models, summary = assumed(study)
    networks = {n: m for n in ("G_ema", "G", "D") if (m := getattr(official, n)) is not None}
    path = save_snapshot(
        writable(out),
        study,
        models,
        networks,
        generator=G.config,
        discriminator=discriminator_config(official),
        progress={"kimg": 0, "step": 0},
        summary=summary,
        origin=origin(Path(pickle), official),
        preview=stored_picture(G, study, summary),
    )
    click.echo(f"{path}: {G.config.kind}, {study.resolution} pixels, {', '.join(study.condition_names)}")
    click.echo("Covariate models are assumed, not fitted: the pickle holds no training data.")
    if toml is None:
        click.echo(
            "No study was given: values are the labels themselves. Name the columns with --study STUDY.toml."
        )


def unnamed(official: OfficialPickle, pickle: str) -> Study:
    """A study that only counts the label columns.

    Raises:
        UsageError: There are none.
    """
    from mssg.errors import UsageError
    from mssg.study.schema import from_document

    G = official.G_ema
    if not G.c_dim:
        raise UsageError(
            "the network is unconditional: it has no covariates to explore", file=pickle, found="c_dim 0"
        )
    names = [f"label{i + 1}" for i in range(G.c_dim)]
    document = {
        "name": "imported",
        "image": {"resolution": G.img_resolution, "channels": G.img_channels},
        "covariates": {name: {"kind": "continuous"} for name in names},
        "sources": [{"name": "unknown", "path": "unknown", "observes": names}],
    }
    return from_document(document, pickle)


def checked(study: Study, official: OfficialPickle) -> Study:
    """The study, if it fits the networks.

    Raises:
        StudyError: Another image size, number of channels, or width of the condition.
    """
    from mssg.errors import StudyError

    G = official.G_ema
    if not G.c_dim:
        raise StudyError("the network is unconditional: it has no label columns to name", file=study.path)
    columns = ", ".join(f"{c.name} {c.width}" for c in study.conditions)
    for field, stated, held in (
        ("image.resolution", study.resolution, G.img_resolution),
        ("image.channels", study.channels, G.img_channels),
        (f"covariates ({columns})", study.layout.width, G.c_dim),
    ):
        if stated != held:
            hint = "State every label column of the network, in order" if "(" in field else None
            raise StudyError(
                "does not fit the network",
                file=study.path,
                field=field,
                found=stated,
                expected=held,
                hint=hint,
            )
    return study


def fitted(study: Study) -> Study:
    """The study with the statistics it states; where it states none, the label itself is the native value."""
    from dataclasses import replace

    covariates = tuple(
        (
            replace(
                c, offset=0.0 if c.offset is None else c.offset, spread=1.0 if c.spread is None else c.spread
            )
            if c.is_continuous
            else c
        )
        for c in study.covariates
    )
    return replace(study, covariates=covariates)


def assumed(study: Study) -> tuple[CovariateModels, dict[str, Any]]:
    """Covariate models and a training summary without training data: independent, wide; counts are zero."""
    from dataclasses import replace

    import numpy as np

    from mssg.covariates.system import fit_models
    from mssg.study.model import ModelSpec

    rng = np.random.default_rng(0)
    even = (np.arange(ROWS) + 0.5) / ROWS
    specs, table, described = {}, {}, {}
    for c in study.covariates:
        told = study.models.get(c.name)
        if c.is_continuous:
            specs[c.name] = ModelSpec(c.name, (), "beta") if c.scale == "minmax" else _normal(c.name)
            native = c.inverse(c.offset + c.spread * _labels(c.scale, even))
            table[c.name] = rng.permutation(native)
            described[c.name] = {
                "quantiles": {"q": list(QUANTILES), "values": np.quantile(native, QUANTILES).tolist()}
            }
        else:
            specs[c.name] = ModelSpec(c.name, (), "analytic:uniform")
            levels = list(c.levels) or ["0", "1"]
            table[c.name] = (np.arange(ROWS) % len(levels)).astype(float)
            described[c.name] = {"histogram": {"levels": levels, "counts": [0] * len(levels)}}
        if told and told.family.startswith("analytic:") and not told.given:
            specs[c.name] = told
    study = replace(study, models=specs)
    models = fit_models(study, [{n: table[n] for n in s.observes} for s in study.sources], rng)
    summary = {
        "sources": {s.name: {"n": 0, "covariates": {}} for s in study.sources},
        "covariates": described,
        "log_density": {"percentiles": [], "draws": 0},
        "assumed": True,
    }
    return models, summary


def _normal(name: str):
    from mssg.study.model import ModelSpec

    return ModelSpec(name, (), "gmm", 1)


def _labels(scale: str, even: Any) -> Any:
    """Evenly likely labels: uniform on [0, 1], or standard normal within the reach."""
    if scale == "minmax":
        return even
    import numpy as np
    from scipy.special import ndtri

    return np.clip(ndtri(even), -REACH, REACH)


def discriminator_config(official: OfficialPickle):
    """Of the pickle's discriminator, or one that would fit where it holds none."""
    from mssg.networks.config import DiscriminatorConfig

    if official.D is not None:
        return official.D.config
    G = official.G_ema
    return DiscriminatorConfig(c_dim=G.c_dim, img_resolution=G.img_resolution, img_channels=G.img_channels)


def origin(path: Path, official: OfficialPickle) -> dict[str, Any]:
    """Provenance: that it was imported, from which file; no paths, which may name people."""
    import hashlib

    from mssg.checkpoint.snapshot import provenance

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = {"sha256": digest, "augment_p": official.augment_p}
    return provenance(0, "mssg import") | {"imported": True, "official": known}
