"""Volumes: NIfTI and MGH files read by one set of rules, in millimetres (right, anterior, superior).

Source: NIfTI-1 (Cox et al. 2004): voxel -> RAS millimetres by the sform, else the qform.
"""

from __future__ import annotations

import gzip
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.errors import DataError
from mssg.files import parse_json

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
COMPRESSED = (".gz", ".mgz")
LARGEST = 2**29
"""Voxels above which a volume is refused: a damaged header may promise any size."""
LARGEST_LABEL = 2**24 - 1
UNKNOWN, SCANNER, ALIGNED, MNI = 0, 1, 2, 4
"""What an affine leads to, as NIfTI numbers it: nowhere, the scanner, another image's space, MNI 152."""
VOXEL_MM = (0.02, 50.0)
"""Voxel edges between these are believed."""
GREY_LEVELS = "grey level, 0 to 255"
"""What the sidecar of a picture that a model drew says of its voxels."""
MM_OF = {"meter": 1000.0, "micron": 0.001}
"""Millimetres of the units that NIfTI knows beside them."""


@dataclass(frozen=True)
class NiftiVolume:
    """A volume and where it lies.

    Attributes:
        data: float32 [nx, ny, nz], or integers for label maps.
        affine: float64 [4, 4], voxel indices to millimetres: right, anterior, superior.
        code: What those millimetres are of, as NIfTI numbers it.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    code: int = SCANNER

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


@dataclass(frozen=True)
class VolumeRules:
    """What a user has said about volumes that leave something open.

    Attributes:
        nan_as_zero: Take voxels that are not finite as 0 (SPM writes NaN outside the brain) instead of
            refusing them.
        assume_las: Take a volume that states no orientation as stored from right to left, instead of refusing
            it.
    """

    nan_as_zero: bool = False
    assume_las: bool = False


AS_STATED = VolumeRules()
"""Nothing but what a file says."""


def read_volume(path: str | Path, rules: VolumeRules = AS_STATED) -> NiftiVolume:
    """Read a volume of grey levels: .nii, .nii.gz, .mgz or .mgh.

    Returns:
        The volume as stored; float32.

    Raises:
        DataError: Missing, damaged, not three-dimensional, without a usable affine, with complex or coloured
            voxels, or with voxels that are not finite.
    """
    return _read(Path(path), rules, False)


def read_slice(path: str | Path, rules: VolumeRules = AS_STATED) -> NiftiVolume:
    """Read one slice: a volume one of whose sides is a single voxel. As `read_volume`."""
    return _read(Path(path), rules, True)


def read_mask(path: str | Path, rules: VolumeRules = AS_STATED) -> NiftiVolume:
    """Read a mask: 0 and one other value, or probabilities, which count from a half.

    Returns:
        0 and 1, uint8.

    Raises:
        DataError: As `read_volume`, or values of another kind: of an image, or of a label map.
    """
    volume = read_volume(path, rules)
    data, above = volume.data, volume.data[volume.data > 0]
    if data.min() < 0 or not above.size:
        found = f"values from {data.min():g} to {data.max():g}"
        raise DataError("is no mask", file=path, found=found, expected="0 and one value above it")
    if (above == above[0]).all():
        return NiftiVolume((data > 0).astype(np.uint8), volume.affine)
    if above.max() > 1:
        raise DataError(
            "is no mask: it has several values, as an image or a label map",
            file=path,
            found=f"values up to {above.max():g}",
            expected="0 and one value above it, or probabilities from 0 to 1",
        )
    return NiftiVolume((data >= 0.5).astype(np.uint8), volume.affine)


def read_labels(path: str | Path, rules: VolumeRules = AS_STATED) -> NiftiVolume:
    """Read a label map: whole numbers, int32. Its orientation does not matter: only volumes are taken from
    it.

    Raises:
        DataError: As `read_volume`, or values that are no labels.
    """
    volume = read_volume(path, replace(rules, assume_las=True))
    data = volume.data
    if (data != np.rint(data)).any():
        raise DataError(
            "is no label map", file=path, found="values that are not whole", expected="0, 1, 2, …"
        )
    if data.min() < 0 or data.max() > LARGEST_LABEL:
        found = f"values from {data.min():g} to {data.max():g}"
        raise DataError("is no label map", file=path, found=found, expected=f"0 to {LARGEST_LABEL}")
    return NiftiVolume(data.astype(np.int32), volume.affine)


def sidecar(path: Path) -> Path:
    """The JSON beside a volume, of the same name."""
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def drawn_as(path: Path) -> str:
    """What a file of `mssg generate` or `mssg cohort`, whose grey levels are to stay, says that it holds:
    "slice" or "head"; "" for any other file."""
    try:
        document = parse_json(sidecar(path).read_bytes())
    except (OSError, ValueError):
        return ""
    if not isinstance(document, dict) or document.get("Units") != GREY_LEVELS:
        return ""
    return "head" if "Slices" in document else "slice"


def read_space(
    path: str | Path, rules: VolumeRules = AS_STATED, planar: bool = False
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine of a volume, or of a slice (`planar`), in RAS order, from its header alone.

    Raises:
        DataError: As `read_volume`, as far as a header shows it.
    """
    _, shape, affine = _open(Path(path), rules, planar)
    return in_ras_order(shape, affine)


def in_ras_order(
    shape: tuple[int, ...], affine: NDArray[np.float64]
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Shape and affine [4, 4] of a volume once its axes are those nearest to right, anterior, superior."""
    from nibabel.orientations import inv_ornt_aff, io_orientation

    orientation = io_orientation(affine)
    order = np.argsort(orientation[:, 0])
    return tuple(shape[i] for i in order), affine @ inv_ornt_aff(orientation, shape)


def _read(path: Path, rules: VolumeRules, planar: bool) -> NiftiVolume:
    """A file's voxels as float32 [nx, ny, nz], all of them finite, and its affine."""
    image, shape, affine = _open(path, rules, planar)
    try:
        if path.name.lower().endswith(COMPRESSED):
            # to the end, or the checksum is not looked at and damage goes unnoticed
            with gzip.open(path) as file:
                content = file.read(LARGEST * 8)
            with quiet_nibabel():
                image = type(image).from_bytes(content)
        with np.errstate(all="ignore"):
            data = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(shape)
    except Exception as error:  # a damaged file makes its reader fail in any way it likes
        raise _damaged(path, error) from None
    finite = np.isfinite(data)
    if not finite.all():
        if not rules.nan_as_zero:
            raise DataError(
                "voxels are not finite numbers",
                file=path,
                found=f"{data.size - int(finite.sum())} of {data.size}",
                hint="--nan-as-zero of mssg prepare takes them as 0",
            )
        data = np.where(finite, data, np.float32(0))
    return NiftiVolume(data, affine, _code(image.header))


def _open(path: Path, rules: VolumeRules, planar: bool) -> tuple[Any, tuple[int, ...], NDArray[np.float64]]:
    """A file's image (data still on disk), shape and affine, its header believed only after a check."""
    import nibabel

    if not path.is_file():
        raise DataError("no such file" if not path.exists() else "not a file", file=path)
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(
            "not a volume", file=path, found=path.suffix or "no suffix", expected=" | ".join(SUFFIXES)
        )
    try:
        with quiet_nibabel():
            image: Any = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        sides = [n for n in shape if n > 1]
        if len(shape) != 3 or len(sides) != 3 - planar or min(shape) < 1:
            what, expected = ("one slice", "a side of 1") if planar else ("a three-dimensional volume", "3")
            found = [int(n) for n in image.shape]
            hint = "Cut volumes as for training: mssg prepare mri" if planar else None
            raise DataError(f"not {what}", file=path, found=found, expected=expected, hint=hint)
        if math.prod(shape) > LARGEST:
            raise DataError("too large", file=path, found=list(shape), expected=f"at most {LARGEST} voxels")
        _check_voxels(path, image)
        return image, shape, _affine(path, image, rules)
    except DataError:
        raise
    except Exception as error:
        raise _damaged(path, error) from None


def _check_voxels(path: Path, image: Any) -> None:
    """Refuse what has no grey levels, and data that begin in the header, which would shift the picture."""
    kind = image.get_data_dtype().kind
    if kind not in "uifb":
        raise DataError(
            "complex or coloured voxels, which have no one grey level",
            file=path,
            field="datatype",
            found=str(image.get_data_dtype()),
            expected="whole or real numbers",
            hint="Write the magnitude or one channel",
        )
    header, offset = image.header, getattr(image.dataobj, "offset", None)
    if "vox_offset" in header.keys() and offset is not None and offset < header.sizeof_hdr:
        raise DataError(
            "its data begin inside its header",
            file=path,
            field="vox_offset",
            found=offset,
            expected=f"{header.single_vox_offset} or more",
            hint="Write it again with a program that states it",
        )


@contextmanager
def quiet_nibabel() -> Iterator[None]:
    """nibabel's own warnings about a header, which we check ourselves, are not shown."""
    from nibabel import imageglobals

    level = imageglobals.logger.level
    imageglobals.logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        imageglobals.logger.setLevel(level)


def _damaged(path: Path, error: Exception) -> DataError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"cannot be read: {text[:200]}", file=path, expected="an intact volume")


def _affine(path: Path, image: Any, rules: VolumeRules) -> NDArray[np.float64]:
    """A file's affine in millimetres, checked."""
    affine = np.array(image.affine, np.float64)
    if not rules.assume_las and not _states_orientation(path, image.header):
        raise DataError(
            "states no orientation, so left and right cannot be told apart",
            file=path,
            field="qform_code, sform_code" if "qform_code" in image.header.keys() else "goodRASFlag",
            found="0",
            hint="Write the affine into the header, convert the scan again, or use --assume-las",
        )
    if _is_contradictory(image.header):
        raise DataError(
            "states two orientations that are mirror images, so left and right cannot be told apart",
            file=path,
            field="qform, sform",
            hint="Copy the right one over the other, or convert the scan again",
        )
    unit = _unit(image.header)
    affine[:3] *= MM_OF.get(unit, 1.0)
    with np.errstate(all="ignore"):
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        sheared = abs(np.linalg.det(affine[:3, :3] / edges))
    low, high = VOXEL_MM
    if not np.isfinite(affine).all() or not ((edges >= low) & (edges <= high)).all() or not sheared > 0.1:
        shown = "; ".join(" ".join(f"{v:.4g}" for v in row) for row in affine[:3])
        raise DataError(
            "the affine makes no sense",
            file=path,
            field="affine",
            found=shown + (f" mm, from the unit {unit}" if unit in MM_OF else ""),
            expected=f"independent axes with voxels of {low:g} to {high:g} mm",
        )
    return affine


def _code(header: Any) -> int:
    """The space that a header's affine leads to; MGH files know the scanner's alone."""
    if "sform_code" not in header.keys():
        return SCANNER
    return int(header["sform_code"]) or int(header["qform_code"])


def read_code(path: str | Path) -> int:
    """The space that a volume's affine leads to, from its header, which can be read (`read_space`)."""
    import nibabel

    with quiet_nibabel():
        image: Any = nibabel.load(path)
    return _code(image.header)


def _states_orientation(path: Path, header: Any) -> bool:
    """Whether a header says where left and right are."""
    codes = [int(header[c]) for c in ("qform_code", "sform_code") if c in header.keys()]
    if codes or "goodRASFlag" not in header.keys():
        return any(codes)
    # nibabel puts a default place into such a header and forgets that it stated none
    with gzip.open(path) if path.name.lower().endswith(COMPRESSED) else path.open("rb") as file:
        return int.from_bytes(file.read(30)[28:], "big", signed=True) > 0


def _is_contradictory(header: Any) -> bool:
    """Whether sform and qform both state an orientation, one the mirror image of the other: programs differ
    in which they take."""
    if "qform_code" not in header.keys() or not (int(header["qform_code"]) and int(header["sform_code"])):
        return False
    try:
        return bool(np.linalg.det(header.get_sform()[:3, :3]) * np.linalg.det(header.get_qform()[:3, :3]) < 0)
    except Exception:  # a qform that is no rotation is looked at by nobody
        return False


def _unit(header: Any) -> str:
    """The unit of a header's millimetres.

    Raises:
        ValueError: A code that NIfTI does not know.
    """
    if "xyzt_units" not in header.keys():
        return "mm"
    try:
        return header.get_xyzt_units()[0]
    except KeyError:
        raise ValueError(f"xyzt_units {int(header['xyzt_units'])} is no unit") from None


def to_ras(volume: NiftiVolume) -> NiftiVolume:
    """The volume with axes swapped and flipped to the nearest right, anterior, superior; no voxel value
    changes.

    An oblique volume stays oblique: its affine says so.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    data = np.ascontiguousarray(apply_orientation(volume.data, io_orientation(volume.affine)))
    return NiftiVolume(data, in_ras_order(volume.data.shape, volume.affine)[1], volume.code)


def to_bytes(image: Any, path: Path) -> bytes:
    """A nibabel image as content of a file of this name, .nii or .nii.gz; equal images give equal bytes."""
    data = image.to_bytes()
    return gzip.compress(data, compresslevel=6, mtime=0) if path.suffix == ".gz" else data
