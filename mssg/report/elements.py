"""What a report is made of, before it is known whether it becomes a page or paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Heading:
    """A section's title; level 1 is the report's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notes:
    """A list of sentences; `warn` for those a reader must not miss."""

    items: tuple[str, ...]
    warn: bool = False


@dataclass(frozen=True)
class TableBlock:
    """A table.

    Attributes:
        header: Names of the columns.
        rows: Texts of the cells.
        caption: What it shows.
        left: Columns that stand flush left; the others right.
        folded: Shown only when asked for (a page), left out (paper).
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    left: int = 1
    folded: bool = False


@dataclass(frozen=True)
class FigureBlock:
    """A figure.

    Attributes:
        draw: Makes the matplotlib figure; called once for each output.
        caption: What it shows.
        dpi: Pixels an inch in a page.
        width: Share of the text's width, 0 to 1.
    """

    draw: Callable[[], Any] = field(repr=False)
    caption: str
    dpi: int = 130
    width: float = 1.0


@dataclass(frozen=True)
class Code:
    """Commands, as they are typed."""

    text: str


Block = Heading | Text | Notes | TableBlock | FigureBlock | Code


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    left: int = 1,
    folded: bool = False,
) -> TableBlock:
    """A `TableBlock` from any sequences."""
    return TableBlock(
        header=tuple(header),
        rows=tuple(tuple(row) for row in rows),
        caption=caption,
        left=left,
        folded=folded,
    )
