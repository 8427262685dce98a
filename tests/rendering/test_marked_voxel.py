"""A voxel that is marked in a scan lies at the same millimetres in the volume that is drawn from its slices,
by two readers: whatever size, spacing and direction the scan has."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

from mssg import load_study
from mssg.data.dataset import open_sources
from mssg.data.recipes import mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.data.recipes.mri import SliceOptions
from mssg.rendering.request import RenderRequest
from mssg.rendering.volume import draw_volume, resampled, volume_image

MARK = np.array([14.0, -22.0, 18.0])
"""Where the mark is, in millimetres."""
RADIUS = 6.0
PLACES = "-66mm:66mm:4mm"


def turned(degrees: float, axis: int) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    a, b = (i for i in range(3) if i != axis)
    matrix[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
    return matrix


SCANS = {
    "cubes": (np.diag([3.0, 3.0, 3.0]), (52, 56, 50)),
    "from right to left": (np.diag([-3.0, 3.0, 3.0]), (50, 58, 48)),
    "thick slices, axes in another order": (np.array([[0, 0, -2.0], [2.0, 0, 0], [0, 5.0, 0]]), (84, 30, 76)),
    "oblique": (turned(11, 0) @ turned(-7, 2) @ np.diag([2.5, 3.0, 2.5]), (64, 58, 62)),
    "oblique, thick slices, from front to back": (
        turned(14, 1) @ np.array([[2.2, 0, 0], [0, 0, -4.5], [0, 2.2, 0]]),
        (72, 70, 38),
    ),
}


def scan(path, directions: np.ndarray, shape: tuple[int, int, int]) -> None:
    """A dim ball of a head with a bright mark in it, smooth enough for any grid."""
    affine = np.eye(4)
    affine[:3, :3] = directions
    affine[:3, 3] = -directions @ ((np.array(shape) - 1) / 2)  # the middle lies at 0
    places = apply_affine(affine, np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))
    head = 60 / (1 + np.exp((np.linalg.norm(places, axis=-1) - 55) / 2))
    mark = 190 * np.exp(-((np.linalg.norm(places - MARK, axis=-1) / RADIUS) ** 2))
    image = nibabel.Nifti1Image((head + mark).astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)


class FromSlices:
    """Draws the prepared slices themselves in place of a network's."""

    def __init__(self, study, source) -> None:
        self.study = study
        where = source.table["position_mm"]
        self.slices = {round(float(w), 3): image for w, image in zip(where, source.images)}
        position = {"low": min(self.slices), "high": max(self.slices), "step": 4.0}
        self.header = SimpleNamespace(
            summary={"position": position}, study=study, snapshot_id="none", path=source.path
        )

    def pictures(self, requests):
        for request in requests:
            place = round(dict(request.covariates)["position_mm"], 3)
            yield np.asarray(self.slices[place], np.float32) / 127.5 - 1


def marked(data: np.ndarray) -> np.ndarray:
    """The middle of the mark, in voxels."""
    weight = np.clip(np.asarray(data, np.float64) - 100, 0, None)
    grid = np.stack(np.meshgrid(*map(np.arange, data.shape), indexing="ij"), -1)
    return (weight[..., None] * grid).sum((0, 1, 2)) / weight.sum()


def read_by_nibabel(path) -> np.ndarray:
    image = nibabel.load(path)
    return apply_affine(image.affine, marked(image.get_fdata()))


def read_by_simpleitk(path) -> np.ndarray:
    import SimpleITK as simpleitk

    image = simpleitk.ReadImage(str(path))
    voxel = marked(simpleitk.GetArrayFromImage(image).transpose(2, 1, 0))
    point = np.array(image.TransformContinuousIndexToPhysicalPoint(voxel.tolist()))
    return point * (-1, -1, 1)  # ITK counts towards left and posterior


READERS = [read_by_nibabel, *([read_by_simpleitk] if find_spec("SimpleITK") else [])]


@pytest.mark.parametrize("plane", ["coronal", "axial", "sagittal"])
@pytest.mark.parametrize("kind", SCANS)
def test_a_mark_stays_in_its_place(tmp_path, kind, plane):
    folder = tmp_path / "bids" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    scan(folder / "sub-01_T1w.nii.gz", *SCANS[kind])
    (tmp_path / "bids/dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    (tmp_path / "bids/participants.tsv").write_text("participant_id\tage\nsub-01\t60\n")
    options = SliceOptions(plane, (PLACES,), 64, 2.5, "minmax", common_space=True)
    summary = mri.prepare(PrepareRequest(tmp_path / "bids", tmp_path / "out", None), options)
    study = load_study(summary.study)
    (source,) = open_sources(study)
    renderer = FromSlices(study, source)
    volume = draw_volume(renderer, RenderRequest())
    for number, head in enumerate((volume, resampled(volume, 2.0))):
        path = tmp_path / f"head{number}.nii.gz"
        volume_image(head, renderer.header).to_filename(path)
        voxel = np.diag(head.affine)[:3]
        assert (voxel > 0).all()
        for off in (np.abs(read(path) - MARK) for read in READERS):
            assert (off <= voxel / 2).all() and off.max() < 0.5  # nearer than half a voxel: the mark is wide
