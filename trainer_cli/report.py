"""`mssg report`: what a model is and does, as one HTML page or PDF."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer_cli.common import device_option

if TYPE_CHECKING:
    from mssg.checkpoint.snapshot import Snapshot
    from mssg.metrics.results import Evaluation
    from mssg.report.elements import Block

FORMATS = (".html", ".pdf")


@click.command()
@click.argument("snapshot", metavar="SNAPSHOT|RUN")
@click.option(
    "--evaluation",
    metavar="FILE",
    help="The eval.json of `mssg evaluate`. Default: RUN/eval.json where there is one.",
)
@click.option(
    "--study",
    "study_path",
    metavar="STUDY.toml",
    help="Study with the prepared data, for the gallery of nearest training images. Default: the run's own.",
)
@click.option(
    "--latent",
    "latents",
    multiple=True,
    metavar="FILE",
    help="File of `mssg invert` whose counterfactuals are shown; repeatable.",
)
@device_option
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    required=True,
    metavar="FILE",
    help="File to write: .html (one file, nothing fetched) or .pdf; repeatable.",
)
def report(
    snapshot: str,
    evaluation: str | None,
    study_path: str | None,
    latents: tuple[str, ...],
    device: str,
    outputs: tuple[str, ...],
) -> None:
    """Write a report on SNAPSHOT: a page of verdicts with what measured them, pictures, data, limits, how to
    make it again, and all numbers, also as FILE-numbers.csv."""
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.ops.device import checked_device
    from mssg.rendering.renderer import Renderer
    from mssg.report.contents import ReportContents
    from mssg.report.sections import build
    from mssg.runs.folder import RunFolder
    from mssg.runs.rows import read_rows
    from trainer_cli.common import check_suffix, writable

    targets = [(check_suffix(output, FORMATS), writable(output)) for output in outputs]
    loaded = load_snapshot(snapshot, checked_device(device))
    run = Path(snapshot) if Path(snapshot).is_dir() else None
    found, missing = _evaluation(loaded, run, evaluation)
    given = [("--evaluation", evaluation), ("--study", study_path), *(("--latent", f) for f in latents)]
    again = _command([snapshot], [*given, *(("-o", output) for output in outputs)])
    contents = ReportContents(
        name=snapshot,
        renderer=Renderer(loaded),
        evaluation=found,
        stats=read_rows(RunFolder(run).stats_file) if run else [],
        latents=tuple(Path(f) for f in latents),
        galleries=_galleries(loaded, found, study_path, run, missing),
        commands=[*([found.command] if found and found.command else []), again],
        missing=missing,
    )
    _write(targets, build(contents), f"{loaded.study.name}: report on {loaded.header.snapshot_id}", found)
    for sentence in missing:
        click.echo(f"Note: {sentence}", err=True)


def _write(
    targets: Sequence[tuple[str, Path]], blocks: Sequence[Block], title: str, found: Evaluation | None
) -> None:
    """Write a report in each format (suffix, file), and the numbers behind it."""
    from mssg.errors import UsageError
    from mssg.files import write_atomically
    from mssg.metrics.tables import numbers
    from mssg.report.html import to_html
    from mssg.report.pdf import to_pdf

    if found:
        table = targets[0][1].with_name(f"{targets[0][1].stem}-numbers.csv")
        write_atomically(table, numbers(found), UsageError)
        click.echo(f"{table}: {len(found.results)} numbers")
    for suffix, path in targets:
        data = to_html(blocks, title) if suffix == ".html" else to_pdf(blocks, title)
        write_atomically(path, data, UsageError)
        click.echo(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


def _evaluation(
    snapshot: Snapshot, run: Path | None, given: str | None
) -> tuple[Evaluation | None, list[str]]:
    """The snapshot's evaluation, where there is one, and what is missing without it."""
    from mssg.errors import UsageError
    from mssg.metrics.results import Evaluation
    from mssg.runs.folder import RunFolder

    file = Path(given) if given else (run / "eval.json" if run else None)
    if file is None or not (given or file.exists()):
        return None, [
            "Nothing was measured: make an eval.json with `mssg evaluate` and give it with --evaluation."
        ]
    found = Evaluation.load(file)
    if all(m.snapshot != snapshot.header.snapshot_id for m in found.models):
        here = snapshot.header
        kimg = float(here.progress.get("kimg", 0))
        raise UsageError(
            "evaluates other snapshots than this one",
            file=file,
            found=", ".join(f"{m.snapshot} at {m.kimg:g} kimg" for m in found.models),
            expected=f"{here.snapshot_id} at {kimg:g} kimg",
            hint="Evaluate this one (a run in training writes new ones), or report on"
            f" {RunFolder(run or Path('RUN')).snapshot(found.models[0].kimg)} with --evaluation {file}",
        )
    return found, []


def _command(words: Sequence[str], options: Iterable[tuple[str, str | None]]) -> str:
    """How to make the report again, without a path of this machine."""
    words = ["mssg", "report", *words, *(w for name, v in options if v for w in (name, v))]
    return shlex.join(Path(w).name if w.startswith("/") else w for w in words)


def _galleries(
    loaded: Snapshot, found: Evaluation | None, study_path: str | None, run: Path | None, missing: list[str]
) -> dict[str, Any]:
    """What the pairs are -> generated images with their nearest training images, drawn and read again: the
    most suspect, or any where nobody searched; none where the data are not at hand."""
    from mssg.errors import MssgError
    from mssg.metrics.dataset import open_dataset
    from mssg.metrics.groups.memorisation import gallery, nearest_pairs
    from mssg.metrics.model import evaluated_model
    from mssg.study.schema import load_study
    from mssg.training.run import open_run

    model = next(
        (m for m in (found.models if found else ()) if m.snapshot == loaded.header.snapshot_id), None
    )
    if found is None or model is None:
        return {}
    if run is None and study_path is None:
        missing.append("Nearest training images are not shown: give the data with --study.")
        return {}
    searched = [r for r in found.results if r.metric.startswith("memorisation-") and r.model == model.label]
    try:
        # a run's own study.toml is a copy: its sources lie where the original does
        study = open_run(run).study if run and not study_path else load_study(str(study_path))
        data, _ = open_dataset(study, found.split, [loaded])
        drawer = evaluated_model(model.label, loaded, data.study)
        if not searched:
            return {"Drawn at random, compared in pixels": nearest_pairs(data, drawer, found.seed)}
        return {
            f"The most suspect of {r.n}, in {r.features}": gallery(data, drawer, found.seed, r)
            for r in searched
        }
    except (MssgError, KeyError, IndexError) as error:
        missing.append(f"Nearest training images are not shown: {error}")
        return {}
