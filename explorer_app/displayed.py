"""Pictures as they are displayed, in pixels: mirrored, windowed, coloured and compared as on the screen, with
what is to be burnt in. No imgui, no OpenGL, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from explorer_app import colormaps
from explorer_app.comparison import Part, widest
from explorer_app.geometry import FundusGeometry, edge_letters, mirrored, scale_bar
from explorer_app.overlay import Stroke
from explorer_app.state import Display
from mssg import assets
from mssg.text import number

if TYPE_CHECKING:
    from PIL.Image import Image as Pil
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

FULL = Display()
"""Grey levels as they are."""
_INK, _EDGE, GROUND = (238, 240, 244), (0, 0, 0), (11, 12, 14)
_BAR_STEPS = 256


@dataclass(frozen=True)
class Burnt:
    """What is written into the pixels, and how many times they are enlarged before.

    `text`: lines under the picture; `strokes`: what lies over each part.
    """

    times: int = 1
    letters: bool = False
    scale: bool = False
    bar: bool = False
    text: tuple[str, ...] = ()
    strokes: tuple[tuple[Stroke, ...], ...] = ()

    @property
    def nothing(self) -> bool:
        """True where only pixels are written."""
        return not (self.letters or self.scale or self.bar or self.text or any(self.strokes))


def coloured(image: np.ndarray, display: Display) -> np.ndarray:
    """Grey levels through window and colours: uint8 [H, W] in plain grey, else [H, W, 3]."""
    out = colormaps.apply(image, display.level, display.width, display.colormap, invert=display.invert)
    return out[..., 0] if image.ndim == 2 and display.colormap == "grey" else out


def displayed(part: Part, display: Display, times: int = 1) -> np.ndarray:
    """A part as it stands on the screen, the whole of it: uint8 [times · H, times · W] or [..., 3]."""
    display = part.look(display)
    image, turned = enlarged(part.image, times, display), mirrored(part.geometry, display.neurological)
    other = enlarged(part.other, times, display) if part.other is not None and part.joined else None
    if other is None:
        out = coloured(image, display)
    elif part.is_difference:
        out = _difference(image, other, change_width(part, display), display)
    else:
        out = coloured(_joined(image, other, part.joined, display.share, turned), display)
    return np.ascontiguousarray(out[:, ::-1]) if turned else out


def _joined(image: np.ndarray, other: np.ndarray, how: str, share: float, turned: bool) -> np.ndarray:
    """Two pictures in one: a blend, or one on either side of a line."""
    if how == "blend":
        return image + np.float32(share) * (other - image)
    width = image.shape[1]
    across = (np.arange(width) + 0.5) / width
    first = (1 - across if turned else across) < share
    return np.where(first.reshape(1, -1, *[1] * (image.ndim - 2)), image, other)


def change_width(part: Part, display: Display) -> float:
    """The window of a difference around zero, in grey levels."""
    return display.change_width or widest(part)


def _difference(image: np.ndarray, other: np.ndarray, width: float, display: Display) -> np.ndarray:
    """The signed difference in colours, as the shader does it: uint8 [H, W, 3]."""
    change = image - other
    change = np.where(np.abs(change) < display.change_threshold, 0, change)
    colours = colormaps.apply(change, 0.0, width, "signed")
    if not display.change_overlay:
        return colours
    under = colormaps.apply(image, display.level, display.width, "grey", display.invert).astype(np.float32)
    share = np.clip(np.abs(change) / (width / 2), 0, 1)[..., None]
    return np.rint(under * (1 - share) + colours * share).astype(np.uint8)


def enlarged(image: np.ndarray, times: int, display: Display) -> np.ndarray:
    """A picture, float32 [H, W] or [H, W, 3], on `times` as many pixels a side, interpolated as displayed."""
    if times == 1:
        return image
    rows, columns = image.shape[:2]
    return resized(image, (columns * times, rows * times), display, (0, 0, columns, rows))


def resized(
    image: np.ndarray, size: tuple[int, int], display: Display, box: tuple[float, float, float, float]
) -> np.ndarray:
    """A part of a picture, float32 [H, W] or [H, W, 3], interpolated as displayed.

    Args:
        size: Columns and rows of the result.
        display: Says how to interpolate.
        box: Left, top, right and bottom of the part, in pixels.
    """
    from PIL import Image

    kinds = {"squares": "NEAREST", "linear": "BILINEAR", "cubic": "BICUBIC"}
    method = Image.Resampling[kinds[display.interpolation]]
    planes = np.atleast_3d(image).astype(np.float32)
    done = [np.asarray(Image.fromarray(p).resize(size, method, box)) for p in np.moveaxis(planes, -1, 0)]
    return np.stack(done, -1).reshape(size[1], size[0], *image.shape[2:])


def sheet(parts: Sequence[Part], display: Display, burnt: Burnt = Burnt()) -> np.ndarray:
    """All parts side by side as displayed: uint8 [H, W] where all is plain grey, else [H, W, 3].

    Args:
        parts: As `comparison.parts` gives them.
        display: How they are shown; zoom and place of the view are not taken over.
        burnt: What is written into the pixels.
    """
    pictures = [_labelled(part, displayed(part, display, burnt.times), display, burnt) for part in parts]
    pictures = [
        _laid_over(picture, part, strokes, display, times=burnt.times)
        for picture, part, strokes in zip(pictures, parts, (*burnt.strokes, *[()] * len(parts)))
    ]
    joined = pictures[0] if len(pictures) == 1 else _tiled(pictures)
    if burnt.bar:
        joined = np.concatenate(
            [_coloured(joined), _bar(max(parts, key=lambda part: part.spread), display, joined.shape[0])], 1
        )
    return np.concatenate([_coloured(joined), _lines(burnt.text, joined)], 0) if burnt.text else joined


def _tiled(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in rows: two side by side, more in a near square."""
    tall = max(p.shape[0] for p in pictures)
    columns = len(pictures) if len(pictures) < 4 else math.ceil(math.sqrt(len(pictures)))
    gap, rows = max(1, tall // 64), []
    for start in range(0, len(pictures), columns):
        row = [
            column for p in pictures[start : start + columns] for column in (gap, _coloured(_padded(p, tall)))
        ]
        ground = [np.full((tall, c, 3), GROUND, np.uint8) if isinstance(c, int) else c for c in row]
        rows.append(np.concatenate(ground[1:], 1))
    if len(rows) == 1:
        return rows[0]
    full = rows[0].shape[1]
    lines = [np.pad(r, ((0, gap), (0, full - r.shape[1]), (0, 0)), constant_values=GROUND[0]) for r in rows]
    return np.concatenate(lines, 0)[:-gap]


def _coloured(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[..., None], 3, -1) if picture.ndim == 2 else picture


def _padded(picture: np.ndarray, tall: int) -> np.ndarray:
    """A picture in the middle of a taller strip."""
    out = np.full((tall, *picture.shape[1:]), GROUND[0], np.uint8)
    top = (tall - picture.shape[0]) // 2
    out[top : top + picture.shape[0]] = picture
    return out


@lru_cache(8)
def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(assets.path("fonts/Roboto-Regular.ttf")), size)


def _size(side: int) -> int:
    """Height of letters on a picture, in pixels."""
    return max(9, round(side / 28))


def _canvas(pixels: np.ndarray) -> tuple[ImageDraw, Pil]:
    from PIL import Image, ImageDraw

    image = Image.fromarray(_coloured(pixels))
    return ImageDraw.Draw(image), image


def _labelled(part: Part, pixels: np.ndarray, display: Display, burnt: Burnt) -> np.ndarray:
    """Edge letters, scale bar and the part's name over its pixels."""
    if not (burnt.letters or burnt.scale):
        return pixels
    draw, image = _canvas(pixels)
    high, wide = pixels.shape[:2]
    size = _size(min(high, wide))
    ink = {"font": _font(size), "fill": _INK, "stroke_width": max(1, size // 10), "stroke_fill": _EDGE}
    near = size * 0.4
    eye = part.geometry.name if burnt.letters and isinstance(part.geometry, FundusGeometry) else ""
    if label := "   ".join(text for text in (part.written_label, eye) if text):
        _title(draw, label, wide, burnt.letters and part.geometry is not None, ink)
    if burnt.letters:
        left, right, top, bottom = edge_letters(part.geometry, display.neurological)
        draw.text((near, high / 2), left, anchor="lm", **ink)
        draw.text((wide - near, high / 2), right, anchor="rm", **ink)
        draw.text((wide / 2, near), top, anchor="mt", **ink)
        draw.text((wide / 2, high - near), bottom, anchor="mb", **ink)
    if burnt.scale:
        text, length = scale_bar(part.geometry, burnt.times, wide * 0.28)
        y, thick = high - size * 0.8, max(1, size // 7)
        if length:
            draw.rectangle(
                (near * 1.5 - 1, y - 1, near * 1.5 + length, y + thick), fill=_INK, outline=_EDGE, width=1
            )
            draw.text((near * 1.5 + length / 2, y - size * 0.25), text, anchor="mb", **ink)
    return np.asarray(image)


def _title(draw: ImageDraw, label: str, wide: int, lettered: bool, ink: dict) -> None:
    """A part's name at its upper left: beside the letter in the middle, where one is, or under it."""
    font, (near, step) = ink["font"], (ink["font"].size * 0.4, ink["font"].size * 1.2)
    y, room = near, wide - 2 * near
    if lettered:
        beside = wide / 2 - near - font.size
        fits = max(font.getlength(word) for word in label.split()) <= beside
        y, room = (near, beside) if fits else (near + step, room)
    for i, line in enumerate(_broken(label, font, room)):
        draw.text((near, y + i * step), line, anchor="lt", **ink)


def _broken(text: str, font: FreeTypeFont, room: float) -> list[str]:
    """A text in lines no longer than there is room; a word longer than that goes on in the next line."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room:
            lines[-1] = longer
            continue
        lines += [""] * bool(lines[-1])
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > room:
                lines.append("")
            lines[-1] += letter
    return lines


def _laid_over(
    pixels: np.ndarray, part: Part, strokes: Sequence[Stroke], display: Display, times: int
) -> np.ndarray:
    """Strokes over a part's pixels, each on a dark edge, with its text."""
    if not strokes:
        return pixels
    draw, image = _canvas(pixels)
    high, wide = pixels.shape[:2]
    turned = mirrored(part.geometry, display.neurological)
    size = _size(min(high, wide))
    for stroke in strokes:
        corners = stroke.points + stroke.points[:1] * stroke.closed
        line = [((wide - x * times if turned else x * times), y * times) for x, y in corners]
        ink = tuple(round(255 * c) for c in stroke.colour)
        for colour, thick in ((_EDGE, max(3, size // 5)), (ink, max(1, size // 10))):
            draw.line(line, fill=colour, width=thick, joint="curve")
        if stroke.text:
            font = _font(size)
            x = min(max(x for x, _ in line), wide - font.getlength(stroke.text) - 2)
            y = min(max(y for _, y in line) + size * 0.3, high - size * 1.4)
            edge = max(1, size // 10)
            draw.text((x, y), stroke.text, font=font, fill=ink, stroke_width=edge, stroke_fill=_EDGE)
    return np.asarray(image)


def ends(part: Part, display: Display) -> tuple[str, str]:
    """The numbers at the ends of the colour bar: grey levels, of a difference minus and plus half the
    window."""
    display = part.look(display)
    low, high = (display.level - display.width / 2, display.level + display.width / 2)
    if part.is_difference:
        half = number(change_width(part, display) / 2)
        return f"−{half}", f"+{half}"
    return f"{low:.0f}", f"{high:.0f}"


def _bar(part: Part, display: Display, high: int) -> np.ndarray:
    """The colours from the window's lowest to its highest grey level, with both: uint8 [H, w, 3]."""
    size, display = _size(high), part.look(display)
    texts, font = ends(part, display), _font(size)
    wide = round(size * 1.4 + max(font.getlength(t) for t in texts) + size)
    strip = np.full((high, wide, 3), GROUND, np.uint8)
    name, invert = ("signed", False) if part.is_difference else (display.colormap, display.invert)
    colours = colormaps.table(name, invert)[::-1]
    inside = high - 2 * size
    rows = colours[np.linspace(0, _BAR_STEPS - 1, inside).astype(int)]
    strip[size : size + inside, size // 2 : size // 2 + round(size * 0.8)] = rows[:, None]
    draw, image = _canvas(strip)
    x = size // 2 + round(size * 1.1)
    draw.text((x, size), texts[1], anchor="lm", font=font, fill=_INK)
    draw.text((x, high - size), texts[0], anchor="lm", font=font, fill=_INK)
    return np.asarray(image)


def _lines(lines: Sequence[str], over: np.ndarray) -> np.ndarray:
    """Lines of text as wide as the picture over them; one too long goes on in the next: uint8 [h, W, 3]."""
    wide = over.shape[1]
    size = _size(min(over.shape[:2]))
    font = _font(size)
    shown = [row for line in lines for row in _broken(line, font, wide - size)]
    step = round(size * 1.35)
    draw, image = _canvas(np.full((step * len(shown) + size, wide, 3), GROUND, np.uint8))
    for i, row in enumerate(shown):
        draw.text((size // 2, size // 2 + i * step), row, font=font, fill=_INK)
    return np.asarray(image)
