"""`mssg demo`: from nothing to a trained model, its figure and its control table, on a CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mssg.errors import RunError, UsageError
from mssg.files import write_json
from mssg.runs.rows import instruments, marked, numbers
from mssg.text import duration
from trainer_cli.common import INTERRUPTED, progress

if TYPE_CHECKING:
    from mssg.data.dataset import PackedSource
    from mssg.study.model import Study

JUDGED = 500
"""Real images of each source on which the oracle is judged."""

PRESET = "cpu-demo"
FIGURE = ("intensity", "slant")  # no source records both
"""Two covariates that no source records together."""
DURATION = "five to nine minutes on two cores"
"""Measured: docs/results/digits.md."""


@click.command()
@click.option(
    "--out",
    default="mssg-demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for data, run, figure and table.",
)
@click.option(
    "--kimg",
    type=click.FloatRange(min=0, min_open=True),
    help="Length of training in thousands of images; default: the preset's.",
)
@click.option(
    "--digits", type=click.IntRange(100), help="Use the first so many of the shipped 10,000 digits."
)
@click.option(
    "--images",
    default=1000,
    show_default=True,
    type=click.IntRange(50),
    help="Images a design of the control table.",
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of data, training and table."
)
@click.pass_context
def demo(
    ctx: click.Context, out: Path, kimg: float | None, digits: int | None, images: int, seed: int
) -> None:
    """Prepare digits as two sources with different covariates, train on both, and show what the model
    controls.

    One source records thickness and intensity, the other thickness and slant; the model learns all three.
    Interrupt it when you like (Ctrl-C saves): the same command goes on where it stopped.
    """
    length = "" if kimg else f", {DURATION}"
    click.echo(f"Four steps{length}. Ctrl-C saves; the same command goes on.")
    study_path = prepare(out / "data", digits, seed)
    run = train(study_path, out / "run", kimg, images, seed)
    if not finished(run):
        click.echo(f"\nStopped and saved. Go on with: mssg demo --out {out}")
        ctx.exit(INTERRUPTED)
    figure, table = out / "figure.png", out / "control.json"
    draw(run, figure, seed)
    measure(run, study_path, table, images, seed)
    click.echo(
        f"""
Done. Look at
  {figure}   {FIGURE[0]} by {FIGURE[1]}: no source records both
  {table}   the table above as JSON
and go on with
  mssg explore {run}   drag the covariates yourself
  mssg inspect {run}
  mssg figure grid {run} --rows thickness --cols digit -o grid.pdf
  mssg-train {study_path} --preset small --outdir {out / "longer"}   longer: forty minutes on one core"""
    )


def step(number: int, text: str) -> None:
    """A heading."""
    click.echo(click.style(f"\n{number}/4  {text}", bold=True))


def prepare(folder: Path, digits: int | None, seed: int) -> Path:
    """Prepare the digits, or find them prepared; returns the study's path."""
    from mssg.data.dataset import open_sources
    from mssg.data.recipes import digits as recipe
    from mssg.errors import DataError, StudyError
    from mssg.study.schema import load_study

    step(1, "Two sources of digits")
    path = folder / "study.toml"
    try:
        counts = {s.name: len(s) for s in open_sources(load_study(path))}
        click.echo(
            f"Already prepared in {folder}: " + ", ".join(f"{name} {n} images" for name, n in counts.items())
        )
        return path
    except (DataError, StudyError):
        pass  # not there, or cut short: prepare (again)
    total = digits or len(recipe.load().labels)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with progress(total, "Drawing digits") as tell:
        summary = recipe.prepare(folder, limit=digits, seed=seed, workers=workers, progress=tell)
    for name, split in summary.counts.items():
        click.echo(f"  {name}: " + ", ".join(f"{n} {s}" for s, n in split.items()))
    return path


def train(study: Path, folder: Path, kimg: float | None, images: int, seed: int) -> Path:
    """Train, or go on training; returns the run's folder.

    Raises:
        UsageError: The demo was started with another length.
    """
    from mssg.ops.memory import keep_freed_memory
    from mssg.training import launch
    from mssg.training.run import open_run

    keep_freed_memory()
    step(2, f"Training on both (preset {PRESET})")
    if not (folder / "config.json").exists():
        options: dict[str, Any] = {"preset": PRESET, "seed": seed, "metric_images": images}
        options |= {"total_kimg": kimg} if kimg else {}
        return launch.start(study, folder, options, progress=Progress())
    total = open_run(folder).config.total_kimg
    if kimg and kimg != total:
        raise UsageError(
            "this demo was started with another length",
            file=folder,
            field="--kimg",
            found=f"{kimg:g}",
            expected=f"{total:g}",
            hint="Leave --kimg out, or choose another --out",
        )
    if finished(folder):
        click.echo(f"Already trained: {folder}")
        return folder
    click.echo(f"Going on with {folder}")
    return launch.resume(folder, progress=Progress())


class Progress:
    """One line a tick: how far, how long still, and how the losses stand."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show a row of stats.jsonl, or a piece of news."""
        if "event" in row:
            click.echo(row["event"])
            return
        left = max(float(row.get("eta_sec") or 0), 0.0)
        words = [f"{row['kimg']:7.1f} kimg", f"{duration(left):>9} left"]
        words += [f"{name} {row[key]:.3f}" for name, key in _LOSSES if isinstance(row.get(key), float)]
        known, start = instruments(row), "metric/control/"
        for key, value in numbers(row).items():
            if key.startswith(start) and key.endswith("r"):
                words.append(f"{marked(key, known).removeprefix(start).replace('/', ' ')} {value:.2f}")
        click.echo("  ".join(words))


_LOSSES = (
    ("G", "loss/G/adv"),
    ("G covariates", "loss/G/cov"),
    ("D", "loss/D/adv"),
    ("D covariates", "loss/D/cov"),
)


def finished(folder: Path) -> bool:
    """Whether a run has reached its length."""
    from mssg.checkpoint.header import read_header, resolve_snapshot
    from mssg.training.run import open_run

    total = open_run(folder).config.total_steps
    try:
        return int(read_header(resolve_snapshot(folder)).progress.get("step", 0)) >= total
    except RunError:
        return False


def draw(run: Path, path: Path, seed: int) -> None:
    """The grid of figure 1."""
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.plotting import image_grid as figures
    from mssg.rendering.renderer import Renderer
    from mssg.rendering.request import RenderRequest

    step(3, "Figure")
    command = f"mssg figure grid {run} --rows {FIGURE[0]} --cols {FIGURE[1]} --seed {seed} -o {path}"
    request = RenderRequest(seed=seed)
    figures.grid(Renderer(load_snapshot(run)), FIGURE[0], FIGURE[1], request, command=command).save(path)
    click.echo(f"{path}")


def measure(run: Path, study_path: Path, path: Path, images: int, seed: int) -> None:
    """The control table, printed and saved."""
    from mssg.checkpoint.snapshot import load_snapshot
    from mssg.data.dataset import open_sources
    from mssg.measure.instruments import instrument
    from mssg.metrics.control import control
    from mssg.rendering.renderer import Renderer
    from mssg.study.schema import load_study

    step(4, "Does the model do what is asked?")
    renderer = Renderer(load_snapshot(run))
    study = renderer.study
    sources = open_sources(load_study(study_path))
    with click.progressbar(length=1, label="Drawing and measuring") as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        report = control(
            renderer.generate,
            study,
            renderer.snapshot.models,
            instrument(study.instrument).measure,
            n=images,
            seed=seed,
            sources=sources,
            designs=("a", "b", "shuffled"),
            progress=show,
        )
    document = report.to_json() | {
        "snapshot": renderer.header.snapshot_id,
        "kimg": renderer.header.progress["kimg"],
    }
    write_json(path, document, UsageError)
    click.echo(report.table())
    click.echo(f"\nThe oracle on real images:\n{_own_errors(study, sources)}")


def _own_errors(study: Study, sources: Sequence[PackedSource]) -> str:
    """What the study's oracle is worth on held-out real images, a line a covariate."""
    import numpy as np

    from mssg.metrics.instruments import open_instruments
    from mssg.metrics.own_errors import judged

    instruments, _ = open_instruments(study)
    held = [(source, source.rows("test")[:JUDGED]) for source in sources]
    own = judged(
        instruments,
        study,
        read=instruments.measure(np.concatenate([s.images[rows] for s, rows in held])),
        values=np.concatenate([s.values[rows] for s, rows in held]),
        people=np.concatenate([s.subjects[rows] for s, rows in held]),
        training=np.concatenate([s.values[s.rows("train")] for s in sources]),
        split="test",
    )
    return "\n".join(f"{name}: {error.words()}" for name, error in own.items())
