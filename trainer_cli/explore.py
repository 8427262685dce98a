"""`mssg explore`: starts the desktop explorer as a process of its own."""

from __future__ import annotations

import subprocess
import sys

import click


@click.command()
@click.argument("snapshot", required=False)
@click.option("--session", metavar="FILE", help="Go on with a session saved by the explorer.")
@click.option("--export", metavar="FILE", help="Write the first picture to FILE (.png) and quit.")
@click.pass_context
def explore(ctx: click.Context, snapshot: str | None, session: str | None, export: str | None) -> None:
    """Open the desktop explorer on SNAPSHOT: a file, a run's folder, or a shipped name; without it, on the demo."""
    from mssg.header import resolve_snapshot

    command = [sys.executable, "-m", "explorer_app"]
    if snapshot:
        resolve_snapshot(snapshot)  # a wrong name is told here, before a window opens
        command.append(snapshot)
    command += ["--session", session] if session else []
    command += ["--export", export] if export else []
    ctx.exit(subprocess.run(command, check=False).returncode)
