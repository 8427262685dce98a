"""How charts look and are written: the same figure gives the same bytes. No torch."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mssg.errors import UsageError
from mssg.files import write_atomically
from mssg.metrics.results import Evaluation
from mssg.rendering.command_line import private_command
from mssg.text import NONE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf")
DPI = 200
FONT, SMALL = 9.0, 7.5
INK, FAINT, EMPTY = "#111111", "#666666", "#eeeeee"
MINUS = "−"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "pdf.fonttype": 42,
}


def save(figure: Figure, path: str | Path, found: Evaluation | None = None) -> Path:
    """Write a figure; the same figure gives the same bytes.

    Raises:
        UsageError: Not .png or .pdf, or it cannot be written.
    """
    import matplotlib

    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            "not a figure format", file=path, found=suffix or "no suffix", expected=" | ".join(FORMATS)
        )
    about = (
        ""
        if found is None
        else f"{found.study}, {', '.join(m.snapshot for m in found.models)}: {private_command(found.command)}"
    )
    metadata = {"Title": about} if suffix == ".png" else {"Title": about, "CreationDate": None}
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=metadata)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue(), UsageError)
    return path


def short(value: float | None) -> str:
    """As many digits as a cell holds."""
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value)
    if size < 5e-4:
        return "0"
    text = (
        f"{value:.0f}"
        if size >= 100
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.2f}"
        if size >= 0.1 or size == 0
        else f"{value:.3f}"
    )
    return text.replace("-", MINUS)


def add_colourbar(figure: Figure, place: tuple[float, float, float, float], scale: Any, colours: Any) -> None:
    """A colour bar at a place (left, bottom, width, height) in shares of the figure."""
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(scale, colours), cax=figure.add_axes(place))
    bar.ax.tick_params(labelsize=SMALL, length=2)
    bar.outline.set_visible(False)  # type: ignore[operator]


def without_frame(axis: Axes) -> None:
    """Hide the lines around a panel."""
    for spine in axis.spines.values():
        spine.set_visible(False)
