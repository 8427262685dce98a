"""The tutorial on fundus photographs runs from its text, on two clinics of phantoms."""

from __future__ import annotations

import re

import pytest

from mssg import load_study
from mssg.data.table import read_table
from tests.docs.example_photographs import write_clinics
from tests.docs.test_tutorial import ROOT, WINDOWS, walk

PAGE = (ROOT / "docs/guide/retina.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (mssg.*)$", PAGE, re.MULTILINE)


@pytest.mark.slow
def test_every_command_of_the_page_runs_from_its_text(tmp_path):
    write_clinics(tmp_path, 24)
    assert len(COMMANDS) == 9 and sum(line.startswith(WINDOWS) for line in COMMANDS) == 1
    walk(PAGE, COMMANDS, tmp_path)
    for name in ("data/a-report/sheet-001.png", "report.html", "grid.png", "synthetic/participants.tsv"):
        assert (tmp_path / name).stat().st_size > 300, name
    drafted = load_study(tmp_path / "data/a.toml")
    assert drafted.photograph.side == "right"  # left eyes were mirrored
    for clinic in "ab":
        quality = read_table(tmp_path / f"data/{clinic}-report/qc.csv")
        assert len(quality["doubt"]) > 20 and not any(quality["doubt"])
