"""`mssg invert --out`: many images at once, resumed, each with what came of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mssg
from mssg.data.dataset import write_packed
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
