"""Several images of one session become one by a stated rule; the middle of a brain is found anywhere."""

from __future__ import annotations

import csv

import nibabel
import numpy as np
import pytest

from mssg import assets, load_study
from mssg.data.brain_centre import brain_centre
from mssg.data.dataset import open_sources
from mssg.data.nifti import NiftiVolume
from mssg.data.position import Position
from mssg.data.recipes import mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.data.recipes.phantom_anatomy import HEADS, ORIGIN
from mssg.errors import DataError, UsageError
from tests.data.stand_ins import bids, head, paths_table, save_volume

SMALL = mri.SliceOptions(resolution=32, pixel_mm=8.0)


def prepare(path, out, options=SMALL, **further):
    summary = mri.prepare(PrepareRequest(path, out, **further), options)
    (source,) = open_sources(load_study(summary.study))
    return source, summary


def two_runs(root):
    """A BIDS folder whose first person has two runs and another acquisition."""
    bids(root, 2)
    folder = root / "sub-00/anat"
    (folder / "sub-00_T1w.nii.gz").unlink()
    for name, seed in (("run-1", 1), ("run-2", 2), ("acq-fast_run-1", 3)):
        save_volume(folder / f"sub-00_{name}_T1w.nii.gz", head(60, 30, seed))
    return root


def test_runs_of_bids(tmp_path):
    root = two_runs(tmp_path / "bids")
    first, summary = prepare(root, tmp_path / "first")
    assert len(first) == 2 and summary.skipped == {"visit": 2}
    assert any("because the first is taken: 2" in note for note in summary.notes)
    every, _ = prepare(root, tmp_path / "all", runs="all")
    assert sorted(every.table["file"]) == [
        "sub-00/anat/sub-00_run-1_T1w.nii.gz",
        "sub-00/anat/sub-00_run-2_T1w.nii.gz",
        "sub-01/anat/sub-01_T1w.nii.gz",
    ]
    mean, _ = prepare(root, tmp_path / "mean", runs="mean")
    assert len(mean) == 2
    np.testing.assert_array_equal(mean.images[0], np.rint(every.images[:2].astype(float).mean(0)))
    assert (first.images[0] == every.images[0]).all() and (mean.images[1] == every.images[2]).all()


def test_the_mean_of_runs_is_taken_at_the_same_millimetres(tmp_path):
    """The second run's field of view lies elsewhere; the head does not."""
    root = two_runs(tmp_path / "bids")
    path = root / "sub-00/anat/sub-00_run-2_T1w.nii.gz"
    scan = nibabel.load(root / "sub-00/anat/sub-00_run-1_T1w.nii.gz")
    moved = scan.slicer[2:, 3:, :]
    moved.to_filename(path)
    (first, _), (mean, _) = (prepare(root, tmp_path / rule, runs=rule) for rule in ("first", "mean"))
    assert np.corrcoef(first.images[0].ravel(), mean.images[0].ravel())[0, 1] > 0.99
    path.write_bytes(b"broken")
    _, summary = prepare(root, tmp_path / "broken", runs="mean")
    with (summary.report / "skipped.csv").open(encoding="utf-8") as file:
        reasons = [row["reason"] for row in csv.DictReader(file) if row["stage"] == "image"]
    assert len(reasons) == 1 and "its further run sub-00/anat/sub-00_run-2" in reasons[0]


def test_rows_of_a_table_for_one_session(tmp_path):
    path = paths_table(tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    save_volume(tmp_path / "scans/again.nii.gz", head(60, 30, 9))
    lines.append(lines[1].replace("scans/0.nii.gz", "scans/again.nii.gz"))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    age = ["age=continuous:years"]
    every, summary = prepare(path, tmp_path / "silent", covariates=age)
    assert len(every) == 7
    assert any("all of which are taken: 1" in n for n in summary.notes)
    stated, summary = prepare(path, tmp_path / "all", covariates=age, runs="all")
    assert len(stated) == 7 and not any("sessions with several" in n for n in summary.notes)
    first, summary = prepare(path, tmp_path / "first", covariates=age, runs="first")
    assert len(first) == 6 and summary.skipped == {"visit": 1}
    mean, _ = prepare(path, tmp_path / "mean", covariates=age, runs="mean")
    assert len(mean) == 6
    both = every.images[[0, 6]].astype(float)
    np.testing.assert_array_equal(mean.images[0], np.rint(both.mean(0)))


def scan(name="mni152", shift=(0.0, 0.0, 0.0), skull=False):
    """A template in another place of the scanner, oblique; with `skull`, in a bright shell; its middle."""
    with np.load(assets.path(f"brain/{name}.npz")) as file:
        data, brain = file["t1"].astype(np.float32), file["grey"].astype(int) + file["white"] > 128
    affine = np.eye(4)
    c, s = np.cos(0.1), np.sin(0.1)
    affine[:3, :3] = [[1, 0, 0], [0, c, -s], [0, s, c]]
    affine[:3, 3] = affine[:3, :3] @ ORIGIN + shift
    if skull:
        from scipy.ndimage import distance_transform_edt

        far = distance_transform_edt(data[::2, ::2, ::2] < 20) * 2
        shell = np.kron((far > 5) & (far < 12), np.ones((2, 2, 2)))[tuple(map(slice, data.shape))]
        data = np.where(shell > 0, np.float32(180), data)
    middle = affine[:3, :3] @ np.argwhere(brain).mean(0) + affine[:3, 3]
    return NiftiVolume(data, affine), NiftiVolume(brain.astype(np.uint8), affine), middle


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("skull", [False, True])
def test_the_middle_of_a_brain_is_found(name, skull):
    volume, mask, middle = scan(name, (13.0, -40.0, 25.0), skull)
    assert np.abs(brain_centre(volume) - middle).max() < (6 if skull else 2)
    np.testing.assert_allclose(brain_centre(volume, mask), middle, atol=1e-6)
    noisy = volume.data + np.abs(np.random.default_rng(0).normal(0, 8, volume.data.shape))
    cropped = NiftiVolume(noisy[20:, :, 10:], volume.affine @ _moved(20, 0, 10))
    assert np.abs(brain_centre(cropped) - middle).max() < 7
    with pytest.raises(DataError, match="empty"):
        brain_centre(NiftiVolume(np.zeros((9, 9, 9), np.float32), np.eye(4)))


def _moved(*by):
    out = np.eye(4)
    out[:3, 3] = by
    return out


def test_brains_are_cut_alike_wherever_they_lie_in_the_field_of_view(tmp_path):
    """The middle of the field differs by 24 mm; the middle of the brain does not."""
    rows = ["path,subject,age"]
    for number, (low, high) in enumerate([(0, 48), (48, 0)]):
        volume, _, _ = scan()
        data = np.pad(volume.data, ((0, 0), (low, high), (0, 0)))[::2, ::2, ::2]
        affine = volume.affine @ _moved(0, -low, 0) @ np.diag([2.0, 2, 2, 1])
        affine[:3, 3] += 10 * number
        nibabel.Nifti1Image(data, affine).to_filename(tmp_path / f"{number}.nii.gz")
        rows.append(f"{number}.nii.gz,p{number},{60 + number}")
    (tmp_path / "images.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    alike = {}
    for at in ("middle", "brain", "brain-20mm"):
        options = mri.SliceOptions(resolution=64, pixel_mm=4.0, at=(at,))
        request = {"covariates": ["age=continuous:years"], "name": at.replace("-", "")}
        source, summary = prepare(tmp_path / "images.csv", tmp_path / "out", options, **request)
        one, other = source.images[:, 0].astype(float)
        alike[at] = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert any("--at brain cuts" in note for note in summary.notes) == (at == "middle")
        assert set(source.table["slice"]) == {at}
    assert alike["middle"] < 0.9 < 0.98 < min(alike["brain"], alike["brain-20mm"]), alike
    options = mri.SliceOptions(resolution=64, at=("brain",), common_space=True)
    with pytest.raises(UsageError, match="share one plane"):
        prepare(tmp_path / "images.csv", tmp_path / "common", options, covariates=["age=continuous:years"])


def test_positions_in_words():
    for text in ("middle", "brain", "brain+20mm", "brain-7.5mm", "90", "-18mm"):
        assert str(Position.parse(text)) == text
    for text in ("brain20mm", "brain+20", "brains", "middle+3mm"):
        with pytest.raises(UsageError, match="cannot be read as a position"):
            Position.parse(text)


def test_a_straight_volume_is_cut_on_its_own_slices():
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    affine[:3, 3] = (-70.2, -100.1, -60.3)
    for place in (-20.0, -19.3, 3.7):
        mm = Position("brain", 5.0).to_mm((96, 128, 96), affine, "coronal", np.array([0, place, 0]))
        assert abs(mm - (place + 5)) <= 0.75 + 1e-9
        assert ((mm + 100.1) / 1.5) == pytest.approx(round((mm + 100.1) / 1.5))
