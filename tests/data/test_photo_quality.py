"""Photographs of the fundus are judged: field, focus, light, and the eye they look like; a stated side is
never contradicted in silence."""

import csv

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mssg.data.photo_quality import judge_photo
from mssg.data.recipes import fundus
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.data.recipes.eye_phantom_anatomy import draw_eye
from mssg.data.recipes.eye_phantom_camera import CAMERAS, photograph
from mssg.errors import DataError
from mssg.inversion.image_reader import read_picture
from mssg.study.model import Photograph, Study
from tests.data.stand_ins import write_rows


def phantom(seed: int) -> tuple[Image.Image, str]:
    """A phantom's photograph at 256 pixels, and its side."""
    rng = np.random.default_rng(seed)
    eye = draw_eye(rng)
    pixels = photograph(rng, eye, CAMERAS[seed % 2], 256).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels)), "right" if eye.right else "left"


def judged(image: Image.Image):
    return judge_photo(np.asarray(image))


def test_phantoms_of_both_cameras_can_be_graded_and_show_their_side():
    sides = []
    for seed in range(20):
        image, side = phantom(seed)
        found = judged(image)
        assert not found.reason
        sides.append(found.disc_side == side)
        assert found.disc_side in (side, "")
    assert np.mean(sides) > 0.9


def test_a_real_photograph_is_the_left_eye_it_is_called():
    data = pytest.importorskip("skimage.data")
    real = Image.fromarray(data.retina())
    found = judged(real)
    assert not found.reason and found.disc_side == "left"
    assert found.doubt("left") == "" and "right eye by its table" in found.doubt("right")
    assert judged(real.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).disc_side == "right"
    assert judged(real.filter(ImageFilter.GaussianBlur(40))).reason.startswith("out of focus")


@pytest.mark.parametrize(
    ("change", "word"),
    [(lambda v: v * 0.15, "too dark"), (lambda v: min(255, v * 9 + 120), "overexposed")],
    ids=["dark", "white"],
)
def test_what_cannot_be_graded_says_why(change, word):
    image, _ = phantom(1)
    field = np.asarray(image).max(2) > 40
    wrong = np.asarray(image.point(change)) * field[..., None].astype(np.uint8)
    wrong = np.maximum(wrong, (field * 14).astype(np.uint8)[..., None])
    assert word in judge_photo(wrong).reason


def test_noise_and_letters_are_no_fundus():
    page = np.zeros((300, 300, 3), np.uint8)
    page[20:40, 20:280] = 255
    assert "no field" in judge_photo(page).reason
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert judge_photo(noise).disc_side == ""


def test_contradictions_are_listed_and_the_ungradable_left_out(tmp_path):
    rows = []
    for number in range(6):
        image, side = phantom(40 + number)
        if number == 0:
            side = {"left": "right", "right": "left"}[side]
        if number == 1:
            image = image.point(lambda v: v * 0.1)
        image.save(tmp_path / f"{number}.png")
        rows.append({"path": f"{number}.png", "subject": number, "side": side, "age": 50 + number})
    table = write_rows(tmp_path / "table.csv", rows)
    request = PrepareRequest(table, tmp_path / "out", covariates=["age=continuous:years"])
    summary = fundus.prepare(request, fundus.PhotoOptions(resolution=32))
    with (summary.report / "qc.csv").open() as file:
        lines = {line["file"]: line for line in csv.DictReader(file)}
    assert "by its optic disc" in lines["0.png"]["doubt"] and lines["0.png"]["decision"] == "keep"
    assert all(not lines[f"{n}.png"]["doubt"] for n in range(2, 6))
    assert next(iter(lines)) == "0.png"  # doubtful ones are shown first
    assert any("1 pictures are the" in note or "1 picture" in note for note in summary.notes)
    reasons = (summary.report / "skipped.csv").read_text()
    assert "1.png" in reasons and ("dark" in reasons or "no field" in reasons)
    assert float(lines["3.png"]["focus"]) > 0.1


def test_a_photograph_of_any_size_becomes_a_picture_of_the_study(tmp_path):
    image, side = phantom(4)
    wide = Image.new("RGB", (420, 300))
    wide.paste(image, (60, 20))
    wide.save(tmp_path / "photo.png")
    eyes = {
        name: Study("eyes", 64, 3, (), (), photograph=Photograph(side=name)) for name in ("left", "right")
    }
    pictures = {name: read_picture(tmp_path / "photo.png", study) for name, study in eyes.items()}
    assert pictures["left"].shape == (3, 64, 64)
    mine = pictures[side].astype(float)
    assert (
        np.corrcoef(mine.ravel(), np.asarray(image.resize((64, 64))).transpose(2, 0, 1).ravel())[0, 1] > 0.98
    )
    assert np.array_equal(pictures["left"], pictures["right"][..., ::-1])  # mirrored to look alike
    with pytest.raises(DataError, match="another size"):
        read_picture(tmp_path / "photo.png", Study("other", 64, 3, (), ()))
