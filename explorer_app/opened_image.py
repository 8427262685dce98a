"""Reading a user's own picture or scan. No torch; imported when the first one is opened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explorer_app.real_image import RealImage
from mssg.data import nifti
from mssg.errors import DataError, MssgError
from mssg.inversion.image_reader import SLICES, fitting_picture, read_picture, read_place
from mssg.inversion.scan_slices import ScanSlices
from mssg.study.model import Study


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """A user's file, read for a study.

    Attributes:
        snapshot: File of the snapshot whose study that is.
        path: The file; for messages and as a name.
        picture: The one picture that it is; None for
        scan: a whole scan, of which slices are cut.
    """

    snapshot: str
    path: Path
    picture: RealImage | None = None
    scan: ScanSlices | None = None

    def cut(self, mm: float, anchor: str) -> RealImage:
        """A slice of the scan; of a single picture, itself.

        Raises:
            DataError: There is nothing to see.
        """
        if self.scan is None:
            assert self.picture is not None
            return self.picture
        try:
            pixels, place = self.scan.cut(mm, anchor)
        except DataError as error:
            raise DataError(error.message, file=self.path, found=error.found, hint=error.hint) from None
        study, known = self.scan.study, ()
        if study.position is not None:
            known = ((study.position, float(self.scan.places[np.abs(self.scan.places - mm).argmin()])),)
        about = (
            f"cut at {mm:+.1f} mm of the {anchor}" if anchor != self.scan.anchors[0] else f"at {mm:+.1f} mm"
        )
        return RealImage(self.snapshot, self.path.name, pixels, known, about, place)


def open_image(path: str | Path, snapshot: str, study: Study, places: NDArray[np.float64]) -> OpenedImage:
    """Read a user's file by the rules of `mssg invert`, or a whole scan to cut slices of.

    Args:
        path: .png, .jpg, .npy, or .nii(.gz), .mgz, .mgh with one slice or a whole volume.
        snapshot: File of the snapshot whose study it is read for.
        places: Where slices of a study of many places lie, millimetres.

    Raises:
        MssgError: What is wrong with it.
    """
    path = Path(path).expanduser()
    if path.name.lower().endswith(SLICES) and path.is_file() and not _is_slice(path):
        return OpenedImage(snapshot, path, scan=ScanSlices.read(path, study, places))
    rules = replace(nifti.AS_STATED, assume_las=bool(nifti.drawn_as(path)))
    pixels = read_picture(path, study, rules)
    return OpenedImage(
        snapshot, path, RealImage(snapshot, path.name, pixels, place=read_place(path, study, rules))
    )


def _is_slice(path: Path) -> bool:
    """Whether a volume's header promises one slice."""
    try:
        nifti.read_space(path, replace(nifti.AS_STATED, assume_las=True), planar=True)
    except MssgError:
        return False
    return True


def open_clipboard(snapshot: str, study: Study, places: NDArray[np.float64]) -> OpenedImage:
    """What the clipboard holds: a picture, or a file. As `open_image`.

    Raises:
        MssgError: Neither, or one that does not fit the study.
    """
    from PIL import ImageGrab

    try:
        found = ImageGrab.grabclipboard()
    except (NotImplementedError, OSError, ChildProcessError):  # no program to ask it with
        found = None
    if isinstance(found, list) and found:
        return open_image(str(found[0]), snapshot, study, places)
    if found is None or isinstance(found, list):
        raise DataError("the clipboard holds no picture and no path of one")
    pixels = np.asarray(found.convert("L" if found.mode in ("1", "L", "LA") else "RGB"))
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    name = "clipboard"
    return OpenedImage(snapshot, Path(name), RealImage(snapshot, name, fitting_picture(planes, study)))
