"""Where everything of a figure of image grids goes, so that image pixels stay whole and labels have room."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK_INCHES, NARROW_BLOCK_INCHES = 4.6, 3.2
"""Width of one grid on paper: alone, and beside others."""
BLOCK_PIXELS = 900
"""Small images are enlarged by a whole number of times until a grid is about this wide."""
FONT, SMALL, TITLE = 9.0, 8.0, 9.0
PAD, GAP = 7.0, 4.0
"""Space at the figure's edge and between its parts, in points."""
LINE = 1.25
"""Height of a line of text, in font sizes."""


def text_size(text: str, points: float) -> tuple[float, float]:
    """Width and height of a line of text, in points."""
    if not text.strip():
        return 0.0, points * LINE
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    box = TextPath((0, 0), text, size=points, prop=FontProperties(family="DejaVu Sans")).get_extents()
    return box.x1, points * LINE


@dataclass(frozen=True)
class GridLayout:
    """Where everything goes, in figure pixels from the top left."""

    dpi: int
    scale: int
    width: int
    height: int
    left: int
    top: int
    block: tuple[int, int]  # width, height
    between: int
    ticks: tuple[tuple[str, ...], tuple[str, ...]]  # rows, columns
    turned: bool
    title: tuple[str, ...]

    @staticmethod
    def of(
        shape: tuple[int, ...],
        rows: list[str],
        cols: list[str],
        described: list[str],
        names: list[str],
        axes: tuple[str, str] = ("", ""),
    ) -> GridLayout:
        """Lay out blocks of shape [blocks, rows, columns, C, H, W].

        Args:
            rows, cols: Labels of their rows and columns.
            described: Parts of the title.
            names: Above each block; empty: nothing.
            axes: What rows and columns are.
        """
        blocks, n_rows, n_cols, _, h, w = shape
        scale = max(1, round(BLOCK_PIXELS / (max(n_rows, n_cols) * w)))
        block = (n_cols * w * scale, n_rows * h * scale)
        dpi = max(72, round(max(block) / (BLOCK_INCHES if blocks == 1 else NARROW_BLOCK_INCHES)))

        def pixels(points: float) -> int:
            return math.ceil(points * dpi / 72)

        row_width = max(text_size(line, SMALL)[0] for label in rows for line in label.split("\n"))
        col_width = max(text_size(label, SMALL)[0] for label in cols)
        turned = pixels(col_width) > 0.92 * w * scale
        line = text_size("", FONT)[1]
        edge = pixels(PAD)
        # names over a block and under it may be wider than the block is, the one beside it higher
        widest = pixels(max(text_size(text, FONT)[0] for text in (*names, axes[1])))
        beside, above = (
            math.ceil(max(0, length - side) / 2)
            for length, side in ((widest, block[0]), (pixels(text_size(axes[0], FONT)[0]), block[1]))
        )
        left = max(pixels(PAD + line + GAP + row_width + GAP), edge + beside)
        bottom = pixels(PAD + line + GAP + (col_width if turned else text_size("", SMALL)[1]) + GAP)
        between = pixels(3 * GAP) + 2 * beside
        width = left + blocks * block[0] + (blocks - 1) * between + edge + beside
        width = max(width, left + pixels(max(text_size(part, TITLE)[0] for part in described)) + edge)
        title = _wrapped(described, (width - left - edge) * 72 / dpi)
        top = pixels(PAD + len(title) * text_size("", TITLE)[1] + GAP + (line if names else 0))
        top, bottom = max(top, edge + above), max(bottom, edge + above)
        return GridLayout(
            dpi,
            scale,
            width,
            top + block[1] + bottom,
            left=left,
            top=top,
            block=block,
            between=between,
            ticks=(tuple(rows), tuple(cols)),
            turned=turned,
            title=title,
        )


def _wrapped(parts: Sequence[str], width: float) -> tuple[str, ...]:
    """Parts of the title, joined into lines no wider than `width` points."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}  ·  {part}" if lines else part
        if lines and text_size(longer, TITLE)[0] <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return tuple(lines)
