"""mssg prepare fundus: photographs are trimmed, squared, turned to one side and resized; damaged ones have
their reason."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mssg import load_study
from mssg.data.dataset import open_sources
from mssg.data.recipes import fundus
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.errors import DataError, UsageError
from tests.data.stand_ins import eye, eyepacs, write_rows
from tests.data.test_mri_recipe import reasons
from trainer_cli import main as entry


def photographs(root, count=8):
    """A table of photographs of both eyes."""
    rows = []
    for number in range(count):
        side = ("left", "right")[number % 2]
        eye(root / f"{number}.jpg", side, number)
        rows.append({"path": f"{number}.jpg", "subject": number // 2, "side": side, "grade": number % 3})
    return write_rows(root / "table.csv", rows)


def prepare(path, out, **options):
    request = PrepareRequest(path, out, covariates=["grade=categorical:0,1,2"])
    return fundus.prepare(request, fundus.PhotoOptions(resolution=32, **options))


def test_trimming_finds_the_eye_and_keeps_its_shape():
    photo = np.zeros((60, 100, 3), np.uint8)
    y, x = np.mgrid[:60, :100]
    photo[np.hypot(y - 30, x - 60) < 25] = 180
    photo[0, 3] = 255  # a hot pixel is no eye
    cut = fundus.trimmed(photo)
    assert abs(cut.shape[0] - 49) <= 2 and abs(cut.shape[1] - 49) <= 2
    square = fundus.padded(photo[:, 20:])
    assert square.shape == (80, 80, 3) and square.sum() == photo[:, 20:].sum()
    assert fundus.padded(photo[:, :61]).shape == (61, 61, 3)
    with pytest.raises(DataError, match="black"):
        fundus.trimmed(np.full((20, 20, 3), 8, np.uint8))


def test_resizing_does_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    small = fundus.resized(stripes, 32).astype(float)
    assert small.mean() == pytest.approx(127.5, abs=2) and small[2:-2, 2:-2].std() < 2


def test_left_eyes_are_mirrored_once(tmp_path):
    summary = prepare(photographs(tmp_path), tmp_path / "out")
    (source,) = open_sources(load_study(summary.study), verify=True)
    assert source.images.shape == (8, 3, 32, 32) and load_study(summary.study).channels == 3
    assert source.table["flipped"].tolist() == [1.0, 0.0] * 4
    spots = source.images[:, 2].astype(float).mean(1)
    assert (spots[:, 16:].max(1) > spots[:, :16].max(1)).all()
    for subject in set(source.subjects):
        assert len(set(source.split[source.subjects == subject])) == 1
    untouched = prepare(tmp_path / "table.csv", tmp_path / "none", flip="none")
    (source,) = open_sources(load_study(untouched.study))
    spots = source.images[:, 2].astype(float).mean(1)
    assert (spots[::2, :16].max(1) > spots[::2, 16:].max(1)).all()


def test_damaged_photographs_have_their_reason(tmp_path):
    path = photographs(tmp_path)
    whole = (tmp_path / "0.jpg").read_bytes()
    (tmp_path / "0.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "1.jpg").write_bytes(b"GIF89a")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "2.jpg")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "3.png")
    (tmp_path / "3.jpg").write_bytes((tmp_path / "3.png").read_bytes())
    (tmp_path / "4.jpg").unlink()
    got = reasons(prepare(path, tmp_path / "out"))
    for name, said in (
        ("0", "cannot be read"),
        ("1", "cannot be read"),
        ("2", "black"),
        ("3", "colour mode"),
        ("4", "no such file"),
    ):
        assert said in got[f"{name}.jpg"], got
    assert len(got) == 5


def test_wrong_options_and_the_command(tmp_path):
    path = photographs(tmp_path)
    for wrong in ({"flip": "up"}, {"balance": ("grade", 1.5)}, {"balance": ("colour", 0.5)}):
        with pytest.raises(UsageError):
            prepare(path, tmp_path / "out", **wrong)
    eyepacs(tmp_path / "eyepacs")
    words = [
        "prepare",
        "fundus",
        tmp_path / "eyepacs",
        "--cohort",
        "eyepacs",
        "--variant",
        "diseased",
        "--workers",
        "1",
    ]
    words += [
        "--resolution",
        "32",
        "--balance",
        "retinopathy=0.45",
        "--study",
        "ukb-rfmid-eyepacs",
        "--out",
        tmp_path / "p",
    ]
    result = CliRunner().invoke(entry.cli, list(map(str, words)))
    assert result.exit_code == 0, (result.output, result.exception)
    assert "balance" in result.stdout and (tmp_path / "p/study-ukb-rfmid-eyepacs.toml").is_file()
    words[words.index("retinopathy=0.45")] = "retinopathy"
    assert "not a share" in CliRunner().invoke(entry.cli, list(map(str, words))).stderr
