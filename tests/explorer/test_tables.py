"""Tables as CSV, and lists of conditions from one."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explorer_app import tables
from explorer_app.comparison import Part
from explorer_app.distribution import TrainingDistribution
from explorer_app.evaluation import StrataTable, StratumCell
from explorer_app.messages import Frame
from explorer_app.state import Mark
from mssg.checkpoint.header import read_header
from mssg.errors import DataError
from mssg.measure.own_error import OwnError
from mssg.rendering.request import RenderRequest


@pytest.fixture(scope="module")
def distribution(tiny_snapshot):
    return TrainingDistribution(read_header(tiny_snapshot))


@pytest.fixture
def base(distribution):
    values = tuple(distribution.defaults().items())
    return RenderRequest(distribution.path, seed=3, covariates=values)


def written(table, path: Path) -> list[dict[str, str]]:
    tables.save(path, table)
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_measured_values_stand_beside_what_was_asked(distribution, base, tmp_path):
    own = {"digits": {"thickness": OwnError("thickness", 10, mae=0.25, on="phantoms")}}
    read = {"digits": {"thickness": 3.0, "slant": math.nan}, "predictor": {"digit": 2.0}}
    rows = written(tables.of_measured(distribution.study, base, read, own), tmp_path / "m.csv")
    assert [(r["covariate"], r["instrument"]) for r in rows] == [
        ("thickness", "digits"),
        ("slant", "digits"),
        ("digit", "predictor"),
    ]
    asked = dict(base.covariates)["thickness"]
    assert float(rows[0]["asked"]) == asked and float(rows[0]["error"]) == 3.0 - asked
    assert (
        rows[0]["own_error"] == "0.25"
        and rows[1]["read"] == rows[1]["error"] == ""
        and rows[2]["read"] == "2"
    )
    assert {r["seed"] for r in rows} == {"3"}


def test_strata_keep_edges_counts_and_intervals(tmp_path):
    cells = (
        StratumCell((("age", (50.0, 60.0)),), 1.5, 20, 30, (1.0, 2.0), 0.5),
        StratumCell((("age", (60.0, 70.0)),), math.nan, 0),
    )
    rows = written(tables.of_strata(StrataTable("mae", "age", "", "", cells, "ml")), tmp_path / "s.csv")
    assert rows[0] == {
        "metric": "mae",
        "unit": "ml",
        "age_from": "50",
        "age_to": "60",
        "value": "1.5",
        "images": "20",
        "real_images": "30",
        "ci95_low": "1",
        "ci95_high": "2",
        "real_floor": "0.5",
    }
    assert rows[1]["value"] == rows[1]["real_images"] == "" and rows[1]["images"] == "0"


def test_a_response_is_a_row_for_each_picture_that_was_read(distribution, base, tmp_path):
    covariate = distribution.study.covariate("thickness")
    read = [(base, 3.5), (replace(base, seed=4), None), (replace(base, seed=5), math.nan)]
    rows = written(tables.of_response(covariate, "digits", read), tmp_path / "r.csv")
    assert [(r["seed"], r["read"], r["unit"]) for r in rows] == [("3", "3.5", "px"), ("5", "", "px")]
    assert float(rows[0]["asked"]) == dict(base.covariates)["thickness"]


def test_marks_are_a_row_for_each_picture(tmp_path):
    image = np.full((4, 4), 7, np.float32)
    parts = [Part(RenderRequest(), image, label="now"), Part(RenderRequest(), image + 1, label="pin 1")]
    marks = (Mark("rectangle", (0, 0), (1, 1)), Mark("distance", (0, 0), (1, 0)))
    rows = written(tables.of_marks(marks, parts), tmp_path / "k.csv")
    assert [(r["mark"], r["picture"], r["mean"], r["length"]) for r in rows] == [
        ("1", "now", "7", ""),
        ("1", "pin 1", "8", ""),
        ("2", "now", "", "4"),
        ("2", "pin 1", "", "4"),
    ]


def test_a_list_states_what_it_states_and_keeps_the_rest(distribution, base, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("name,thickness,digit,seed\nthin,2.5,1,\nthick,4.5,2,9\n")
    (first, thin), (second, thick) = tables.read_conditions(path, distribution.study, base)
    assert (first, second) == ("thin", "thick") and (thin.seed, thick.seed) == (3, 9)
    assert dict(thin.covariates) == dict(base.covariates) | {"thickness": 2.5, "digit": 1.0}
    path.write_text("slant\n5\n-5\n")
    assert [name for name, _ in tables.read_conditions(path, distribution.study, base)] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shoe\n3\n", "no such covariate.*Found shoe"),
        ("thickness\nthick\n", "line 2, thickness"),
        ("thickness\n\n", "wrong number of cells|line 2, thickness|missing"),
        ("digit\n7\n", "line 2, digit"),
        ("thickness,seed\n3,first\n", "not a seed.*line 2, seed|line 2, seed"),
        ("thickness\n", "0 rows"),
        ("", "is empty"),
    ],
)
def test_a_list_that_makes_no_sense_names_the_line(distribution, base, tmp_path, text, told):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        tables.read_conditions(path, distribution.study, base)
    import re

    assert re.search(told, str(caught.value)), str(caught.value)


def test_the_table_of_a_list_holds_files_values_and_readings(distribution, base, tmp_path):
    frames = [
        Frame(base, np.zeros((2, 2)), measured={"digits": {"thickness": 3.25}}),
        Frame(replace(base, seed=4), np.zeros((2, 2)), measured={}),
    ]
    table = tables.of_pictures(
        distribution.study, ("a", "b"), (Path("x-0001.png"), Path("x-0002.png")), frames
    )
    rows = written(table, tmp_path / "p.csv")
    assert rows[0]["file"] == "x-0001.png" and rows[0]["digits:thickness"] == "3.25"
    assert (
        rows[1]["digits:thickness"] == "" and rows[1]["seed"] == "4" and rows[1]["digit"] == rows[0]["digit"]
    )
