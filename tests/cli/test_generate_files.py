"""mssg generate writes NIfTI that lies where the study says, with a sidecar that says everything, and PNG of
16 bits."""

import json

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mssg.checkpoint.snapshot import load_snapshot
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


def test_16_bits_hold_the_8_bit_picture(placed, tmp_path):
    for bits in (8, 16):
        assert run(placed, "--seed", 4, "--bits", bits, "-o", tmp_path / f"{bits}.png").exit_code == 0
    fine = np.asarray(Image.open(tmp_path / "16.png"))
    assert fine.dtype == np.uint16 and len(np.unique(fine)) > 256
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
