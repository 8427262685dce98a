"""`mssg cohort`: synthetic people as a data set."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mssg.errors import UsageError
from trainer_cli.common import device_option, out_option, progress, seed_option
from trainer_cli.request_options import request_options, stated_request

if TYPE_CHECKING:
    from mssg.checkpoint.header import Header
    from mssg.study.model import Study
    from mssg.synthetic.cohort import CohortSummary
    from mssg.synthetic.copies import CopyScreen
    from mssg.synthetic.people import CohortRequest

MOST_WORKERS = 8
"""Processes where nobody says: each takes the memory of torch."""
WORTH_A_WORKER = 64
"""Pictures below which another process is not worth its start."""
OTHERWISE = ("fix", "w", "layer")
"""Options of a picture that say nothing, or something else, of a cohort."""


@click.command()
@click.argument("snapshot")
@click.option("-n", "count", type=int, metavar="N", help="How many people; with --match the table says.")
@out_option
@click.option(
    "--given",
    multiple=True,
    metavar="NAME=VALUE",
    help="A covariate that all share; the others are drawn given it. Repeatable.",
)
@click.option(
    "--uniform",
    multiple=True,
    metavar="NAME=LOW:HIGH",
    help="A covariate as even numbers of people between two values, not as in the population. Repeatable.",
)
@click.option(
    "--balance",
    multiple=True,
    metavar="NAME",
    help="A covariate whose levels are equally frequent; several: their combinations. Repeatable.",
)
@click.option(
    "--match",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="TABLE.csv",
    help="One synthetic person for each row of a table; what is missing there is drawn given the rest.",
)
@click.option(
    "--within-support",
    default=0.0,
    show_default=True,
    metavar="P",
    help="Draw again whose covariates are rarer than this percentile of the training data.",
)
@click.option("--first", default=0, show_default=True, metavar="I", help="Number of the first person.")
@seed_option("Of everything drawn.", "cohort_seed")
@click.option("--workers", type=click.IntRange(1), help="Processes; default: cores, 8 at most; 1 on a GPU.")
@click.option(
    "--screen-copies",
    is_flag=True,
    help="Replace pictures too near to a training image (memorisation threshold); needs the real images.",
)
@click.option("--volumes", is_flag=True, help="Whole heads, of a study whose slices lie at many places.")
@click.option(
    "--study",
    "study_path",
    metavar="STUDY.toml",
    help="Where the real images of --screen-copies are. Default: the run's own study.",
)
@partial(request_options, without=OTHERWISE)
@device_option
def cohort(
    snapshot: str,
    count: int | None,
    out: Path,
    device: str,
    workers: int | None,
    screen_copies: bool,
    study_path: str | None,
    **options: Any,
) -> None:
    """Draw N synthetic people with SNAPSHOT.

    Covariates come from the model's covariate models, so that they go together as in the population.
    Writes OUT as a BIDS derivative data set, one NIfTI and sidecar a person: a slice, or with --volumes a
    whole head. Where the study has no geometry, PNGs with a dataset.json for the official StyleGAN tools.
    participants.tsv states covariates, support and seed.

    Person i depends on SNAPSHOT, the settings, --seed and i alone. Parts may be made anywhere with --first,
    -n or torchrun; put into one folder, the same command over the whole range joins them. Interrupted, the
    same command continues.
    """
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.ops.device import checked_device
    from mssg.processes import torchrun_place
    from mssg.rendering.renderer import Renderer
    from mssg.synthetic.cohort import shared_chunks, write_cohort

    rank, size, local = torchrun_place()
    place = checked_device(device)
    place = f"cuda:{local}" if place == "cuda" and size > 1 else place
    loaded = load_snapshot(snapshot, place)
    wanted = _wanted(loaded.study, count, options)
    screen = _screen(study_path, snapshot, loaded.header) if screen_copies else None
    if workers is None:
        workers = 1 if place != "cpu" or size > 1 else _usual_workers(loaded.header, wanted)
    kept: list[Renderer] = []

    def renderer() -> Renderer:
        kept.append(kept[0] if kept else Renderer(loaded))
        return kept[0]

    mine = sum(map(len, shared_chunks(wanted, rank, size)))
    with progress(mine, "Drawing people") as tell:
        summary = write_cohort(
            out,
            renderer,
            loaded.header,
            wanted,
            screen=screen,
            workers=workers,
            device=place,
            share=(rank, size),
            progress=tell,
        )
    _say(summary, wanted)


def _wanted(study: Study, count: int | None, options: dict[str, Any]) -> CohortRequest:
    """The request of the command's options."""
    from dataclasses import replace

    from mssg.study.values import parse_values
    from mssg.synthetic.matching import read_match
    from mssg.synthetic.people import CohortRequest

    names = ("given", "uniform", "balance", "within_support", "first", "volumes")
    own = {name: options.pop(name) for name in names}
    match, seed = options.pop("match"), options.pop("cohort_seed")
    table = read_match(match, study) if match else None
    if count is None:
        if table is None:
            raise UsageError("say how many people", field="-n", hint="-n 100, or --match TABLE.csv")
        count = max(1, len(table.values) - own["first"])
    picture = stated_request(study, {**options, "fix": (), "w": None, "layer": None})
    given = [*picture.covariates, *parse_values(study, own["given"]).items()]
    return CohortRequest(
        n=count,
        first=own["first"],
        seed=seed,
        given=tuple(given),
        uniform=tuple(_span(text) for text in own["uniform"]),
        balance=tuple(name.strip() for name in own["balance"]),
        match=table,
        within_support=own["within_support"],
        picture=replace(picture, covariates=(), seed=0),
        volumes=own["volumes"],
    )


def _span(text: str) -> tuple[str, float, float]:
    """NAME=LOW:HIGH.

    Raises:
        UsageError: Anything else.
    """
    from mssg.study.cells import parse_number

    name, _, words = text.partition("=")
    try:
        low, high = map(parse_number, words.split(":"))
    except ValueError:
        raise UsageError(
            "not a range", field="--uniform", found=repr(text), expected="NAME=LOW:HIGH, such as age=50:80"
        ) from None
    return name.strip(), low, high


def _screen(study_path: str | None, snapshot: str, header: Header) -> CopyScreen:
    from mssg.data.dataset import open_sources
    from mssg.synthetic.copies import CopyScreen
    from trainer_cli.evaluate import study_of

    study = study_of(study_path, (snapshot,))
    if (study.resolution, study.channels) != (header.study.resolution, header.study.channels):
        found = f"{study.resolution} pixels, {study.channels} channels"
        raise UsageError("its images are of another size or kind", file=study.path, found=found)
    return CopyScreen.of(open_sources(study))


def _usual_workers(header: Header, wanted: CohortRequest) -> int:
    """How many processes are worth their start for so many pictures."""
    from mssg.data.pipeline import default_workers
    from mssg.rendering.volume import places_of

    slices = len(places_of(header.study, header.summary)) if wanted.volumes else 1
    return max(1, min(default_workers(), MOST_WORKERS, wanted.n * slices // WORTH_A_WORKER))


def _say(summary: CohortSummary, wanted: CohortRequest) -> None:
    there = f", {summary.there} were there already" if summary.there else ""
    click.echo(f"{summary.folder}: {summary.made} people drawn{there}")
    if not summary.complete:
        click.echo("  other processes are still drawing theirs; the last one writes the tables")
    elif summary.others:
        last = wanted.indices.stop - 1
        click.echo(
            f"  participants.tsv lists people {wanted.first} to {last}; {summary.others} others lie in the"
            " folder: the same command over all of them (--first, -n) joins them"
        )
