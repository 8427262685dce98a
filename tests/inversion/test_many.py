"""`mssg invert --out`: many images at once, resumed, each with what came of it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mssg
from mssg.data.dataset_writer import write_packed
from mssg.errors import DataError
from mssg.inversion.latent_file import InvertedImage
from trainer_cli.main import Refused


def invert(*words: str) -> None:
    from trainer_cli.main import cli

    options = ["--snapshot", "digits", "--steps", "3", "--device", "cpu"]
    cli.main(["invert", *words, *options], standalone_mode=False)


@pytest.fixture(scope="module")
def digits():
    return mssg.load("digits", device="cpu").draw(digit=["1", "2", "3"], seed=[1, 2, 3], thickness=3)


def test_a_folder_is_inverted_and_resumed_and_its_failures_are_told(digits, tmp_path):
    for i, picture in enumerate(digits):
        picture.save(tmp_path / "in" / f"p{i}" / "scan.png")
    Image.new("L", (8, 8)).save(tmp_path / "in" / "small.png")
    out = tmp_path / "out"
    invert(str(tmp_path / "in"), "--fix", "digit=2", "--out", str(out))
    rows = {row["name"]: row for row in csv.DictReader((out / "inversions.csv").read_text().splitlines())}
    assert set(rows) == {"p0_scan", "p1_scan", "p2_scan", "small"} and "size" in rows["small"]["flag"]
    assert rows["p1_scan"]["digit_from"] == "given" and rows["p1_scan"]["thickness_from"] == "oracle-digits"
    assert float(rows["p1_scan"]["error"]) > 0
    held = InvertedImage.load(out / "p1_scan.safetensors")
    np.testing.assert_array_equal(held.image[0], digits[1].array)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "p2_scan.safetensors").unlink()
    invert(str(tmp_path / "in"), "--fix", "digit=2", "--out", str(out))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(Refused, match="another inversion"):
        invert(str(tmp_path / "in"), "--fix", "digit=1", "--out", str(out))


def test_a_source_states_its_covariates_and_one_image_is_as_alone(digits, tmp_path):
    table = {"subject": list("abc"), "split": ["train"] * 3, "thickness": [3, "", 3], "digit": [1, 2, 3]}
    write_packed(tmp_path / "s", np.stack([p.array for p in digits])[:, None], table, {"recipe": "drawn"})
    invert(str(tmp_path / "s"), "--out", str(tmp_path / "out"))
    first = InvertedImage.load(tmp_path / "out/000000.safetensors")
    assert first.how["thickness"] == "given" and first.inversion.values[0, 3] == 1
    assert InvertedImage.load(tmp_path / "out/000001.safetensors").how["thickness"] == "oracle-digits"
    image = digits[0].save(tmp_path / "a.png")
    invert(str(image), "--fix", "thickness=3", "--fix", "digit=1", "-o", str(tmp_path / "alone.safetensors"))
    alone = InvertedImage.load(tmp_path / "alone.safetensors")
    np.testing.assert_allclose(first.inversion.z, alone.inversion.z, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.png", "b.png", "-o", "w.safetensors"], "where to write"),
        (["a.png"], "where to write"),
        (["a.png", "-o", "w.safetensors", "--out", "out"], "where to write"),
        (["none", "--out", "out"], "no image could be inverted"),
        (["empty", "--out", "out"], "no image found"),
    ],
)
def test_a_mistake_is_one_sentence(words, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises(Refused, match=told):
        invert(*words)


def test_whole_volumes_are_cut_as_prepare_cuts_them(tmp_path):
    """In a space of their own in the middle, in a common one at the study's place, in any storage order."""
    from mssg.data.recipes import mri
    from mssg.data.recipes.cohort_selection import PrepareRequest
    from mssg.inversion.image_reader import read_image
    from mssg.inversion.volume_slice import CuttingRules
    from tests.data.stand_ins import head, save_volume, write_rows

    rows = []
    for i, order in enumerate(("RAS", "PIL", "LAS")):
        data = np.kron(head(60, 20, i), np.ones((2, 2, 2), np.float32))[: 40 - i]
        save_volume(tmp_path / f"{i}.nii.gz", data, order, voxel=4.0)
        rows.append({"path": f"{i}.nii.gz", "subject": f"p{i}", "age": 60 + i})
    table = write_rows(tmp_path / "t.csv", rows)
    request = PrepareRequest(table, tmp_path / "out", covariates=["age=continuous:years"])
    for common in (False, True):
        options = mri.SliceOptions(resolution=32, pixel_mm=5.0, common_space=common)
        made = mri.prepare(replace(request, out=tmp_path / f"out-{common}"), options)
        study = mssg.load_study(made.study)
        images = np.load(tmp_path / f"out-{common}/csv/images.npy")
        for i, image in enumerate(images):
            picture, place = read_image(tmp_path / f"{i}.nii.gz", study)
            np.testing.assert_array_equal(picture, image)
            assert place.code == 2  # as the file says
    at = read_image(tmp_path / "0.nii.gz", study, CuttingRules(at_mm=-30.0))
    assert at[1].affine[1][3] == -30 and not np.array_equal(at[0], images[0])
    with pytest.raises(DataError, match="empty"):
        read_image(tmp_path / "0.nii.gz", study, CuttingRules(at_mm=900.0))
    with pytest.raises(DataError, match="how to cut"):
        read_image(tmp_path / "0.nii.gz", mssg.load("digits", device="cpu").study)


def test_volumes_in_a_folder(tmp_path):
    from tests.data.stand_ins import head, save_volume
    from trainer_cli.main import cli

    for i in range(2):
        data = np.kron(head(60, 20 + 10 * i, i), np.ones((4, 4, 4), np.float32))
        save_volume(tmp_path / "in" / f"sub-{i}_T1w.nii.gz", data, "LAS", voxel=2.0)
    words = ["--snapshot", "brain", "--steps", "2", "--device", "cpu", "--at", "-10"]
    cli.main(["invert", str(tmp_path / "in"), *words, "--out", str(tmp_path / "out")], standalone_mode=False)
    rows = list(csv.DictReader((tmp_path / "out/inversions.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["sub-0_T1w", "sub-1_T1w"] and all(row["error"] for row in rows)
    assert InvertedImage.load(tmp_path / "out/sub-0_T1w.safetensors").place.affine[1][3] == -10


def test_a_slice_of_whole_heads_states_its_place():
    from mssg.inversion.volume_slice import CuttingRules

    study = mssg.load("brain-heads", device="cpu").study
    assert CuttingRules(at_mm=-31.0, places=(-33.0, -30.0)).position(study) == {study.position: -30.0}
    assert CuttingRules(at_mm=-31.0).position(mssg.load("brain", device="cpu").study) == {}
