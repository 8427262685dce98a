"""Utility with predictors whose answers are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from mssg import load_study
from mssg.data.dataset import open_sources
from mssg.errors import UsageError
from mssg.metrics.utility import synthetic_source, utility


class Line:
    """Reads thickness off the mean grey level by a line fitted to what it was trained on, and the most
    frequent digit."""

    def __init__(self, study, sources):
        rows = [s.rows("train") for s in sources]
        level = np.concatenate([s.images[r].mean((1, 2, 3)) for s, r in zip(sources, rows)])
        values = np.concatenate([s.values[r] for s, r in zip(sources, rows)])
        self.line = np.polyfit(level, values[:, study.index("thickness")], 1)
        self.trained_on = len(level)

    def measure(self, images):
        n = len(images)
        return {"thickness": np.polyval(self.line, images.mean((1, 2, 3))), "digit": np.zeros(n)}


@pytest.fixture
def material(tiny_study):
    from mssg.covariates.system import fit_models

    study = load_study(tiny_study)
    sources = open_sources(study)
    tables = [s.columns(study, "train") for s in sources]
    study = fit_models(study, tables, np.random.default_rng(0)).study
    test = [(s.images[s.rows("test")], s.values[s.rows("test")]) for s in sources]
    images, values = (np.concatenate(parts) for parts in zip(*test))
    values = (
        np.nan_to_num(np.concatenate([s.values[s.rows("train")] for s in sources]), nan=150.0)[:64],
        images,
        values,
    )
    return study, sources, *values


def strokes(values, seed):
    from strokes import draw_strokes

    return draw_strokes(values[:, 0], values[:, 1], np.zeros(len(values)), values[:, 3])


def test_both_predictors_are_tested_on_the_same_real_images(material):
    study, sources, requests, images, values = material
    made = []

    def fit(of):
        made.append(Line(study, of))
        return made[-1]

    found = utility(study, sources, strokes, requests, test_images=images, test_values=values, fit=fit)
    results = {r.covariate: r for r in found}
    assert set(results) == {"thickness", "digit"} and len(made) == 2
    truth = values[:, study.index("thickness")]
    for got, line in ((results["thickness"].real_floor, made[0]), (results["thickness"].value, made[1])):
        assert got == pytest.approx(np.abs(line.measure(images)["thickness"] - truth).mean())
    train = np.concatenate([s.values[s.rows("train"), 0] for s in sources])
    assert results["thickness"].detail["blind_guess"] == pytest.approx(
        np.abs(truth - np.median(train)).mean()
    )
    digits = values[:, study.index("digit")]
    assert results["digit"].value == results["digit"].real_floor == pytest.approx((digits == 0).mean())
    assert results["digit"].metric == "utility/accuracy" and results["thickness"].n == 64


def test_no_predictor_is_trained_twice(material):
    study, sources, requests, images, values = material
    made, kept = [], {}

    def fit(of):
        made.append(Line(study, of))
        return made[-1]

    def keep(whose, compute):
        return kept[whose] if whose in kept else kept.setdefault(whose, compute())

    runs = [
        utility(
            study,
            sources,
            strokes,
            requests,
            test_images=images,
            test_values=values,
            model=model,
            fit=fit,
            keep=keep,
        )
        for model in ("A", "B", "A")
    ]
    assert len(made) == 3 and set(kept) == {"real", "A", "B"} and runs[0] == runs[2]
    assert runs[0][0].real_floor == runs[1][0].real_floor


def test_generated_images_without_content_are_of_no_use(material):
    study, sources, requests, images, values = material
    noise = lambda v, seed: np.random.default_rng(seed).integers(0, 255, (len(v), 1, 32, 32), np.uint8)  # noqa: E731
    fit = lambda of: Line(study, of)  # noqa: E731
    found = utility(study, sources, noise, requests, test_images=images, test_values=values, fit=fit)
    results = {r.covariate: r for r in found}
    assert results["thickness"].value > 1.5 * results["thickness"].real_floor


@pytest.mark.slow
def test_the_predictors_of_mssg_are_trained(material):
    study, sources, requests, images, values = material
    results = utility(
        study, sources, strokes, requests[:32], test_images=images[::6], test_values=values[::6], epochs=1
    )
    assert {r.covariate for r in results} == {"thickness", "intensity", "slant", "digit"}
    assert all(np.isfinite(r.value) and np.isfinite(r.real_floor) for r in results)


def test_generated_images_become_a_source_and_few_are_refused(material):
    study, sources, requests, images, values = material
    source = synthetic_source(study, strokes(requests, 0), requests, 0)
    assert len(source.rows("train")) + len(source.rows("val")) == 64 and 5 <= len(source.rows("val")) <= 15
    with pytest.raises(UsageError, match="too few"):
        utility(study, sources, strokes, requests[:5], test_images=images, test_values=values)
