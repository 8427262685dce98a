"""Training as a user asks for it: a study from the beginning, or a run to be continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mssg.metrics.instruments import open_instruments
from mssg.training.cores import threads_for
from mssg.training.distributed import World, joined
from mssg.training.loop import train
from mssg.training.run import Run, change, create, open_run, reopen
from mssg.training.run_writer import Progress


def start(
    study_path: str | Path,
    outdir: str | Path,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    *,
    device: str = "cpu",
    init_from: str = "",
    predictors: Sequence[str | Path] = (),
    requeue: bool = False,
    threads: int | None = None,
) -> Path:
    """Train a study from the beginning.

    Args:
        outdir: The run's folder, new or empty.
        options: Overrides of `TrainConfig` fields.
        progress: Called with every tick's row of stats.jsonl, and with {"event": text} for other news.
        device: "cpu", "cuda" or "mps".
        init_from: A snapshot whose weights the networks start from.
        predictors: Files of `mssg predictors` that validation reads covariates by, where no oracle does.
        requeue: Continue the run if the same call made it before: what a scheduler restarts is one command.
        threads: On the CPU; default: torch's number, or 1 where the networks are too small for more.

    Returns:
        The run's folder.
    """
    with joined(device) as world:
        if world.is_main:
            begin = reopen if requeue else create
            run = begin(study_path, outdir, options, init_from=init_from, predictors=predictors)
        world.barrier()
        if not world.is_main:
            run = open_run(outdir)
        _train(run, world, progress, threads)
    return Path(outdir)


def resume(
    path: str | Path,
    progress: Progress | None = None,
    *,
    device: str = "cpu",
    total_kimg: float | None = None,
    predictors: Sequence[str | Path] = (),
    threads: int | None = None,
) -> Path:
    """Continue a run from its newest valid training state, or from the beginning if it has none.

    Args:
        progress: As in `start`.
        device: "cpu", "cuda" or "mps".
        total_kimg: A new length, beyond the one it has.
        predictors: As in `start`, instead of those it has.
        threads: As in `start`.

    Raises:
        RunError: Not a run, locked by another trainer, or its states are all damaged.
        UsageError: A length that is not beyond the one it has.
    """
    with joined(device) as world:
        if world.is_main and (total_kimg is not None or predictors):
            if predictors:
                open_instruments(open_run(path).study, predictors)
            change(path, total_kimg=total_kimg, predictors=predictors)
        world.barrier()
        _train(open_run(path), world, progress, threads)
    return Path(path)


def _train(run: Run, world: World, progress: Progress | None, threads: int | None) -> None:
    with threads_for(run.config, run.study.resolution, world.device, threads):
        train(run, world, progress)
