"""Where a slice lies, as one more covariate: always recorded, modelled by nothing, no person's own."""

import numpy as np
import pytest

import mssg
from mssg.covariates.support import support
from mssg.covariates.system import fit_models
from mssg.data.dataset import open_sources
from mssg.data.dataset_writer import write_packed
from mssg.data.loader import MultiSourceLoader
from mssg.data.plane import shows_tissue
from mssg.data.position import Position
from mssg.errors import DataError, StudyError, UsageError
from mssg.losses.covariate import CovariateLoss, group_of
from mssg.study.schema import POSITION_WEIGHT, from_document, to_document

HEADS = """
name = "heads"
[image]
resolution = 32
[geometry]
plane = "coronal"
pixel_mm = 5.0
affine = "common"
position_mm = -18.0
position = "position_mm"
[covariates.age]
kind = "continuous"
unit = "years"
[covariates.ventricle]
kind = "continuous"
[covariates.position_mm]
kind = "continuous"
[[sources]]
name = "A"
path = "a"
observes = ["age", "ventricle", "position_mm"]
[[sources]]
name = "B"
path = "b"
observes = ["age", "position_mm"]
"""
PLACES = {"A": (-60.0, 40.0), "B": (-30.0, 70.0)}


@pytest.fixture
def study(tmp_path):
    (tmp_path / "study.toml").write_text(HEADS, encoding="utf-8")
    return mssg.load_study(tmp_path / "study.toml")


@pytest.fixture
def sources(study, tmp_path):
    """Forty people a source, with one slice, two, three or ten each."""
    for source in study.sources:
        rng = np.random.default_rng(len(source.observes))
        person = np.repeat(np.arange(40), np.resize([1, 2, 3, 10], 40))
        age, n = rng.normal(60, 8, 40)[person], len(person)
        table = {"subject": [f"{source.name}{i:02d}" for i in person], "split": ["train"] * n, "age": age}
        table |= {"ventricle": 10 + 0.5 * age + rng.normal(0, 2, 40)[person]}
        table |= {"position_mm": np.round(rng.uniform(*PLACES[source.name], n), 1)}
        images = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 32, 32), np.uint8)
        write_packed(tmp_path / source.path, images, table, {})
    return open_sources(study)


@pytest.fixture
def models(study, sources):
    return fit_models(study, [s.columns(study) for s in sources])


def test_it_is_declared_once_and_weighs_in_a_group_of_its_own(study):
    place = study.covariate("position_mm")
    assert study.position == "position_mm" and place.unit == "mm" and place.scale == "zscore"
    assert [c.name for c in study.personal] == ["age", "ventricle"] and study.shared == ("age",)
    assert (place.loss_weight, group_of(place)) == (POSITION_WEIGHT, "position_mm")
    assert CovariateLoss(study)._shares == [0.5, 0.5, 3.0]
    again = from_document(to_document(study))
    assert again.geometry == study.geometry and again.covariates == study.covariates


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('position = "position_mm"', 'position = "depth"', 'write position = "position_mm"'),
        ('name = "heads"', 'name = "heads"', "does not declare"),
        ('position = "position_mm"', 'position = ["age", "ventricle"]', "geometry.position"),
        ('position = "position_mm"', "position = -18", "geometry.position"),
        ('affine = "common"', 'affine = "none"', "geometry.position"),
        ('"ventricle", "position_mm"]', '"ventricle"]', "where its slices lie"),
        ('_mm]\nkind = "continuous"', '_mm]\nkind = "binary"', "kind"),
        ("[covariates.position_mm]", '[covariates.position_mm]\nunit = "cm"', "unit"),
        ("[covariates.position_mm]", '[covariates.position_mm]\ntransform = "log"', "transform"),
        ("[[sources]]", "[model.position_mm]\nfamily = 'beta'\n[[sources]]", "model.position_mm"),
        ("[[sources]]", "[model.age]\ngiven = ['position_mm']\n[[sources]]", "model.age"),
        ('position = "position_mm"\n', "", "reserved"),
    ],
)
def test_what_cannot_be_is_refused(old, new, words, tmp_path):
    text = HEADS.replace(old, new, 1)
    if old == new:  # no trace of the position but its name
        table = '[covariates.position_mm]\nkind = "continuous"\n'
        text = text.replace(table, "").replace(', "position_mm"]', "]")
    assert text != HEADS
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    with pytest.raises(StudyError, match=words):
        mssg.load_study(tmp_path / "study.toml")


def test_a_constant_column_or_none_is_refused(study, sources):
    columns = [s.columns(study) for s in sources]
    flat = [c | {"position_mm": np.full(len(c["age"]), -18.0)} for c in columns]
    with pytest.raises((StudyError, DataError), match="position_mm"):
        fit_models(study, flat)
    del columns[1]["position_mm"]
    with pytest.raises(DataError, match="position_mm"):
        fit_models(study, columns)


def test_it_is_uniform_and_independent(models):
    assert models.family("position_mm") == "uniform" and models.parents("position_mm") == ()
    assert "position_mm" not in {*models.parents("age"), *models.parents("ventricle")}
    drawn = models.sample(4000, None, np.random.default_rng(0))
    place = drawn["position_mm"]
    assert -60 <= place.min() < -57 and 67 < place.max() <= 70
    assert np.abs(np.histogram(place, 4)[0] / 1000 - 1).max() < 0.12
    assert abs(np.corrcoef(place, drawn["age"])[0, 1]) < 0.05
    at = models.quantile("ventricle", 0.5, {"age": 60.0, "position_mm": np.array([-50.0, 60.0])})
    assert at[0] == at[1]


def test_support_does_not_ask_where_the_slice_lies(models):
    rows = np.array([[60.0, 40.0, p] for p in (-18.0, 55.0, 500.0, np.nan)])
    density = models.log_density(models.without_place(rows))
    percentiles = np.percentile(density + np.linspace(-3, 3, 101)[:, None], np.arange(101))
    found = support(models, rows[:3], percentiles)
    assert found[0] == found[1] == found[2] == support(models, rows[3:], percentiles)[0] > 10


def test_people_come_first_and_bring_one_slice(study, sources):
    loader = MultiSourceLoader(sources, study, "train", 80, seed=0)
    seen = np.zeros((2, 160), int)
    for step in range(60):
        batch = loader.batch(step)
        for index in (0, 1):
            rows = batch.images[batch.source == index][:, 0, 0, 0]
            assert sorted(sources[index].subjects[rows]) == sorted(set(sources[index].subjects))
            np.add.at(seen[index], rows, 1)
    assert loader.epochs(60) == [60.0, 60.0]
    count = np.resize([1, 2, 3, 10], 40)[np.repeat(np.arange(40), np.resize([1, 2, 3, 10], 40))]
    assert (seen[0][: len(count)][count == 1] == 60).all()
    tens = seen[0][: len(count)][count == 10]
    assert tens.mean() == pytest.approx(6) and tens.min() > 0


def test_ranges_of_places():
    places = Position.parse_all("-105mm:75mm:3mm")
    assert (len(places), places[0].value, places[-1].value) == (61, -105.0, 75.0)
    assert [p.value for p in Position.parse_all("10:16:4")] == [10.0, 14.0]
    assert Position.parse_all("middle") == (Position("middle"),)
    for wrong in ("3mm:1mm:1mm", "1:9", "1:9mm:2", "0:9:0", "middle:3:1", "1:2:3:4", "0mm:9mm:0.001mm"):
        with pytest.raises(UsageError, match="--at"):
            Position.parse_all(wrong)


def test_a_slice_that_misses_the_head_is_told():
    picture = np.zeros((64, 64), np.uint8)
    picture[:6, :6] = 200
    assert not shows_tissue(picture)
    picture[:7, :7] = 200
    assert shows_tissue(picture)
