"""`mssg train` and `mssg-train`: train a study, or continue a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from mssg.runs.rows import instruments, worth
from mssg.study.presets import described
from mssg.study.train_config import CHOICES, METRICS
from mssg.text import duration

TRY_AGAIN = 75
"""Exit code of a run that a signal stopped before its end (EX_TEMPFAIL): the batch script puts the job back
in the queue."""
OPTIONS_TO_FIELDS = {"kimg": "total_kimg", "freezed": "freeze_d", "lambda_": "lambda_max"}


def show(row: Mapping[str, Any]) -> None:
    """One line for a tick, and for its validation one more for each instrument, which says its own error."""
    if "event" in row:
        click.echo(row["event"])
        return
    losses = "  ".join(f"{label} {row[key]:.3f}" for label, key in _SHOWN if isinstance(row.get(key), float))
    click.echo(
        f"kimg {row['kimg']:8.1f}  {row['sec_per_kimg']:6.2f} s/kimg  left {duration(row['eta_sec']):>8} "
        f" {losses}  lambda {row['lambda']:.3g}  mem {row['memory_gb']:.1f} GB"
    )
    known = instruments(row)
    lines: dict[str, list[str]] = {}
    for key, value in row.items():
        if key.startswith("metric/") and isinstance(value, float):
            lines.setdefault(worth(key, known), []).append(f"{key.removeprefix('metric/')} {value:.3f}")
    for by, found in lines.items():
        click.echo("    " + "  ".join(found) + (f"  ({by})" if by else ""))


_SHOWN = (
    ("G", "loss/G/adv"),
    ("G cov", "loss/G/cov"),
    ("D", "loss/D/adv"),
    ("D cov", "loss/D/cov"),
    ("R1", "loss/D/r1"),
)


def _fields(options: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The configuration's fields that were given by hand: named options, then FIELD=VALUE."""
    fields = {OPTIONS_TO_FIELDS.get(k, k): v for k, v in options.items() if v is not None}
    if "metrics" in fields:
        fields["metrics"] = [m for m in fields["metrics"].split(",") if m and m != "none"]
    for item in overrides:
        key, _, text = item.partition("=")
        try:
            fields[key] = json.loads(text)
        except ValueError:
            fields[key] = text
    return fields


def _refuse_clashes(
    study: str | None, run: str | None, outdir: str | None, fields: Mapping[str, Any], init_from: str
) -> None:
    """Refuse what cannot go together: a run that is continued is what it was.

    Raises:
        UsageError: Saying what clashes.
    """
    from mssg.errors import UsageError

    if bool(study) == bool(run):
        raise UsageError(
            "give either a STUDY with --outdir, or --resume RUN",
            hint="Example: mssg-train study.toml --outdir runs/first",
        )
    fixed = [name for name in fields if name != "total_kimg"]
    if run and (fixed or init_from or outdir):
        raise UsageError(
            "a resumed run keeps its configuration; only --kimg and --predictor can be given",
            field="--resume",
            found=", ".join(fixed) or "--init-from or --outdir",
            hint="Start a new run with --init-from to change it",
        )


@click.command()
@click.argument("study", required=False, type=click.Path())
@click.option("--outdir", type=click.Path(), help="The run's folder: new or empty.")
@click.option(
    "--resume",
    "resume_run",
    type=click.Path(),
    metavar="RUN",
    help="Continue this run exactly where it was saved; a greater --kimg makes it longer.",
)
@click.option(
    "--requeue",
    is_flag=True,
    help=(
        "Continue the run in --outdir if this command made it before; stopped early, exit with 75. For"
        " schedulers."
    ),
)
@click.option(
    "--init-from",
    default="",
    metavar="SNAPSHOT",
    help="Start the networks from a snapshot's weights (transfer).",
)
@click.option("--preset", metavar="NAME", help=f"Named settings: {described()}.")
@click.option("--cfg", type=click.Choice(CHOICES["cfg"]), help="Generator architecture.")
@click.option("--batch", type=int, help="Images of all sources per step, over all processes.")
@click.option("--micro-batch", type=int, help="Images per forward pass; smaller needs less memory.")
@click.option("--gamma", type=float, help="Weight of the R1 penalty.")
@click.option("--kimg", type=float, help="Length of the run in thousands of images, all sources counted.")
@click.option("--snap", type=int, help="Ticks between two snapshots.")
@click.option(
    "--metrics",
    help=(
        f"Validation at every snapshot: {', '.join(METRICS)}, several with commas, or none. The first that"
        " can be measured chooses `best` and serves --patience."
    ),
)
@click.option(
    "--predictor",
    "predictors",
    multiple=True,
    type=click.Path(),
    metavar="FILE",
    help="File of `mssg predictors` by which control is measured where no oracle reads images. Repeatable.",
)
@click.option("--patience", type=int, help="Stop after so many evaluations without improvement; 0 = never.")
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to train.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="CPU threads; default: one a core, or 1 for networks too small to gain from more.",
)
@click.option("--mirror/--no-mirror", default=None, help="Flip half of the real images left to right.")
@click.option("--freezed", type=int, help="Layers of D, from the image on, whose weights stay fixed.")
@click.option(
    "--aug",
    type=click.Choice(CHOICES["aug"]),
    help="Augmentation of what D sees; operations: [augment] in the study.",
)
@click.option("--lambda", "lambda_", type=float, help="Cap of the covariate loss's weight.")
@click.option(
    "--covariate-target",
    type=click.Choice(CHOICES["covariate_target"]),
    help="Which real covariates D is taught.",
)
@click.option("--objective", type=click.Choice(CHOICES["objective"]), help="Adversarial objective.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Any other field of the configuration; see --dry-run.",
)
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration and stop.")
def train(
    study: str | None,
    outdir: str | None,
    resume_run: str | None,
    requeue: bool,
    init_from: str,
    device: str,
    workers: int | None,
    overrides: tuple[str, ...],
    predictors: tuple[str, ...],
    dry_run: bool,
    **options: Any,
) -> None:
    """Train STUDY, a TOML file, into --outdir; or continue a run with --resume.

    Ctrl-C or SIGTERM saves and stops; --resume then continues bit for bit (on the CPU). With --requeue the
    same command does both: it starts the run, or continues it.
    """
    fields = _fields(options, overrides)
    _refuse_clashes(study, resume_run, outdir, fields, init_from)
    if resume_run or not dry_run:
        _train(
            study,
            resume_run,
            outdir,
            fields,
            device=device,
            threads=workers,
            init_from=init_from,
            predictors=predictors,
            requeue=requeue,
        )
    else:
        from mssg.study.schema import load_study, to_document
        from mssg.study.train_config import resolve

        loaded = load_study(str(study))
        document = {"study": to_document(loaded), "train": resolve(loaded, fields).to_json()}
        click.echo(json.dumps(document, indent=2))


def _train(
    study: str | None,
    run: str | None,
    outdir: str | None,
    fields: Mapping[str, Any],
    *,
    device: str,
    threads: int | None,
    init_from: str,
    predictors: tuple[str, ...],
    requeue: bool,
) -> None:
    """Train a study, or continue a run, and say every tick."""
    from mssg.errors import UsageError

    if study and not outdir:
        raise UsageError("is missing", field="--outdir", hint="Name a new folder for the run")
    from mssg.ops.device import checked_device
    from mssg.ops.memory import keep_freed_memory
    from mssg.training import launch
    from trainer_cli.common import while_heard

    keep_freed_memory()
    stopped = []

    def watch(row: Mapping[str, Any]) -> None:
        stopped.extend([True] if row.get("stopped") else [])
        with while_heard():
            show(row)

    device = checked_device(device)
    if run:
        kimg = fields.get("total_kimg")
        launch.resume(run, watch, device=device, total_kimg=kimg, predictors=predictors, threads=threads)
    else:
        launch.start(
            str(study),
            str(outdir),
            fields,
            watch,
            device=device,
            init_from=init_from,
            predictors=predictors,
            requeue=requeue,
            threads=threads,
        )
    if stopped and requeue:
        raise SystemExit(TRY_AGAIN)
