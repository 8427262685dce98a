"""A report as a PDF: A4 pages set with matplotlib, text that can be searched."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from mssg.report.elements import (
    COLOURS,
    INK,
    LINE,
    SOFT,
    WARN,
    Block,
    Code,
    FigureBlock,
    Heading,
    NewPage,
    Notes,
    TableBlock,
    Text,
    Verdict,
    left_out_of_paper,
)

WIDTH, HEIGHT, MARGIN = 8.27, 11.69, 0.8
"""A4 in inches."""
BODY, VERDICT, SMALL = 9.5, 8.5, 7.5
LEADING = 1.42
SPACE = 0.318
"""Width of a space, in font sizes."""
GAP, NARROWEST = 0.1, 0.62
"""Inches between columns, and the narrowest that a column is pressed to."""
HEAD_AND_TEXT, HEAD_AND_PICTURE = 1.2, 5.5
"""Inches that must be left for a title to stay on the page."""


class _Paper:
    """Pages that fill from the top."""

    def __init__(self, title: str) -> None:
        self.title, self.pages = title, []
        self.turn()

    def turn(self) -> None:
        from matplotlib.figure import Figure

        self.page = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
        self.pages.append(self.page)
        self.y = MARGIN
        if len(self.pages) > 1:
            self.page.text(MARGIN / WIDTH, 1 - 0.45 / HEIGHT, self.title, fontsize=SMALL, color=SOFT)

    def room(self, inches: float) -> None:
        """Start a new page unless so much fits."""
        if self.y + inches > HEIGHT - MARGIN and self.y > MARGIN:
            self.turn()

    def write(self, text: str, size: float, x: float = MARGIN, **more: Any) -> None:
        self.page.text(
            x / WIDTH,
            1 - (self.y + size / 72) / HEIGHT,
            text,
            **({"fontsize": size, "color": INK, "va": "baseline", "parse_math": False} | more),
        )

    def lines(self, lines: Sequence[str], size: float, **more: Any) -> None:
        for line in lines:
            self.room(size * LEADING / 72)
            self.write(line, size, **more)
            self.y += size * LEADING / 72

    def rule(self, color: str = LINE, width: float = 0.5) -> None:
        from matplotlib.lines import Line2D

        y = 1 - self.y / HEIGHT
        self.page.add_artist(
            Line2D([MARGIN / WIDTH, 1 - MARGIN / WIDTH], [y, y], color=color, linewidth=width)
        )


def to_pdf(blocks: Sequence[Block], title: str) -> bytes:
    """The PDF's bytes; a line stands for each folded table.

    Args:
        title: For the head of every page and the file's description.
    """
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages

    with matplotlib.rc_context({"font.family": "DejaVu Sans", "pdf.fonttype": 42, "savefig.bbox": None}):
        paper = _Paper(title)
        for block, following in zip(blocks, [*blocks[1:], None]):
            if isinstance(block, Heading):
                paper.room(HEAD_AND_PICTURE if isinstance(following, FigureBlock) else HEAD_AND_TEXT)
            _set(paper, block)
        buffer = io.BytesIO()
        with PdfPages(buffer, metadata={"Title": title, "Creator": "mssg", "CreationDate": None}) as file:
            for number, page in enumerate(paper.pages, 1):
                place = (1 - MARGIN / WIDTH, 0.45 / HEIGHT)
                page.text(*place, f"{number} / {len(paper.pages)}", fontsize=SMALL, color=SOFT, ha="right")
                file.savefig(page)
    return buffer.getvalue()


@lru_cache(maxsize=20_000)
def _width(word: str) -> float:
    """Width of a word in bold DejaVu Sans, in font sizes: no other style of it is wider."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", weight="bold", size=100)
    return text_to_path.get_text_width_height_descent(word, font, False)[0] / 100


def _wrapped(text: str, size: float, width: float = WIDTH - 2 * MARGIN) -> list[str]:
    """A text as lines no wider than so many inches; words that are wider are cut."""
    limit, lines, used = width * 72 / size, [""], 0.0
    for word in text.split():
        while _width(word) > limit and len(word) > 1:
            fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or _width(word[:n]) <= limit)
            lines += [word[:fits]] if lines[-1] else []
            lines[-1] = word[:fits]
            lines, word, used = [*lines, ""], word[fits:], 0.0
        more = _width(word) + (SPACE if lines[-1] else 0)
        if lines[-1] and used + more > limit:
            lines, used, more = [*lines, ""], 0.0, _width(word)
        lines[-1] += f" {word}" if lines[-1] else word
        used += more
    return lines


def _set(paper: _Paper, block: Block) -> None:
    if isinstance(block, Heading):
        size = {1: 18, 2: 13, 3: 10.5}[block.level]
        paper.y += {1: 0, 2: 0.25, 3: 0.12}[block.level] if paper.y > MARGIN else 0
        paper.lines(_wrapped(block.text, size), size, weight="bold")
        paper.y += 0.08
    elif isinstance(block, Text):
        size, color = (SMALL, SOFT) if block.small else (BODY, INK)
        paper.lines(_wrapped(block.text, size), size, color=color)
        paper.y += 0.08
    elif isinstance(block, Notes):
        for item in block.items:
            first, *rest = _wrapped(item, BODY, WIDTH - 2 * MARGIN - 0.2)
            color = WARN if block.warn else INK
            paper.lines([f"•  {first}", *(f"    {line}" for line in rest)], BODY, color=color)
        paper.y += 0.08
    elif isinstance(block, Code):
        lines = [
            part
            for line in block.text.splitlines()
            for part in textwrap.wrap(line, 92, subsequent_indent="    ") or [""]
        ]
        paper.lines(lines, SMALL, family="DejaVu Sans Mono")
        paper.y += 0.12
    elif isinstance(block, Verdict):
        _verdict(paper, block)
    elif isinstance(block, NewPage):
        paper.room(HEIGHT)
    elif isinstance(block, TableBlock):
        if block.folded:
            _set(paper, Text(left_out_of_paper(block)))
        else:
            _table(paper, block)
    else:
        _picture(paper, block)


def _verdict(paper: _Paper, block: Verdict) -> None:
    """A bar in the verdict's colour, its title, and what stands behind it, on one page."""
    from matplotlib.patches import Rectangle

    width, indent = WIDTH - 2 * MARGIN - 0.16, MARGIN + 0.16
    by = f"Measured by: {block.instrument}" if block.instrument else ""
    parts = [
        (_wrapped(text, size, width), size, more)
        for text, size, more in (
            (block.title, BODY, {"weight": "bold"}),
            (block.text, VERDICT, {}),
            (by, SMALL, {"color": SOFT}),
        )
        if text
    ]
    height = sum(len(lines) * size * LEADING / 72 for lines, size, _ in parts)
    paper.room(height + 0.1)
    place = (MARGIN / WIDTH, 1 - (paper.y + height + 0.02) / HEIGHT)
    bar = Rectangle(place, 0.06 / WIDTH, height / HEIGHT, color=COLOURS[block.answer], linewidth=0)
    paper.page.add_artist(bar)
    for lines, size, more in parts:
        paper.lines(lines, size, x=indent, **more)
    paper.y += 0.09


def _table(paper: _Paper, block: TableBlock) -> None:
    """Columns as wide as their texts; the widest left ones wrap where the page is too narrow."""
    size, total = SMALL, WIDTH - 2 * MARGIN
    table = [block.header, *block.rows]

    def needed(text: str) -> float:
        return (sum(map(_width, text.split())) + SPACE * text.count(" ")) * size / 72 + GAP

    widths = [max(needed(row[i]) for row in table) for i in range(len(block.header))]
    widths = _pressed(widths, total)
    if block.caption:
        paper.room(0.9)
        paper.lines(_wrapped(block.caption, SMALL), SMALL, color=SOFT)
        paper.y += 0.03
    for number, row in enumerate(table):
        cells = [_wrapped(text, size, width - GAP) for text, width in zip(row, widths)]
        height = max(len(c) for c in cells) * size * LEADING / 72 + 0.04
        paper.room(height + (0.4 if number == 0 else 0))
        x = MARGIN
        for i, (lines, width) in enumerate(zip(cells, widths)):
            for k, line in enumerate(lines):
                flush = {"ha": "left"} if i < block.left else {"ha": "right"}
                at = x if i < block.left else x + width - GAP
                kept = paper.y
                paper.y += k * size * LEADING / 72
                paper.write(line, size, at, weight="bold" if number == 0 else "normal", **flush)
                paper.y = kept
            x += width
        paper.y += height + 0.02
        paper.rule(INK if number == 0 else LINE, 0.9 if number == 0 else 0.4)
    paper.y += 0.16


def _pressed(widths: list[float], total: float) -> list[float]:
    """The widest columns cut to one width, so that all fit into so many inches."""
    rest, left = total, sorted(widths)
    for i, width in enumerate(left):
        cap = rest / (len(left) - i)
        if width > cap:
            return [min(w, max(cap, NARROWEST)) for w in widths]
        rest -= width
    return widths


def _picture(paper: _Paper, block: FigureBlock) -> None:
    """The figure as a picture of high resolution: figures cannot be nested."""
    from PIL import Image

    buffer = io.BytesIO()
    block.draw().savefig(buffer, format="png", dpi=200)
    with Image.open(buffer) as opened:
        picture = opened.convert("RGB")
    width = (WIDTH - 2 * MARGIN) * block.width
    height = width * picture.height / picture.width
    most = HEIGHT - 2 * MARGIN - 0.8
    if height > most:
        width, height = width * most / height, most
    paper.room(height + 0.5)
    place = (MARGIN / WIDTH, 1 - (paper.y + height) / HEIGHT, width / WIDTH, height / HEIGHT)
    axis = paper.page.add_axes(place)
    axis.imshow(picture, aspect="auto", interpolation="none")
    axis.set_axis_off()
    paper.y += height + 0.06
    paper.lines(_wrapped(block.caption, SMALL), SMALL, color=SOFT)
    paper.y += 0.16
