"""Exports without a window: a session's picture, grid or sweep. This path imports torch, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from explorer_app import export, session
from explorer_app.distribution import TrainingDistribution
from explorer_app.picture import Picture
from explorer_app.state import SWEEP_STEPS, Axis, grid_pictures, sweep_pictures
from mssg.checkpoint.header import read_header, resolve_snapshot
from mssg.errors import SnapshotError, UsageError


def export_session(path: str, output: str, snapshot: str = "") -> str:
    """Draw what a session shows and write it.

    Args:
        path: The session.
        output: .png (the picture), .nii.gz (the picture with millimetres), .pdf (the grid), .gif or .mp4 (a
            sweep of the grid's column covariate).
        snapshot: Used instead of the session's own.

    Returns:
        One sentence saying what was written.

    Raises:
        SnapshotError: The session or its snapshot is missing or damaged.
        UsageError: An output that cannot be.
    """
    if not output:
        raise UsageError("no output file", field="-o", expected="a .png, .nii.gz, .pdf, .gif or .mp4")
    saved = session.load(path)
    name = snapshot or saved.state.snapshot
    if not snapshot and not Path(name).is_file():
        raise SnapshotError(
            "the session's snapshot is missing",
            file=name,
            hint="Give its new place: mssg explore SNAPSHOT --export SESSION",
        )
    header = read_header(resolve_snapshot(name))
    from dataclasses import replace

    state = replace(saved.state, snapshot=str(header.path))
    render = _renderer()
    frame_of = {p: render(p) for p in [state.picture]}
    about = export.provenance(header, state.picture)
    lower = output.lower()
    if lower.endswith(".pdf"):
        cells = [[render(p) for p in row] for row in grid_pictures(state)]
        export.save_grid(output, cells, state.grid, header.study, about, state.display)
    elif lower.endswith((".gif", ".mp4")):
        axis = Axis(
            state.grid.columns.name, *TrainingDistribution(header).range(state.grid.columns.name), SWEEP_STEPS
        )
        export.save_sweep(output, [render(p) for p in sweep_pictures(state, axis)], about, state.display)
    elif lower.endswith((".nii", ".nii.gz")):
        export.save_nifti(output, frame_of[state.picture], header.study, about)
    elif lower.endswith(".png"):
        export.save_png(output, frame_of[state.picture], about, 8, state.display)
    else:
        raise UsageError(
            "unknown file type", field="-o", found=output, expected=".png, .nii.gz, .pdf, .gif or .mp4"
        )
    return f"wrote {output}"


def _renderer() -> Callable[[Picture], np.ndarray]:
    from explorer_app.engine import Engine

    engine = Engine()

    def render(picture: Picture) -> np.ndarray:
        frame = engine.render(picture, lambda: False)
        assert frame is not None  # nothing cancels it
        return frame.image

    return render
