"""A whole evaluation of generators whose obedience is known, and of data that lack something."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from mssg import load_study
from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import DataError, UsageError
from mssg.features.extractors import FeatureNetwork
from mssg.measure.own_error import OwnError
from mssg.metrics import registry
from mssg.metrics.dataset import open_dataset
from mssg.metrics.evaluate import evaluate
from mssg.metrics.instruments import Instruments, open_instruments
from mssg.metrics.model import EvaluatedModel, evaluated_model
from mssg.metrics.own_errors import judged
from mssg.metrics.results import ORACLE, REAL, Evaluation, ModelRecord, Result
from mssg.metrics.sampling import ArrayCache, CachedSampler, Reader
from mssg.metrics.strata_won import with_strata_won
from mssg.metrics.tables import DOUBTFUL, comparison, summary
from tests.strokes import STUDY, draw_strokes, write_study

NAMES = ("thickness", "intensity", "slant", "digit")
PIXELS = FeatureNetwork("pixels", lambda x: x.flatten(1)[:, ::16] / 255)


def obedient(values: np.ndarray, seed: int) -> np.ndarray:
    return draw_strokes(*values.T[:4])


def one_eyed(values: np.ndarray, seed: int) -> np.ndarray:
    """Like a model of source A alone: it has no input for the slant."""
    slant = np.random.default_rng(seed).normal(0, 10, len(values))
    return draw_strokes(values[:, 0], values[:, 1], slant, values[:, 3])


def half_obedient(values: np.ndarray, seed: int) -> np.ndarray:
    """Obeys the slant on source B, which records it; on source A it draws any slant, and strokes too bright
    by ten levels."""
    free = np.random.default_rng(seed).normal(0, 10, len(values))
    taught = values[:, 4] == 1
    return draw_strokes(
        values[:, 0], values[:, 1] + 10 * ~taught, np.where(taught, values[:, 2], free), values[:, 3]
    )


def run(folder, study, generators, split="test", **options) -> Evaluation:
    data, notes = open_dataset(load_study(study), split)
    instruments, more = open_instruments(data.study)
    sampler = CachedSampler(ArrayCache(folder / "parts"), ArrayCache(folder / "real"), chunk=50)
    settings = {
        "images": 60,
        "per_stratum": 20,
        "by": ("thickness", "slant"),
        "control_images": 50,
        "leakage_images": 20,
    }
    return evaluate(
        data=data,
        models=[
            EvaluatedModel(ModelRecord(label, label, "strokes", 1.0), None, g, (label,))
            for label, g in generators.items()
        ],
        options=registry.options(**settings | options),
        sampler=sampler,
        instruments=instruments,
        features=PIXELS,
        notes=[*notes, *more],
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny_study) -> Evaluation:
    folder = tmp_path_factory.mktemp("evaluation")
    return run(folder, tiny_study, {"both": obedient, "A only": one_eyed})


@pytest.mark.slow
def test_scores_tell_who_obeys(found):
    def mae(model, covariate, **more):
        (result,) = found.find(metric="strata/mae", model=model, covariate=covariate, stratum=None, **more)
        return result

    for reference in ("requested", "real"):
        good, bad = (mae(m, "slant", reference=reference) for m in ("both", "A only"))
        assert bad.value > 3 * good.value and bad.ci95[0] > good.ci95[1]
    own = mae(REAL, "slant", reference="label")
    assert good.real_floor == own.value and own.n == own.n_real
    assert mae("both", "intensity", reference="requested").value < 5
    r = {
        m: found.find(metric="control/partial_r", model=m, covariate="slant", design="b")[0].value
        for m in ("both", "A only")
    }
    assert r["both"] > 0.95 and abs(r["A only"]) < 0.4


@pytest.mark.slow
def test_scores_as_the_research_code_has_them(tmp_path, tiny_study, found):
    """Normalised units and half-open bins, against the same by hand; native scores have them beside."""
    asked = {"strata_units": "normalised", "strata_edges": "half-open", "metrics": ("strata", "overall")}
    theirs = run(tmp_path, tiny_study, {"A only": one_eyed}, **asked)
    data, _ = open_dataset(load_study(tiny_study), "test")
    slant, rows = data.study.covariate("slant"), data.values[:, data.study.index("slant")]
    below = [r for r in theirs.find(metric="strata/mae", model=REAL, covariate="slant") if r.stratum]
    assert below and all(r.stratum["slant"][1] <= rows.max() for r in below)
    assert "largest value" in " ".join(n.message for n in theirs.notes)
    about = {"model": "A only", "covariate": "slant", "reference": "requested", "source": "joint"}
    for metric, power in (("overall/mae", 1), ("overall/mse", 2)):
        (native,), (normalised,) = found.find(metric=metric, **about), theirs.find(metric=metric, **about)
        assert [r.unit for r in (native, normalised)] == [u + "²" * (power - 1) for u in ("°", "normalised")]
        assert normalised.value == pytest.approx(native.value / slant.spread**power)
        assert native.detail["normalised"] == pytest.approx(normalised.value)
    (whole,) = found.find(metric="strata/mae", stratum=None, **about)
    assert whole.detail["normalised"] == pytest.approx(whole.value / slant.spread)
    with pytest.raises(UsageError, match="strata_units"):
        run(tmp_path, tiny_study, {"A only": one_eyed}, strata_units="mm")


@pytest.mark.slow
def test_strata_won_are_counted(found):
    """By hand from the strata's own numbers; a statistic of which more is better the other way round."""
    for metric, sign in (("strata/mae", -1), ("strata/pearson", 1)):
        about = {"covariate": "slant", "reference": "requested"}
        cells: dict[str, dict[str, float]] = {}
        for r in found.find(metric=metric, **about):
            if r.stratum:
                cells.setdefault(str(r.stratum), {})[r.model] = sign * r.value
        both = sum(cell["both"] > cell["A only"] for cell in cells.values())
        won = {r.model: r for r in found.find(metric=f"{metric}_won", **about)}
        assert won["both"].value == both and won["A only"].value == len(cells) - both
        assert won["both"].detail["strata"] == len(cells) and both > len(cells) / 2
    (kid,) = found.find(metric="strata_kid_won-pixels", model="both")
    assert kid.value + found.find(metric=kid.metric, model="A only")[0].value + kid.detail["ties"] == len(
        cells
    )
    assert "strata MAE won" in comparison(found).text() and " won" not in summary(found)


def test_a_stratum_without_every_model_or_with_equals_is_won_by_nobody():
    from dataclasses import replace

    models = tuple(ModelRecord(label, label, "s", 1.0) for label in "ab")
    at = [{"age": [0.0, 1.0]}, {"age": [1.0, 2.0]}, {"age": [2.0, 3.0]}]
    values = {"a": (1.0, 2.0, 3.0), "b": (2.0, 2.0, None)}
    results = [
        Result("strata/mse", value, label, stratum=stratum, covariate="age", reference="requested", n_real=5)
        for label, row in values.items()
        for value, stratum in zip(row, at)
    ]
    done = with_strata_won(Evaluation("s", "test", 0, models, tuple(results)))
    won = {r.model: r for r in done.find(metric="strata/mse_won")}
    assert (won["a"].value, won["b"].value) == (1, 0) and won["a"].detail == {"strata": 2, "ties": 1}
    assert with_strata_won(done).results == done.results
    assert not with_strata_won(replace(done, models=models[:1], results=tuple(results))).find(
        metric="strata/mse_won"
    )


def test_strata_are_described_counted_and_averaged(found):
    cells = [
        r
        for r in found.find(metric="strata/mae", model="both", covariate="slant", reference="requested")
        if r.stratum
    ]
    whole = found.find(
        metric="strata/mae", model="both", covariate="slant", reference="requested", stratum=None
    )[0]
    weights = [r.n_real for r in cells]
    assert all(r.n == 20 and r.n_real >= 5 and len(r.stratum["slant"]) == 2 for r in cells)
    assert whole.value == pytest.approx(np.average([r.value for r in cells], weights=weights))
    assert whole.n_real == sum(weights) and len(cells) == whole.detail["strata"]


def test_distances_name_their_features_and_stand_beside_their_floor(found):
    for metric in ("fid-pixels", "kid-pixels", "precision-pixels", "coverage-pixels"):
        rows = found.find(metric=metric, model="both")
        assert [r.source for r in rows] == ["A", "B", "joint"]
        assert all(r.features == "pixels" and r.real_floor is not None and r.n and r.n_real for r in rows)
    kid = found.find(metric="kid-", source="joint", model="both")[0]
    assert kid.value < 5 * kid.detail["floor_sd"] + 0.01 and kid.detail["subset_size"] == 12
    assert any(n.about.startswith("both: fid") and "KID" in n.message for n in found.notes)
    assert found.find(metric="strata_kid-pixels", stratum=None, model="both")


def test_leakage_is_one_on_the_diagonal_of_an_obedient_generator(found):
    matrix = {(r.moved, r.covariate): r.value for r in found.find(metric="leakage", model="both")}
    for name in ("thickness", "intensity", "slant"):
        assert matrix[name, name] == pytest.approx(1, abs=0.25)  # the oracle is not perfect
    assert abs(matrix["slant", "thickness"]) < 0.1 and abs(matrix["intensity", "slant"]) < 0.1
    blind = found.find(metric="leakage", model="A only", moved="slant", covariate="slant")[0]
    assert abs(blind.value) < 0.1


@pytest.mark.slow
def test_same_seed_same_numbers_and_another_seed_others(found, tmp_path, tiny_study):
    again = run(tmp_path, tiny_study, {"both": obedient, "A only": one_eyed})
    assert again.to_json() == found.to_json()
    other = run(tmp_path, tiny_study, {"A only": one_eyed}, metrics=("overall",), seed=1)
    same = found.find(
        metric="overall/mae", model="A only", covariate="slant", source="joint", reference="requested"
    )
    new = other.find(
        metric="overall/mae", covariate="slant", source="joint", reference="requested", model="A only"
    )
    assert same[0].value != new[0].value


def test_a_predictor_is_not_judged_in_silence_on_what_it_learned_from(tmp_path, tiny_study):
    """Its readings of the training split flatter; an oracle learned from nothing."""

    def notes(split: str, by: str) -> str:
        data, _ = open_dataset(load_study(tiny_study), split)
        found = evaluate(
            data=data,
            models=[],
            options=registry.options(("memorisation_pixels",)),
            sampler=CachedSampler(ArrayCache(tmp_path), ArrayCache(tmp_path), chunk=50),
            instruments=Instruments((), {"slant": by}),
        )
        return " ".join(n.message for n in found.notes)

    assert "predictors of slant have learned from images of this split" in notes("train", "predictor-x")
    assert "learned from" not in notes("test", "predictor-x") + notes("train", ORACLE + "strokes")


def test_what_is_missing_is_noted_and_the_rest_is_there(tmp_path, tiny_study):
    """Equivariance of a network that is none, strata finer than the data, LPIPS without weights: the rest
    stays."""
    found = run(
        tmp_path, tiny_study, {"both": obedient}, metrics=("overall", "strata", "kid"), by=NAMES, min_count=40
    )
    assert any("no stratum has 40 real images, the fullest has" in n.message for n in found.notes)
    assert (
        found.find(metric="overall/mae")
        and found.find(metric="kid-pixels")
        and not found.find(metric="strata/mae")
    )
    assert any(n.about == "digit" and "--predictor" in n.message for n in found.notes)


def test_too_many_strata_leave_categorical_ones_out_and_say_so(tmp_path, tiny_study, monkeypatch):
    monkeypatch.setattr("mssg.metrics.groups.strata.MOST_STRATA", 30)
    found = run(tmp_path, tiny_study, {"both": obedient}, metrics=("strata",), by=())
    assert any(
        "81 strata" in n.message and "thickness, intensity, slant alone" in n.message for n in found.notes
    )
    assert set(found.find(metric="strata/mae", model="both")[0].stratum) == {
        "thickness",
        "intensity",
        "slant",
    }


def edit_tables(folder, change):
    """Change every row (a dictionary) of both sources' tables."""
    for source in ("a", "b"):
        path = folder / source / "table.csv"
        rows = list(csv.DictReader(path.read_text().splitlines()))
        for row in rows:
            change(source, row)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def tried(found, **of):
    """How many real images the strata of one covariate hold, over all strata."""
    of = {"metric": "strata/mae", "model": "both", "reference": "requested", "stratum": None} | of
    return sum(r.n_real for r in found.find(**of))


STRATA = {"metrics": ("strata", "strata_kid"), "by": ("thickness", "slant"), "bins": 2, "min_count": 2}


def test_an_image_with_a_gap_leaves_the_strata_that_need_it_and_no_others(tmp_path):
    study, rng = write_study(tmp_path / "data"), np.random.default_rng(0)

    def blank(source, row):
        for name in NAMES:
            row[name] = "" if rng.random() < 0.05 else row[name]

    edit_tables(tmp_path / "data", blank)
    data, _ = open_dataset(load_study(study), "test")
    columns = [data.study.index(n) for n in STRATA["by"]]
    complete = np.isfinite(data.values[:, columns]).all(1).sum()
    assert 40 <= complete < 48
    found = run(tmp_path, study, {"both": obedient}, **STRATA)
    assert tried(found, covariate="slant") == complete == tried(found, covariate="intensity")
    assert any(f"{48 - complete} of 48 images lack one of thickness, slant" in n.message for n in found.notes)


def test_the_fault_of_one_source_is_no_other_sources(tmp_path):
    study = write_study(tmp_path / "data")

    def change(source, row):
        if source == "a" and row["split"] == "test":
            row["thickness"], row["slant"] = "", "crooked"

    edit_tables(tmp_path / "data", change)
    found = run(tmp_path, study, {"both": obedient}, **STRATA)
    assert tried(found, covariate="slant", source="B") == 24 and not found.find(source="A")
    assert found.find(metric="strata_kid-pixels", source="B")
    text = " ".join(f"{n.about}: {n.message}" for n in found.notes)
    assert "strata, A: " in text and "A, slant: 24 of 24 cells are not used" in text and "crooked" in text


@pytest.mark.slow
def test_a_covariate_the_test_set_lacks_and_a_split_of_one_subject(tmp_path):
    study = write_study(tmp_path / "data")

    def change(source, row):
        row["slant"] = "" if row["split"] == "test" or source == "a" else row["slant"]
        if source == "b" and row["split"] == "test":
            row["subject"] = "one"

    edit_tables(tmp_path / "data", change)
    found = run(tmp_path, study, {"both": obedient}, by=(), control_images=20, min_count=2)
    text = " ".join(f"{n.about} {n.message}" for n in found.notes)
    assert "slant no image of the test split has a value" in text and "B all images" in text
    asked = found.find(
        metric="strata/mae", covariate="slant", reference="requested", stratum=None, model="both"
    )
    assert asked and not found.find(covariate="slant", reference="real")
    assert {r.source for r in asked} == {"A", "B"} and found.find(metric="kid-pixels")


@pytest.mark.slow
def test_strata_within_each_source_where_the_source_is_an_input(tmp_path):
    study = write_study(tmp_path / "d", STUDY.replace("[train]", "[train]\ncondition_on_source = true"))
    found = run(
        tmp_path, study, {"both": obedient}, metrics=("strata", "control"), by=(), bins=2, min_count=2
    )
    cells = [
        r
        for r in found.find(metric="strata/mae", model="both", covariate="slant", reference="requested")
        if r.stratum
    ]
    assert {tuple(r.stratum) for r in cells if r.source == "A"} == {("thickness", "intensity", "digit")}
    assert {tuple(r.stratum) for r in cells if r.source == "B"} == {("thickness", "slant", "digit")}
    assert found.find(metric="control/partial_r", design="b", covariate="slant")[0].value > 0.95


@pytest.mark.slow
def test_control_per_source_finds_who_obeys_on_one_source_only(tmp_path):
    study = write_study(tmp_path / "d", STUDY.replace("[train]", "[train]\ncondition_on_source = true"))
    found = run(
        tmp_path,
        study,
        {"half": half_obedient},
        metrics=("control", "leakage"),
        control_images=100,
        leakage_images=120,
    )

    def control(stat, covariate, source, design="b"):
        (result,) = found.find(metric=f"control/{stat}", covariate=covariate, source=source, design=design)
        return result

    a, b = (control("partial_r", "slant", source) for source in "AB")
    assert b.value > 0.95 and abs(a.value) < 0.35 and a.ci95[1] < b.ci95[0]
    assert a.value < control("partial_r", "slant", "joint").value < b.value
    assert (a.detail["recorded"], b.detail["recorded"]) == (False, True) and a.n == b.n == 100
    assert "source" not in a.detail["removed"] and "thickness" in a.detail["removed"]
    assert control("bias", "intensity", "A").value - control("bias", "intensity", "B").value == pytest.approx(
        10, abs=2
    )
    assert {r.design for r in found.find(source="A", metric="control/r")} == {"a", "b"}
    leak = {
        s: found.find(metric="leakage", moved="slant", covariate="slant", source=s)[0]
        for s in ("A", "B", "joint")
    }
    assert abs(leak["A"].value) < 0.15 and leak["B"].value == pytest.approx(1, abs=0.25)
    assert leak["A"].n + leak["B"].n == leak["joint"].n
    from mssg.plotting import evaluation as charts

    titles = [axis.get_title() for axis in charts.leakage(found).axes]
    assert {"half", "half, A", "half, B"} <= set(titles)
    assert "never" not in summary(found) and {row[3] for row in comparison(found).rows} == {"joint", "A", "B"}


def test_a_semi_study_has_no_control_per_source(found):
    assert {r.source for r in found.results if r.metric.startswith(("control", "leakage"))} == {"joint"}


def test_models_of_other_images_or_meanings_are_refused(make_snapshot, tiny_study, tmp_path):
    data, _ = open_dataset(load_study(tiny_study), "test")
    small = load_snapshot(make_snapshot(name="tiny"))
    assert evaluated_model("x", small, data.study).record.covariates == NAMES
    deaf = evaluated_model("x", small, data.study, blind=("slant",))
    assert deaf.record.covariates == ("thickness", "intensity", "digit") and "slant" in deaf.identity
    requests, moved = data.requests(0)[:4], data.requests(0)[:4]
    moved[:, 2] += 20
    assert np.array_equal(deaf.generate(requests, 1), deaf.generate(moved, 1))
    with pytest.raises(UsageError, match="no such covariate"):
        evaluated_model("x", small, data.study, blind=("age",))
    with pytest.raises(UsageError, match="real images"):
        evaluated_model(REAL, small, data.study)
    from dataclasses import replace

    with pytest.raises(UsageError, match="32²"):
        evaluated_model("x", small, replace(data.study, resolution=64))
    other = write_study(tmp_path, STUDY.replace('levels = ["0", "1", "2"]', 'levels = ["0", "1", "2", "3"]'))
    with pytest.raises(UsageError, match="means something else"):
        evaluated_model("x", small, load_study(other))
    strange = STUDY.replace("[measure]", "").replace('instrument = "digits"', "")
    for name in NAMES:
        strange = strange.replace(name, f"{name}_of_old")
    with pytest.raises(UsageError, match="told nothing that this study records"):
        evaluated_model("x", small, load_study(write_study(tmp_path / "s", strange)))
    with pytest.raises(UsageError, match="no such metric"):
        registry.options(metrics=("fvd",))
    with pytest.raises(DataError, match="no image in this split"):
        empty = write_study(tmp_path / "e")
        for source in ("a", "b"):
            table = tmp_path / "e" / source / "table.csv"
            table.write_text(table.read_text().replace(",test,", ",val,"))
        open_dataset(load_study(empty), "test")


def sees_nothing(images, rows):
    rng = np.random.default_rng(len(images))
    return {name: rng.normal(5, 0.1, len(images)) for name in ("slant", "thickness")}


@pytest.mark.slow
def test_every_control_number_stands_beside_what_its_instrument_is_worth(tmp_path, tiny_study, monkeypatch):
    study = load_study(tiny_study)
    oracle, _ = open_instruments(study)
    blind = Reader("blind", sees_nothing)
    by = {**oracle.by_covariate, **dict.fromkeys(("slant", "thickness"), "predictor-ridge@0")}
    mixed = Instruments((*oracle.readers, blind), by)
    monkeypatch.setitem(globals(), "open_instruments", lambda study: (mixed, []))
    options = {"metrics": ("control", "overall", "leakage"), "by": ()}
    found = run(tmp_path, tiny_study, {"both": obedient}, **options)
    control = [r for r in found.results if r.metric.startswith("control/")]
    assert control and all(r.own and r.own.n > 10 for r in control)
    slopes = [r for r in control if r.metric == "control/slope"]
    assert slopes and all(r.real_floor == r.own.slope and r.real_floor_n == r.own.n for r in slopes)
    assert not any(r.real_floor for r in control if r.metric in ("control/partial_r", "control/bias"))
    assert {r.covariate for r in control if r.doubtful} == {"slant", "thickness"}
    seen = next(r for r in control if r.covariate == "intensity").own
    assert seen.r > 0.9 and seen.mae < seen.guess_mae / 3 and seen.better
    (stated,) = found.find(metric="instrument/mae", covariate="slant")
    assert stated.detail["better"] is False and stated.detail["guess_mae"] > 0 and stated.model == REAL
    said = summary(found)
    table, last = said.rsplit("\n", 1)
    assert "intensity" in table and "MAE" in table and " slant " not in table and "slant" in last
    assert DOUBTFUL in comparison(found).csv() and "slant" in comparison(found).csv()
    assert any(n.about == "slant" and "no better than a constant guess" in n.message for n in found.notes)
    again = Evaluation.load(found.save(tmp_path / "eval.json"))
    assert [r.own for r in again.results] == [r.own for r in found.results]


def test_a_predictors_own_error_on_more_people_is_believed_unless_it_fails_here(tiny_study):
    study, n = load_study(tiny_study), 8
    rng = np.random.default_rng(0)
    values = np.full((n, len(study.conditions)), np.nan)
    values[:, study.index("slant")] = truth = rng.normal(0, 10, n)
    stated = OwnError("slant", 90, 90, mae=3.0, guess_mae=8.0, r=0.9, better=True)
    instruments = Instruments((), {"slant": "predictor-ridge@0"}, {"slant": stated})

    def own(read, split="test"):
        people = np.arange(n).astype(str)
        parts = {"values": values, "people": people, "training": values, "split": split}
        return judged(instruments, study, read={"slant": read}, **parts)["slant"]

    assert own(truth + rng.normal(0, 3, n)) is stated
    assert own(truth, "val") is stated
    assert own(-truth).n == n and own(-truth).better is False
    assert own(np.full(n, np.nan)) is stated
