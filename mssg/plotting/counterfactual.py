"""Figures of one real image's counterfactuals: a strip for each covariate, or a grid of two, beside the image
itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mssg.errors import UsageError
from mssg.inversion.image_reader import grey_or_colour
from mssg.plotting.grid_layout import FONT, SMALL, TITLE
from mssg.plotting.image_grid import STEPS, GridFigure, axis_label, tick_labels
from mssg.rendering.command_line import private_command
from mssg.rendering.request import RenderRequest, StoredLatent, to_uint8
from mssg.study.values import Sweep, default_values, find_covariate, parse_sweep, plain
from mssg.version import __version__

if TYPE_CHECKING:
    from mssg.inversion.latent_file import InvertedImage
    from mssg.rendering.renderer import Renderer

CELL, SIDE, MARGIN, LABEL, HEAD = 0.66, 1.15, 0.12, 0.55, 0.62
"""Inches: an edited image, the real one, space around, a row's label, the title."""
LINE = 0.17
"""Inches of a line of small text."""
DPI = 200
OUTSIDE = "#d97706"


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
    from mssg.inversion.latent_file import InvertedImage

    inverted = InvertedImage.load(path).fitting(renderer.snapshot, path)
    study, fixed = renderer.study, dict(fixed or {})
    if (rows is None) != (cols is None):
        raise UsageError(
            "a grid needs two sides", field="--rows, --cols", hint="Give both, or neither for strips"
        )
    if rows is None or cols is None:
        lines = [
            (c.name, Sweep(c.name, default_values(c, renderer.header.summary, STEPS)), {})
            for c in study.conditions
            if c.name not in fixed
        ]
        labels = [axis_label(study.covariate(name)) for name, *_ in lines]
    else:
        down, across = (parse_sweep(study, s, STEPS, renderer.header.summary) for s in (rows, cols))
        _apart(down.name, across.name, fixed)
        covariate = find_covariate(study, down.name)
        texts = tick_labels(covariate, down.values)
        lines = [(text, across, {down.name: value}) for text, value in zip(texts, down.values)]
        labels = texts
    stored = inverted.stored_latent(str(path))
    images = [_drawn(renderer, stored, _edits(sweep, {**fixed, **more})) for _, sweep, more in lines]
    recon = _drawn(renderer, stored, [{}])[0]
    sides = (
        None
        if rows is None
        else (axis_label(study.covariate(down.name)), axis_label(study.covariate(across.name)))
    )
    figure = _figure(renderer, inverted, recon, images, lines, labels, sides, fixed)
    metadata = {
        "Title": f"{study.name}: counterfactuals of a real image",
        "Snapshot": renderer.header.snapshot_id,
        "Covariates": json.dumps(_values(renderer, inverted)),
        "Command": private_command(command),
        "Software": f"mssg {__version__}",
    }
    widest = max(len(row) for row in images)
    sheet = np.zeros((1, len(images), widest, *images[0].shape[1:]), np.uint8)
    for i, row in enumerate(images):
        sheet[0, i, : len(row)] = row
    return GridFigure(figure, sheet, DPI, 1, (), metadata)


def _apart(down: str, across: str, fixed: Mapping[str, float]) -> None:
    if down == across:
        raise UsageError("on both axes", field=down, hint="Choose two different covariates")
    for name in fixed:
        if name in (down, across):
            raise UsageError("both fixed and on an axis", field=name)


def _edits(sweep: Sweep, given: Mapping[str, float]) -> list[dict[str, float]]:
    """What is changed along a sweep, `given` throughout."""
    return [{**given, sweep.name: value} for value in sweep.values]


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


def _figure(
    renderer: Renderer,
    inverted: InvertedImage,
    recon: np.ndarray,
    images: list[np.ndarray],
    lines: list[tuple[str, Sweep, dict[str, float]]],
    labels: list[str],
    sides: tuple[str, str] | None,
    fixed: Mapping[str, float],
) -> Any:
    import matplotlib
    from matplotlib.figure import Figure

    study = renderer.study
    gap = LINE if sides is None else 0.02
    left = MARGIN + SIDE + 2 * MARGIN + (1.1 if sides is None else LABEL + LINE)
    width = left + max(len(row) for row in images) * CELL + MARGIN
    below = 0.0 if sides is None else 2 * LINE
    height = max(HEAD + len(images) * (CELL + gap) + below, HEAD + 2 * SIDE + 3 * LINE) + MARGIN
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "text.color": "#111111"}):
        figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

        def put(image: np.ndarray, x: float, y: float, side: float, frame: str = "") -> None:
            """An image with its top left corner at inches (x, y)."""
            axis = figure.add_axes((x / width, 1 - (y + side) / height, side / width, side / height))
            axis.imshow(grey_or_colour(image), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_color(frame or "#bbbbbb")
                spine.set_linewidth(1.4 if frame else 0.4)

        limit = support(renderer)

        def outside(sweep: Sweep, value: float, more: Mapping[str, float]) -> bool:
            values = inverted.edited(study.condition_names, {**fixed, **more, sweep.name: value})
            return bool(renderer.snapshot.models.log_density(values)[0] < limit)

        def write(text: str, x: float, y: float, size: float = SMALL, **more: Any) -> None:
            figure.text(x / width, 1 - y / height, text, **({"fontsize": size, "va": "top"} | more))

        write(
            "Counterfactuals of a real image: what it would be, all else equal",
            MARGIN,
            MARGIN,
            TITLE + 1,
            weight="bold",
        )
        words = [f"{c.name} {c.format(v)}" for c, v in zip(study.conditions, inverted.inversion.values[0])]
        words += [f"changed throughout: {n} {study.covariate(n).format(v)}" for n, v in fixed.items()]
        write("  ·  ".join(words), MARGIN, MARGIN + 0.22, SMALL)
        write("real image", MARGIN, HEAD - 0.02, va="bottom")
        put(inverted.image, MARGIN, HEAD, SIDE)
        write("as the model sees it", MARGIN, HEAD + SIDE + LINE + 0.04, va="bottom")
        put(recon, MARGIN, HEAD + SIDE + LINE + 0.06, SIDE)
        write(
            "framed: covariates outside\nwhat the training data support",
            MARGIN,
            HEAD + 2 * SIDE + LINE + 0.12,
            SMALL - 2,
            color=OUTSIDE,
        )
        for i, (row, (_, sweep, more), label) in enumerate(zip(images, lines, labels)):
            top = HEAD + i * (CELL + gap)
            covariate = study.covariate(sweep.name)
            write(
                label, left - 0.06, top + CELL / 2, FONT if sides is None else SMALL, ha="right", va="center"
            )
            for k, (image, text) in enumerate(zip(row, tick_labels(covariate, sweep.values))):
                frame = OUTSIDE if outside(sweep, sweep.values[k], more) else ""
                put(image, left + k * CELL + 0.02, top + 0.02, CELL - 0.04, frame)
                if sides is None:
                    write(text, left + (k + 0.5) * CELL, top - 0.02, SMALL - 1, ha="center", va="bottom")
                elif i == len(images) - 1:
                    write(text, left + (k + 0.5) * CELL, top + CELL + 0.02, SMALL, ha="center")
        if sides is not None:
            bottom = HEAD + len(images) * (CELL + gap)
            write(sides[1], left + len(images[0]) * CELL / 2, bottom + LINE, FONT, ha="center")
            write(
                sides[0],
                left - LABEL - 0.02,
                (HEAD + bottom) / 2,
                FONT,
                rotation=90,
                ha="center",
                va="center",
            )
    return figure
