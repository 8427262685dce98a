"""Quality control of prepared images: numbers by which to reject, and contact sheets on which to look at all
of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.errors import DataError
from mssg.files import write_atomically

REFERENCE_SIDE = 256
"""Side in pixels for which `border_columns` is stated."""
BORDER_COLUMNS = 10
THUMBNAIL = 96
COLUMNS, ROWS = 14, 8
"""Images along a contact sheet."""
CHUNK = 256


def measure(image: NDArray[np.uint8], border_columns: int = BORDER_COLUMNS) -> dict[str, float]:
    """What the thresholds are about.

    Args:
        image: uint8 [C, H, W].
        border_columns: Columns that count as border at a width of 256.

    Returns:
        mean and sd of grey levels, and border_mean: the larger mean of the leftmost and the rightmost
        columns.
    """
    width = max(1, round(border_columns * image.shape[-1] / REFERENCE_SIDE))
    sides = image[..., :width].mean(), image[..., -width:].mean()
    return {"mean": float(image.mean()), "sd": float(image.std()), "border_mean": float(max(sides))}


def judge(measured: Mapping[str, float], qc: Mapping[str, Any]) -> str:
    """Why an image is rejected; "" where it is not.

    Args:
        measured: From `measure`.
        qc: A cohort's thresholds: mean = [low, high], border_mean = highest. They hold for min-max slices
            only.
    """
    low, high = qc.get("mean", (-np.inf, np.inf))
    if not low <= measured["mean"] <= high:
        return f"mean grey level {measured['mean']:.1f} outside {low:g} to {high:g}"
    if measured["border_mean"] > qc.get("border_mean", np.inf):
        return f"border mean {measured['border_mean']:.2f} above {qc['border_mean']:g}: cut off, or ghosts"
    return ""


def likeness(images: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.float64]:
    """How much each image looks like all others: its correlation with their mean; the lowest ones deserve a
    look first.

    Args:
        images: uint8 [N, C, H, W], memory-mapped: read in chunks.

    Returns:
        float64 [len(rows)].
    """
    parts = [np.asarray(rows[i : i + CHUNK]) for i in range(0, len(rows), CHUNK)]
    mean = sum(images[part].sum(0, dtype=np.float64) for part in parts) / max(len(rows), 1)
    mean = np.ravel(mean - np.mean(mean))
    out = []
    for part in parts:
        flat = images[part].reshape(len(part), -1).astype(np.float64)
        flat -= flat.mean(1, keepdims=True)
        scale = np.linalg.norm(flat, axis=1) * np.linalg.norm(mean)
        out.append(flat @ mean / np.maximum(scale, 1e-12))
    return np.concatenate(out) if out else np.zeros(0)


def fitting(text: str, length: Callable[[str], float], room: float) -> str:
    """A text that is no longer than its room: what is too long loses its middle, for names differ at both
    ends."""
    if length(text) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        shown = text[: (kept + 1) // 2] + "…" + text[len(text) - kept // 2 :]
        if length(shown) <= room:
            return shown
    return ""


def contact_sheets(
    folder: Path,
    images: NDArray[np.uint8],
    rows: Sequence[int],
    labels: Callable[[int], Sequence[str]],
    rejected: Callable[[int], bool],
) -> list[Path]:
    """Draw images in order, labelled, rejected ones framed in red.

    Args:
        folder: Where sheet-001.png and so on go.
        images: uint8 [N, C, H, W].
        rows: Which of them, in this order.
        labels: Lines of text under a row's image; what is too long loses its middle.
        rejected: Whether it is.

    Returns:
        The files.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(10)
    gap, line, foot = 4, 11, 3
    lines = max((len(labels(row)) for row in rows), default=0)
    cell_w, cell_h = THUMBNAIL + gap, THUMBNAIL + lines * line + foot + gap
    files = []
    for page in range(0, len(rows), COLUMNS * ROWS):
        shown_rows = rows[page : page + COLUMNS * ROWS]
        size = (
            min(COLUMNS, len(shown_rows)) * cell_w + gap,
            math.ceil(len(shown_rows) / COLUMNS) * cell_h + gap,
        )
        sheet = Image.new("RGB", size, (24, 24, 24))
        draw = ImageDraw.Draw(sheet)
        for place, row in enumerate(shown_rows):
            x, y = gap + place % COLUMNS * cell_w, gap + place // COLUMNS * cell_h
            picture = images[row].transpose(1, 2, 0)
            tile = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
            size = (THUMBNAIL, THUMBNAIL)
            sheet.paste(tile.resize(size, Image.Resampling.LANCZOS).convert("RGB"), (x, y))
            bad = rejected(row)
            if bad:
                draw.rectangle(
                    (x - 2, y - 2, x + THUMBNAIL + 1, y + THUMBNAIL + 1), outline=(230, 60, 50), width=3
                )
            colour = (240, 110, 100) if bad else (200, 200, 200)
            for number, text in enumerate(labels(row)):
                shown = fitting(text, font.getlength, THUMBNAIL)
                draw.text((x, y + THUMBNAIL + 1 + number * line), shown, colour, font)
        files.append(folder / f"sheet-{len(files) + 1:03d}.png")
        write_atomically(files[-1], lambda file, sheet=sheet: sheet.save(file, "PNG"), DataError)
    return files
