"""The training loop: reads top to bottom, every draw a pure function of (seed, step), so that a resumed run
is the same run.

At a snapshot everything else is written first and the training state last: the state is the point from which
a killed run continues, and whatever was written after the state that survives is written again, the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from mssg.errors import RunError
from mssg.losses.covariate import CovariateLoss
from mssg.processes import asked_to_stop
from mssg.runs.lock import locked
from mssg.training.batches import TrainingData, open_training_data
from mssg.training.cores import CoreUse
from mssg.training.distributed import World
from mssg.training.run import Run
from mssg.training.run_writer import Progress, RunWriter
from mssg.training.state import TrainState, initial_state
from mssg.training.stats import Forecast, Meter
from mssg.training.step import TrainSetup, train_step
from mssg.training.validation import Validation

FEWEST_CHANNELS = 8  # fewer at the full resolution draw coarsely, and are told of
MOST_SETBACKS = 3  # halvings of the learning rates before a run that keeps diverging is stopped


def train(run: Run, world: World, progress: Progress | None = None) -> None:
    """Train a run to its end, or until a signal (SIGINT, SIGTERM and others) asks it to save and stop.

    Args:
        run: The run's folder, new or to be resumed.
        progress: Called in the main process with every row of stats.jsonl, and with {"event": text}. Where it
            cannot write (OSError), training goes on.

    Raises:
        RunError: Another trainer works on the run, it diverges, or its files cannot be read or written.
    """
    with ExitStack() as held:
        if world.is_main:
            held.enter_context(locked(run.path))
        interrupted = held.enter_context(asked_to_stop())
        held.enter_context(_own_random_state(world.device))
        _train(run, world, progress, interrupted)


def _train(run: Run, world: World, progress: Progress | None, interrupted: threading.Event) -> None:
    config = run.config
    data = open_training_data(run, world)
    writer = RunWriter(run, data, progress)
    validation = Validation(data, run.predictors) if world.is_main else None
    setup = TrainSetup(config, CovariateLoss(data.study), world)
    state = _begun(run, data, writer, validation, world)
    meter, cores = Meter(config, world, state.step), CoreUse(world.device)
    forecast = Forecast(config, world.device, state.step)
    interrupt = stop = False
    while state.step < config.total_steps and not stop:
        with cores.counted():
            meter.add(train_step(state, data.batch(state.step), setup))
        if estimate := forecast(state.step):
            writer.say(estimate)
        interrupt = world.any(interrupted.is_set())
        last = interrupt or state.step == config.total_steps
        if state.step % config.steps_per_tick and not last:
            continue
        row = meter.row(state)
        if lost := sorted(name for name, value in row.items() if not np.isfinite(value)):
            _step_back(run, state, writer, world, lost, row)
            meter.restart(state.step)
            continue
        is_saved = last or state.step % (config.steps_per_tick * config.snap) == 0
        if is_saved:
            values, score = validation(state) if validation and not interrupt else ({}, None)
            row |= values
            writer.snapshot(state)
            if score is not None and state.judge(score):
                writer.mark_best(state)
        writer.row(row)
        if is_saved:
            writer.state(state)
        writer.tell(row)
        if advice := cores.advice():
            writer.say(advice)
        stale = world.any(bool(config.patience) and state.best["stale"] >= config.patience)
        if stale:
            writer.say(f"stopped early: no better for {config.patience} evaluations")
        stop = stale or interrupt

    _say_end(writer, run, state.step, finished=state.step >= config.total_steps or not interrupt)


def _say_end(writer: RunWriter, run: Run, step: int, finished: bool) -> None:
    text = f"{'finished' if finished else 'stopped'} at {run.config.kimg(step):.1f} kimg"
    hint = "" if finished else f"; continue with: mssg-train --resume {run.path}"
    writer.say(text + hint, stopped=not finished)


def _begun(
    run: Run, data: TrainingData, writer: RunWriter, validation: Validation | None, world: World
) -> TrainState:
    """The newest state, or the first, alike in all processes; it is said, and saved if it is the first."""
    state = initial_state(run, data.study, world.device, writer.log)
    state.load_newest(run.state_files(), writer.log)
    world.broadcast(state.G)
    world.broadcast(state.D)
    writer.begin(state.step)
    writer.say(_first_words(run, world, state.step))
    if validation:
        writer.say(validation.words())
    if (channels := state.D.config.channels(data.study.resolution)) < FEWEST_CHANNELS:
        writer.say(f"only {channels} channels at {data.study.resolution} pixels: --preset auto takes more")
    if state.step == 0:
        writer.snapshot(state)
        writer.state(state)
    return state


def _first_words(run: Run, world: World, step: int) -> str:
    config = run.config
    verb = f"resumed at {config.kimg(step):.1f} kimg" if step else "started"
    what = f"{config.total_kimg:g} kimg, batch {config.batch}, {config.cfg}, {world.size} x {world.device}"
    return f"{verb}: {what}, preset {config.preset}"


def _step_back(
    run: Run, state: TrainState, writer: RunWriter, world: World, lost: Sequence[str], row: Mapping[str, Any]
) -> None:
    """Back to the last saved state with half the learning rates, because of a loss that is not finite.

    The halving is saved before it is tried: a run that is killed from here on goes on the same way.

    Args:
        run, state, writer, world: As in `train`; the state is changed in place.
        lost: Names of what is not finite.
        row: The tick that shows it.

    Raises:
        RunError: After MOST_SETBACKS of them; `diverged.json` is the report.
    """
    setbacks, seen = state.setbacks + 1, run.config.kimg(state.step)
    names = ", ".join(lost[:3])
    if setbacks > MOST_SETBACKS:
        writer.diverged(state, lost, row)
        raise RunError(
            f"training diverges: not finite even with learning rates / {2**state.setbacks}: {names}",
            file=run.divergence_file,
            found=f"at {seen:.1f} kimg",
            hint=(
                "Start a new run from this one's last snapshot (--init-from) with lower learning rates or a"
                " larger --gamma"
            ),
        )
    state.load_newest(run.state_files(), writer.log)
    state.setbacks = setbacks
    world.barrier()  # every process has read the state before it is replaced
    writer.begin(state.step)
    writer.state(state)
    back = run.config.kimg(state.step)
    writer.say(
        f"{names} not finite at {seen:.1f} kimg: back to {back:.1f} kimg with learning rates / {2**setbacks}"
    )


@contextmanager
def _own_random_state(device: str) -> Iterator[None]:
    """Training seeds torch at every step; the caller's random state is as it was afterwards."""
    with torch.random.fork_rng([torch.device(device)] if device.startswith("cuda") else []):
        yield
