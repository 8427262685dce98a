"""mssg generate writes NIfTI that lies where the study says, with a sidecar that says everything, and PNG of
16 bits."""

import json
import shlex
import shutil

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import mssg
from mssg.checkpoint.snapshot import load_snapshot
from mssg.inversion.latent_file import InvertedImage
from mssg.rendering.image_files import to_grey
from mssg.rendering.renderer import Renderer
from mssg.rendering.request import RenderRequest
from trainer_cli import main as entry

GEOMETRY = (
    '[geometry]\nplane = "coronal"\npixel_mm = 2.5\naffine = "common"\nposition_mm = -18.0\ncentre_mm = [1.0,'
    " 5.0]\n[measure]"
)


def run(*words):
    return CliRunner().invoke(entry.cli, ["generate", *map(str, words)])


@pytest.fixture(scope="module")
def placed(make_snapshot):
    return make_snapshot(replace=(("[measure]", GEOMETRY),), name="placed")


def test_a_slice_lies_in_the_studys_space(placed, tmp_path):
    out = tmp_path / "one.nii.gz"
    result = run(placed, "--seed", 3, "--fix", "thickness=3", "--fix", "digit=2", "-o", out)
    assert result.exit_code == 0, result.output
    image, renderer = nibabel.load(out), Renderer(load_snapshot(placed))
    assert image.shape == (32, 1, 32) and nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-5)
    assert image.header["sform_code"] == image.header["qform_code"] > 0
    assert image.header.get_xyzt_units()[0] == "mm"
    request = RenderRequest(seed=3, covariates={"thickness": 3.0, "digit": 2.0})
    drawn = to_grey(renderer.render(request).image[None])
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, 0, ::-1].T, drawn[0, 0])
    top_left = (image.affine @ [0, 0, 31, 1])[:3]
    assert top_left == pytest.approx([1 - 15.5 * 2.5, -18, 5 + 15.5 * 2.5])
    about = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert about["Covariates"]["thickness"] == {"Units": "px", "Value": 3.0}
    assert about["Covariates"]["digit"]["Value"] == "2" and "slant" in about["Covariates"]
    assert about["Snapshot"]["Id"] == renderer.header.snapshot_id and about["Seed"] == 3
    assert about["GeneratedBy"][0]["Command"].startswith("mssg generate")
    assert not list(tmp_path.glob(".*"))


def test_a_sweep_is_the_fourth_axis(placed, tmp_path):
    out = tmp_path / "stack.nii"
    assert run(placed, "--sweep", "slant=-10:10:5", "-o", out).exit_code == 0
    image = nibabel.load(out)
    assert image.shape == (32, 1, 32, 5)
    assert image.header["toffset"] == -10 and image.header["pixdim"][4] == 5
    about = json.loads((tmp_path / "stack.json").read_text(encoding="utf-8"))
    assert about["Covariates"]["slant"]["Value"] == [-10, -5, 0, 5, 10]
    assert about["FourthAxis"] == {"Name": "slant", "Units": "°"}
    stack = np.asarray(image.dataobj)
    assert len({stack[..., i].tobytes() for i in range(5)}) == 5


def test_without_a_common_space_a_file_states_pixel_size_alone(make_snapshot, tmp_path):
    """Code 0, stored from right to left: what programs take such a file to be shows the same upright
    picture."""
    free = '[geometry]\nplane = "coronal"\npixel_mm = 2.5\n[measure]'
    snapshot = make_snapshot(replace=(("[measure]", free),), name="free")
    result = run(snapshot, "--seed", 3, "-o", tmp_path / "one.nii.gz")
    assert result.exit_code == 0 and "share no space" in result.stderr
    image, renderer = nibabel.load(tmp_path / "one.nii.gz"), Renderer(load_snapshot(snapshot))
    assert image.header["sform_code"] == image.header["qform_code"] == 0
    assert image.header.get_zooms() == pytest.approx((2.5, 2.5, 2.5))
    upright = nibabel.as_closest_canonical(image)
    np.testing.assert_allclose(upright.affine[:3, 3], [-15.5 * 2.5, 0, -15.5 * 2.5])
    drawn = to_grey(renderer.render(RenderRequest(seed=3)).image[None])
    np.testing.assert_array_equal(np.asarray(upright.dataobj)[:, 0, ::-1].T, drawn[0, 0])
    about = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert about["SpatialReference"] == "none: pixel size only"
    words = ["invert", tmp_path / "one.nii.gz", "--snapshot", snapshot, "-o", tmp_path / "w.safetensors"]
    words += ["--steps", "1", "--features", "none"]
    refused = CliRunner().invoke(entry.cli, [*map(str, words)])
    assert refused.exit_code == 2 and "--assume-las" in refused.stderr
    taken = CliRunner().invoke(entry.cli, [*map(str, words), "--assume-las"])
    assert taken.exit_code == 0, taken.output
    stored = InvertedImage.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(stored.image, np.rint(drawn[0]).astype(np.uint8))
    assert stored.place is None


@pytest.mark.parametrize("code", [1, 2, 4])
def test_an_edited_image_lies_where_the_image_does(make_snapshot, tmp_path, code):
    """The affine of the image that was inverted, an oblique one, and what it leads to."""
    free = '[geometry]\nplane = "coronal"\npixel_mm = 2.5\n[measure]'
    snapshot = make_snapshot(replace=(("[measure]", free),), name="free")
    c, s = np.cos(0.2), np.sin(0.2)
    affine = np.array(
        [[2.5, 0, 0, -31], [0, 2.5 * c, -2.5 * s, 17], [0, 2.5 * s, 2.5 * c, -60], [0, 0, 0, 1]]
    )
    pixels = np.random.default_rng(0).integers(0, 255, (32, 1, 32), np.uint8)
    flipped = nibabel.orientations.inv_ornt_aff([[0, -1], [1, 1], [2, 1]], pixels.shape)
    scan = nibabel.Nifti1Image(pixels[::-1], affine @ flipped)  # stored from right to left
    scan.set_sform(scan.affine, code)
    scan.set_qform(scan.affine, code)
    scan.to_filename(tmp_path / "scan.nii.gz")
    w, out = tmp_path / "w.safetensors", tmp_path / "edited.nii.gz"
    words = ["invert", tmp_path / "scan.nii.gz", "--snapshot", snapshot, "-o", w]
    words += ["--steps", "1", "--features", "none"]
    assert CliRunner().invoke(entry.cli, [*map(str, words)]).exit_code == 0
    done = run(snapshot, "--w", w, "--fix", "thickness=3", "-o", out)
    assert done.exit_code == 0 and "share no space" not in done.stderr, done.output
    edited = nibabel.load(out)
    np.testing.assert_allclose(edited.affine, affine, atol=1e-4)
    assert edited.header["sform_code"] == edited.header["qform_code"] == code
    model = mssg.load(snapshot)
    picture = model.invert(tmp_path / "scan.nii.gz", steps=1).draw(thickness=3)
    np.testing.assert_allclose(picture.to_nifti().affine, affine, atol=1e-4)
    (moved,) = nibabel.affines.apply_affine(edited.affine, [[0, 0, 31]])
    (there,) = nibabel.affines.apply_affine(scan.affine, [[31, 0, 31]])
    np.testing.assert_allclose(moved, there, atol=1e-4)


def test_a_space_with_a_name_is_stated(make_snapshot, tmp_path):
    named = GEOMETRY.replace("[measure]", 'space = "mni"\n[measure]')
    snapshot = make_snapshot(replace=(("[measure]", named),), name="mni")
    assert run(snapshot, "-o", tmp_path / "m.nii.gz").exit_code == 0
    assert nibabel.load(tmp_path / "m.nii.gz").header["sform_code"] == 4


def test_a_latent_is_drawn_with_the_snapshot_of_its_run_that_it_was_found_with(make_snapshot, tmp_path):
    """A run in training has written another snapshot since."""
    first, second = make_snapshot(name="first"), make_snapshot(cfg="stylegan3-t", name="second")
    run_folder, w = tmp_path / "runs/r", tmp_path / "w.safetensors"
    (run_folder / "snapshots").mkdir(parents=True)
    old, new = (run_folder / f"snapshots/00000{n}.safetensors" for n in (1, 2))
    shutil.copyfile(first, old)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8))
    words = ["invert", tmp_path / "x.npy", "--snapshot", run_folder, "-o", w, "--features", "none"]
    words = [*map(str, words), "--steps", "2"]
    assert CliRunner().invoke(entry.cli, words).exit_code == 0
    shutil.copyfile(second, new)
    assert run(run_folder, "--w", w, "--fix", "thickness=3", "-o", tmp_path / "a.png").exit_code == 0
    assert run(old, "--w", w, "--fix", "thickness=3", "-o", tmp_path / "b.png").exit_code == 0
    a, b = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "ab")
    np.testing.assert_array_equal(a, b)
    again = CliRunner().invoke(entry.cli, words)
    assert again.exit_code == 0, again.output  # goes on with what it was begun with
    refused = run(new, "--w", w, "--fix", "thickness=3", "-o", tmp_path / "c.png")
    assert refused.exit_code == 2 and "r/snapshots/000001.safetensors" in refused.stderr
    assert "000002.safetensors" in refused.stderr


def test_the_command_in_a_file_is_one_that_generate_takes(placed, tmp_path):
    assert run(placed, "--seed", 3, "-o", tmp_path / "one.nii.gz").exit_code == 0
    about = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    words = shlex.split(about["GeneratedBy"][0]["Command"])
    assert words[:2] == ["mssg", "generate"] and words[-1] == "FILE.nii.gz"
    words[-1] = str(tmp_path / "again.nii.gz")
    assert CliRunner().invoke(entry.cli, words[1:]).exit_code == 0
    one, again = (nibabel.load(tmp_path / f"{name}.nii.gz").get_fdata() for name in ("one", "again"))
    np.testing.assert_array_equal(one, again)


def test_16_bits_hold_the_8_bit_picture(placed, tmp_path):
    for bits in (8, 16):
        assert run(placed, "--seed", 4, "--bits", bits, "-o", tmp_path / f"{bits}.png").exit_code == 0
    fine = np.asarray(Image.open(tmp_path / "16.png"))
    assert fine.max() > 255 and len(np.unique(fine)) > 256
    np.testing.assert_array_equal(np.rint(fine / 257), np.asarray(Image.open(tmp_path / "8.png")))


def test_what_no_nifti_file_can_hold_is_refused(placed, tiny_snapshot, tmp_path):
    out = tmp_path / "x.nii.gz"
    for words, said in (
        ([tiny_snapshot], "no geometry"),
        ([placed, "--sweep", "slant=0,1", "--sweep", "digit"], "one thing"),
        ([placed, "--seed", "0-3", "--sweep", "digit"], "one thing"),
        ([placed, "--bits", "16"], "only a .png"),
    ):
        result = run(*words, "-o", out)
        assert result.exit_code == 2 and said in result.stderr and not out.exists()
