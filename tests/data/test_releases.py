"""Every shipped map reads its cohort as it is released today, with no edit of the map."""

import numpy as np
import pytest

from mssg.data.cohort_map import load_cohort
from mssg.data.formula import Formula
from mssg.data.nifti import SUFFIXES as VOLUMES
from mssg.data.recipes import fundus
from mssg.data.recipes.cohort_selection import PrepareRequest, select_cohort
from mssg.errors import DataError, MssgError, UsageError
from tests.data import releases, stand_ins
from tests.data.stand_ins import person


def select(root, cohort, tables, kind="mri", **further):
    request = PrepareRequest(root, root / "out", cohort, tables=tables, **further)
    return select_cohort(request, kind, VOLUMES if kind == "mri" else fundus.SUFFIXES)


def column(selection, name):
    return np.array([record.values[name] for record in selection.records])


@pytest.mark.parametrize("exporter", releases.EXPORTERS)
def test_uk_biobank_in_every_spelling(exporter, tmp_path):
    tables = releases.ukb_mri(tmp_path, exporter, 6)
    for variant, factor, file in ((None, 1, "T1_unbiased_brain"), ("warped", 1.3, "T1_brain_to_MNI")):
        got = select(tmp_path, "ukb-mri", tables, variant=variant)
        assert len(got.records) == 6 and not got.left_out
        assert all(record.image.path.name == f"{file}.nii.gz" for record in got.records)
        np.testing.assert_allclose(column(got, "age"), [person(n)["age"] for n in range(6)])
        np.testing.assert_allclose(
            column(got, "ventricle"), [factor * person(n)["ventricle"] for n in range(6)]
        )
        assert column(got, "sex").tolist() == [0, 1] * 3
        assert any("warped non-linearly" in note for note in got.notes) is (variant == "warped")


def test_covariates_of_the_command_line_may_be_spelled_as_the_table_spells_them(tmp_path):
    tables = releases.ukb_mri(tmp_path, "dx", 3)
    got = select(
        tmp_path, "ukb-mri", tables, covariates=["mni_grey@participant.p25005_i2=continuous:ml*0.001"]
    )
    np.testing.assert_allclose(column(got, "mni_grey"), [800, 801, 802])


def test_two_columns_of_one_meaning_are_refused(tmp_path):
    tables = releases.ukb_mri(tmp_path, "rap", 2)
    text = tables[0].read_text().splitlines()
    tables[0].write_text(
        "\n".join(line + more for line, more in zip(text, (",21003-2.0", ",60", ",61"))) + "\n"
    )
    with pytest.raises(DataError, match="two columns mean the same") as caught:
        select(tmp_path, "ukb-mri", tables)
    assert "p21003_i2 and 21003-2.0" in str(caught.value)


@pytest.mark.parametrize("exporter", ["rap", "dx", "r", "stata"])
def test_uk_biobank_retina(exporter, tmp_path):
    tables = releases.ukb_retina(tmp_path, exporter, 6)
    got = select(tmp_path, "ukb-retina", tables, "fundus")
    assert len(got.records) == 14 and not got.left_out
    sides = [record.image.facts["side"] for record in got.records]
    first = [r for r, side in zip(got.records, sides) if side == "left"][1:]  # without its second photograph
    nan = np.nan
    np.testing.assert_array_equal([r.values["cataract"] for r in first], [0, 1, 1, 0, 0, nan])
    assert first[0].values["spherical_power"] == -1
    mean = select(
        tmp_path, "ukb-retina", tables, "fundus", readings="mean", only=("side=left", "array=first")
    )
    assert len(mean.records) == 6 and mean.records[0].values["spherical_power"] == -1.5
    assert {left.stage for left in mean.left_out} == {"only"} and len(mean.left_out) == 8


def test_only_what_names_say(tmp_path):
    tables = stand_ins.ukb_mri(tmp_path, 8)
    got = select(tmp_path, "ukb-mri", tables, only=["session=3"])
    assert [r.image.session for r in got.records] == ["3", "3"]
    got = select(tmp_path, "ukb-mri", tables, only=["session=first"])
    assert [r.image.session for r in got.records] == ["2"] * 8
    for wrong, said in (
        ("side=left", "nothing says this"),
        ("session=9", "no image is left"),
        ("session", "="),
    ):
        with pytest.raises(UsageError, match=said):
            select(tmp_path, "ukb-mri", tables, only=[wrong])


@pytest.mark.parametrize("tables", ["search", "merge"])
def test_adni(tables, tmp_path):
    got = select(tmp_path, "adni", releases.adni(tmp_path, 8, tables))
    assert len(got.records) == 10 and not got.left_out
    numbers = [int(r.image.subject[-4:]) - 300 for r in got.records]
    later = [int(r.image.session[1:]) >= 20500 for r in got.records]
    np.testing.assert_allclose(
        column(got, "age"), [person(n + 100)["age"] + y for n, y in zip(numbers, later)]
    )
    assert column(got, "sex").tolist() == [n % 2 for n in numbers]
    assert column(got, "cdr").tolist() == [[0, 1, 2, 2][n % 4] for n in numbers]
    np.testing.assert_allclose(column(got, "left_hippocampus"), [3 + n / 100 for n in numbers])
    np.testing.assert_allclose(column(got, "hippocampus"), [6.1 + 0.022 * n for n in numbers])
    np.testing.assert_allclose(column(got, "ventricles"), 18.5)


def test_nacc_scans_are_whose_the_table_says(tmp_path):
    got = select(tmp_path, "nacc", releases.nacc(tmp_path, 6)[::-1])  # in whatever order
    assert [r.image.subject for r in got.records][:2] == ["nacc-NACC100000", "nacc-NACC100001"]
    assert len(got.records) == 8 and not got.left_out
    ages = {r.image.session: r.values["age"] for r in got.records}
    assert ages["mri7300"] == int(person(200)["age"]) + 3 and ages["mri7000"] == int(person(200)["age"])
    apoe = {r.image.subject[-1]: r.values["apoe4"] for r in got.records}
    assert [apoe[str(n)] for n in range(3)] == [0, 1, 2] and np.isnan(apoe["3"])


def test_a_scan_that_no_table_knows_has_no_subject(tmp_path):
    tables = releases.nacc(tmp_path, 3)
    (tmp_path / "mri7001").rename(tmp_path / "mri9999")
    got = select(tmp_path, "nacc", tables)
    (left,) = got.left_out
    assert left.file.startswith("mri9999/") and "subject is not known" in left.reason


def test_oasis3_takes_the_nearest_rating_within_a_year(tmp_path):
    tables = releases.oasis3(tmp_path, 6)
    got = select(tmp_path, "oasis3", tables)
    assert len(got.records) == 6 and not got.left_out
    day = [129 + 365 * (n % 2) for n in range(6)]
    np.testing.assert_allclose(
        column(got, "age"), [person(n + 300)["age"] + d / 365.25 for n, d in enumerate(day)]
    )
    # even ones were rated 129 days before; of odd ones no visit lies within a year of day 494
    np.testing.assert_array_equal(column(got, "cdr"), [0, np.nan, 2, np.nan, 1, np.nan])
    assert column(got, "sex").tolist() == [1, 0] * 3
    np.testing.assert_allclose(column(got, "right_ventricle")[:2], [9, 9.001])
    np.testing.assert_allclose(column(got, "cortex"), 421)


def test_rfmid_leaves_other_diseases_out(tmp_path):
    releases.rfmid(tmp_path)
    got = select(tmp_path, "rfmid", [], "fundus")
    risk, haze, dark = (column(got, name) for name in ("disease_risk", "media_haze", "tessellation"))
    np.testing.assert_array_equal(risk, np.maximum(haze, dark))
    assert (risk == 0).any() and {left.stage for left in got.left_out} == {"excluded"}
    assert len(got.left_out) == 3 * 2 and len({r.image.subject for r in got.records}) == 30


def test_eyepacs_in_every_suffix(tmp_path):
    releases.eyepacs(tmp_path, 6)
    got = select(tmp_path, "eyepacs", [], "fundus", only=["side=left"])
    assert column(got, "level").tolist() == [0, 0, 3, 0, 0, 1]


def test_formulas_are_arithmetic_and_nothing_else():
    assert Formula.parse("({a} + 2 * {b b}) / -{c}").value({"a": 1, "b b": 2, "c": 5}) == -1
    for wrong in (
        "1 + 2",
        "{a} +",
        "{a} ** 2",
        "abs({a})",
        "{a}.real",
        "{a} if {b} else 1",
        "_0",
        "{a} + _7",
    ):
        with pytest.raises(ValueError):
            Formula.parse(wrong)
    with pytest.raises(ZeroDivisionError):
        Formula.parse("1 / {a}").value({"a": 0})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('column = "x"\nformula = "{a}; {b}"', "no arithmetic"),
        ('kind = "binary"\nformula = "{a} + 1"', "for continuous"),
        ('column = "x"\nreadings = "all"', "first | mean"),
    ],
)
def test_mistakes_are_named(lines, said, tmp_path):
    kind = "" if "kind" in lines else 'kind = "continuous"\n'
    path = tmp_path / "mine.toml"
    path.write_text(f'name = "x"\nkind = "mri"\n[files]\npattern = "*.nii"\n[covariates.v]\n{kind}{lines}\n')
    with pytest.raises(MssgError, match=said.replace("|", r"\|")):
        load_cohort(path)
