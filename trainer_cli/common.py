"""What several commands share."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from mssg.errors import UsageError
from mssg.files import make_folder
from mssg.text import duration

if TYPE_CHECKING:
    from mssg.checkpoint.header import Header

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C ended."""
PLAIN_LINES = 5
"""Lines of progress written where there is no terminal to draw a bar in."""


def check_suffix(path: str, known: Sequence[str]) -> str:
    """The suffix of an output file, lower case, before any work is done.

    Raises:
        UsageError: Not one of the known formats.
    """
    for suffix in known:
        if path.lower().endswith(suffix):
            return suffix
    raise UsageError("not a format this command writes", file=path, expected=" | ".join(known))


def writable(path: str) -> Path:
    """An output path whose folder exists (made if need be).

    Raises:
        UsageError: The folder cannot be made, or the path is a folder.
    """
    out = Path(path)
    if out.is_dir():
        raise UsageError("this is a folder", file=out, expected="a file to write")
    make_folder(out.parent, UsageError)
    if not os.access(out.parent, os.W_OK):
        raise UsageError("no permission to write here", file=out.parent)
    return out


@contextmanager
def while_heard() -> Iterator[None]:
    """For writing what the work does not depend on: where the terminal was closed, a reader has gone
    (`| head`) or the disk is full, nothing more is written and the work goes on."""
    try:
        yield
    except OSError:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                drop_output(stream)


def drop_output(stream: TextIO) -> None:
    """Let whatever is written from now on, also by Python at its end, go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """Shows how far a long step is, on standard error: a bar with the time left in a terminal, else a line
    now and then.

    Args:
        length: How many things there are to do.
        label: What is done to them.

    Yields:
        A function to call with the number of things done since the last call.
    """
    if sys.stderr.isatty():
        with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
            yield bar.update
        return
    start, done, told = time.monotonic(), 0, 0

    def update(more: int) -> None:
        nonlocal done, told
        done += more
        if done * PLAIN_LINES // max(length, 1) > told:
            told = done * PLAIN_LINES // max(length, 1)
            left = (time.monotonic() - start) * max(length - done, 0) / done
            text = f"{label}: {done} of {length}, {duration(left)} left"
            with while_heard():
                click.echo(text, err=True)

    yield update


def say_outside(header: Header, values: Mapping[str, float | Sequence[float]]) -> None:
    """Tell, on standard error, which values lie outside a snapshot's training data."""
    from mssg.study.values import outside_training

    for note in outside_training(header.study, header.summary, values):
        click.echo(f"Note: {note}.", err=True)


def split_options(val: float = 0.1):
    """The options that every recipe shares: --seed, and --test and --val, which become `shares`.

    Args:
        val: Default of --val.
    """
    share = click.FloatRange(0, 1, max_open=True)

    def add(command):
        @functools.wraps(command)
        def with_shares(test: float, val: float, **further):
            from mssg.data.split import Shares

            return command(shares=Shares(test, val), **further)

        for option in (
            click.option(
                "--val", type=share, default=val, show_default=True, help="Share of the rest to validate on."
            ),
            click.option(
                "--test", type=share, default=0.15, show_default=True, help="Share of subjects to test on."
            ),
            click.option(
                "--seed",
                type=click.IntRange(0),
                default=0,
                show_default=True,
                help="Seed of the split and of all draws.",
            ),
        ):
            with_shares = option(with_shares)
        return with_shares

    return add


out_option = click.option(
    "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)


def seed_option(help: str, name: str = "seed"):
    """--seed, of everything that a command draws."""
    kind = click.IntRange(0, 2**32 - 1)
    return click.option("--seed", name, default=0, show_default=True, type=kind, help=help)


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where to compute: cpu, cuda, mps, or auto, the best here. Bits repeat on the cpu.",
)


def say_splits(out: Path) -> None:
    """Print what is off with the splits of small studies in a folder, and a seed that fits."""
    from mssg.data.split_check import advice

    for line in advice(out):
        click.echo(f"  {line}")


def say_counts(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Print images by source and split."""
    width = max(len(name) for name in counts)
    for name, by_split in counts.items():
        parts = ", ".join(f"{n} {split}" for split, n in by_split.items())
        click.echo(f"  {name:<{width}}  {sum(by_split.values())} images: {parts}")
