"""Whole heads: the slices of one latent at every place, as one volume in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mssg.checkpoint.header import Header
from mssg.data.nifti import sidecar, to_bytes
from mssg.data.plane import PlaneGrid, place_of_study, stored
from mssg.errors import UsageError
from mssg.files import write_atomically, write_json
from mssg.rendering.image_files import describe, first_and_step, to_grey
from mssg.rendering.request import RenderRequest
from mssg.study.model import AXES, Geometry, Study
from mssg.study.values import Sweep
from mssg.version import __version__

if TYPE_CHECKING:
    from mssg.rendering.renderer import Renderer

MOST_VOXELS = 2**29
Progress = Callable[[int], None]


@dataclass(frozen=True)
class DrawnVolume:
    """Voxels with their place in the patient.

    Attributes:
        data: Grey levels float32 [X, Y, Z] or [X, Y, Z, T], 0 to 255, not rounded, in RAS order.
        affine: float64 [4, 4], from voxels to millimetres.
        code: What those millimetres are of, as NIfTI numbers it.
        places: First and last place of a slice, and the step between, in millimetres.
        edge: Of cubic voxels it was resampled to; None: as its slices were drawn.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    code: int
    places: tuple[float, float, float]
    edge: float | None = None


def check_volume(study: Study) -> str:
    """The covariate that places a study's slices.

    Raises:
        UsageError: There is none, so that there are no volumes.
    """
    if study.position is None:
        raise UsageError(
            "the study's slices all lie at one place, so it has no volumes",
            field="geometry.position",
            hint="A study whose slices lie at many places draws whole heads (docs/guide/data.md)",
        )
    return study.position


def places_of(study: Study, summary: Mapping[str, Any]) -> NDArray[np.float64]:
    """Where the slices of a volume lie, in millimetres [K]: over the range of the training slices, in their
    usual step.

    Raises:
        UsageError: No position, or a snapshot that does not say.
    """
    position = check_volume(study)
    try:
        low, high, step = (float(summary["position"][key]) for key in ("low", "high", "step"))
    except (KeyError, TypeError, ValueError):
        raise UsageError("the snapshot does not say where its slices lie", field=position) from None
    return np.linspace(low, high, round((high - low) / step) + 1)


def at_place(study: Study, request: RenderRequest, place: float) -> RenderRequest:
    """A request for the slice at another place (mm)."""
    position = check_volume(study)
    others = tuple((name, value) for name, value in request.covariates if name != position)
    return replace(request, covariates=(*others, (position, float(place))))


def upright(picture: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """A slice [H, W] of a study as a volume in RAS order, [W, 1, H] if coronal."""
    return stored(picture[:, ::-1] if geometry.mirrored else picture, geometry.plane)


def draw_volume(
    renderer: Renderer, request: RenderRequest, sweep: Sweep | None = None, progress: Progress | None = None
) -> DrawnVolume:
    """Draw every slice of a head, and of each value of a sweep.

    Args:
        request: The head: all but the place counts.
        sweep: A covariate that changes along the fourth axis.
        progress: Called with the number of slices drawn since the last call.

    Raises:
        UsageError: A study without a position, a layer, or more voxels than fit.
    """
    study, geometry = renderer.study, renderer.study.geometry
    places = places_of(study, renderer.header.summary)
    assert geometry is not None
    if request.layer is not None:
        raise UsageError("a layer's activations have no millimetres", field="--layer")
    heads = [request]
    if sweep:
        named = [(n, v) for n, v in request.covariates if n != sweep.name]
        heads = [replace(request, covariates=(*named, (sweep.name, v))) for v in sweep.values]
    if len(heads) * len(places) * study.resolution**2 > MOST_VOXELS:
        raise UsageError("too many voxels", found=len(heads), expected="a shorter sweep", field="--sweep")
    requests = [at_place(study, head, place) for head in heads for place in places]
    slices = []
    for image in renderer.pictures(requests):
        slices.append(upright(to_grey(image)[0], geometry))
        if progress:
            progress(1)
    axis, n = AXES[geometry.plane][0], len(places)
    stacks = [np.concatenate(slices[i : i + n], axis) for i in range(0, len(slices), n)]
    step = float(places[1] - places[0])
    first = replace(geometry, position_mm=float(places[0]), mirrored=False)
    affine = PlaneGrid.of_study(first, study.resolution).affine
    affine[axis, axis] = step
    code = place_of_study(geometry, study.resolution).code
    data = np.stack(stacks, -1) if sweep else stacks[0]
    return DrawnVolume(data, affine, code, (float(places[0]), float(places[-1]), step))


def resampled(volume: DrawnVolume, edge: float) -> DrawnVolume:
    """The same head in cubic voxels, by linear interpolation; it covers the same millimetres.

    Args:
        volume: In RAS order, aligned with the patient's axes.
        edge: Of a voxel, in millimetres.

    Raises:
        UsageError: No such size, or more voxels than fit.
    """
    from scipy.ndimage import map_coordinates

    if not edge > 0:
        raise UsageError("not a size", field="--resample", found=edge, expected="millimetres, more than 0")
    old = np.diag(volume.affine)[:3]
    size = np.array(volume.data.shape[:3])
    count = np.maximum(np.rint(size * old / edge).astype(int), 1)
    if np.prod(count, dtype=np.float64) * volume.data[0, 0, 0].size > MOST_VOXELS:
        raise UsageError("too many voxels", field="--resample", found=edge, expected="a larger edge")
    first = (size - 1) / 2 * old - (count - 1) / 2 * edge  # both grids have one centre
    grid = np.meshgrid(*[(f + edge * np.arange(c)) / o for f, c, o in zip(first, count, old)], indexing="ij")
    frames = volume.data.reshape(*size, -1)
    finer = [map_coordinates(frames[..., t], grid, order=1, mode="nearest") for t in range(frames.shape[3])]
    affine = np.diag([edge] * 3 + [1.0])
    affine[:3, 3] = volume.affine[:3, 3] + first
    data = np.stack(finer, -1).reshape(*count, *volume.data.shape[3:]).astype(np.float32)
    return replace(volume, data=data, affine=affine, edge=edge)


def volume_image(volume: DrawnVolume, header: Header, sweep: Sweep | None = None) -> Any:
    """A volume as a nibabel image that overlays its space's template; sform and qform agree."""
    import nibabel

    image = nibabel.Nifti1Image(volume.data, volume.affine)
    image.set_sform(volume.affine, volume.code)
    image.set_qform(volume.affine, volume.code)
    image.header.set_xyzt_units("mm")
    if along := first_and_step(header, sweep):
        image.header["toffset"], image.header["pixdim"][4] = along[0], abs(along[1]) or 1.0
    image.header["descrip"] = f"mssg {__version__}, snapshot {header.snapshot_id}".encode()[:79]
    return image


def save_volume(
    path: Path,
    volume: DrawnVolume,
    header: Header,
    request: RenderRequest,
    stated: Sequence[Mapping[str, float]],
    sweep: Sweep | None,
    command: str,
) -> Path:
    """Write a volume and its JSON sidecar.

    Args:
        path: .nii or .nii.gz.
        stated: Every covariate of each head along the sweep in native units, defaults included.
        sweep: What changes along the fourth axis.

    Returns:
        The sidecar's path.

    Raises:
        UsageError: A file that cannot be written.
    """
    write_atomically(path, to_bytes(volume_image(volume, header, sweep), path), UsageError)
    document = describe_volume(volume, header, request, stated, sweep, command)
    write_json(beside := sidecar(path), document, UsageError)
    return beside


def describe_volume(
    volume: DrawnVolume,
    header: Header,
    request: RenderRequest,
    stated: Sequence[Mapping[str, float]],
    sweep: Sweep | None,
    command: str,
) -> dict[str, Any]:
    """A volume's sidecar: what `save_volume` takes, as JSON."""
    document = describe(header, [request], stated, sweep, command)
    document["Covariates"].pop(header.study.position, None)
    first, last, step = volume.places
    return document | {"Slices": {"Units": "mm", "First": first, "Last": last, "Step": step}}
