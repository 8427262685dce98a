"""Exports without a window: a session's picture, grid or sweep. This path imports torch, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from explorer_app import export, session
from explorer_app.distribution import TrainingDistribution
from explorer_app.export import Origin
from explorer_app.request_edits import channel_requests
from explorer_app.state import SWEEP_STEPS, Axis, Display, grid_requests, set_snapshot, sweep_requests
from explorer_app.viewing import viewed
from mssg.checkpoint.header import read_header, resolve_snapshot
from mssg.errors import SnapshotError, UsageError
from mssg.rendering.request import RenderRequest


def export_session(path: str, output: str, snapshot: str = "", device: str = "auto") -> str:
    """Draw what a session shows and write it.

    Args:
        path: The session.
        output: .png (the picture), .nii.gz (the picture with millimetres), .pdf (the grid), .gif or .mp4 (a
            sweep of the grid's column covariate).
        snapshot: Used instead of the session's own.
        device: Where to draw: auto | cpu | cuda | mps.

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
    state = set_snapshot(saved.state, str(header.path))
    request, display, draw = state.request, state.display, _drawing(device, state.display)
    origin = Origin.of(header, request)
    lower = output.lower()
    if lower.endswith(".pdf"):
        cells = [[draw(cell) for cell in row] for row in grid_requests(request, state.grid)]
        export.save_grid(output, cells, state.grid, Origin.of_grid(header, request, state.grid), display)
    elif lower.endswith((".gif", ".mp4")):
        name = state.grid.columns.name
        axis = Axis(name, *TrainingDistribution(header).range(name), SWEEP_STEPS)
        requests = sweep_requests(request, axis)
        export.save_sweep(output, [draw(r) for r in requests], Origin.of(header, *requests), display)
    elif lower.endswith((".nii", ".nii.gz")):
        export.save_nifti(output, draw(request), origin)
    elif lower.endswith(".png"):
        export.save_png(output, draw(request), origin, 8, display)
    else:
        raise UsageError(
            "unknown file type", field="-o", found=output, expected=".png, .nii.gz, .pdf, .gif or .mp4"
        )
    return f"wrote {output}"


def _drawing(device: str, display: Display) -> Callable[[RenderRequest], np.ndarray]:
    """A function that draws what is looked at."""
    from explorer_app.engine import Engine

    engine = Engine(device=device)

    def rendered(request: RenderRequest) -> np.ndarray:
        frame = engine.render(request, lambda: False)
        assert frame is not None  # nothing cancels it
        return frame.image

    def draw(request: RenderRequest) -> np.ndarray:
        first = rendered(request)
        more = channel_requests(request, display.channels, engine.channels(request))[1:]
        return viewed([first, *map(rendered, more)], request, display)

    return draw
