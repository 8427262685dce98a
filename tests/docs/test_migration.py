"""Every command of docs/guide/migration.md runs, in the page's order, on stand-ins of what it names."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from strokes import STUDY, draw_strokes, write_study

from mssg.metrics.results import Evaluation
from tests.checkpoint import test_official_pickles as pickles
from tests.data import stand_ins
from trainer_cli.main import cli

PAGE = Path(__file__).resolve().parents[2] / "docs/guide/migration.md"
SMALL = """
z_dim = 16
w_dim = 16
channel_base = 128
channel_max = 16
batch = 8
total_kimg = 1.0
tick_kimg = 0.49
snap = 1
grid_images = 4
metrics = []
"""
LESS = {
    "mssg prepare digits": "--limit 40",
    "mssg prepare mri": "--resolution 32 --pixel-mm 8",
    "mssg prepare fundus": "--resolution 32",
    "mssg invert": "--steps 2",
    "mssg evaluate": "--metrics fid,kid,is,pairs,strata,strata_kid,strata_fid,overall,control"
    " --images 24 --per-stratum 6 --by thickness --control-images 20 --leakage-images 10",
}
"""What makes a command small enough for a test."""
WINDOWS = ("mssg watch", "mssg explore")
"""Commands that open a window, tested elsewhere."""
COVARIATES = ("thickness", "slant", "digit")


def commands() -> list[str]:
    """Every whole command of the page, in order: one that says what it reads or where it writes."""
    found = re.findall(r"`((?:mssg|mssg-train|torchrun) [^`]+)`", PAGE.read_text(encoding="utf-8"))
    whole = re.compile(r" (-o|--out|--outdir) | study\.toml|\bRUN\b")
    return [line for line in found if whole.search(line) and not line.startswith(WINDOWS)]


@pytest.fixture
def place(tmp_path, monkeypatch, make_snapshot) -> Path:
    """The folder to work in: a study with its data, a real image, an archive, a network pickle, and a
    snapshot that is told the source."""
    told = 'preset = "cpu-demo"\ncondition_on_source = true'
    shutil.copy(
        make_snapshot(replace=(('preset = "cpu-demo"', told),), name="told-migration"),
        tmp_path / "TOLD.safetensors",
    )
    write_study(tmp_path, STUDY.replace('preset = "cpu-demo"', 'preset = "cpu-demo"' + SMALL))
    image = draw_strokes(*(np.array([v]) for v in (3.0, 150.0, 5.0, 1)))[0, 0]
    Image.fromarray(image).save(tmp_path / "image.png")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for i in range(20):
            archive.write(tmp_path / "image.png", f"00000/{i}.png")
        pairs = ", ".join(f'["00000/{i}.png", {{"age": {{"{i}": {50 + i}}}}}]' for i in range(20))
        archive.writestr("dataset.json", f'{{"labels": [{pairs}]}}')
    shutil.copy(pickles.GOLDEN / "official_stylegan2_32.pkl", tmp_path / "FILE.pkl")
    (tmp_path / "pickle.toml").write_text(pickles.STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stood_in(words: list[str]) -> list[str]:
    """A command with stand-ins for what it names; writes those of a cohort, with its tables."""
    if "--cohort" in words:
        cohort = words[words.index("--cohort") + 1]
        folder = Path(cohort, words[3])
        tables = getattr(stand_ins, cohort.replace("-", "_"))(folder)
        names = iter([folder.parent / words[i + 1] for i, word in enumerate(words) if word == "--table"])
        for table, name in zip(tables, names):
            shutil.copy(table, name)
        words = [
            str(folder.parent / word) if before == "--table" else word
            for before, word in zip(["", *words], words)
        ]
        return [*words[:3], str(folder), *words[4:-1], f"{cohort}/{words[-1]}"]
    if words[:2] == ["mssg", "import"]:
        words[words.index("study.toml")] = "pickle.toml"
    if "--per-source" in words:
        words[words.index("RUN")] = "TOLD.safetensors"
    free = itertools.cycle(COVARIATES)
    words = [re.sub(r"^NAME\b", lambda _: next(free), word).replace("VALUE", "1") for word in words]
    return ["FILE.safetensors" if word == "SNAPSHOT" else word for word in words]


def run(line: str) -> list[str]:
    """Run a command of the page; returns its words."""
    words = stood_in(shlex.split(line))
    start = next((start for start in LESS if line.startswith(start)), "")
    words[len(start.split()) : len(start.split())] = shlex.split(LESS.get(start, ""))
    if words[0] == "torchrun":
        words = [Path(sys.executable).with_name("torchrun").as_posix(), *words[1:]]
        words = [{"N": "1", "RUN": "RUN-distributed"}.get(word, word) for word in words]
        # torchrun looks for mssg-train as a shell does where the environment is active
        env = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return words
    arguments = words[1:] if words[0] == "mssg" else [words[0].removeprefix("mssg-"), *words[1:]]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, f"{line}\n{shlex.join(words)}\n{done.output}\n{done.exception!r}"
    return words


@pytest.mark.slow
def test_every_command_of_the_page_runs(place):
    lines = commands()
    assert len(lines) > 25 and {"import", "grid", "corners", "heatmap"} <= {
        w for x in lines for w in x.split()
    }
    for line in lines:
        words = run(line)
        for before, word in itertools.pairwise(words):
            if before in ("-o", "--out", "--outdir"):
                assert Path(word).exists(), line
    found = Evaluation.load("both.json")
    assert {r.model for r in found.find(metric="strata/mse_won")} == {"A", "B"}


def test_every_metric_that_the_page_names_is_one():
    from mssg.metrics.registry import all_metrics

    table = PAGE.read_text(encoding="utf-8").partition("## Evaluation")[2].partition("## Figures")[0]
    cells = [row.split("|")[2] for row in table.splitlines() if row.startswith("| `")]
    named = {word for cell in cells for word in re.findall(r"`([a-z_]+)`", cell)}
    kept = {name for name in named if not name.endswith("_won") and name not in ("joint", "lpips")}
    assert len(kept) > 8 and kept <= set(all_metrics())
