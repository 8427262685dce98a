"""mssg prepare mri and mssg prepare fundus: cohorts of volumes and of photographs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mssg.errors import UsageError
from trainer_cli.common import out_option, progress, say_counts, say_splits, split_options

if TYPE_CHECKING:
    from mssg.data.pipeline import PreparedSources
    from mssg.data.recipes.cohort_selection import PrepareRequest

FILE = click.Path(dir_okay=False, path_type=Path)


COHORT_OPTIONS = (
    click.option(
        "--cohort",
        metavar="NAME|TOML",
        help=(
            "Cohort map: a shipped name, or your own TOML (docs/reference/cohort-maps.md). Default: bids"
            " for a folder, csv for a table."
        ),
    ),
    click.option(
        "--variant",
        metavar="NAME",
        help="One of the map's variants, such as native or mni; default: its first.",
    ),
    click.option(
        "--table",
        "tables",
        multiple=True,
        type=FILE,
        help=(
            "Table of covariates, .csv or .tsv; repeatable. Fills in or overrides those that the map"
            " finds in the folder."
        ),
    ),
    click.option(
        "--covariate",
        "covariates",
        multiple=True,
        metavar="NAME[@COLUMN]=KIND[:…]",
        help=(
            "A covariate of the tables: age=continuous:years, volume=continuous:ml:1..300,"
            " volume=continuous:ml*0.001 where the table has mm³, sex=binary:F,M,"
            " sex=binary:F=2,M=1 where the table has codes, site=categorical:x,y."
            " Repeatable."
        ),
    ),
    click.option(
        "--missing",
        multiple=True,
        metavar="[NAME=]CODE,CODE…",
        help="Codes for no value, of all covariates or of one: -4,999 or age=88. Repeatable.",
    ),
    click.option(
        "--only",
        multiple=True,
        metavar="NAME=VALUE,…",
        help=(
            "Only images whose name says so: side=left, session=2; session=first takes each person's first"
            " visit. Repeatable."
        ),
    ),
    click.option(
        "--readings",
        type=click.Choice(["first", "mean"]),
        help=(
            "Of several readings of a covariate (UK Biobank's arrays) take the first or their mean; default:"
            " as the cohort map says."
        ),
    ),
    click.option(
        "--top-coded",
        type=click.Choice(["keep", "drop"]),
        help=(
            "Values such as 89+: keep takes them as 89, drop leaves their images out. Without it they"
            " are left out, too, and reported."
        ),
    ),
    click.option(
        "--root",
        type=click.Path(file_okay=False, path_type=Path),
        help=(
            "Another folder that may be read: links may lead there; a table's paths start there where it has"
            " them, else at the table's own folder."
        ),
    ),
    click.option("--name", metavar="NAME", help="Name of the source; default: the map's."),
    click.option(
        "--prefix",
        default="",
        metavar="TEXT",
        help="Put before every subject's id: ids of different cohorts are different people.",
    ),
    click.option(
        "--divide", metavar="A,B,…", help="Divide one population among sources of these names, by subject."
    ),
    click.option(
        "--reject",
        type=FILE,
        help=(
            "Images to leave out: an edited qc.csv (its column decision decides), or any table with a"
            " column file."
        ),
    ),
    click.option("--study", metavar="NAME", help="Also copy this example study into OUT (assets/studies)."),
    click.option("--workers", type=click.IntRange(1), help="Processes; default: all cores."),
)


def cohort_options(command):
    """The options that both kinds share: where covariates come from, and what is written."""
    for option in reversed(COHORT_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--plane",
    type=click.Choice(["coronal", "axial", "sagittal"]),
    default="coronal",
    show_default=True,
    help="How volumes are cut.",
)
@click.option(
    "--at",
    multiple=True,
    default=("middle",),
    show_default=True,
    metavar="POSITION",
    help=(
        "Where: middle (of the field of view), brain (its middle; brain-20mm: so far behind, left of or below"
        " it), a slice's number in RAS order (90), or millimetres (-18mm). Repeatable. A range"
        " (-105mm:75mm:3mm) cuts whole heads that lie in one space: the position becomes a covariate."
    ),
)
@click.option(
    "--resolution",
    type=click.Choice(["32", "64", "128", "256", "512"]),
    default="128",
    show_default=True,
    help="Side of the pictures in pixels.",
)
@click.option(
    "--pixel-mm",
    type=click.FloatRange(0, min_open=True),
    help="Edge of a pixel; default: the first volumes' voxels, or larger where their heads would not fit.",
)
@click.option(
    "--intensity",
    type=click.Choice(["auto", "robust", "minmax"]),
    default="auto",
    show_default=True,
    help=(
        "Grey levels from quantiles, or from the smallest and the largest value; auto: from quantiles, and as"
        " they are in slices of `mssg cohort` and `mssg generate`."
    ),
)
@click.option(
    "--common-space/--own-space",
    default=None,
    help="All volumes lie in one space, such as MNI, or each in its own; default: as the cohort map says.",
)
@click.option(
    "--entity",
    "entities",
    multiple=True,
    metavar="KEY=VALUE",
    help=(
        "Of BIDS names: only images with this entity, such as space=MNI152NLin2009cAsym or run=1; KEY= for"
        " those without it, KEY=* for all. Repeatable."
    ),
)
@click.option(
    "--runs",
    type=click.Choice(["first", "all", "mean"]),
    help=(
        "Of several images of one session: take the first, all of them, or their mean in the scanner's"
        " millimetres.  [default: the first of BIDS's runs; all that a table names]"
    ),
)
@click.option("--suffix", metavar="NAME", help="Of BIDS names: T1w, T2w, FLAIR …  [default: T1w]")
@click.option(
    "--mask",
    default="",
    metavar="TEMPLATE",
    help="Brain mask of each volume, such as derivatives/{folder}/{stem}_mask.nii.gz or a column, {mask}.",
)
@click.option("--bias-field", default="", metavar="TEMPLATE", help="Bias field of each volume, to divide by.")
@click.option(
    "--bias-correct",
    is_flag=True,
    help="Estimate each volume's bias field, a smooth polynomial, and divide by it.",
)
@click.option(
    "--keep-empty", is_flag=True, help="Keep slices without tissue: they show a model where heads end."
)
@click.option("--n4", is_flag=True, help='The same by N4, of SimpleITK: pip install "mssg[n4]".')
@click.option(
    "--labels",
    default="",
    metavar="TEMPLATE",
    help="Label map of each volume: its structures' volumes in ml become covariates.",
)
@click.option(
    "--label-scheme",
    default="freesurfer",
    show_default=True,
    metavar="NAME|TOML",
    help="Whose labels: freesurfer, synthseg, fast, or your own TOML.",
)
@click.option(
    "--nan-as-zero",
    is_flag=True,
    help="Take voxels that are not finite numbers as 0 instead of refusing the volume.",
)
@click.option(
    "--assume-las",
    is_flag=True,
    help=(
        "Take volumes that state no orientation as stored from right to left, as nibabel does, instead of"
        " refusing them."
    ),
)
@click.option(
    "--save-slices",
    is_flag=True,
    help="Also write every picture as NIfTI, to be laid over its volume in a viewer.",
)
@cohort_options
@split_options()
@out_option
def mri(path: Path, resolution: str, save_slices: bool, out: Path, **further) -> None:
    """Slices of T1 volumes: a BIDS folder, a table with a path a row, or a cohort's folder.

    Reads .nii, .nii.gz and .mgz in any orientation. Writes OUT/NAME (the source), OUT/NAME.toml (a study to
    start from) and OUT/NAME-report: skipped.csv (every file left out, and why), qc.csv and contact sheets.
    Can be interrupted and resumed.
    """
    from mssg.data.recipes import mri as recipe

    named = [field.name for field in fields(recipe.SliceOptions) if field.name in further]
    options = recipe.SliceOptions(resolution=int(resolution), **{name: further.pop(name) for name in named})
    carry_out(
        lambda request: recipe.prepare(request, options, save_slices), "Cutting slices", path, out, **further
    )


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--resolution",
    type=click.Choice(["32", "64", "128", "256", "512", "1024"]),
    default="128",
    show_default=True,
    help="Side of the pictures in pixels.",
)
@click.option(
    "--flip",
    type=click.Choice(["left", "right", "none"]),
    default="left",
    show_default=True,
    help="Mirror eyes of this side, so that all look like the other.",
)
@click.option(
    "--trim/--no-trim", default=True, show_default=True, help="Cut the black rows and columns around the eye."
)
@click.option(
    "--balance",
    metavar="NAME=SHARE",
    help="Thin out the more frequent kind until NAME is above 0 in this share of the images.",
)
@cohort_options
@split_options()
@out_option
def fundus(
    path: Path, resolution: str, flip: str, trim: bool, balance: str | None, out: Path, **further
) -> None:
    """Fundus photographs: a cohort's folder with its tables, or a table with a path a row.

    Writes OUT/NAME (the source), OUT/NAME.toml (a study to start from) and OUT/NAME-report: skipped.csv
    (every file left out, and why), qc.csv and contact sheets. Can be interrupted and resumed.
    """
    from mssg.data.recipes import fundus as recipe

    options = recipe.PhotoOptions(int(resolution), flip, trim, parse_balance(balance))
    carry_out(lambda request: recipe.prepare(request, options), "Reading photographs", path, out, **further)


def carry_out(
    prepare: Callable[[PrepareRequest], PreparedSources],
    label: str,
    path: Path,
    out: Path,
    study: str | None,
    divide: str | None,
    workers: int | None,
    **further,
) -> None:
    """Run a recipe with a progress bar and say what came of it."""
    from mssg.data.pipeline import default_workers
    from mssg.data.recipes.cohort_selection import PrepareRequest

    start = time.monotonic()
    with ExitStack() as stack:
        request = PrepareRequest(
            path,
            out,
            divide=split_names(divide),
            workers=workers or default_workers(),
            progress=lambda count: stack.enter_context(progress(count, label)),
            **further,
        )
        summary = prepare(request)
    say(summary, study, out, time.monotonic() - start)


def parse_balance(text: str | None) -> tuple[str, float] | None:
    """A covariate and a share from NAME=SHARE.

    Raises:
        UsageError: Anything else.
    """
    if text is None:
        return None
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise UsageError(
            "not a share", field="--balance", found=text, expected="for example retinopathy=0.45"
        ) from None


def split_names(text: str | None) -> tuple[str, ...]:
    """The names of --divide.

    Raises:
        UsageError: Fewer than two, or one given twice.
    """
    names = tuple(word.strip() for word in (text or "").split(",") if word.strip())
    if text and (
        len(names) < 2 or len(set(names)) < len(names) or any("/" in n or n[0] == "." for n in names)
    ):
        raise UsageError(
            "not names to divide among", field="--divide", found=text, expected="two or more, such as a,b"
        )
    return names


def say(summary: PreparedSources, study: str | None, out: Path, seconds: float) -> None:
    """Print what was prepared, what was left out, and what comes next."""
    resumed = f", {summary.resumed} files were there already" if summary.resumed else ""
    click.echo(f"{out}: {', '.join(summary.covariates)}; {seconds:.0f} s{resumed}")
    say_counts(summary.counts)
    say_splits(out)
    if summary.skipped:
        parts = ", ".join(f"{n} {stage}" for stage, n in summary.skipped.items())
        click.echo(f"  left out: {parts}; reasons in {summary.report / 'skipped.csv'}")
    click.echo(
        f"  look at {summary.report}/sheet-*.png, the least usual images first; --reject leaves some out"
    )
    for note in summary.notes:
        click.echo(f"  {note}")
    if study:
        from mssg.data.pipeline import copy_study

        click.echo(f"  example study: {copy_study(study, out)}")
    click.echo(f"Next: mssg-train {summary.study} --outdir runs/{summary.study.stem}")
