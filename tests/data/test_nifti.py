"""Volumes and slices: a marked voxel stays where it is in the patient, however the volume is stored."""

import itertools

import nibabel
import numpy as np
import pytest

from mssg.data import nifti
from mssg.data.label_maps import LabelScheme
from mssg.data.nifti import SCANNER, NiftiVolume, VolumeRules
from mssg.data.plane import PlaneGrid, fit_grid, sample_plane, to_image, to_levels
from mssg.data.position import Position
from mssg.errors import DataError, UsageError
from mssg.inversion.image_reader import read_picture, read_place
from mssg.study.model import AXES, Geometry, Study

ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
VOXEL = np.array([1.0, 1.2, 0.8])  # right, anterior, superior


def turned(degrees: float) -> np.ndarray:
    """A rotation about an axis that is none of the patient's."""
    axis, angle = np.array([0.5, 0.3, 0.81]), np.radians(degrees)
    axis = axis / np.linalg.norm(axis)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def stored(order, signs, degrees=0.0, shape=(18, 22, 20), mark=(11, 7, 13)) -> tuple[NiftiVolume, np.ndarray]:
    """A volume in some storage order, its one bright voxel and where that is in the patient."""
    matrix = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(order, signs)):
        matrix[axis, column] = sign * VOXEL[axis]
    affine = np.eye(4)
    affine[:3, :3] = turned(degrees) @ matrix
    shape = tuple(np.array(shape)[list(order)])
    affine[:3, 3] = [3.0, -5.0, 7.0] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    data = np.zeros(shape, np.float32)
    at = tuple(np.array(mark)[list(order)])
    data[at] = 100
    return NiftiVolume(data, affine), (affine @ [*at, 1])[:3]


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [0.0, 25.0], ids=["straight", "oblique"])
def test_a_voxel_keeps_its_place_in_all_48_storage_orders(degrees, tmp_path):
    handed = set()
    for number, (order, signs) in enumerate(ORDERS):
        volume, place = stored(order, signs, degrees)
        handed.add(np.sign(np.linalg.det(volume.affine[:3, :3])))
        ras = nifti.to_ras(volume)
        at = np.argwhere(ras.data == 100)
        assert len(at) == 1 and nibabel.aff2axcodes(ras.affine) == ("R", "A", "S")
        np.testing.assert_allclose((ras.affine @ [*at[0], 1])[:3], place, atol=1e-4)
        if degrees == 0 or number % 8 == 0:
            for plane in AXES:
                check_slice(volume, place, plane, tmp_path)
    assert handed == {1.0, -1.0}


def check_slice(volume, place, plane, folder):
    """The slice through a place shows it there, also after nibabel has written and read it."""
    position = float(place[AXES[plane][0]])
    ras = nifti.to_ras(volume)
    grid = fit_grid(ras.data.shape, ras.affine, plane, position, 64, 0.5)
    picture, inside = sample_plane(volume, grid)
    path = folder / "slice.nii"
    to_image(picture, grid.place(SCANNER)).to_filename(path)
    back = nibabel.load(path)
    data = np.asarray(back.dataobj)
    assert sorted(data.shape) == [1, 64, 64] and data.shape[AXES[plane][0]] == 1
    np.testing.assert_allclose(back.get_sform(), back.get_qform(), atol=1e-4)
    points = nibabel.affines.apply_affine(back.affine, np.indices(data.shape).reshape(3, -1).T)
    centroid = (points * data.reshape(-1, 1)).sum(0) / data.sum()
    assert np.abs(centroid - place).max() < 0.3, (plane, centroid, place)
    assert inside.any() and picture.max() > 40


def test_pixels_as_large_as_voxels_are_taken_over_unchanged():
    rng = np.random.default_rng(0)
    for shape in ((18, 22, 20), (17, 21, 19), (40, 22, 41)):
        volume = NiftiVolume(rng.random(shape, np.float32), np.diag([-1.0, 1, 1, 1]))
        ras = nifti.to_ras(volume)
        mm = Position.parse("middle").to_mm(shape, ras.affine, "coronal")
        grid = fit_grid(shape, ras.affine, "coronal", mm, 32, 1.0)
        picture, inside = sample_plane(volume, grid)
        upright = np.rot90(ras.data[:, shape[1] // 2])
        values = picture[inside]
        if shape[0] <= 32:
            np.testing.assert_array_equal(values, upright.ravel())
        else:  # cropped: every value that is left is one of the slice's
            assert len(values) == 32 * 32 and np.isin(values, upright).all()


def test_large_pixels_average_what_they_cover():
    data = np.zeros((32, 8, 32), np.float32)
    data[::2] = 100  # stripes finer than a pixel
    volume = NiftiVolume(data, np.eye(4))
    grid = fit_grid(data.shape, volume.affine, "coronal", 4.0, 8, 4.0)
    picture, _ = sample_plane(volume, grid)
    np.testing.assert_allclose(picture[1:-1, 1:-1], 50, atol=13)
    assert grid.centre_mm == (15.5, 15.5)


def test_row_0_is_superior_and_column_0_is_the_patients_left():
    volume, place = stored((2, 0, 1), (-1, 1, -1), mark=(2, 11, 2))  # far left, far up
    grid = fit_grid((18, 22, 20), nifti.to_ras(volume).affine, "coronal", float(place[1]), 32)
    picture, _ = sample_plane(volume, grid)
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    assert row < 12 and column < 12


def test_positions():
    affine = np.diag([1.0, 2.0, 1.0, 1.0])
    affine[:3, 3] = [0, -10, 0]
    shape = (10, 12, 10)
    for text, mm in (("middle", 2.0), ("3", -4.0), ("-18mm", -18.0), ("4.5 mm", 4.5)):
        position = Position.parse(text)
        assert position.to_mm(shape, affine, "coronal") == pytest.approx(mm)
        assert Position.parse(str(position)) == position
    with pytest.raises(DataError, match="no such slice"):
        Position.parse("12").to_mm(shape, affine, "coronal")
    for text in ("", "half", "3.5", "-3", "mm", "1e3mm"):
        with pytest.raises(UsageError, match="position"):
            Position.parse(text)


def test_grey_levels():
    picture = np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32)
    picture[0, 1] = 50  # one vessel
    inside = np.ones((32, 32), bool)
    inside[:, 20:] = False
    robust, minmax = (to_levels(picture, inside, mode) for mode in ("robust", "minmax"))
    assert robust.max() == 255 and (robust[:, 20:] == 0).all() and robust[31, 0] > 200
    assert minmax[0, 1] == 255 and minmax[31, 0] < 10
    for nothing in (np.zeros((32, 32), bool), inside):
        with pytest.raises(DataError, match="empty"):
            to_levels(np.ones((32, 32), np.float32), nothing)


def write(path, data, affine=None, code=1):
    image = nibabel.Nifti1Image(data, np.eye(4))
    image.set_qform(np.eye(4), 0)
    image.set_sform(np.eye(4), code)
    if affine is not None:
        for row, name in zip(affine, ("srow_x", "srow_y", "srow_z")):
            image.header[name] = row
        image._affine = None  # nibabel would write its own back
        image.header["sform_code"] = code
    image.to_filename(path)
    return path


def test_what_is_no_volume_is_refused(tmp_path):
    good = np.ones((4, 5, 6), np.float32)
    nan = good.copy()
    nan[1, 1, 1] = np.nan
    whole = write(tmp_path / "good.nii.gz", good).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.nii").write_text("no volume")
    (tmp_path / "table.csv").write_text("a,b")
    (tmp_path / "folder.nii").mkdir()
    cases = {
        "cut.nii.gz": "cannot be read",
        "text.nii": "cannot be read",
        "table.csv": "not a volume",
        "folder.nii": "not a file",
        "none.nii": "no such file",
        write(tmp_path / "four.nii", np.ones((4, 5, 6, 2), np.float32)).name: "three-dimensional",
        write(tmp_path / "flat.nii", np.ones((4, 5, 1), np.float32)).name: "three-dimensional",
        write(tmp_path / "nan.nii", nan).name: "not finite",
        write(tmp_path / "zero.nii", good, np.diag([0.0, 0, 0, 1])).name: "affine makes no sense",
        write(tmp_path / "lost.nii", good, code=0).name: "no orientation",
    }
    for name, said in cases.items():
        with pytest.raises(DataError, match=said):
            nifti.read_volume(tmp_path / name)
    assert nifti.read_volume(tmp_path / "nan.nii", VolumeRules(nan_as_zero=True)).data[1, 1, 1] == 0
    lost = nifti.read_volume(tmp_path / "lost.nii", VolumeRules(assume_las=True))
    assert nibabel.aff2axcodes(lost.affine) == ("L", "A", "S")
    with pytest.raises(DataError, match="no label map"):
        nifti.read_labels(write(tmp_path / "half.nii", good / 2))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mgz"])
def test_every_format_reads_back(suffix, tmp_path):
    volume, place = stored((1, 2, 0), (1, -1, -1))
    if suffix == ".mgz":
        image = nibabel.MGHImage(volume.data, volume.affine)
    else:
        image = nibabel.Nifti1Image(volume.data, volume.affine)
    image.to_filename(tmp_path / f"v{suffix}")
    back = nifti.read_volume(tmp_path / f"v{suffix}")
    at = np.argwhere(back.data == 100)[0]
    np.testing.assert_allclose((back.affine @ [*at, 1])[:3], place, atol=1e-3)


def test_stacks_and_studies(tmp_path):
    grid = PlaneGrid.of_study(Geometry("coronal", 2.5, "common", -18.0, (0.0, 5.0)), 64)
    stack = np.zeros((3, 64, 64), np.uint8)
    stack[2, 0, 63] = 9
    to_image(stack, grid.place(SCANNER), (50.0, 10.0)).to_filename(tmp_path / "s.nii.gz")
    back = nibabel.load(tmp_path / "s.nii.gz")
    i, j, k, n = np.argwhere(np.asarray(back.dataobj) == 9)[0]
    assert n == 2 and back.header["toffset"] == 50 and back.header["pixdim"][4] == 10
    assert back.header.get_xyzt_units()[0] == "mm"
    assert (back.affine @ [i, j, k, 1])[:3] == pytest.approx([78.75, -18.0, 83.75])


def test_mirrored_pictures_lie_where_their_twins_do(tmp_path):
    """A picture and its mirror image, of a study that says so, are the same volume."""
    picture = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    data = []
    for mirrored in (False, True):
        geometry = Geometry("coronal", 2.5, "common", -18.0, (3.0, 5.0), mirrored=mirrored)
        grid = PlaneGrid.of_study(geometry, 64)
        shown = picture[:, ::-1] if mirrored else picture
        path = tmp_path / f"{mirrored}.nii.gz"
        to_image(shown, grid.place(SCANNER)).to_filename(path)
        study = Study("s", 64, 1, (), (), geometry=geometry)
        assert (read_picture(path, study)[0] == shown).all()
        assert np.allclose(read_place(path, study).affine, grid.place(SCANNER).affine)
        data.append(nibabel.as_closest_canonical(nibabel.load(path)))
    assert np.allclose(data[0].affine, data[1].affine)
    assert (np.asarray(data[0].dataobj) == np.asarray(data[1].dataobj)).all()


def test_volumes_of_labels():
    labels = np.zeros((10, 10, 10), np.int32)
    labels[:5, :5, :4], labels[6:, 6:, 6:] = 4, 43
    volume = NiftiVolume(labels, np.diag([2.0, 1.0, 1.0, 1.0]))
    ventricle, lesion = {"ventricle": np.array([4, 43, 9000])}, {"lesion": np.array([3])}
    assert LabelScheme(ventricle).volumes(volume) == {"ventricle": pytest.approx((100 + 64) * 2 / 1000)}
    assert LabelScheme(ventricle | lesion, ("lesion",)).volumes(volume)["lesion"] == 0
    assert np.isnan(LabelScheme(ventricle | lesion).volumes(volume)["lesion"])
    with pytest.raises(DataError, match="no label of this scheme"):
        LabelScheme(lesion, ("lesion",)).volumes(volume)


def test_the_edge_of_a_volume_is_not_darkened_by_what_lies_beyond():
    """Intensities need not be 0 outside the head (scores, scaled integers): a pixel's mean is over what the
    volume covers."""
    volume = nifti.NiftiVolume(np.full((20, 20, 20), -7.0, np.float32), np.eye(4))
    picture, inside = sample_plane(volume, PlaneGrid("coronal", 9.0, 3.0, 16, (9.0, 9.0)))
    assert 0 < inside.sum() < inside.size and np.allclose(picture[inside], -7)


def test_pixels_of_a_tilted_volume_fit_its_field_of_view():
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    affine = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1.0]])
    assert fit_grid((160, 240, 240), affine, "coronal", 0.0, 64).pixel_mm == 3.75


def test_reading_leaves_nibabels_logger_alone(tmp_path):
    volume, _ = stored((0, 1, 2), (1, 1, 1))
    nibabel.save(nibabel.Nifti1Image(volume.data, volume.affine), tmp_path / "x.nii.gz")
    before = nibabel.imageglobals.logger.level
    nifti.read_volume(tmp_path / "x.nii.gz")
    assert nibabel.imageglobals.logger.level == before
