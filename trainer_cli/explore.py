"""`mssg explore`: starts the desktop explorer as a process of its own."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import click


@click.command()
@click.argument("snapshot", required=False)
@click.option("--session", metavar="FILE", help="Go on with a session saved by the explorer.")
@click.option("--export", metavar="SESSION", help="Draw a saved session's picture into -o, without a window.")
@click.option(
    "-o", "--output", metavar="FILE", help="File of --export: .png, .nii.gz, .gif, .pdf (its grid)."
)
@click.option("--scale", type=float, help="Size of text and controls; default: the screen's.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    help="Where to draw; auto, the default, is the best here.",
)
@click.option("--size", metavar="WxH", help="Window size, for example 1280x800.")
@click.option(
    "--data-order", is_flag=True, help="--export writes grey levels in data order, not pictures as displayed."
)
@click.pass_context
def explore(
    ctx: click.Context, snapshot: str | None, data_order: bool, **options: str | float | None
) -> None:
    """Open the desktop explorer on SNAPSHOT: a file, a run's folder, or a shipped name; without it, on a
    shipped one."""
    from mssg.checkpoint.header import resolve_snapshot
    from mssg.processes import python_command

    command = python_command("explorer_app.__main__:main")
    if snapshot:
        if not Path(
            snapshot, "config.json"
        ).is_file():  # a run may have no snapshot yet: the window waits for it
            resolve_snapshot(snapshot)  # a wrong name is told here, before a window opens
        command.append(snapshot)
    for name, value in options.items():
        command += [f"--{name}", str(value)] if value is not None else []
    command += ["--data-order"] if data_order else []
    window = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: window.terminate())  # the window closes as if by hand
    ctx.exit(window.wait())
