"""One namespace for covariates and a table's own columns; one parser of numbers, ranges and missing codes."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from mssg import load_study
from mssg.data.cohort_map import load_cohort
from mssg.data.covariate_options import parse_covariate
from mssg.data.dataset import open_sources
from mssg.data.recipes import mri, stylegan
from mssg.data.recipes.cohort_selection import PrepareRequest
from mssg.data.split import Shares
from mssg.errors import MssgError, StudyError, UsageError
from mssg.study.cells import parse_number, same_value, top_coded
from mssg.study.covariate import RESERVED, Covariate
from mssg.study.schema import from_document
from tests.data.stand_ins import head, paths_table, save_volume, write_rows

SMALL = mri.SliceOptions(resolution=32)


def prepared(path, out, **further):
    """Rows of the prepared table, and reasons by file."""
    summary = mri.prepare(PrepareRequest(path, out, **further), SMALL)
    with (summary.report / "skipped.csv").open(newline="", encoding="utf-8") as file:
        reasons = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    (source,) = open_sources(load_study(summary.study), verify=True)
    return source, reasons


@pytest.mark.parametrize("name", RESERVED)
def test_names_of_the_table_s_own_columns_are_refused_everywhere(name, tmp_path):
    path = tmp_path / "map.toml"
    path.write_text(
        'name = "x"\nkind = "mri"\n[files]\ncolumn = "path"\n'
        f'[covariates.{name}]\ncolumn = "x"\nkind = "continuous"\n',
        encoding="utf-8",
    )
    document = {
        "name": "x",
        "image": {"resolution": 32},
        "covariates": {name: {"kind": "continuous"}},
        "sources": [{"name": "a", "path": "a", "observes": [name]}],
    }
    for attempt in (
        lambda: parse_covariate(f"{name}@x=continuous"),
        lambda: stylegan.prepare(tmp_path, tmp_path / "out", [f"{name}=continuous"]),
        lambda: load_cohort(path),
        lambda: from_document(document),
    ):
        with pytest.raises(MssgError, match="reserved for the table's own columns") as caught:
            attempt()
        assert all(word in str(caught.value) for word in RESERVED)


def test_every_column_that_a_recipe_writes_is_reserved(tmp_path):
    source, _ = prepared(paths_table(tmp_path), tmp_path / "out", covariates=["age=continuous:years"])
    assert set(source.table) - {"age"} <= set(RESERVED)


@pytest.mark.parametrize(
    "text, value",
    [("12", 12), (" -.5 ", -0.5), ("3e1", 30), ("\N{MINUS SIGN}4", -4), ("+1.", 1), ("1E-2", 0.01)],
)
def test_numbers(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["inf", "1e999", "nan", "1_000", "1,5", "0x10", "", "six", "1 2", "٣"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError, match="finite number"):
        parse_number(text)


def test_levels_are_found_as_other_programs_write_them():
    stage = Covariate("stage", "categorical", levels=("0", "0.5", "1", "NA"))
    assert [stage.parse(t) for t in ("1.00", ".50", "0.0", "NA")] == [2, 1, 0, 3]
    assert math.isnan(stage.parse("n/a")) and math.isnan(Covariate("x", "binary").parse("NA"))
    sex = Covariate("sex", "binary")
    assert [sex.parse(t) for t in ("1.00", "0", "Yes", "no", "TRUE", "false")] == [1, 0, 1, 0, 1, 0]
    assert same_value("1.00", "1") and not same_value("1", "l")
    for covariate, text in ((stage, "2"), (sex, "2"), (sex, "10")):
        with pytest.raises(UsageError):
            covariate.parse(text)


@pytest.mark.parametrize(
    "text, span",
    [
        ("0..3e1", (0, 30)),
        ("0..", (0, math.inf)),
        ("..100", (-math.inf, 100)),
        ("-5..5", (-5, 5)),
        ("years", (0, 120)),
        ("ml", None),
    ],
)
def test_ranges(text, span):
    assert parse_covariate(f"x=continuous:{text}").range == span


@pytest.mark.parametrize(
    "text",
    [
        "x=continuous:0,100",
        "x=continuous:1..x",
        "x=continuous:..",
        "x=continuous:9..3",
        "x=continuous:1.1.1..3",
        "x=continuous:ml:mg",
        "x=continuous:0..1:2..3",
        "x=continuous:100",
        "x=binary:F,F",
        "x=binary:1,1.0",
        "x=categorical:2,.5,0.50",
        "a\nb=binary",
        "x=binary:F,M:x",
        "x=binary:F",
        "x=categorical:a,,b",
        "x=categorical:1",
        "x=number",
        "x",
        "a  b=binary",
        "=binary",
    ],
)
def test_a_covariate_that_is_not_understood_is_refused(text):
    with pytest.raises(UsageError, match="--covariate"):
        parse_covariate(text)


@pytest.mark.parametrize("size", [math.nan, math.inf, 1e9, 1e-9, 0.0, -1.0])
def test_pixels_have_a_size(size, tmp_path):
    with pytest.raises(UsageError, match=r"--pixel-mm: not a size.*0\.02 to 50 mm"):
        mri.prepare(PrepareRequest(tmp_path, tmp_path / "out"), mri.SliceOptions(pixel_mm=size))


def test_shares_are_checked_before_the_work(tmp_path):
    with pytest.raises(UsageError, match="test: not a share"):
        mri.prepare(PrepareRequest(tmp_path / "none", tmp_path / "out", shares=Shares(test=math.nan)))


def test_one_parser_with_and_without_a_factor(tmp_path):
    """NA is missing, and what is not finite is no number, in a column with a factor as elsewhere."""
    rows = []
    for i, (volume, age) in enumerate(
        [("NA", "60"), ("31000", "NA"), ("inf", "60"), ("1e999", "60"), ("30000", "1e999"), ("29000", "61")]
    ):
        save_volume(tmp_path / f"{i}.nii.gz", head(60, 30, i))
        rows.append({"path": f"{i}.nii.gz", "subject": f"s{i}", "age": age, "vol": volume})
    path = write_rows(tmp_path / "t.csv", rows)
    cohort = tmp_path / "map.toml"
    cohort.write_text(
        'name = "m"\nkind = "mri"\n[files]\ncolumn = "path"\n[covariates.age]\ncolumn = "age"\n'
        'kind = "continuous"\n[covariates.volume]\ncolumn = "vol"\nfactor = 0.001\nkind = "continuous"\n',
        encoding="utf-8",
    )
    source, reasons = prepared(path, tmp_path / "out", cohort=cohort)
    assert set(reasons) == {"2.nii.gz", "3.nii.gz", "4.nii.gz"}
    assert all("not a finite number" in reason for reason in reasons.values())
    np.testing.assert_allclose(source.values, [[60, np.nan], [np.nan, 31], [61, 29]])


def test_missing_codes_from_the_command_line(tmp_path):
    rows = []
    for i, (age, score) in enumerate([(60, -4), (88, 3), (999, 5), (70, 88), (65, "-4.0")]):
        save_volume(tmp_path / f"{i}.nii.gz", head(60, 30, i))
        rows.append({"path": f"{i}.nii.gz", "subject": f"s{i}", "age": age, "score": score})
    path = write_rows(tmp_path / "t.csv", rows)
    ask = {"covariates": ["age=continuous:years", "score=continuous"]}
    source, reasons = prepared(path, tmp_path / "out", **ask, missing=["999,-4", "score=88"])
    assert not reasons
    np.testing.assert_array_equal(
        source.values, [[60, np.nan], [88, 3], [np.nan, 5], [70, np.nan], [65, np.nan]]
    )
    for wrong in (["height=1"], ["age="], ["1,,2"]):
        with pytest.raises(UsageError, match="--missing"):
            prepared(path, tmp_path / "out", **ask, missing=wrong)


@pytest.mark.parametrize("text, limit", [("89+", 89), ("> 89", 89), ("≥90", 90), (">=90", 90), ("90 +", 90)])
def test_top_coded_values(text, limit):
    assert top_coded(text) == limit
    assert top_coded(text.strip(" +>=≥")) is None


def test_ages_above_a_limit_are_taken_as_stated_or_left_out_with_that_reason(tmp_path):
    rows = []
    for i, age in enumerate(["60", "89+", "70", "90+"]):
        save_volume(tmp_path / f"{i}.nii.gz", head(60, 30, i))
        rows.append({"path": f"{i}.nii.gz", "subject": f"s{i}", "age": age})
    path, ask = write_rows(tmp_path / "t.csv", rows), {"covariates": ["age=continuous:years"]}
    source, reasons = prepared(path, tmp_path / "a", **ask)
    assert source.values.ravel().tolist() == [60, 70]
    assert "--top-coded keep" in reasons["1.nii.gz"] and "'90+'" in reasons["3.nii.gz"]
    source, reasons = prepared(path, tmp_path / "b", **ask, top_coded="keep")
    assert source.values.ravel().tolist() == [60, 89, 70, 90] and not reasons
    source, reasons = prepared(path, tmp_path / "c", **ask, top_coded="drop")
    assert len(source) == 2 and "as asked" in reasons["1.nii.gz"]
    with pytest.raises(UsageError, match="top-coded"):
        prepared(path, tmp_path / "d", **ask, top_coded="guess")


def test_a_covariate_is_named_once(tmp_path):
    path = paths_table(tmp_path)
    with pytest.raises(UsageError, match="given twice"):
        prepared(path, tmp_path / "out", covariates=["age=continuous", "age@sex=binary"])
    with pytest.raises(UsageError, match="measured on label maps"):
        request = PrepareRequest(path, tmp_path / "out", covariates=["ventricle=continuous:ml"])
        mri.prepare(request, mri.SliceOptions(resolution=32, labels="{stem}.nii"))
    with pytest.raises(UsageError, match="levels are not stated"):
        prepared(path, tmp_path / "out", covariates=["sex=categorical"])


def test_a_study_of_levels_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "x"\n[image]\nresolution = 32\n[covariates.age]\nkind = "continuous"\n'
        '[[sources]]\nname = "a"\npath = "a"\nobserves = ["age"]\n',
        encoding="utf-8-sig",
    )
    assert load_study(path).name == "x"
    with pytest.raises(StudyError):
        load_study(tmp_path / "none.toml")
