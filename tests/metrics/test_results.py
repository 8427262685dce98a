"""eval.json: what is written is read again, and strangers are refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from mssg.errors import DataError, UsageError
from mssg.metrics.results import REAL, Evaluation, ModelRecord, Note, Result

KID = Result("kid-a", 0.1, "digits", n=100, n_real=90, sd=0.01, features="a", source="A", real_floor=0.0)
STRATUM = Result(
    "strata/mae",
    2.5,
    "digits",
    n=500,
    ci95=(2.0, 3.0),
    instrument="oracle-digits",
    unit="°",
    stratum={"slant": [-3.0, 4.5], "digit": "3"},
    covariate="slant",
    reference="requested",
    detail={"requested_sd": 9.0},
)
WHOLE = Evaluation(
    "digits",
    "test",
    3,
    (ModelRecord("digits", "abc", "digits", 160.0, ("slant", "digit"), ("A", "B")),),
    (KID, STRATUM),
    (Note("fid-a", "few images"),),
    "mssg evaluate …",
    {"images": 100},
    {"mssg": "0"},
)


def test_round_trip(tmp_path):
    path = WHOLE.save(tmp_path / "new" / "eval.json")
    assert Evaluation.load(path) == WHOLE
    assert len([line for line in path.read_text().splitlines() if '"metric"' in line]) == 2


def test_undefined_numbers_become_null_and_numpy_numbers_plain(tmp_path):
    odd = Result("strata/pearson", math.nan, REAL, n=int(np.int64(3)), detail={"r": np.float64(math.inf)})
    document = json.loads(Evaluation("s", "test", 0, (), (odd,)).save(tmp_path / "e.json").read_text())
    assert document["results"][0]["value"] is None and document["results"][0]["detail"] == {"r": None}


def test_find_knows_any_features_and_refuses_unknown_fields():
    assert WHOLE.find(metric="kid-") == WHOLE.find(metric="kid-a") == (KID,)
    assert WHOLE.find(metric="kid") == () and WHOLE.find(covariate="slant", reference="real") == ()
    with pytest.raises(UsageError, match="feature"):
        WHOLE.find(feature="a")


def test_adding_replaces_what_is_about_the_same_and_keeps_the_rest():
    newer = Result("kid-a", 0.2, "digits", n=200, features="a", source="A")
    other = Result("kid-a", 0.3, "digits", n=200, features="a", source="B")
    more = WHOLE.add([newer, other], [Note("fid-a", "few images"), Note("x", "y")])
    assert [r.value for r in more.results] == [2.5, 0.2, 0.3] and len(more.notes) == 2


def test_a_later_evaluation_extends_an_earlier_one_of_the_same_data_only():
    from dataclasses import replace

    other = replace(WHOLE.models[0], label="A", snapshot="def")
    newer = replace(KID, value=0.2, model="A")
    later = Evaluation(
        "digits",
        "test",
        3,
        (other,),
        (newer,),
        (),
        "mssg later",
        {"images": 50, "features": None, "metrics": ["kid"]},
    )
    both = WHOLE.extended(later)
    assert [m.label for m in both.models] == ["digits", "A"] and both.results == (KID, STRATUM, newer)
    assert both.command == "mssg evaluate …\nmssg later" and both.extended(later).command == both.command
    assert both.options == {"images": 50, "metrics": ["kid"]}
    for change in (
        {"study": "brain"},
        {"split": "val"},
        {"seed": 4},
        {"models": (replace(other, label="digits"),)},
    ):
        with pytest.raises(UsageError, match="file"):
            WHOLE.extended(replace(later, **change))


@pytest.mark.parametrize(
    "bad",
    [
        {"value": "high"},
        {"value": True},
        {"n": "3"},
        {"ci95": [1]},
        {"ci95": ["a", "b"]},
        {"detail": [1]},
        {"detail": {"readings": 3}},
        {"detail": {"readings": [{"requested": 1}]}},
        {"stratum": 3},
        {"model": None},
        {"source": 3},
    ],
)
def test_results_of_a_wrong_kind_are_refused(tmp_path, bad):
    path = WHOLE.save(tmp_path / "eval.json")
    document = json.loads(path.read_text())
    document["results"][0] |= bad
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="damaged"):
        Evaluation.load(path)


def test_the_first_version_is_read_and_not_extended(tmp_path):
    path = WHOLE.save(tmp_path / "eval.json")
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 1'))
    old = Evaluation.load(path)
    assert old.results == WHOLE.results and old.to_json()["format_version"] == 1
    with pytest.raises(UsageError, match="another way"):
        old.extended(WHOLE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSON"),
        ("[]", "format version"),
        ('{"format_version": 3}', "Found 3"),
        ('{"format_version": 1, "models": [], "notes": []}', "damaged"),
        ('{"format_version": 1, "models": [], "notes": [], "results": [{"bad": 1}]}', "damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, message):
    path = tmp_path / "eval.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        Evaluation.load(path)
    with pytest.raises(DataError, match="mssg evaluate"):
        Evaluation.load(tmp_path / "none.json")


def test_reading_needs_no_torch():
    code = "import sys, mssg.metrics.results; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
