"""The report on fitted models: distances and their floors, the figure, and the command that shows both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from covariate_cases import DIGITS, DIGITS_OBSERVES, cohort, continuous, digit_tables, study_of

from mssg.covariates.goodness_of_fit import (
    CovariateFit,
    FitReport,
    PairFit,
    Rows,
    describe,
    energy_distance,
    half_distance,
)
from mssg.covariates.system import fit_models, pooled_rows
from mssg.data.dataset_writer import write_packed
from mssg.plotting.covariates import MOST, save_pairs, shown
from mssg.study.covariate import Covariate
from mssg.study.model import ModelSpec, Study
from mssg.study.schema import to_toml
from mssg.text import to_scale
from trainer_cli.covariates import _advice
from trainer_cli.main import cli


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def report_of(study: Study, tables, train_tables=None):
    models = fit_models(study, train_tables or tables, rng())
    rows = pooled_rows(study, tables)
    return models, describe(models, rows, rows, 2000, rng(1))


def test_energy_distance_of_shifted_normals():
    """For N(0,1) and N(d,1): E|X−Y| is the mean of |N(d, 2)|, and E|X−X'| = 2/√π."""
    d = 1.5
    mixed = 2 / np.sqrt(np.pi) * np.exp(-(d**2) / 4) + d * (2 * 0.8555778 - 1)  # Φ(d/√2) = 0.85558
    expected = np.sqrt(2 * mixed - 4 / np.sqrt(np.pi))
    a, b = rng(1).normal(0, 1, (3000, 1)), rng(2).normal(d, 1, (3000, 1))
    assert energy_distance(a, b) == pytest.approx(expected, rel=0.04)
    assert energy_distance(a, a + 0) < 0.05


@pytest.mark.slow
def test_good_models_are_below_the_floor_and_bad_ones_above():
    tables = digit_tables(1500)
    study = study_of(
        DIGITS, DIGITS_OBSERVES, [ModelSpec("slant", (), "gmm", 3)]
    )  # slant leaves thickness out
    _, report = report_of(study, tables)
    pairs = {(p.first, p.second): p for p in report.pairs}
    good, bad = pairs["thickness", "intensity"], pairs["thickness", "slant"]
    assert not good.is_far and bad.is_far and bad.distance > 3 * bad.floor
    assert good.sampled_r == pytest.approx(good.observed_r, abs=0.03)
    assert bad.observed_r > 0.8 > 0.1 > bad.sampled_r
    assert pairs["thickness", "digit"].observed_r is None


def test_few_rows_do_not_hide_a_dependence_that_is_left_out():
    """A sex that 48 people's volumes plainly depend on, below a floor that is high for so few."""
    pair = PairFit("sex", "grey", 48, distance=0.14, floor=0.44, observed_r=0.65, sampled_r=-0.02)
    assert pair.is_far
    for same in ({"sampled_r": 0.5}, {"rows": 9}, {"observed_r": None}):
        assert not replace(pair, **same).is_far, same
    assert not replace(pair, rows=10_000, sampled_r=0.58).is_far  # certain, and of no matter
    given_each = {"age": (), "sex": (), "grey": ("age",)}
    rest = (48, None, 0.0, (0.0, 0.0), (0.0, 0.0))
    fits = [CovariateFit(name, "gmm", given, *rest) for name, given in given_each.items()]
    (line,) = _advice(FitReport(tuple(fits), (pair,), Rows(np.empty(0), np.empty(0), None)))
    assert line.endswith('[model.grey] given = ["age", "sex"]')


def test_few_rows_are_told_apart_where_they_plainly_differ():
    """Twenty-four people of each sex: volumes that differ by two sd have two models, others one."""
    sex, noise = np.arange(48) % 2, rng(3).normal(0, 1, 48)
    both = [continuous("grey"), Covariate("sex", "binary")]
    study = study_of(both, {"A": ("grey", "sex")}, [ModelSpec("grey", ("sex",))])
    for shift, apart in ((2.0, True), (0.0, False)):
        _, report = report_of(study, [{"grey": noise + shift * sex, "sex": sex.astype(float)}])
        (pair,) = report.pairs
        assert not pair.is_far and (abs(pair.sampled_r) > 0.5) == apart, (shift, pair)


def test_the_floor_is_what_equal_samples_stay_below():
    a = rng(1).normal(0, 1, (1000, 2))
    floor = half_distance(a, rng())
    below = [
        energy_distance(rng(k).normal(0, 1, (500, 2)), rng(90 + k).normal(0, 1, (500, 2))) < floor
        for k in range(30)
    ]
    assert np.mean(below) > 0.75
    assert energy_distance(a, rng(5).normal(0.3, 1, (1000, 2))) > floor


def test_pairs_nobody_records_have_no_distance():
    _, report = report_of(*cohort())
    pair = next(p for p in report.pairs if (p.first, p.second) == ("ventricle", "grey"))
    assert (pair.rows, pair.distance, pair.floor) == (0, None, None)


def test_held_out_rows_are_judged_and_those_outside_counted():
    study, tables = cohort()
    models = fit_models(study, tables, rng())
    rows = pooled_rows(study, tables)
    far = np.array([[200.0, 0.0, 30.0, np.nan]])
    fits = {f.name: f for f in describe(models, rows, np.concatenate([rows[:9], far]), 500, rng()).covariates}
    assert fits["age"].outside == pytest.approx(0.1)
    inside = models.log_density_of("age", rows[:9])
    assert fits["age"].log_likelihood == pytest.approx(inside.mean())
    assert fits["grey"].log_likelihood is None  # no held-out row records it
    assert fits["ventricle"].rows == 500


def test_observed_and_sampled_moments_are_those_of_the_recording_sources():
    study, tables = cohort()
    tables[1]["age"] += 20  # cohort B is older, and the only one to record grey matter
    tables[1]["grey"] *= 0.8
    _, report = report_of(replace(study, condition_on_source=True), tables)
    for fit in report.covariates:
        assert fit.sampled[0] == pytest.approx(fit.observed[0], abs=0.12 * max(fit.observed[1], 0.3))


@pytest.mark.slow
def test_the_figure_shows_every_kind_of_pair(tmp_path):
    n = 300
    covariates = (
        continuous("age", unit="years"),
        continuous("size", unit="ml"),
        Covariate("sex", "binary"),
        Covariate("grade", "categorical", levels=("none", "mild", "severe")),
    )
    observes = {"A": ("age", "sex", "grade"), "B": ("age", "size", "sex")}
    tables = [{}, {}]
    for table, names in zip(tables, observes.values()):
        full = {"age": rng(len(names)).normal(60, 9, n), "sex": rng(1).integers(0, 2, n) * 1.0}
        full |= {"size": full["age"] + rng(2).normal(0, 3, n), "grade": rng(3).integers(0, 3, n) * 1.0}
        table.update({k: full[k] for k in names})
    study = study_of(covariates, observes)
    models, report = report_of(study, tables)
    path = save_pairs(models.study, report, tmp_path / "pairs.png")
    from matplotlib.image import imread

    picture = imread(path)
    assert picture.shape[0] > 900 and picture.shape[1] > 900
    assert picture[..., :3].std() > 0.05


def test_a_figure_of_many_covariates_shows_ten_continuous_first():
    flags = tuple(Covariate(f"flag{k}", "binary") for k in range(9))
    study = study_of((*flags, continuous("age"), continuous("size")), {"A": ("age",)})
    names = [c.name for c in shown(study)]
    assert names[:3] == ["age", "size", "flag0"] and len(names) == MOST


# ---- the command


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cohorts")
    study, tables = cohort(n=300)
    for source, table in zip(study.sources, tables):
        subjects = [f"{source.name}{k}" for k in range(300)]
        split = ["val" if k % 5 == 0 else "train" for k in range(300)]
        images = np.zeros((300, 1, 32, 32), np.uint8)
        write_packed(
            folder / source.name, images, {"subject": subjects, "split": split, **table}, {"recipe": "toy"}
        )
    (folder / "study.toml").write_text(to_toml(study), encoding="utf-8")
    return folder


def run(*args: object):
    return CliRunner().invoke(cli, ["covariates", *map(str, args)])


@pytest.fixture(scope="module")
def done(prepared):
    """One run of the command, into the default folder beside the study."""
    result = run(prepared / "study.toml", "--samples", 500)
    assert result.exit_code == 0, result.output
    return result.output, prepared / "covariates"


@pytest.mark.slow
def test_the_command_prints_tables_and_writes_picture_and_numbers(done):
    output, folder = done
    lines = output.splitlines()
    assert lines[0] == "toy: 480 training rows, 120 held out (val)"
    row = next(line.split() for line in lines if line.startswith("ventricle "))
    assert row[:4] == ["ventricle", "gmm", "age", "240"] and row[-1] == "ml"
    assert any("never recorded together" in line for line in lines)
    table = [line for line in lines if line.startswith(("age ", "sex ", "ventricle ", "grey "))][:4]
    assert len({line.index(" %") for line in table}) == 1  # aligned
    assert (folder / "pairs.png").stat().st_size > 20_000
    numbers = json.loads((folder / "covariates.json").read_text())
    assert [c["name"] for c in numbers["covariates"]] == ["age", "sex", "ventricle", "grey"]
    assert len(numbers["pairs"]) == 6


@pytest.mark.slow
def test_the_command_says_which_correlation_is_stated(prepared, tmp_path):
    text = (prepared / "study.toml").read_text()
    toml = prepared / "joint.toml"
    toml.write_text(
        text + "\n[model.joint]\ncomponents = 2\nunobserved_correlation = 0.3\n", encoding="utf-8"
    )
    result = run(toml, "--out", tmp_path / "out", "--samples", 500)
    assert result.exit_code == 0, result.output
    assert "stated, not estimated: +0.30 (reached +0.30)" in result.output


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(prepared, done, tmp_path):
    assert run(prepared / "study.toml", "--out", tmp_path, "--samples", 500).exit_code == 0
    assert (tmp_path / "covariates.json").read_text() == (done[1] / "covariates.json").read_text()


def test_a_mistake_is_a_message(prepared, tmp_path):
    toml = prepared / "wrong.toml"
    text = (prepared / "study.toml").read_text()
    toml.write_text(text + '\n[model.grey]\ngiven = ["ventricle"]\nfamily = "gmm"\n', encoding="utf-8")
    result = run(toml, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "model.grey.given" in result.output and "no source records" in result.output
    assert not (tmp_path / "out").exists()
    assert run(prepared / "nowhere.toml").exit_code == 2


def test_distances_are_printed_with_the_digits_that_their_floor_has():
    pairs = ((0.00071, 0.0012, "0.0007"), (0.1234, 0.0567, "0.123"), (31.4, 120.0, "31"), (0.5, 0, "0.500"))
    assert [to_scale(distance, floor) for distance, floor, _ in pairs] == [told for *_, told in pairs]
    assert to_scale(None, 1.0) == "–"
