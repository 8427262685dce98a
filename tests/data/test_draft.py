"""A study to start from is written anew with its source, until somebody has edited it."""

from __future__ import annotations

import logging

import pytest

from mssg import load_study
from mssg.data.draft import write_draft
from mssg.data.recipes import mri
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.errors import warn_once
from tests.data.stand_ins import bids


@pytest.fixture(autouse=True)
def told_anew():
    warn_once.cache_clear()


def test_an_edited_study_outlives_another_prepare(tmp_path, caplog):
    root, study = bids(tmp_path / "b", 3), tmp_path / "out/bids.toml"
    small = mri.SliceOptions(resolution=32)
    mri.prepare(PrepareRequest(root, tmp_path / "out"), small)
    again = mri.prepare(PrepareRequest(root, tmp_path / "out", covariates=["site=categorical:x,y"]), small)
    assert "site" in load_study(again.study).condition_names and not caplog.records  # nobody had edited it
    edited = study.read_text(encoding="utf-8").replace('name = "bids"', 'name = "mine"', 1)
    study.write_text(edited, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        kept = mri.prepare(PrepareRequest(root, tmp_path / "out"), small)
    assert kept.study == study and study.read_text(encoding="utf-8") == edited
    assert "bids.toml was edited and stays" in caplog.text and "bids.draft.toml" in caplog.text
    assert load_study(tmp_path / "out/bids.draft.toml").name == "bids"


@pytest.mark.parametrize(
    "change", [lambda text: text + "# note\n", lambda text: text.partition("\n")[2] + "a = 1\n"]
)
def test_any_edit_counts_and_line_ends_do_not(change, tmp_path, caplog):
    path = tmp_path / "study.toml"
    write_draft(path, 'name = "a"\n')
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    write_draft(path, 'name = "b"\n')
    assert 'name = "b"' in path.read_text(encoding="utf-8") and not (tmp_path / "study.draft.toml").exists()
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    write_draft(path, 'name = "c"\n')
    assert 'name = "b"' in path.read_text(encoding="utf-8")
    assert 'name = "c"' in (tmp_path / "study.draft.toml").read_text(encoding="utf-8")
