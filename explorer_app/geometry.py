"""Where image pixels lie on the screen, and what the radiologist or ophthalmologist reads there. Pure
arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace

from explorer_app.messages import Picture
from explorer_app.state import ZOOM_RANGE, Display
from mssg.study.model import Geometry, Study

# What lies at the picture's left, right, top and bottom edge. Stored pictures are RAS slices turned by rot90:
# row 0 is superior (axial: anterior), column 0 patient left (sagittal: posterior).
_EDGES = {"coronal": ("L", "R", "S", "I"), "axial": ("L", "R", "A", "P"), "sagittal": ("P", "A", "S", "I")}


@dataclass(frozen=True)
class FundusGeometry:
    """What a fundus photograph's pixels mean.

    Attributes:
        pixel: How long one is, in `unit`; None where the study does not say.
        unit: "°" of visual angle, or "DD" (disc diameters).
        right: Whether it is a right eye; None where nothing says so.
    """

    pixel: float | None
    unit: str
    right: bool | None

    @property
    def name(self) -> str:
        """Which eye it is, as ophthalmologists write it; "" where that is not known."""
        return "" if self.right is None else "OD, right eye" if self.right else "OS, left eye"


Stated = Geometry | FundusGeometry | None
"""What is known of where a picture's pixels lie."""


def stated(study: Study | None, request: Picture) -> Stated:
    """What a study states of the pixels of a picture; a layer's pixels lie nowhere."""
    if study is None or request.layer is not None:
        return None
    photograph = study.photograph
    if photograph is None:
        return study.geometry
    length = photograph.degrees or photograph.disc_diameters
    values, side = dict(request.covariates), photograph.side
    if side in values:
        side = study.covariate(side).levels[round(values[side])]
    right = side == "right" if side in ("left", "right") else None
    unit = "°" if photograph.degrees else "DD"
    return FundusGeometry(length / study.resolution if length else None, unit, right)


def pixel_size(geometry: Stated) -> tuple[float, str]:
    """How long a pixel is, and the unit of that: mm, ° or DD; 1 px where nobody says so."""
    if isinstance(geometry, FundusGeometry):
        return (geometry.pixel, geometry.unit) if geometry.pixel else (1.0, "px")
    return (1.0, "px") if geometry is None else (geometry.pixel_mm, "mm")


def with_pixels(geometry: Stated, factor: float) -> Stated:
    """The same for pixels of so many times the length."""
    if isinstance(geometry, FundusGeometry):
        return replace(geometry, pixel=geometry.pixel * factor) if geometry.pixel else geometry
    return geometry and replace(geometry, pixel_mm=geometry.pixel_mm * factor)


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

    def holds(self, sx: float, sy: float) -> bool:
        """True for a screen position in the rectangle."""
        return self.x <= sx < self.x + self.width and self.y <= sy < self.y + self.height

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


def mirrored(geometry: Stated, neurological: bool) -> bool:
    """True when the picture is drawn right to left.

    Stored pictures have patient left in column 0, which is the neurological convention, unless their study
    says that they are mirrored; the radiological one puts patient right at the screen's left. Sagittal
    planes, photographs and pictures without geometry are never mirrored.
    """
    if not isinstance(geometry, Geometry) or geometry.plane == "sagittal":
        return False
    return neurological == geometry.mirrored


def edge_letters(geometry: Stated, neurological: bool) -> tuple[str, str, str, str]:
    """Letters at the left, right, top and bottom edge of the screen; empty without geometry.

    Of a photograph N is nasal and T temporal: a right eye's disc lies on the right.
    """
    if geometry is None:
        return ("", "", "", "")
    if isinstance(geometry, FundusGeometry):
        left, right = ("", "") if geometry.right is None else ("T", "N") if geometry.right else ("N", "T")
        return (left, right, "S", "I")
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


def place(geometry: Stated, column: float, row: float, columns: int, rows: int) -> str:
    """A position in words: `millimetres`, or of a photograph degrees or disc diameters from its middle; ""
    where pixels have no size."""
    if isinstance(geometry, Geometry):
        right, up = millimetres(geometry, column, row, columns, rows)
        return f"{right:+.1f}, {up:+.1f} mm"
    if geometry is None or geometry.pixel is None:
        return ""
    right, up = (column - columns / 2) * geometry.pixel, (rows / 2 - row) * geometry.pixel
    sides = ("right", "left") if geometry.right is None else ("nasal", "temporal")
    across = sides[0] if (right >= 0) != (geometry.right is False) else sides[1]
    unit = geometry.unit if geometry.unit == "°" else f" {geometry.unit}"
    return f"{abs(right):.1f}{unit} {across}, {abs(up):.1f}{unit} {'superior' if up >= 0 else 'inferior'}"


def scale_bar(geometry: Stated, zoom: float, at_most: float) -> tuple[str, float]:
    """A round length in words (1, 2 or 5 times a power of ten) and its length on screen, not longer than
    `at_most`; nothing where pixels have no size."""
    eye = isinstance(geometry, FundusGeometry)
    pixel = geometry.pixel if eye else geometry.pixel_mm if geometry else None
    if not pixel:
        return ("", 0.0)
    best, unit = ("", 0.0), "°" if eye and geometry.unit == "°" else f" {geometry.unit if eye else 'mm'}"
    for exponent in range(-2, 4):
        for digit in (1, 2, 5):
            amount = digit * 10.0**exponent
            length = amount / pixel * zoom
            if best[1] < length <= at_most:
                best = (f"{amount:g}{unit}", length)
    return best
