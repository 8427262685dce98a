"""`mssg watch RUN`: the training monitor."""

from __future__ import annotations

import click


@click.command()
@click.argument("run", type=click.Path())
def watch(run: str) -> None:
    """Watch a training: curves, time left and the latest samples, in a small window.

    RUN is the folder that `mssg-train --outdir` made. The window only reads files: closing it, or restarting
    the training, disturbs neither.
    """
    from mssg import extras

    extras.need("explorer", "the training monitor")
    from trainer_cli.monitor import Monitor

    Monitor(run).show()
