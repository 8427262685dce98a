"""Figures of one real image's counterfactuals: a strip for each covariate, or a grid of two, beside the image
itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mssg.errors import UsageError
from mssg.inversion.image_reader import grey_or_colour
from mssg.inversion.latent_file import InvertedImage
from mssg.plotting.grid_layout import FONT, SMALL, TITLE
from mssg.plotting.image_grid import STEPS, GridFigure, axis_label, tick_labels
from mssg.rendering.command_line import private_command
from mssg.rendering.request import RenderRequest, StoredLatent, to_uint8
from mssg.study.covariate import Covariate
from mssg.study.values import Sweep, default_values, parse_sweep, plain
from mssg.version import __version__

if TYPE_CHECKING:
    from mssg.rendering.renderer import Renderer

CELL, SIDE, MARGIN, LABEL, HEAD = 0.66, 1.15, 0.12, 0.55, 0.62
"""Inches: an edited image, the real one, space around, a row's label, the title."""
LINE = 0.17
"""Inches of a line of small text."""
DPI = 200
OUTSIDE = "#d97706"


@dataclass(frozen=True)
class _EditRow:
    """Edits along one row of the figure: a sweep, with `given` changed in each."""

    label: str
    sweep: Sweep
    given: Mapping[str, float]

    @property
    def edits(self) -> list[dict[str, float]]:
        return [{**self.given, self.sweep.name: value} for value in self.sweep.values]


def counterfactual_figure(
    renderer: Renderer,
    path: str | Path,
    rows: str | None = None,
    cols: str | None = None,
    fixed: Mapping[str, float] | None = None,
    command: str = "",
) -> GridFigure:
    """Draw what a real image would be with other covariates.

    Args:
        renderer: Draws with the snapshot the image was inverted with.
        path: File of `mssg invert`.
        rows, cols: Sweeps (`mssg.study.values.parse_sweep`) along the sides of a grid; both or neither.
            Without them, one strip for each covariate, all others as they are in the image.
        fixed: Other covariates changed in every picture, native units.
        command: How to make it again; goes into the file.

    Raises:
        UsageError: The file does not fit the snapshot, an unknown name, or one side without the other.
    """
    inverted = InvertedImage.load(path).fitting(renderer.snapshot, path)
    study, fixed = renderer.study, dict(fixed or {})
    if (rows is None) != (cols is None):
        raise UsageError(
            "a grid needs two sides", field="--rows, --cols", hint="Give both, or neither for strips"
        )
    if rows is None or cols is None:
        axes, lines = None, _strips(renderer, fixed)
    else:
        down, across = (parse_sweep(study, s, STEPS, renderer.header.summary) for s in (rows, cols))
        _apart(down.name, across.name, fixed)
        axes = study.covariate(down.name), study.covariate(across.name)
        labels = tick_labels(axes[0], down.values)
        lines = [_EditRow(t, across, {**fixed, down.name: v}) for t, v in zip(labels, down.values)]
    stored = inverted.stored_latent(str(path))
    images = [_drawn(renderer, stored, row.edits) for row in lines]
    sheet = _Sheet(len(images), max(map(len, images)), axes)
    sheet.head(renderer, inverted, _drawn(renderer, stored, [{}])[0], fixed)
    limit, models = support(renderer), renderer.snapshot.models
    for i, (row, drawn) in enumerate(zip(lines, images)):
        values = [inverted.edited(study.condition_names, edit) for edit in row.edits]
        outside = [bool(models.log_density(v)[0] < limit) for v in values]
        sheet.row(
            i, row.label, drawn, tick_labels(study.covariate(row.sweep.name), row.sweep.values), outside
        )
    metadata = {
        "Title": f"{study.name}: counterfactuals of a real image",
        "Snapshot": renderer.header.snapshot_id,
        "Covariates": json.dumps(_values(renderer, inverted)),
        "Command": private_command(command),
        "Software": f"mssg {__version__}",
    }
    padded = np.zeros((1, len(images), max(map(len, images)), *images[0].shape[1:]), np.uint8)
    for i, row in enumerate(images):
        padded[0, i, : len(row)] = row
    return GridFigure(sheet.figure, padded, DPI, 1, corners=(), metadata=metadata)


def _strips(renderer: Renderer, fixed: Mapping[str, float]) -> list[_EditRow]:
    """One row for each covariate that is not fixed."""
    return [
        _EditRow(axis_label(c), Sweep(c.name, default_values(c, renderer.header.summary, STEPS)), fixed)
        for c in renderer.study.conditions
        if c.name not in fixed
    ]


def _apart(down: str, across: str, fixed: Mapping[str, float]) -> None:
    if down == across:
        raise UsageError("on both axes", field=down, hint="Choose two different covariates")
    for name in fixed:
        if name in (down, across):
            raise UsageError("both fixed and on an axis", field=name)


def _drawn(
    renderer: Renderer, stored: StoredLatent, edits: Sequence[Mapping[str, float]]
) -> NDArray[np.uint8]:
    """What the image would be with each edit: uint8 [n, C, H, W]."""
    requests = [RenderRequest(latent=stored, covariates=tuple(edit.items())) for edit in edits]
    return to_uint8(np.stack(list(renderer.pictures(requests))))


def support(renderer: Renderer) -> float:
    """Log-density below which a condition lies outside what the training data support (as
    `mssg.metrics.control`)."""
    from mssg.metrics.control import SUPPORT_PERCENTILE

    models, names = renderer.snapshot.models, renderer.study.condition_names
    drawn = models.sample(1000, {}, np.random.default_rng(0))
    density = models.log_density(np.stack([np.asarray(drawn[n], np.float64) for n in names], axis=1))
    return float(np.percentile(density[np.isfinite(density)], SUPPORT_PERCENTILE))


def _values(renderer: Renderer, inverted: InvertedImage) -> dict[str, str]:
    return {c.name: plain(c, v) for c, v in zip(renderer.study.conditions, inverted.inversion.values[0])}


class _Sheet:
    """The figure as it grows; places in inches from the top left.

    Args:
        rows, columns: Of edited images.
        axes: Covariates down and across, for a grid; None for strips, whose images are labelled one by one.
    """

    def __init__(self, rows: int, columns: int, axes: tuple[Covariate, Covariate] | None) -> None:
        from matplotlib.figure import Figure

        self.rows, self.axes = rows, axes
        self.gap = 0.02 if axes else LINE
        self.left = MARGIN + SIDE + 2 * MARGIN + (LABEL + LINE if axes else 1.1)
        self.width = self.left + columns * CELL + MARGIN
        below = 2 * LINE if axes else 0.0
        self.height = max(HEAD + rows * (CELL + self.gap) + below, HEAD + 2 * SIDE + 3 * LINE) + MARGIN
        with self._style():
            self.figure = Figure(figsize=(self.width, self.height), dpi=DPI, facecolor="white")
            if axes:
                bottom = HEAD + rows * (CELL + self.gap)
                self._write(
                    axis_label(axes[1]), self.left + columns * CELL / 2, bottom + LINE, FONT, ha="center"
                )
                across = {"rotation": 90, "ha": "center", "va": "center"}
                self._write(
                    axis_label(axes[0]), self.left - LABEL - 0.02, (HEAD + bottom) / 2, FONT, **across
                )

    def head(
        self,
        renderer: Renderer,
        inverted: InvertedImage,
        reconstruction: NDArray[np.uint8],
        fixed: Mapping[str, float],
    ) -> None:
        """Title, the real image and what the model makes of it."""
        study = renderer.study
        words = [f"{c.name} {c.format(v)}" for c, v in zip(study.conditions, inverted.inversion.values[0])]
        words += [f"changed throughout: {n} {study.covariate(n).format(v)}" for n, v in fixed.items()]
        title = "Counterfactuals of a real image: what it would be, all else equal"
        framed = "framed: covariates outside\nwhat the training data support"
        with self._style():
            self._write(title, MARGIN, MARGIN, TITLE + 1, weight="bold")
            self._write("  ·  ".join(words), MARGIN, MARGIN + 0.22, SMALL)
            self._write("real image", MARGIN, HEAD - 0.02, va="bottom")
            self._put(inverted.image, MARGIN, HEAD, SIDE)
            self._write("as the model sees it", MARGIN, HEAD + SIDE + LINE + 0.04, va="bottom")
            self._put(reconstruction, MARGIN, HEAD + SIDE + LINE + 0.06, SIDE)
            self._write(framed, MARGIN, HEAD + 2 * SIDE + LINE + 0.12, SMALL - 2, color=OUTSIDE)

    def row(
        self, i: int, label: str, images: NDArray[np.uint8], ticks: Sequence[str], outside: Sequence[bool]
    ) -> None:
        """Row i: images uint8 [n, C, H, W], the values they were edited to, and whether those lie outside."""
        top = HEAD + i * (CELL + self.gap)
        with self._style():
            size = SMALL if self.axes else FONT
            self._write(label, self.left - 0.06, top + CELL / 2, size, ha="right", va="center")
            for k, (image, text) in enumerate(zip(images, ticks)):
                x = self.left + k * CELL
                self._put(image, x + 0.02, top + 0.02, CELL - 0.04, OUTSIDE if outside[k] else "")
                if not self.axes:
                    self._write(text, x + CELL / 2, top - 0.02, SMALL - 1, ha="center", va="bottom")
                elif i == self.rows - 1:
                    self._write(text, x + CELL / 2, top + CELL + 0.02, SMALL, ha="center")

    @staticmethod
    def _style() -> Any:
        import matplotlib

        return matplotlib.rc_context({"font.family": "DejaVu Sans", "text.color": "#111111"})

    def _put(self, image: NDArray[np.uint8], x: float, y: float, side: float, frame: str = "") -> None:
        """An image [C, H, W] with its top left corner at (x, y)."""
        place = (x / self.width, 1 - (y + side) / self.height, side / self.width, side / self.height)
        axis = self.figure.add_axes(place)
        axis.imshow(grey_or_colour(image), interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_color(frame or "#bbbbbb")
            spine.set_linewidth(1.4 if frame else 0.4)

    def _write(self, text: str, x: float, y: float, size: float = SMALL, **more: Any) -> None:
        style = {"fontsize": size, "va": "top"} | more
        self.figure.text(x / self.width, 1 - y / self.height, text, **style)
