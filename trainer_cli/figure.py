"""`mssg figure …`: the paper's figures."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from typing import Any

import click

from mssg.errors import UsageError
from mssg.rendering.command_line import request_words
from trainer_cli.common import device_option, seed_option
from trainer_cli.request_options import request_options, stated_request, stated_snapshot

OF_REAL_IMAGES = ("fix", "place", "blend", "mix", "w", "layer", "request")
"""Options of a picture that real images decide, or that would not make it comparable with them."""


@click.group()
def figure() -> None:
    """Draw the paper's figures with a snapshot, as PNG or PDF."""


@figure.command()
@click.argument("session")
@click.option("--snapshot", help="The session's snapshot, where it has moved.")
@device_option
@click.option(
    "-o", "--output", required=True, metavar="FILE", help="File to write: .mp4, .gif, or .png (numbered)."
)
@click.pass_context
def movie(ctx: click.Context, session: str, snapshot: str | None, device: str, output: str) -> None:
    """Film the keyframes of SESSION, a session saved by the explorer: the movie that its export writes."""
    import subprocess

    from mssg.processes import python_command

    words = [snapshot] if snapshot else []
    words += ["--export", session, "-o", output, "--device", device, "--movie"]
    ctx.exit(subprocess.run(python_command("explorer_app.__main__:main", *words), check=False).returncode)


@figure.command()
@click.argument("snapshot")
@click.option(
    "--rows",
    required=True,
    metavar="NAME[=LO:HI[:N]]",
    help=(
        "Covariate along the rows; without a range, the training data's 5 to 95 %, or all levels. NAME=A,B,C"
        " gives single values."
    ),
)
@click.option(
    "--cols", required=True, metavar="NAME[=LO:HI[:N]]", help="Covariate along the columns, likewise."
)
@click.option(
    "--panels",
    metavar="NAME[=LO:HI[:N]]",
    help="One grid for each value of a third covariate, side by side; stated as --rows is.",
)
@click.option(
    "--per-source",
    is_flag=True,
    help="One grid per source code, side by side (studies that condition on the source).",
)
@seed_option("Seed of the one latent of all images.")
@request_options
@device_option
@click.option("-o", "--output", required=True, metavar="FILE", help="File to write: .png or .pdf.")
def grid(
    snapshot: str,
    rows: str,
    cols: str,
    panels: str | None,
    per_source: bool,
    seed: int,
    device: str,
    output: str,
    **options: Any,
) -> None:
    """Grid of images of SNAPSHOT: two covariates along the axes in their own units, the others fixed, one
    latent."""
    from mssg.plotting import image_grid as figures
    from mssg.rendering.renderer import Renderer
    from mssg.study.values import parse_sweep
    from trainer_cli.common import check_suffix, say_outside, writable

    check_suffix(output, figures.FORMATS)
    path = writable(output)
    loaded = stated_snapshot(snapshot, device, options["w"])
    study, summary = loaded.study, loaded.header.summary
    stated = [(rows, figures.STEPS), (cols, figures.STEPS), *([(panels, figures.PANELS)] if panels else [])]
    sides = [parse_sweep(study, text, steps, summary) for text, steps in stated]
    request = stated_request(study, options, seed)
    if options["request"]:  # it states all covariates, also those on the axes
        axes = {side.name for side in sides}
        request = replace(request, covariates=tuple((n, v) for n, v in request.covariates if n not in axes))
    words = ["mssg", "figure", "grid", snapshot, "--rows", rows, "--cols", cols]
    words += [*(["--panels", panels] if panels else []), *(["--per-source"] if per_source else [])]
    command = shlex.join([*words, *request_words(request, study), "-o", output])
    drawn = figures.grid(
        Renderer(loaded),
        sides[0],
        sides[1],
        request,
        panels=sides[2] if panels else None,
        per_source=per_source,
        command=command,
    )
    drawn.save(path)
    say_outside(loaded.header, dict(request.covariates) | {s.name: s.values for s in sides})
    each = f", for {len(sides[2].values)} values of {sides[2].name}" if panels else ""
    click.echo(
        f"{path}: {len(sides[0].values)} x {len(sides[1].values)} images, {sides[0].name} by"
        f" {sides[1].name}{each}"
    )


@figure.command()
@click.argument("snapshot")
@click.option(
    "--rows", metavar="NAME[=LO:HI[:N]]", help="Covariate with a head in each row; default: one head."
)
@click.option("--cut", metavar="X,Y,Z", help="Millimetres where the planes cut; default: the head's middle.")
@seed_option("Seed of the one latent of all heads.")
@partial(request_options, without=("place", "layer", "w"))
@device_option
@click.option("-o", "--output", required=True, metavar="FILE", help="File to write: .png.")
def planes(
    snapshot: str, rows: str | None, cut: str | None, seed: int, device: str, output: str, **options: Any
) -> None:
    """Whole heads of SNAPSHOT in three planes, one head a row; its study's slices lie at many places."""
    from mssg.plotting import planes_figure
    from mssg.rendering.image_files import write_png
    from mssg.rendering.renderer import Renderer
    from mssg.study.cells import parse_number
    from mssg.study.values import parse_sweep
    from mssg.version import __version__
    from trainer_cli.common import check_suffix, writable

    check_suffix(output, (".png",))
    path, loaded = writable(output), stated_snapshot(snapshot, device, None)
    study = loaded.study
    sweep = parse_sweep(study, rows, planes_figure.HEADS, loaded.header.summary) if rows else None
    request = stated_request(study, {**options, "place": None, "w": None, "layer": None}, seed)
    try:
        at_mm = [parse_number(word) for word in cut.split(",")] if cut else None
        if at_mm is not None and len(at_mm) != 3:
            raise ValueError
    except ValueError:
        raise UsageError(
            "not a place", field="--cut", found=cut, expected="X,Y,Z, such as 12,-18,5"
        ) from None
    words = ["mssg", "figure", "planes", snapshot, *(["--rows", rows] if rows else [])]
    words += [*(["--cut", cut] if cut else []), *request_words(request, study), "-o", output]
    pixels = planes_figure.planes_figure(Renderer(loaded), request, sweep, at_mm)
    about = {"Snapshot": loaded.header.snapshot_id, "Seed": str(seed), "Command": shlex.join(words)}
    write_png(path, pixels, about | {"Software": f"mssg {__version__}"})
    click.echo(f"{path}: {len(sweep.values) if sweep else 1} heads in three planes")


@figure.command()
@click.argument("snapshot")
@click.option("--rows", required=True, metavar="NAME", help="The first of the two covariates.")
@click.option("--cols", required=True, metavar="NAME", help="The second.")
@click.option(
    "--study",
    "study_path",
    metavar="STUDY.toml",
    help="Whose real images to show. Default: the run's own study.",
)
@click.option(
    "--split", default="test", show_default=True, help="Split of the real images: train, val or test."
)
@click.option(
    "--quantile",
    default=0.9,
    show_default=True,
    type=click.FloatRange(0.5, 1, max_open=True),
    help="How far out a corner begins: above this quantile of a covariate, and below its mirror image.",
)
@click.option(
    "-n",
    "count",
    default=5,
    show_default=True,
    type=click.IntRange(1, 20),
    help="Real images of each corner, of different people where there are enough.",
)
@seed_option("Of the choice of real images, and of the first latent; each column has its own.")
@partial(request_options, without=OF_REAL_IMAGES)
@device_option
@click.option("-o", "--output", required=True, metavar="FILE", help="File to write: .png or .pdf.")
def corners(
    snapshot: str,
    rows: str,
    cols: str,
    study_path: str | None,
    split: str,
    quantile: float,
    count: int,
    seed: int,
    device: str,
    output: str,
    **options: Any,
) -> None:
    """Real images beside images of SNAPSHOT with the same covariates, in the four corners of two covariates:
    both small, one small and the other large, both large."""
    from mssg.metrics.dataset import open_dataset
    from mssg.plotting import corner_figure, image_grid
    from mssg.rendering.renderer import Renderer
    from trainer_cli.common import check_suffix, writable
    from trainer_cli.evaluate import study_of

    check_suffix(output, image_grid.FORMATS)
    path, loaded = writable(output), stated_snapshot(snapshot, device, None)
    data, _ = open_dataset(study_of(study_path, (snapshot,)), split, (loaded,))
    request = stated_request(loaded.study, {**dict.fromkeys(OF_REAL_IMAGES), "fix": (), **options}, seed)
    words = ["mssg", "figure", "corners", snapshot, "--rows", rows, "--cols", cols]
    words += [
        *(["--study", study_path] if study_path else []),
        "--split",
        split,
        "--quantile",
        f"{quantile:g}",
    ]
    words += ["-n", str(count), *request_words(request, loaded.study), "-o", output]
    found = corner_figure.corners_of(data, rows, cols, quantile)
    drawn = corner_figure.corner_figure(
        Renderer(loaded), data, found, request, count=count, command=shlex.join(words)
    )
    drawn.save(path)
    for corner in found:
        click.echo(f"{corner.label}: {len(corner.rows)} of {len(data)} images")
    click.echo(f"{path}: {drawn.images.shape[2]} real images of each corner, and what was drawn like them")


@figure.command()
@click.argument("latent")
@click.option(
    "--snapshot", required=True, metavar="SNAPSHOT", help="What LATENT was inverted with, or its run."
)
@click.option("--rows", metavar="NAME[=LO:HI[:N]]", help="Covariate along the rows of a grid; with --cols.")
@click.option(
    "--cols",
    metavar="NAME[=LO:HI[:N]]",
    help="Covariate along the columns. Without both, one strip for each covariate.",
)
@click.option(
    "--fix",
    multiple=True,
    metavar="NAME=VALUE",
    help=(
        "Also change another covariate, in native units; repeatable. What is not changed stays as it is in"
        " the image."
    ),
)
@device_option
@click.option("-o", "--output", required=True, metavar="FILE", help="File to write: .png or .pdf.")
def counterfactuals(
    latent: str,
    snapshot: str,
    rows: str | None,
    cols: str | None,
    fix: tuple[str, ...],
    device: str,
    output: str,
) -> None:
    """What a real image would be with other covariates; LATENT is a file of `mssg invert`."""
    from mssg.plotting import image_grid as figures
    from mssg.plotting.counterfactual import counterfactual_figure
    from mssg.rendering.renderer import Renderer
    from mssg.study.values import parse_values
    from trainer_cli.common import check_suffix, writable

    check_suffix(output, figures.FORMATS)
    path, renderer = writable(output), Renderer(stated_snapshot(snapshot, device, latent))
    words = ["mssg", "figure", "counterfactuals", latent, "--snapshot", snapshot]
    words += ["--rows", rows, "--cols", cols] if rows and cols else []
    words += [word for text in fix for word in ("--fix", text)] + ["-o", output]
    fixed = parse_values(renderer.study, fix)
    drawn = counterfactual_figure(renderer, latent, rows, cols, fixed=fixed, command=shlex.join(words))
    drawn.save(path)
    click.echo(f"{path}: {drawn.images.shape[1]} x {drawn.images.shape[2]} counterfactuals")


@figure.command()
@click.argument("evaluation", metavar="EVAL.json")
@click.option(
    "--metric",
    help=(
        "strata/mae, strata/mse, strata/pearson, strata/accuracy, strata_kid- …: as they stand in the file; a"
        " name that ends in - stands for any features. Default: strata/mae, or strata/accuracy of what has"
        " levels."
    ),
)
@click.option("--covariate", help="Whose score; needed where there are several.")
@click.option(
    "--reference",
    default="requested",
    show_default=True,
    type=click.Choice(["requested", "real"]),
    help="Compared with the value requested, or with the reading of the real image.",
)
@click.option("--source", help="Whose strata, where they were formed within each source.")
@click.option(
    "--axes",
    default="",
    metavar="COLS,ROWS,PANELS",
    help="Which covariate goes where. Default: the last, the one before it, the first.",
)
@click.option("-o", "--output", required=True, metavar="FILE", help="File to write: .png or .pdf.")
def heatmap(
    evaluation: str,
    metric: str | None,
    covariate: str | None,
    reference: str,
    source: str | None,
    axes: str,
    output: str,
) -> None:
    """Strata scores of EVAL.json, the paper's Figure 3: models side by side, real images last, one colour
    scale."""
    from mssg.metrics.results import Evaluation
    from mssg.plotting import strata_heatmap
    from mssg.plotting.chart_style import FORMATS, save
    from trainer_cli.common import check_suffix, writable

    check_suffix(output, FORMATS)
    found = Evaluation.load(evaluation)
    names = [a.strip() for a in axes.split(",") if a.strip()]
    drawn = strata_heatmap.heatmap(found, metric, covariate, reference, source=source, axes=names)
    click.echo(save(drawn, writable(output), found))


@figure.command()
@click.argument("evaluation", metavar="EVAL.json")
@click.option("-o", "--output", required=True, metavar="FILE", help="File to write: .png or .pdf.")
def leakage(evaluation: str, output: str) -> None:
    """Leakage matrices of EVAL.json: one covariate is moved, how every reading moves."""
    from mssg.metrics.results import Evaluation
    from mssg.plotting import evaluation as charts
    from mssg.plotting.chart_style import FORMATS, save
    from trainer_cli.common import check_suffix, writable

    check_suffix(output, FORMATS)
    found = Evaluation.load(evaluation)
    click.echo(save(charts.leakage(found), writable(output), found))


@figure.command()
@click.argument("path", metavar="EVAL.json|RUN")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="TEXT",
    help="Only panels whose title contains this; repeatable.",
)
@click.option("-o", "--output", required=True, metavar="FILE", help="File to write: .png or .pdf.")
def curves(path: str, metrics: tuple[str, ...], output: str) -> None:
    """Numbers over training: of an EVAL.json of several snapshots, or of a RUN's own log."""
    from pathlib import Path

    from mssg.metrics.results import Evaluation
    from mssg.plotting import evaluation as charts
    from mssg.plotting.chart_style import FORMATS, save
    from mssg.runs.folder import RunFolder
    from mssg.runs.rows import read_rows
    from trainer_cli.common import check_suffix, writable

    check_suffix(output, FORMATS)
    found = None
    if Path(path).is_dir():
        lines = charts.lines_of_run(read_rows(RunFolder(Path(path)).stats_file))
        metrics = metrics or ("metric/", "score/")
    else:
        found = Evaluation.load(path)
        lines = charts.lines_of_evaluation(found)
    click.echo(save(charts.curves(lines, metrics), writable(output), found))


@figure.command()
@click.argument("evaluation", metavar="EVAL.json")
@click.option(
    "--strata",
    metavar="METRIC",
    help="One line a stratum of this metric, such as strata/mae; without it, one line a metric.",
)
@click.option(
    "--reference",
    default="requested",
    show_default=True,
    type=click.Choice(["requested", "real"]),
    help="With --strata: what scores are compared with.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="File to write: .csv, .tex (LaTeX, booktabs) or .txt.",
)
def table(evaluation: str, strata: str | None, reference: str, output: str) -> None:
    """Comparison table of EVAL.json: models side by side, with intervals and the real images' own numbers."""
    from mssg.errors import UsageError
    from mssg.files import write_atomically
    from mssg.metrics import tables
    from mssg.metrics.results import Evaluation
    from trainer_cli.common import check_suffix, writable

    suffix = check_suffix(output, (".csv", ".tex", ".txt"))
    found = Evaluation.load(evaluation)
    made = tables.strata_table(found, strata, reference) if strata else tables.comparison(found)
    if not made.rows:
        raise UsageError("this evaluation has nothing of the kind", file=evaluation, field=strata)
    text = {".csv": made.csv, ".tex": made.latex, ".txt": lambda: made.text() + "\n"}[suffix]()
    path = writable(output)
    write_atomically(path, text, UsageError)
    click.echo(f"{path}: {len(made.rows)} lines")
