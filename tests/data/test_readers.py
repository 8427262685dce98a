"""One reader, one set of rules: what leaves something open is refused or stated, for every command alike."""

from __future__ import annotations

import csv
import gzip
import struct

import nibabel
import numpy as np
import pytest
from PIL import Image

from mssg import load_study
from mssg.data.dataset import open_sources
from mssg.data.label_maps import load_scheme
from mssg.data.nifti import VolumeRules, read_labels, read_mask, read_slice, read_space, read_volume
from mssg.data.picture_files import read_pixels
from mssg.data.plane import PlaneGrid, UsualSpace, slice_picture, to_image
from mssg.data.recipes import fundus, mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.errors import DataError
from mssg.inversion.image_reader import read_picture
from mssg.study.covariate import Covariate
from mssg.study.model import Geometry, Source, Study
from tests.data.stand_ins import head, save_volume, write_rows


def saved(path, data, affine=None, unit="mm"):
    """A NIfTI file."""
    image = nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(path)
    return path


def test_complex_and_coloured_voxels_have_no_grey_level(tmp_path):
    data = np.ones((4, 5, 6), np.complex64)
    with pytest.raises(DataError, match=r"complex64.*magnitude"):
        read_volume(saved(tmp_path / "c.nii", data))
    colours = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(DataError, match="complex or coloured"):
        read_volume(saved(tmp_path / "r.nii", colours))


@pytest.mark.parametrize(
    "unit, size, edge", [("mm", 2, 2), ("meter", 0.002, 2), ("micron", 1500, 1.5), ("unknown", 2, 2)]
)
def test_millimetres_whatever_the_unit(unit, size, edge, tmp_path):
    volume = read_volume(saved(tmp_path / "v.nii", head(60, 30), np.diag([size] * 3 + [1]), unit))
    assert np.linalg.norm(volume.affine[:3, :3], axis=0) == pytest.approx([edge] * 3, rel=1e-5)


@pytest.mark.parametrize("unit, size", [("meter", 1.0), ("micron", 1.0)])
def test_a_unit_that_cannot_be_is_named(unit, size, tmp_path):
    with pytest.raises(DataError, match=f"mm, from the unit {unit}"):
        read_volume(saved(tmp_path / "v.nii", head(60, 30), np.diag([size] * 3 + [1]), unit))


def test_a_unit_that_nifti_does_not_know_is_named(tmp_path):
    path = save_volume(tmp_path / "a.nii", head(60, 30))
    content = bytearray(path.read_bytes())
    content[123] = 7
    path.write_bytes(content)
    with pytest.raises(DataError, match="xyzt_units 7 is no unit"):
        read_volume(path)


def test_two_orientations_that_are_mirror_images_are_refused(tmp_path):
    image = nibabel.load(save_volume(tmp_path / "a.nii", head(60, 30)))
    turned = image.affine @ np.diag([-1, -1, 1, 1])  # a rotation: qform and sform differ, left stays left
    for name, qform, refused in (("turned", turned, False), ("mirrored", image.affine * [-1, 1, 1, 1], True)):
        other = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine)
        other.set_sform(image.affine, 1)
        other.set_qform(qform, 1)
        other.to_filename(tmp_path / f"{name}.nii")
        if refused:
            with pytest.raises(DataError, match="two orientations that are mirror images"):
                read_space(tmp_path / f"{name}.nii")
        else:
            assert np.allclose(read_volume(tmp_path / f"{name}.nii").affine, image.affine)


def test_data_that_begin_in_the_header_are_refused(tmp_path):
    path = saved(tmp_path / "v.nii", head(60, 30))
    raw = bytearray(path.read_bytes())
    raw[108:112] = struct.pack("<f", 0)
    path.write_bytes(raw)
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    for name in ("v.nii", "v.nii.gz"):
        with pytest.raises(DataError, match=r"vox_offset: its data begin inside its header\. Found 0"):
            read_volume(tmp_path / name)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # nibabel leaves .mgh open
@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_an_mgh_volume_that_states_no_orientation_is_refused_as_a_nifti_is(suffix, tmp_path):
    path = tmp_path / f"v{suffix}"
    nibabel.MGHImage(head(60, 30), np.diag([-2.0, 2, 2, 1])).to_filename(path)
    assert read_volume(path).affine[0, 0] == -2
    compressed = suffix == ".mgz"
    raw = bytearray(gzip.decompress(path.read_bytes()) if compressed else path.read_bytes())
    for flag in (0, -1):
        raw[28:30] = struct.pack(">h", flag)
        path.write_bytes(gzip.compress(bytes(raw)) if compressed else bytes(raw))
        with pytest.raises(DataError, match="goodRASFlag: states no orientation"):
            read_volume(path)
        assert read_volume(path, VolumeRules(assume_las=True)).data.shape == (20, 24, 22)


def test_masks(tmp_path):
    """0 and one value, or probabilities; nothing else passes for a mask."""
    ball = (head(60, 30) > 200).astype(np.float32)
    for factor in (1, 255):
        assert np.array_equal(read_mask(saved(tmp_path / "m.nii", ball * factor)).data, ball)
    soft = np.where(ball > 0, 0.8, 0.3).astype(np.float32)
    assert np.array_equal(read_mask(saved(tmp_path / "p.nii", soft)).data, ball)
    hole = ball.copy()
    hole[0, 0, 0] = np.nan
    path = saved(tmp_path / "nan.nii", hole)
    assert read_mask(path, VolumeRules(nan_as_zero=True)).data.sum() == ball.sum()
    for wrong, said in (
        (ball * np.arange(20)[:, None, None], "several values"),
        (-ball, "values from -1"),
        (ball * 0, "is no mask"),
        (hole, "not finite"),
    ):
        with pytest.raises(DataError, match=said):
            read_mask(saved(tmp_path / "w.nii", wrong.astype(np.float32)))


def test_labels(tmp_path):
    for wrong, said in ((-1, "values from -1"), (0.5, "not whole"), (np.nan, "not finite")):
        data = np.full((4, 5, 6), 3, np.float32)
        data[0, 0, 0] = wrong
        with pytest.raises(DataError, match=said):
            read_labels(saved(tmp_path / "l.nii", data))
    (tmp_path / "s.toml").write_text(
        'may_lack = ["lesion"]\n[structures]\nlesion = [3]\n', encoding="utf-8-sig"
    )
    assert load_scheme(str(tmp_path / "s.toml")).may_lack == ("lesion",)
    for text, said in (
        ("[structures]\nsplit = [3]\n", "reserved"),
        ('may_lack = ["x"]\n[structures]\nlesion = [3]\n', "x: the name is not one of its structures"),
        ("structures = 3\n", "label scheme"),
    ):
        (tmp_path / "s.toml").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=said):
            load_scheme(str(tmp_path / "s.toml"))


SMALL = mri.SliceOptions(resolution=32)


def prepared(rows, folder, options=SMALL):
    """What `mssg prepare mri` makes of volumes, and why it left some out."""
    path = write_rows(folder / "t.csv", rows)
    summary = mri.prepare(PrepareRequest(path, folder / "out", covariates=["age=continuous"]), options)
    with (summary.report / "skipped.csv").open(newline="", encoding="utf-8") as file:
        return summary, {row["file"]: row["reason"] for row in csv.DictReader(file)}


def test_nan_as_zero_reaches_masks_and_bias_fields(tmp_path):
    rows = []
    for i in range(3):
        data = head(60, 30, i)
        save_volume(tmp_path / f"{i}.nii", data)
        mask = (data > 200).astype(np.float32)
        mask[0, 0, 0] = np.nan if i else 0
        save_volume(tmp_path / f"{i}_mask.nii", mask)
        save_volume(tmp_path / f"{i}_bias.nii", np.where(np.isnan(mask), np.nan, 1.0).astype(np.float32))
        rows.append({"path": f"{i}.nii", "subject": f"s{i}", "age": 60 + i})
    options = {"resolution": 32, "mask": "{stem}_mask.nii", "bias_field": "{stem}_bias.nii"}
    summary, reasons = prepared(rows, tmp_path, mri.SliceOptions(**options))
    assert sum(summary.counts["csv"].values()) == 1 and "not finite" in reasons["1.nii"]
    summary, reasons = prepared(rows, tmp_path, mri.SliceOptions(**options, nan_as_zero=True))
    assert sum(summary.counts["csv"].values()) == 3 and not reasons


def test_one_scout_does_not_set_the_pixel_size_of_all(tmp_path):
    """78 volumes and four with slices 5 mm thick; and a scout with few of them."""
    usual = [((160, 240, 240), np.diag([1.0, 1, 1, 1]))] * 74
    thick = [((160, 240, 47), np.diag([1.0, 1, 5, 1]))] * 4
    space = UsualSpace.of([*thick, *usual], "coronal")
    assert space.pixel_mm(240) == 1.0 and space.pixel_mm(120) == 2.0
    assert not space.problem(*usual[0])
    assert space.problem(*thick[0]) == "voxels of 5 mm, where 1 mm are usual"
    assert "field of view of 512 mm" in space.problem((256, 256, 512), np.diag([1.0, 1, 1, 1]))
    assert "field of view of 40 mm" in space.problem((160, 240, 20), np.diag([1.0, 1, 2, 1]))
    rows = []
    for i in range(5):
        save_volume(tmp_path / f"{i}.nii", head(60, 30, i))
        rows.append({"path": f"{i}.nii", "subject": f"s{i}", "age": 60 + i})
    save_volume(tmp_path / "scout.nii", head(60, 30)[:, :, ::5], voxel=40.0)
    rows.insert(0, {"path": "scout.nii", "subject": "x", "age": 50})
    summary, reasons = prepared(rows, tmp_path)
    assert load_study(summary.study).geometry.pixel_mm == 8.0
    assert reasons == {"scout.nii": "voxels of 40 mm, where 8 mm are usual; --pixel-mm takes all"}
    assert summary.notes[0].startswith("pixels of 8 mm, pictures of 256 mm (usual: voxels of 8 mm")
    summary, reasons = prepared(rows, tmp_path, mri.SliceOptions(resolution=32, pixel_mm=8.0))
    assert not reasons and sum(summary.counts["csv"].values()) == 6


STUDY = Study(
    "x", 32, 1, (Covariate("age", "continuous"),), (Source("a", "a", ("age",)),), Geometry("coronal", 2.0)
)


def test_a_slice_comes_back_as_it_was_stored(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    for plane in ("coronal", "axial", "sagittal"):
        to_image(picture, PlaneGrid(plane, 5.0, 2.0, 32).place(1)).to_filename(tmp_path / "s.nii.gz")
        found, edges, back = slice_picture(read_slice(tmp_path / "s.nii.gz"))
        assert found == plane and edges == (2.0, 2.0) and np.array_equal(back, picture)


def test_invert_takes_slices_of_its_study_s_plane_and_pixels_alone(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8)
    path = tmp_path / "s.nii"

    def write(plane="coronal", pixel=2.0):
        to_image(picture, PlaneGrid(plane, 5.0, pixel, 32).place(1)).to_filename(path)

    write()
    assert np.array_equal(read_picture(path, STUDY)[0], picture)
    for change, said in (
        ({"plane": "axial"}, "another plane than the study's. Found axial. Expected coronal"),
        ({"plane": "sagittal"}, "sagittal"),
        ({"pixel": 1.0}, "Found 1 x 1 mm. Expected 2 mm"),
    ):
        write(**change)
        with pytest.raises(DataError, match=said):
            read_picture(path, STUDY)
    write()
    image = nibabel.load(path)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(path)
    with pytest.raises(DataError, match="states no orientation"):
        read_picture(path, STUDY)


def test_pictures_are_turned_as_exif_says_for_every_command(tmp_path):
    pixels = np.zeros((32, 32), np.uint8)
    pixels[0] = 200  # a bright first row …
    turned = Image.Exif()
    turned[274] = 6  # … of a camera held upright: it belongs at the right
    Image.fromarray(pixels).save(tmp_path / "t.jpg", quality=100, exif=turned)
    expected = np.rot90(pixels, -1)
    for read in (
        read_picture(tmp_path / "t.jpg", STUDY)[0],
        fundus.read_photo(tmp_path / "t.jpg")[..., 0],
        read_pixels(tmp_path / "t.jpg", tmp_path / "t.jpg"),
    ):
        assert np.abs(read.astype(int) - expected).max() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_black(mode, tmp_path):
    """A cut-out eye hides white under its transparency."""
    y, x = np.mgrid[:32, :32]
    inside = np.hypot(y - 16, x - 16) < 10
    if mode == "P":
        image = Image.fromarray(np.where(inside, 1, 0).astype(np.uint8), "P")
        image.putpalette([255, 255, 255, 150, 150, 150])
        image.save(tmp_path / "c.png", transparency=0)
    else:
        grey = np.where(inside, 150, 255).astype(np.uint8)
        layers = [grey] * (3 if mode == "RGBA" else 1) + [inside.astype(np.uint8) * 255]
        Image.fromarray(np.dstack(layers), mode).save(tmp_path / "c.png")
    expected = np.where(inside, 150, 0)
    photo = fundus.read_photo(tmp_path / "c.png")
    assert all(np.array_equal(photo[..., c], expected) for c in range(3))
    assert np.array_equal(read_picture(tmp_path / "c.png", STUDY)[0], expected)


@pytest.mark.parametrize(
    "text, side",
    [
        *((t, "left") for t in ("left", "Left", "L", "OS", "o.s.", "LE", " os ", "Left_Eye", "OG", "links")),
        *((t, "right") for t in ("right", "RIGHT", "R", "OD", "O.D.", "re", "right eye", "droite")),
        *((t, "none") for t in ("", "n/a", "NA", "nan")),
        ("1", None),
        ("both", None),
        ("lift", None),
    ],
)
def test_sides_of_eyes_as_the_profession_writes_them(text, side, tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[8:24, 8:24] = 100
    pixels[8:24, 8:12] = 250  # bright at the left, so that mirroring shows
    rows = []
    for i, eye in enumerate(("right", text)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append({"path": f"{i}.png", "subject": f"s{i}", "side": eye, "age": 60 + i})
    request = PrepareRequest(
        write_rows(tmp_path / "t.csv", rows), tmp_path / "out", covariates=["age=continuous"]
    )
    summary = fundus.prepare(request, fundus.PhotoOptions(32))
    (source,) = open_sources(load_study(summary.study))
    if side is None:
        reasons = (summary.report / "skipped.csv").read_text(encoding="utf-8")
        assert len(source) == 1 and f"side: {text!r} is not understood" in reasons
        return
    unstated = "1 of 2 photographs state no side: none of them is mirrored" in summary.notes
    assert unstated == (side == "none")
    left_edge = source.images[1, 0, 16, 2] > 200
    assert left_edge == (side != "left")
    assert str(source.table["side"][1]) == ("" if side == "none" else side)
