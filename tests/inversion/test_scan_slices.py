"""A scan is cut as a study's slices are: every pixel shows the place that it stands for."""

from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from mssg.errors import DataError
from mssg.inversion.scan_slices import BRAIN, MIDDLE, STUDY, ScanSlices
from mssg.study.covariate import Covariate
from mssg.study.model import Geometry, Source, Study

SPOT = np.array([14.0, -20.0, 26.0])  # millimetres right, anterior, superior
NOWHERE = np.empty(0)


def study(geometry: Geometry | None, channels: int = 1) -> Study:
    age = Covariate("age", "continuous", offset=0.0, spread=1.0)
    return Study("heads", 64, channels, (age,), (Source("A", "a", ("age",)),), geometry=geometry)


def scan(tmp_path, shift=(0.0, 0.0, 0.0), suffix=".nii.gz"):
    """A head of 2 mm voxels, stored from right to left, in which one spot is bright."""
    shape = (80, 100, 80)
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = np.array([79.0, -101.0, -79.0]) + 1.0 + shift
    points = np.stack(np.indices(shape), -1) @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(points - shift, axis=-1) < 60
    data = np.where(inside, 110.0 + (points - shift)[..., 1], 0.0)  # the brighter, the further to the front
    data[np.linalg.norm(points - SPOT - shift, axis=-1) < 5] = 250.0
    path = tmp_path / f"scan{suffix}"
    kind = nibabel.Nifti1Image if "nii" in suffix else nibabel.MGHImage
    nibabel.save(kind(data.astype(np.float32), affine), path)
    return path


def brightest(picture: np.ndarray) -> np.ndarray:
    """Row and column in the middle of what is bright."""
    return np.argwhere(picture == picture.max()).mean(0)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mgz"])
def test_a_spot_lies_where_the_study_says(tmp_path, suffix):
    geometry = Geometry("coronal", 2.5, "common", position_mm=-20.0, centre_mm=(0.0, 5.0))
    cutter = ScanSlices.read(scan(tmp_path, suffix=suffix), study(geometry), NOWHERE)
    assert cutter.anchors == (STUDY, BRAIN) and cutter.default_mm == -20.0
    picture, place = cutter.cut(-20.0, STUDY)
    assert picture.shape == (1, 64, 64) and picture.dtype == np.uint8
    row, column = brightest(picture[0])
    assert abs((column - 31.5) * 2.5 - SPOT[0]) < 1.0 and abs((31.5 - row) * 2.5 + 5.0 - SPOT[2]) < 1.0
    assert place.plane == "coronal" and place.affine[1][3] == -20.0
    elsewhere, _ = cutter.cut(10.0, STUDY)
    assert elsewhere.any() and not np.array_equal(picture, elsewhere)
    turned = ScanSlices.read(tmp_path / f"scan{suffix}", study(replace(geometry, mirrored=True)), NOWHERE)
    assert np.array_equal(turned.cut(-20.0, STUDY)[0], picture[..., ::-1])
    low, high = cutter.limits(STUDY)
    assert low == pytest.approx(-100.0) and high == pytest.approx(98.0)
    with pytest.raises(DataError, match="empty"):
        cutter.cut(300.0, STUDY)


@pytest.mark.parametrize(("space", "anchor"), [("common", BRAIN), ("none", BRAIN), ("none", MIDDLE)])
def test_a_scan_that_lies_elsewhere_is_cut_around_its_own_middle(tmp_path, space, anchor):
    geometry = Geometry("coronal", 2.5, space, position_mm=-20.0, centre_mm=(0.0, 5.0))
    here = ScanSlices.read(scan(tmp_path), study(geometry), NOWHERE)
    there = ScanSlices.read(scan(tmp_path, (36.0, -24.0, 18.0)), study(geometry), NOWHERE)
    pictures = [cutter.cut(-20.0, anchor)[0] for cutter in (here, there)]
    assert np.array_equal(*pictures) and pictures[0].any()
    assert there.cut(-20.0, anchor)[1].affine[1][3] - here.cut(-20.0, anchor)[1].affine[1][3] == -24.0


def test_slices_of_a_study_of_many_places_share_one_scale_of_grey(tmp_path):
    places = np.arange(-60.0, 61.0, 5.0)
    geometry = replace(Geometry("coronal", 2.5, "common", position_mm=-20.0), position="depth")
    cutter = ScanSlices.read(scan(tmp_path), study(geometry), places)
    at_spot, beside = (cutter.cut(mm, STUDY)[0][0] for mm in (-20.0, 30.0))
    assert float(at_spot[32, 20]) / beside[32, 32] == pytest.approx(90 / 140, abs=0.02)
    assert np.array_equal(at_spot, cutter.cut(-21.9, STUDY)[0][0])  # the nearest place that was learnt


def test_a_study_that_states_no_geometry_cuts_nothing(tmp_path):
    for given in (study(None), study(Geometry("coronal", 2.0), channels=3)):
        with pytest.raises(DataError, match="how to cut"):
            ScanSlices.read(scan(tmp_path), given, NOWHERE)
