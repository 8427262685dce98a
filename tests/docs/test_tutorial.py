"""The tutorial runs from its text, on two hospitals of real anatomy, and ends where it says: with an edited
scan that lies on the scan itself."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from mssg import assets
from mssg.data.nifti import read_slice, read_volume, to_ras
from mssg.data.plane import PlaneGrid, sample_plane
from mssg.data.table import read_table
from tests.docs.example_scans import write_hospitals, write_table
from trainer_cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = (ROOT / "docs/guide/tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (mssg.*)$", TUTORIAL, re.MULTILINE)
WINDOWS = ("mssg watch", "mssg explore")
"""What opens a window; tests/gui opens them."""
SHORTER = {
    "mssg-train": "--kimg 0.064 --set channel_base=256 --set tick_kimg=0.064 --set snap=1",
    "mssg evaluate": "--metrics control,kid --images 16 --control-images 10",
    "mssg invert": "--steps 12",
}
"""What is made shorter, and nothing else is changed. These numbers show that the path can be walked."""


def walk(page: str, commands: list[str], folder: Path) -> None:
    """Write a page's study into a folder and run its commands there, but for those that open a window."""
    study = re.search(r"```toml\n(.*?)```", page, re.DOTALL)[1]
    (folder / "study.toml").write_text(study, encoding="utf-8")
    for line in commands:
        if line.startswith(WINDOWS):
            continue
        name = next((name for name in SHORTER if line.startswith(name)), "")
        words = shlex.split(line + " " + SHORTER.get(name, ""))
        words = words[1:] if words[0] == "mssg" else [words[0].removeprefix("mssg-"), *words[1:]]
        command = [sys.executable, "-m", "trainer_cli", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_the_readme_shows_the_same_path():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Your first study\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)[1]
    shown = re.findall(r"^    (mssg.*?)(?:\s+#.*)?$", section, re.MULTILINE)
    assert len(shown) > 6 and shown == [line for line in COMMANDS if line in shown]
    blocks = [re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1] for text in (section, TUTORIAL)]
    assert tomllib.loads(blocks[0]) == tomllib.loads(blocks[1])


@pytest.mark.slow
def test_every_command_of_the_tutorial_runs_from_its_text(tmp_path):
    write_hospitals(tmp_path, 24)
    assert len(COMMANDS) == 14 and sum(line.startswith(WINDOWS) for line in COMMANDS) == 2
    walk(TUTORIAL, COMMANDS, tmp_path)
    for name in (
        "data/a-report/sheet-001.png",
        "covariates/pairs.png",
        "report.html",
        "grid.png",
        "strips.png",
    ):
        assert (tmp_path / name).stat().st_size > 1000, name
    check_overlay(tmp_path)


@pytest.mark.slow
def test_a_freesurfer_folder_is_read_as_the_tutorial_says(tmp_path):
    """Volumes come from the segmentation, in ml."""
    line = re.search(r"`(mssg prepare mri people\.csv .*?)`", TUTORIAL)[1]
    write_table(tmp_path, np.load(assets.path("brain/colin27.npz"))["t1"].astype(np.float32), 3)
    rows = ["path,subject,age"]
    for number in (1, 2, 3):
        scan, mri = tmp_path / f"scans/00{number}.mgz", tmp_path / f"subjects/00{number}/mri"
        mri.mkdir(parents=True)
        scan.rename(mri / "orig.mgz")
        image = nibabel.load(mri / "orig.mgz")
        labels = np.zeros(image.shape, np.int32)
        labels[20:24, 30:36, 28:34] = 4
        labels[30:34, 30:36, 28 : 28 + number] = 43
        nibabel.MGHImage(labels, image.affine).to_filename(mri / "aseg.mgz")
        rows.append(f"00{number}/mri/orig.mgz,00{number},{60 + number}")
    (tmp_path / "people.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    words = shlex.split(line.replace("$SUBJECTS_DIR", str(tmp_path / "subjects")))
    words[words.index("people.csv")], words[-1] = str(tmp_path / "people.csv"), str(tmp_path / "data")
    done = CliRunner().invoke(cli, words[1:])
    assert done.exit_code == 0, done.output
    found = read_table(tmp_path / "data/csv/table.csv")
    wanted = [(4 * 6 * 6 + 4 * 6 * number) * 27 / 1000 for number in (1, 2, 3)]
    np.testing.assert_allclose([float(text) for text in found["ventricle"]], wanted, rtol=1e-5)


def check_overlay(folder: Path) -> None:
    """The cut shows what the scan has at the same millimetres, and nowhere else so well; the edit lies there
    too."""
    scan = read_volume(folder / "new/scans/001.mgz")
    cut = nibabel.load(folder / "new-data/new-slices/scans_001_brain.nii.gz")
    edited = nibabel.load(folder / "older.nii.gz")
    np.testing.assert_allclose(edited.affine, cut.affine, atol=1e-4)
    assert edited.header["sform_code"] == edited.header["qform_code"] == 1
    slice_ = to_ras(read_slice(folder / "new-data/new-slices/scans_001_brain.nii.gz"))
    picture = slice_.data[:, 0, ::-1].T.astype(float)
    centre = slice_.affine @ [31.5, 0, 31.5, 1]
    alike = {}
    for shift in (-2, -1, 0, 1, 2):
        for axis in range(3):
            x, y, z = centre[:3] + shift * 3.5 * np.eye(3)[axis]
            there, _ = sample_plane(scan, PlaneGrid("coronal", y, 3.5, 64, (x, z)))
            alike[shift, axis] = np.corrcoef(picture.ravel(), there.ravel())[0, 1]
    best = max(alike, key=alike.__getitem__)
    assert best[0] == 0 and alike[best] > 0.98, alike
