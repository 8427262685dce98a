"""An instrument's own error beside a constant guess: what is better than guessing, and what is not known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mssg.measure.own_error import FEWEST_PEOPLE, constant_guess, own_error
from mssg.study.covariate import Covariate

AGE, SEX = Covariate("age", "continuous", unit="years"), Covariate("sex", "binary", levels=("F", "M"))


def judged(n, noise, seed=0, per_person=1):
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.normal(60, 10, n // per_person), per_person)
    found = truth + noise * np.repeat(rng.normal(size=n // per_person), per_person)
    people = np.repeat(np.arange(n // per_person), per_person).astype(str)
    return own_error(AGE, truth, found, guess=constant_guess(AGE, truth), people=people)


def test_numbers_are_those_of_the_textbook():
    truth, found = np.array([50.0, 60, 70, np.nan, 80]), np.array([52.0, 60, 66, 1, np.nan])
    own = own_error(AGE, truth, found, guess=60.0, people=list("abcde"))
    assert (own.n, own.people, own.mae, own.guess_mae) == (3, 3, 2.0, pytest.approx(20 / 3))
    assert own.r == pytest.approx(np.corrcoef(truth[:3], found[:3])[0, 1]) and math.isnan(own.accuracy)
    assert own.better is None  # three people say nothing
    assert "MAE 2.00 years, a constant guess 6.67 years" in own.words() and "n = 3" in own.words()


def test_a_good_instrument_is_better_than_guessing_and_noise_is_not():
    assert judged(30, noise=5).better is True
    rng = np.random.default_rng(1)
    truth = rng.normal(60, 10, (200, 30))
    read = rng.normal(60, 2, (200, 30))
    people = np.arange(30).astype(str)
    better = [own_error(AGE, t, f, guess=60, people=people).better for t, f in zip(truth, read)]
    assert np.mean(better) < 0.06


def test_many_images_of_few_people_are_few_people():
    assert judged(100, noise=5, per_person=50).better is None
    assert judged(5 * FEWEST_PEOPLE, noise=1, per_person=5).better is True


def test_levels_are_judged_by_the_commonest_one():
    truth = np.array([1.0] * 8 + [0.0] * 32)
    people = np.arange(40).astype(str)
    guess = constant_guess(SEX, truth)
    assert guess == 0
    blind = own_error(SEX, truth, np.zeros(40), guess=guess, people=people)
    assert (blind.accuracy, blind.guess_accuracy, blind.better) == (0.8, 0.8, False)
    right = own_error(SEX, truth, truth, guess=guess, people=people)
    assert right.better is True and "right 100.0 %, a constant guess 80.0 %" in right.words()


def test_nothing_known_is_said():
    own = own_error(AGE, np.full(3, np.nan), np.ones(3), guess=60, people=list("abc"))
    assert own.n == 0
    assert own.verdict == "not known" and "not known" in own.words() and own.better is None
    assert math.isnan(constant_guess(AGE, np.array([np.nan])))
