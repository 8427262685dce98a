"""The paper's figures from a snapshot, as PNG and PDF: image pixels untouched, labels as text, bytes
reproducible.

Source: Lai et al. 2024, figures 1 and 10-12 (docs/method/method.md section 8).
"""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.errors import ArgumentError, UsageError
from mssg.files import make_folder, write_atomically
from mssg.plotting.grid_layout import FONT, GAP, PAD, SMALL, TITLE, GridLayout, text_size
from mssg.rendering.command_line import private_command
from mssg.rendering.image_files import mosaic, to_grey
from mssg.rendering.request import RenderRequest, to_uint8
from mssg.study.covariate import SOURCE, Covariate
from mssg.study.values import Sweep, find_covariate, parse_sweep, plain
from mssg.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mssg.checkpoint.header import Header
    from mssg.rendering.renderer import Renderer

FORMATS = (".png", ".pdf")
STEPS = 7
"""Rows and columns of a grid where nobody says how many."""
PANELS = 3
"""Grids side by side, likewise."""
MINUS = "−"


@dataclass(frozen=True, repr=False)
class GridFigure:
    """A finished grid.

    Attributes:
        figure: The matplotlib figure; its size in inches times `dpi` is a whole number of pixels.
        images: uint8 [blocks, rows, columns, C, H, W], the first row at the bottom of the figure.
        dpi: Pixels an inch at which every image pixel covers `scale` x `scale` figure pixels exactly.
        scale: See `dpi`.
        corners: (left, top) pixel of each block.
        metadata: What the saved file says about itself.
    """

    figure: Figure
    images: np.ndarray
    dpi: int
    scale: int
    corners: tuple[tuple[int, int], ...]
    metadata: Mapping[str, str]

    def encode(self, suffix: str) -> bytes:
        """The file's bytes; the same figure gives the same bytes.

        Raises:
            ArgumentError: Not ".png" or ".pdf".
        """
        import matplotlib

        if suffix not in FORMATS:
            raise ArgumentError(
                "not a figure format", found=suffix or "no suffix", expected=" | ".join(FORMATS)
            )
        buffer = io.BytesIO()
        with matplotlib.rc_context({"pdf.fonttype": 42, "savefig.bbox": None, "savefig.pad_inches": 0}):
            if suffix == ".png":
                self.figure.savefig(buffer, format="png", dpi=self.dpi, metadata=dict(self.metadata))
            else:
                self.figure.savefig(buffer, format="pdf", dpi=self.dpi, metadata=_pdf_metadata(self.metadata))
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        """How a notebook shows it."""
        return self.encode(".png")

    def __repr__(self) -> str:
        _, rows, columns = self.images.shape[:3]
        return f"<Grid of {rows} x {columns} pictures: {self.metadata.get('Title', '')}>"

    def save(self, path: str | Path) -> Path:
        """Write a .png or .pdf; folders are made as needed.

        Raises:
            UsageError: Another format, or the file cannot be written.
        """
        path = Path(path)
        data = self.encode(path.suffix.lower())
        make_folder(path.parent, UsageError)
        write_atomically(path, data, UsageError)
        return path


def grid(
    renderer: Renderer,
    rows: Sweep | str,
    cols: Sweep | str,
    request: RenderRequest | None = None,
    per_source: bool = False,
    panels: Sweep | str | None = None,
    command: str = "",
) -> GridFigure:
    """Two covariates along the axes in their own units, all others fixed and named in the title, one latent.

    Args:
        rows, cols: Values along the axes; a text as of `parse_sweep` ("age", "age=40:80:5") works too. A name
            alone goes from the training 5 % to the 95 % quantile, or through all levels.
        request: What all pictures share: other covariates (what is missing takes the training median or
            mode, and says so), the latent, truncation, noise. None: seed 0.
        per_source: One grid per source code, side by side (studies that condition on the source).
        panels: One grid per value of a third covariate, side by side; stated as an axis is. A name alone
            takes `PANELS` values, or all levels.
        command: How to make this figure again; goes into its metadata.

    Raises:
        UsageError: Unknown names, a name on two axes, or no source to tell apart.
    """
    study, summary, request = renderer.study, renderer.header.summary, request or RenderRequest()
    rows, cols = (parse_sweep(study, s, STEPS, summary) if isinstance(s, str) else s for s in (rows, cols))
    if not find_covariate(study, rows.name).is_continuous:
        rows = Sweep(rows.name, rows.values[::-1])  # numbers rise upwards, levels read downwards
    panels = _panels(renderer, panels, per_source)
    sides = (rows, cols, panels) if panels else (rows, cols)
    _check(renderer, sides, dict(request.covariates))
    fixed = _fixed_values(renderer, sides, request)
    blocks = [fixed | {panels.name: value} for value in panels.values] if panels else [fixed]
    images = _images(renderer, [_block_requests(request, rows, cols, values) for values in blocks])
    return _figure(renderer.header, images, sides, fixed, request, command)


def figure_of_images(
    header: Header, images: np.ndarray, rows: Sweep, cols: Sweep, request: RenderRequest, command: str
) -> GridFigure:
    """The same figure of images that are there already; no torch.

    Args:
        header: Of the snapshot that drew them.
        images: uint8 [rows, columns, C, H, W], the first row at the bottom.
        rows, cols: Values along the axes, that of the first row first.
        request: Of any of the images; it states every covariate.
        command: How to make this figure again.
    """
    fixed = {n: v for n, v in dict(request.covariates).items() if n not in (rows.name, cols.name)}
    fixed = {name: fixed[name] for name in header.study.condition_names if name in fixed}
    return _figure(header, images[None], (rows, cols), fixed, request, command)


def _figure(
    header: Header,
    images: np.ndarray,
    sides: Sequence[Sweep],
    fixed: Mapping[str, float],
    request: RenderRequest,
    command: str,
) -> GridFigure:
    """The figure of images [blocks, rows, columns, C, H, W] with their labels; a third of `sides` names the
    blocks."""
    study, (rows, cols, *panels) = header.study, sides
    names = [f"{side.name} {shown(study.covariate(side.name), v)}" for side in panels for v in side.values]
    described = [f"{name} {shown(study.covariate(name), value)}" for name, value in fixed.items()]
    described += latent_words(request)
    axes = study.covariate(rows.name), study.covariate(cols.name)
    titles = axis_label(axes[0]), axis_label(axes[1])
    ticks = tick_labels(axes[0], rows.values), tick_labels(axes[1], cols.values)
    layout = GridLayout.of(images.shape, *ticks, described, names, titles)
    covariates = {s.name: [plain(study.covariate(s.name), v) for v in s.values] for s in sides}
    covariates |= {name: plain(study.covariate(name), value) for name, value in fixed.items()}
    metadata = {
        "Title": f"{study.name}: {rows.name} by {cols.name}",
        "Snapshot": header.snapshot_id,
        "Seed": str(request.seed),
        "Psi": f"{request.psi:g}",
        "Covariates": json.dumps(covariates),
        "Command": private_command(command),
        "Software": f"mssg {__version__}",
    }
    figure, corners = draw_blocks(layout, images, titles, names)
    return GridFigure(figure, images, layout.dpi, layout.scale, corners, metadata)


def _panels(renderer: Renderer, panels: Sweep | str | None, per_source: bool) -> Sweep | None:
    """What tells the grids side by side apart; None where there is one."""
    study = renderer.study
    if not per_source:
        stated = isinstance(panels, str)
        return parse_sweep(study, panels, PANELS, renderer.header.summary) if stated else panels
    if panels is not None:
        raise UsageError(
            "only one of the two can count",
            field="--per-source, --panels",
            hint="Choose a source with --fix source=NAME, or leave --panels out",
        )
    if SOURCE not in study.condition_names:
        raise UsageError(
            "this snapshot's network is not told the source, so there is nothing to show per source",
            field="per-source",
            hint="Leave it out; it needs a study with condition_on_source = true",
        )
    return Sweep(SOURCE, tuple(float(code) for code in range(len(study.sources))))


def _check(renderer: Renderer, sides: Sequence[Sweep], fixed: Mapping[str, float]) -> None:
    for name in (*(side.name for side in sides), *fixed):
        find_covariate(renderer.study, name)
    (rows, cols, *panels) = (side.name for side in sides)
    if rows == cols:
        raise UsageError("on both axes", field=rows, hint="Choose two different covariates")
    for name in fixed:
        if name in (rows, cols):
            raise UsageError("both fixed and on an axis", field=name)
    for name in panels:
        if name in (rows, cols, *fixed):
            raise UsageError(
                "already shown side by side", field=name, hint="Do not fix it or put it on an axis"
            )


def _fixed_values(renderer: Renderer, sides: Sequence[Sweep], request: RenderRequest) -> dict[str, float]:
    """Every condition that varies nowhere in the figure, in the study's order."""
    taken = {side.name for side in sides}
    names = [name for name in renderer.study.condition_names if name not in taken]
    if request.latent:  # the image's own
        fixed = request.latent.edited(renderer.study.condition_names, request.covariates)
        return {name: fixed[name] for name in names if name in fixed}
    fixed = dict(request.covariates)
    # exactly what a label can state, so that the figure can be drawn again from what it says
    typical = {n: v for n, v in renderer.defaults.items() if n in names and n not in fixed}
    typical = {
        n: float(f"{v:.3g}") if renderer.study.covariate(n).is_continuous else v for n, v in typical.items()
    }
    return {name: fixed.get(name, typical.get(name, 0.0)) for name in names}


def _block_requests(
    request: RenderRequest, rows: Sweep, cols: Sweep, fixed: Mapping[str, float]
) -> list[list[RenderRequest]]:
    """One grid: [rows][columns]."""

    def at(row: float, col: float) -> RenderRequest:
        return replace(request, covariates=tuple({**fixed, rows.name: row, cols.name: col}.items()))

    return [[at(row, col) for col in cols.values] for row in rows.values]


def _images(renderer: Renderer, blocks: list[list[list[RenderRequest]]]) -> np.ndarray:
    """Grey levels uint8 [blocks, rows, columns, C, H, W]."""
    flat = [request for block in blocks for row in block for request in row]
    images = np.stack(list(renderer.pictures(flat)))
    if flat[0].layer is None:
        images = to_uint8(images)
    else:
        images = np.rint(to_grey(images, stretched=True)).astype(np.uint8)
    if images.shape[1] not in (1, 3):
        raise UsageError(
            "a grid shows one channel", field="--layer", found=images.shape[1], expected="NAME:CHANNEL"
        )
    return images.reshape(len(blocks), len(blocks[0]), len(blocks[0][0]), *images.shape[1:])


def latent_words(request: RenderRequest) -> list[str]:
    """What the title says of all that is not a covariate."""
    if request.latent:
        words = ["latent of an image"]
    elif request.blend:
        words = ["seeds " + " + ".join(f"{weight:.3g}·{seed}" for seed, weight in request.blend)]
    else:
        words = [f"seed {request.seed}"]
    if request.mix_layers:
        words.append(f"style of seed {request.mix_seed} in layers {', '.join(map(str, request.mix_layers))}")
    words += [f"ψ {request.psi:g}"] if request.psi != 1 else []
    words += [f"cutoff {request.cutoff}"] if request.cutoff is not None else []
    words += [f"noise {request.noise_mode}"] if request.noise_mode != "const" else []
    words += ["moved"] if request.transform else []
    words += [f"layer {request.layer}"] if request.layer else []
    return words


def shown(covariate: Covariate, value: float) -> str:
    """A fixed value in the title: as much as identifies it, with its unit."""
    if not covariate.is_continuous:
        return covariate.format(value)
    unit = covariate.unit if covariate.unit in ("", "°", "%") else f" {covariate.unit}"
    return f"{value:.6g}{unit}".replace("-", MINUS)


def tick_labels(covariate: Covariate, values: Sequence[float]) -> list[str]:
    """Labels with as many digits as the values have, and no more than tell them apart."""
    if not covariate.is_continuous:
        return [covariate.format(v) for v in values]
    step = min((abs(b - a) for a, b in itertools.pairwise(values)), default=abs(values[0]) or 1.0)
    apart = max(0, math.ceil(-math.log10(step / 20)))
    exact = next(
        (d for d in range(apart) if all(abs(round(v, d) - v) < 1e-9 * max(1, abs(v)) for v in values)), apart
    )
    return [f"{v + 0.0:.{exact}f}".replace("-", MINUS) for v in values]


def draw_blocks(
    layout: GridLayout, images: np.ndarray, axes: tuple[str, str], names: Sequence[str]
) -> tuple[Figure, tuple[tuple[int, int], ...]]:
    """Blocks of images side by side, and the (left, top) pixel of each.

    Args:
        layout: Of these images, with the labels of rows and columns, and the title.
        images: uint8 [blocks, rows, columns, C, H, W], the first row at the bottom.
        axes: What rows and columns are.
        names: Above each block; empty: nothing.
    """
    import matplotlib
    from matplotlib.figure import Figure

    n_rows, n_cols = images.shape[1:3]
    # the hair beyond the whole number keeps floor(inches * dpi) from losing the last pixel
    inches = ((layout.width + 1e-3) / layout.dpi, (layout.height + 1e-3) / layout.dpi)
    style: dict[Any, Any] = {
        "font.family": "DejaVu Sans",
        "text.color": "#111111",
        "axes.labelcolor": "#111111",
    }
    corners = []
    with matplotlib.rc_context(style):
        figure = Figure(figsize=inches, dpi=layout.dpi, facecolor="white", layout=None)
        for number, block in enumerate(images):
            left = layout.left + number * (layout.block[0] + layout.between)
            corners.append((left, layout.top))
            place = (
                left / layout.width,
                1 - (layout.top + layout.block[1]) / layout.height,
                layout.block[0] / layout.width,
                layout.block[1] / layout.height,
            )
            axis = figure.add_axes(place)
            axis.imshow(_mosaic(block), extent=(0, n_cols, 0, n_rows), aspect="auto", interpolation="none")
            axis.set_xticks(
                np.arange(n_cols) + 0.5, layout.ticks[1], fontsize=SMALL, rotation=90 if layout.turned else 0
            )
            axis.set_yticks(
                np.arange(n_rows) + 0.5, layout.ticks[0] if number == 0 else [""] * n_rows, fontsize=SMALL
            )
            axis.tick_params(length=0, pad=GAP)
            axis.set_xlabel(axes[1], fontsize=FONT, labelpad=GAP)
            for spine in axis.spines.values():
                spine.set_visible(False)
            if names:
                y = (layout.top - GAP * layout.dpi / 72) / layout.height
                figure.text(
                    place[0] + place[2] / 2, 1 - y, names[number], fontsize=FONT, ha="center", va="bottom"
                )
        _titles(figure, layout, axes[0])
    return figure, tuple(corners)


def _titles(figure: Figure, layout: GridLayout, rows: str) -> None:
    """The row axis' name at the left edge, and the title over all blocks."""
    point = layout.dpi / 72
    middle = 1 - (layout.top + layout.block[1] / 2) / layout.height
    x = (PAD + FONT * 0.6) * point / layout.width
    figure.text(x, middle, rows, fontsize=FONT, rotation=90, ha="center", va="center")
    for number, line in enumerate(layout.title):
        y = 1 - (PAD + number * text_size("", TITLE)[1]) * point / layout.height
        figure.text(layout.left / layout.width, y, line, fontsize=TITLE, ha="left", va="top")


def axis_label(covariate: Covariate) -> str:
    """A covariate's name and unit, as an axis shows them."""
    return f"{covariate.title} ({covariate.unit})" if covariate.unit else covariate.title


def _mosaic(block: np.ndarray) -> np.ndarray:
    """[rows, columns, C, H, W] -> RGB [rows · H, columns · W, 3], the first row of images at the bottom.

    Grey images become RGB here: a colour map would turn some grey levels into their neighbours.
    """
    joined = mosaic(block[::-1].reshape(-1, *block.shape[2:]), block.shape[1])
    return np.repeat(joined, 3, axis=2) if joined.shape[2] == 1 else joined


def _pdf_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """PDF knows few keys: what has none of its own goes into the keywords. No date, so that bytes repeat."""
    rest = [f"{key}: {value}" for key, value in metadata.items() if key not in ("Title", "Software")]
    return {
        "Title": metadata["Title"],
        "Creator": metadata["Software"],
        "Keywords": "; ".join(rest),
        "CreationDate": None,
    }
