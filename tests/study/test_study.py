"""The study: the simplicity test first, then documents, encoding and every kind of mistake."""

from __future__ import annotations

import ast
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mssg
from mssg.errors import StudyError, UsageError
from mssg.study.covariate import Covariate
from mssg.study.model import Study
from mssg.study.schema import from_document, to_document, to_toml

BRAIN = """
name = "brain"
[image]
resolution = 32
[geometry]
plane = "coronal"
pixel_mm = 2.0
[covariates.age]
kind = "continuous"
unit = "years"
scale = "minmax"
[covariates.ventricle]
kind = "continuous"
unit = "ml"
transform = "log"
[covariates.grey]
kind = "continuous"
unit = "ml"
[[sources]]
name = "A"
path = "a"
observes = ["age", "ventricle"]
[[sources]]
name = "B"
path = "b"
observes = ["age", "grey"]
[[sources]]
name = "C"
path = "c"
observes = ["age"]
[model.ventricle]
given = ["age"]
family = "gmm"
components = 3
"""
FOURTH = """
[covariates.sex]
kind = "binary"
[covariates.apoe4]
kind = "categorical"
levels = ["0", "1", "2"]
[[sources]]
name = "D"
path = "d"
observes = ["age", "sex", "apoe4"]
"""


def study_of(tmp_path: Path, text: str) -> Study:
    path = tmp_path / "study.toml"
    path.write_text(text, encoding="utf-8")
    return mssg.load_study(path)


def values_of(study: Study, rng: np.random.Generator, n: int = 50) -> np.ndarray:
    columns = []
    for covariate in study.conditions:
        draw = {"continuous": lambda: rng.gamma(5, 10, n), "binary": lambda: rng.integers(0, 2, n)}
        columns.append(
            draw.get(covariate.kind, lambda w=covariate.width: rng.integers(0, w, n))().astype(float)
        )
    return np.stack(columns, 1)


def fitted(study: Study, seed: int = 0) -> Study:
    values = values_of(study, np.random.default_rng(seed))
    tables = [{n: values[:, study.index(n)] for n in s.observes} for s in study.sources]
    return study.fit_statistics(tables)


def test_fourth_source_with_two_new_covariates_is_toml_only(tmp_path):
    """A fourth source and two covariates: statistics, layout, encoding, covariate models, a loss, all from
    the TOML."""
    import torch

    from mssg.covariates.system import fit_models
    from mssg.losses.covariate import CovariateLoss
    from mssg.study.train_config import resolve
    from mssg.training.networks import configurations

    before, after = (
        study_of(tmp_path, BRAIN),
        study_of(tmp_path, BRAIN.replace("[model.v", FOURTH + "[model.v")),
    )
    assert after.layout.width == before.layout.width + 1 + 3
    rng = np.random.default_rng(0)
    values = values_of(after, rng, 300)
    tables = [{n: values[:, after.index(n)] for n in s.observes} for s in after.sources]
    study = after.fit_statistics(tables)
    models = fit_models(study, tables, rng)
    partly = np.where(study.observed_mask(3), values, np.nan)
    complete = models.complete(partly, rng)
    assert np.isfinite(complete).all()
    assert np.array_equal(complete[:, study.index("apoe4")], values[:, study.index("apoe4")])
    c = torch.from_numpy(study.encode(complete))
    generator, discriminator = configurations(study, resolve(study, {"preset": "cpu-demo"}))
    assert generator.c_dim == discriminator.c_dim == study.layout.width == 7
    loss, terms = CovariateLoss(study)(torch.zeros(300, 7), c)
    assert set(terms.means()) == {"age", "ventricle", "grey", "sex", "apoe4"} and loss > 0


@pytest.mark.slow
def test_no_code_names_a_column_or_a_data_set():
    """No module outside data/recipes branches on the name of a data set."""
    names = {"mnist", "ukb", "adni", "nacc", "oasis", "rfmid", "eyepacs"}
    for path in Path(mssg.__file__).parent.rglob("*.py"):
        if "recipes" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                words = [
                    c.value.lower()
                    for c in ast.walk(node)
                    if isinstance(c, ast.Constant) and isinstance(c.value, str)
                ]
                assert not names & set(words), f"{path}:{node.lineno}"


def test_toml_and_json_round_trip(tmp_path):
    study = study_of(tmp_path, BRAIN.replace("[model.v", FOURTH + "[model.v"))
    (tmp_path / "again.toml").write_text(to_toml(study), encoding="utf-8")
    again = mssg.load_study(tmp_path / "again.toml")
    assert to_document(again) == to_document(study)
    known = fitted(study)
    assert from_document(to_document(known)).covariates == known.covariates
    assert "offset" not in to_toml(known)


def test_encode_decode_round_trip_in_native_units(tmp_path):
    study = fitted(study_of(tmp_path, BRAIN.replace("[model.v", FOURTH + "[model.v")))
    values = values_of(study, np.random.default_rng(1))
    np.testing.assert_allclose(study.decode(study.encode(values)), values, rtol=1e-5)
    values[3] = np.nan
    c = study.encode(values)
    assert np.isnan(c[3]).all() and np.isfinite(np.delete(c, 3, 0)).all()
    assert np.isnan(study.decode(c)[3]).all()


def test_statistics_are_joint_over_sources(tmp_path):
    study = study_of(tmp_path, BRAIN)
    ages = [np.array([20.0, 40]), np.array([50.0, 60]), np.array([30.0, 90])]
    others = {"ventricle": np.array([10.0, 30]), "grey": np.array([600.0, 800])}
    tables = [
        {n: ages[i] if n == "age" else others[n] for n in s.observes} for i, s in enumerate(study.sources)
    ]
    age = study.fit_statistics(tables).covariate("age")
    assert (age.offset, age.spread) == (20.0, 70.0)


def test_source_becomes_a_condition(tmp_path):
    study = study_of(tmp_path, BRAIN + "[train]\ncondition_on_source = true\n")
    assert study.condition_names[-1] == "source" and study.layout["source"] == slice(3, 6)
    assert study.observed_mask(2).tolist() == [True, False, False, True]
    assert study.covariate("source").levels == ("A", "B", "C")


@given(st.floats(0.01, 1e4), st.floats(-50, 500))
@settings(max_examples=50, deadline=None)
def test_log_transform_inverts(value, shift):
    covariate = Covariate("v", "continuous", transform="log", shift=shift)
    if value + shift > 1e-3:
        assert covariate.inverse(covariate.forward(value)) == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_parse_and_format():
    level = Covariate("dr", "categorical", levels=("0", "1", "2"))
    assert level.parse("1.0") == 1.0 and level.format(2.0) == "2"
    age = Covariate("age", "continuous", unit="years")
    assert (
        np.isnan(age.parse(""))
        and age.format(63.04) == "63.0 years"
        and age.format(float("nan")) == "missing"
    )
    for covariate, text in (
        (level, "7"),
        (age, "old"),
        (age, "inf"),
        (Covariate("s", "binary"), "2"),
        (Covariate("v", "continuous", transform="log"), "-1"),
    ):
        with pytest.raises(UsageError, match=covariate.name):
            covariate.parse(text)


MISTAKES = {
    "unknown key": ('unit = "years"', 'units = "years"', ["covariates.age.units", "unit"]),
    "unknown kind": ('kind = "continuous"', 'kind = "contiguous"', ["covariates.age.kind", "continuous"]),
    "unknown covariate": ('["age", "grey"]', '["age", "gray"]', ["sources[2].observes", "'gray'", "grey"]),
    "duplicate source": ('name = "B"', 'name = "A"', ["sources[2].name", "'A'"]),
    "observed twice": ('["age", "grey"]', '["age", "grey", "grey"]', ["sources[2].observes"]),
    "unobserved covariate": ('["age", "grey"]', '["age"]', ["covariates.grey"]),
    "resolution": ("resolution = 32", "resolution = 100", ["image.resolution", "100", "power of two"]),
    "channels": ("resolution = 32", "resolution = 32\nchannels = 2", ["image.channels"]),
    "shift without log": ('scale = "minmax"', 'scale = "minmax"\nshift = 3', ["covariates.age.shift"]),
    "negative weight": ('path = "b"', 'path = "b"\nweight = -1', ["sources[2].weight"]),
    "model of nothing": ("[model.ventricle]", "[model.volume]", ["model.volume", "ventricle"]),
    "parent of nothing": ('given = ["age"]', 'given = ["ages"]', ["model.ventricle.given", "ages"]),
    "unknown train key": ("[model.v", "[train]\nlamda_max = 1\n[model.v", ["train.lamda_max", "lambda_max"]),
    "unknown augmentation": (
        "[model.v",
        '[augment]\nallow = ["wiggle"]\n[model.v',
        ["augment.allow", "wiggle"],
    ),
    "lateralised": (
        "[covariates.grey]",
        '[augment]\nallow = ["xflip"]\n[covariates.grey]\nlateralised = true',
        ["augment.allow", "xflip", "grey"],
    ),
    "not TOML": ("[image]", "[image", ["TOML"]),
    "wrong type": ("resolution = 32", 'resolution = "32"', ["image.resolution", "'32'"]),
    "duplicate covariate": ("[covariates.grey]", "[covariates.age]", ["TOML"]),
    "one level": (
        '[covariates.grey]\nkind = "continuous"\nunit = "ml"',
        '[covariates.grey]\nkind = "categorical"\nlevels = ["a"]',
        ["covariates.grey.levels"],
    ),
    "geometry": ("pixel_mm = 2.0", 'pixel_mm = 2.0\naffine = "common"', ["geometry.position_mm"]),
    "condition_on_source": (
        "[model.v",
        "[train]\ncondition_on_source = 1\n[model.v",
        ["train.condition_on_source"],
    ),
    "reserved name": ("[covariates.grey]", "[covariates.source]", ["source"]),
    "unknown instrument": (
        "[model.v",
        '[measure]\ninstrument = "ruler"\n[model.v',
        ["measure.instrument", "digits"],
    ),
}


@pytest.mark.parametrize("old, new, words", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_file_table_and_key(tmp_path, old, new, words):
    assert old in BRAIN
    text = BRAIN.replace(old, new, 1)
    with pytest.raises(StudyError) as caught:
        study_of(tmp_path, text)
    for word in (str(tmp_path / "study.toml"), *words):
        assert word in str(caught.value)


def test_files_that_are_no_study(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.toml", tmp_path, tmp_path / "binary.toml"):
        with pytest.raises(StudyError, match=path.name):
            mssg.load_study(path)


@pytest.mark.parametrize("values, word", [([5.0, 5.0], "equal"), ([np.nan, np.nan], "usable")])
def test_statistics_need_variation(values, word):
    with pytest.raises(StudyError, match=word):
        Covariate("age", "continuous").fitted(np.array(values))


def test_units_of_study_in_errors_and_lists(tmp_path):
    study = study_of(tmp_path, BRAIN)
    with pytest.raises(UsageError, match="age \\| ventricle \\| grey"):
        study.index("weight")
    assert study.shared == ("age",) and study.observers("grey") == ("B",)


def test_pairs_that_no_source_saw_and_covariates_that_mean_the_same(tmp_path):
    study = study_of(tmp_path, BRAIN)
    assert study.unseen_pairs == (("ventricle", "grey"),)
    assert study.never_observed_with("grey") == ("ventricle",) and not study.never_observed_with("age")
    assert study.observed_together("age", "grey", "source")
    age = study.covariate("age")
    assert age.compatible_with(replace(age, scale="zscore", offset=1.0, spread=2.0))
    for other in ({"name": "years"}, {"kind": "binary"}, {"unit": "months"}, {"levels": ("a", "b")}):
        assert not age.compatible_with(replace(age, **other))
    levels = Covariate("dr", "categorical", levels=("0", "1", "2"))
    assert [c.num_levels for c in (age, Covariate("s", "binary"), levels)] == [0, 2, 3]


def test_a_snapshots_study_may_train_by_words_of_another_version(tmp_path):
    """What a snapshot or another version says in [train] is kept as it stands; a command refuses it."""
    (tmp_path / "s.toml").write_text(BRAIN + "[train]\nlamda_max = 1\n", encoding="utf-8")
    assert from_document(tomllib.loads((tmp_path / "s.toml").read_text())).train == {"lamda_max": 1}
    with pytest.raises(StudyError, match="lamda_max"):
        mssg.load_study(tmp_path / "s.toml")
