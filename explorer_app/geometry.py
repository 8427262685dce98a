"""Where image pixels lie on the screen, and what the radiologist reads there. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace

from explorer_app.state import ZOOM_RANGE, Display
from mssg.study.model import Geometry

# What lies at the picture's left, right, top and bottom edge. Stored pictures are RAS slices turned by rot90:
# row 0 is superior (axial: anterior), column 0 patient left (sagittal: posterior).
_EDGES = {"coronal": ("L", "R", "S", "I"), "axial": ("L", "R", "A", "P"), "sagittal": ("P", "A", "S", "I")}


@dataclass(frozen=True)
class View:
    """An image of `columns` x `rows` pixels inside a screen rectangle of `width` x `height` at (x, y)."""

    x: float
    y: float
    width: float
    height: float
    columns: int
    rows: int
    display: Display
    mirrored: bool = False

    @property
    def fit(self) -> float:
        """Screen pixels per image pixel at which the whole image just fits."""
        return min(self.width / self.columns, self.height / self.rows)

    @property
    def zoom(self) -> float:
        """Screen pixels per image pixel."""
        return self.display.zoom or self.fit

    def to_image(self, sx: float, sy: float) -> tuple[float, float]:
        """Screen position -> image position in pixels (column, row), (0, 0) at the first pixel's outer
        corner."""
        u = (sx - self.x - self.width / 2) / self.zoom
        v = (sy - self.y - self.height / 2) / self.zoom
        cx, cy = self.center
        return cx * self.columns + (-u if self.mirrored else u), cy * self.rows + v

    def to_screen(self, column: float, row: float) -> tuple[float, float]:
        """Image position in pixels -> screen position; the inverse of `to_image`."""
        cx, cy = self.center
        u = (column - cx * self.columns) * (-1 if self.mirrored else 1)
        return self.x + self.width / 2 + u * self.zoom, self.y + self.height / 2 + (
            row - cy * self.rows
        ) * self.zoom

    @property
    def center(self) -> tuple[float, float]:
        """Image point in the middle of the view, fractions."""
        return self.display.center if self.display.zoom else (0.5, 0.5)

    def inside(self, column: float, row: float) -> bool:
        """True for a position on the image."""
        return 0 <= column < self.columns and 0 <= row < self.rows


def zoomed(view: View, factor: float, sx: float, sy: float) -> Display:
    """The display zoomed by a factor so that the image point under the cursor stays there."""
    low, high = ZOOM_RANGE
    zoom = min(high, max(low, view.zoom * factor))
    column, row = view.to_image(sx, sy)
    after = replace(view, display=replace(view.display, zoom=zoom, center=view.center))
    back_column, back_row = after.to_image(sx, sy)
    center = (
        view.center[0] + (column - back_column) / view.columns,
        view.center[1] + (row - back_row) / view.rows,
    )
    return replace(view.display, zoom=zoom, center=_near(center))


def panned(view: View, dx: float, dy: float) -> Display:
    """The display moved by screen pixels."""
    sign = -1 if view.mirrored else 1
    center = (
        view.center[0] - sign * dx / view.zoom / view.columns,
        view.center[1] - dy / view.zoom / view.rows,
    )
    return replace(view.display, zoom=view.zoom, center=_near(center))


def _near(center: tuple[float, float]) -> tuple[float, float]:
    """Keep the picture within reach."""
    return min(1.5, max(-0.5, center[0])), min(1.5, max(-0.5, center[1]))


def mirrored(geometry: Geometry | None, neurological: bool) -> bool:
    """True when the picture is drawn right to left.

    Stored pictures have patient left in column 0, which is the neurological convention, unless their study
    says that they are mirrored; the radiological one puts patient right at the screen's left. Sagittal planes
    and pictures without geometry are never mirrored.
    """
    return geometry is not None and geometry.plane != "sagittal" and neurological == geometry.mirrored


def edge_letters(geometry: Geometry | None, neurological: bool) -> tuple[str, str, str, str]:
    """Letters at the left, right, top and bottom edge of the screen; empty without geometry."""
    if geometry is None:
        return ("", "", "", "")
    left, right, top, bottom = _EDGES[geometry.plane]
    turned = mirrored(geometry, neurological) != geometry.mirrored
    return (right, left, top, bottom) if turned else (left, right, top, bottom)


def millimetres(
    geometry: Geometry, column: float, row: float, columns: int, rows: int
) -> tuple[float, float]:
    """Position in mm: (towards right or anterior, towards superior or anterior), from where the study's space
    has its 0."""
    across, up = geometry.centre_mm
    away = (column - columns / 2) * (-1 if geometry.mirrored else 1)
    return across + away * geometry.pixel_mm, up + (rows / 2 - row) * geometry.pixel_mm


def scale_bar(pixel_mm: float, zoom: float, at_most: float) -> tuple[float, float]:
    """A round length in mm (1, 2 or 5 times a power of ten) and its length on screen, not longer than
    `at_most`."""
    best = (0.0, 0.0)
    for exponent in range(-2, 4):
        for digit in (1, 2, 5):
            mm = digit * 10.0**exponent
            length = mm / pixel_mm * zoom
            if best[1] < length <= at_most:
                best = (mm, length)
    return best
