"""What a report is made of, before it is known whether it becomes a page or paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class Heading:
    """A section's title; level 1 is the report's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; `small` for what explains others."""

    text: str
    small: bool = False


@dataclass(frozen=True)
class Notes:
    """A list of sentences; `warn` for those a reader must not miss."""

    items: tuple[str, ...]
    warn: bool = False


class Answer(Enum):
    """How a verdict stands, for its colour; its words say it too."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"
    UNKNOWN = "unknown"


INK, SOFT, LINE, WARN = "#1a1c1f", "#5b6470", "#d9dde3", "#9a3412"
"""Of text, of what explains it, of rules, and of what a reader must not miss."""
COLOURS = {Answer.YES: "#15803d", Answer.PARTLY: "#b45309", Answer.NO: "#b91c1c", Answer.UNKNOWN: "#6b7280"}


@dataclass(frozen=True)
class Verdict:
    """One finding in words.

    Attributes:
        answer: Yes, partly, no, or not known.
        title: The finding, in a few words.
        text: The numbers behind it, as sentences.
        instrument: What measured it, and what that is worth.
    """

    answer: Answer
    title: str
    text: str
    instrument: str = ""


@dataclass(frozen=True)
class NewPage:
    """What follows begins a page where there are pages."""


@dataclass(frozen=True)
class TableBlock:
    """A table.

    Attributes:
        header: Names of the columns.
        rows: Texts of the cells.
        left: Columns that stand flush left; the others right.
        folded: Shown only when asked for (a page); on paper a line says where it is.
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
        width: Share of the text's width, 0 to 1.
    """

    draw: Callable[[], Any] = field(repr=False)
    caption: str
    width: float = 1.0


@dataclass(frozen=True)
class Code:
    """Commands, as they are typed."""

    text: str


Block = Heading | Text | Notes | Verdict | NewPage | TableBlock | FigureBlock | Code


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


def left_out_of_paper(block: TableBlock) -> str:
    """What stands on paper for a folded table."""
    return f"{block.caption}: {len(block.rows)} rows, in the HTML page and in the table of numbers beside it."
