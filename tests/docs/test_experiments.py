"""The commands of docs/guide/experiments.md run, section by section, on stand-ins of today's releases: from
`mssg prepare` to grids, heatmaps and tables, with no edit of a map."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from mssg.metrics.results import Evaluation
from tests.data import releases
from tests.data.test_cohorts import A_LITTLE, EXAMPLES, smaller
from trainer_cli.main import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "experiments.md"
PEOPLE = {"ukb-mri": {"subjects": 120}, "ukb-retina": {"subjects": 120}, "adni": {"subjects": 60}}
PEOPLE |= {"nacc": {"subjects": 60}, "rfmid": {"images": 30}, "eyepacs": {"patients": 90}}
SMALL = [f"--set {name}={value}" for name, value in A_LITTLE.items() if name not in ("cfg", "metrics")]
AFTER = {"ukb-adni-nacc": "ukb-adni"}
"""A section that goes on from another one's sources."""
LESS = {
    "mssg prepare mri": "--resolution 32 --pixel-mm 8",
    "mssg prepare fundus": "--resolution 32",
    "mssg-train": "--cfg stylegan2 --metrics none " + " ".join(SMALL),
    "mssg evaluate": "--metrics fid,kid,strata,overall,control --bins 2 --min-count 2 --images 24"
    " --per-stratum 6 --control-images 20",
}
"""What makes a command small enough for a test, written behind it."""


def sections() -> dict[str, list[str]]:
    """Study -> the commands of its section of the page."""
    parts = PAGE.read_text(encoding="utf-8").split("\n## ")
    found = {}
    for part in parts:
        lines = re.findall(r"^    (mssg\S* .+)$", part, re.MULTILINE)
        study = re.search(r"mssg prepare .* --study (\S+)", part)
        if study:
            found[study[1]] = lines
    return found


def run(line: str) -> list[str]:
    """Run a command on a stand-in; returns its words."""
    words = shlex.split(line)
    if "--cohort" in words:
        cohort = words[words.index("--cohort") + 1]
        folder = Path(cohort)
        if not folder.exists():
            tables = getattr(releases, cohort.replace("-", "_"))(folder / "release", **PEOPLE[cohort])
            names = [words[i + 1] for i, word in enumerate(words) if word == "--table"]
            assert len(names) == len(tables)
            for table, name in zip(tables, names):
                table.rename(folder / name)
        words = [
            str(folder / w) if before == "--table" else w for before, w in itertools.pairwise(["", *words])
        ]
        words[3] = str(folder / "release")
    start = next((start for start in LESS if line.startswith(start)), "")
    words += shlex.split(LESS.get(start, ""))
    arguments = words[1:] if words[0] == "mssg" else [words[0].removeprefix("mssg-"), *words[1:]]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, f"{line}\n{shlex.join(words)}\n{done.output}\n{done.exception!r}"
    if "--study" in words and words[1] == "prepare":
        smaller(Path(words[words.index("--out") + 1], f"study-{words[words.index('--study') + 1]}.toml"))
    return words


def test_every_study_of_the_paper_has_a_section():
    assert set(sections()) == set(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("study", EXAMPLES)
def test_commands_of_an_experiment_run(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = sections()
    earlier = (
        [line for line in page[AFTER[study]] if line.startswith("mssg prepare")] if study in AFTER else []
    )
    for line in [*earlier, *page[study]]:
        words = run(line)
        for before, word in itertools.pairwise(words):
            if before in ("-o", "--out", "--outdir"):
                assert Path(word).exists(), line
    for path in tmp_path.glob("*.json"):
        assert Evaluation.load(path).find(metric="strata/mae") or Evaluation.load(path).find(
            metric="strata/mse"
        )
