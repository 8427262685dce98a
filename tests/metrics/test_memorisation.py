"""Copies among generated images: found where there are some, and not where there are none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mssg.errors import DataError, UsageError
from mssg.metrics.memorisation import DISCLAIMER, memorisation, usual_share, verdict


@pytest.fixture
def real() -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((300, 8)), rng.standard_normal((200, 8)), rng


def test_equals_the_definition(real) -> None:
    train, heldout, rng = real
    fake = rng.standard_normal((40, 8))
    result = memorisation(fake, train, heldout, "toy", false_alarm=0.05)

    def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.array([[np.sqrt(np.sum((i - j) ** 2)) for j in y] for i in x])

    to_train, among = distances(fake, train), distances(heldout, heldout)
    np.fill_diagonal(among, np.inf)
    np.testing.assert_allclose(result.distance, to_train.min(1))
    np.testing.assert_array_equal(result.index, to_train.argmin(1))
    np.testing.assert_allclose(result.ratio, to_train.min(1) / distances(fake, heldout).min(1))
    usual = distances(heldout, train).min(1)
    np.testing.assert_allclose(result.heldout_ratio, usual / among.min(1))
    assert result.threshold == np.sort(result.heldout_ratio)[9]  # floor(0.05 · 201) = 10 of 200
    assert result.false_alarm == 10 / 200
    assert result.relative_distance == pytest.approx(np.median(to_train.min(1)) / np.median(usual))


def test_copies_are_flagged_and_shown_first(real) -> None:
    train, heldout, rng = real
    fake = rng.standard_normal((100, 8))
    copied = rng.permutation(300)[:20]
    fake[:20] = train[copied] + 1e-3 * rng.standard_normal((20, 8))
    result = memorisation(fake, train, heldout)
    assert result.flagged[:20].all() and result.flagged[20:].sum() <= 5
    pairs = result.closest(20)
    assert dict(pairs.tolist()) == dict(zip(range(20), copied.tolist()))
    summary = json.loads(json.dumps(result.summary()))
    assert summary["flagged"] >= 20 and summary["note"] == DISCLAIMER and "no privacy guarantee" in DISCLAIMER


def test_fresh_images_are_flagged_as_often_as_promised(real) -> None:
    train, heldout, rng = real
    shares = [
        memorisation(rng.standard_normal((200, 8)), train, heldout, false_alarm=0.1).share for _ in range(3)
    ]
    assert 0.03 < np.mean(shares) < 0.2


def test_exact_copies_and_zeros(real) -> None:
    train, heldout, _ = real
    heldout = np.concatenate([heldout, train[:1]])  # one image in both sets
    result = memorisation(np.stack([train[0], train[1], heldout[3]]), train, heldout)
    assert result.ratio.tolist() == [1.0, 0.0, np.inf]
    # the shared image, with a neighbour of its own among the held-out ones, is the only alarm
    assert result.heldout_ratio[-1] == 0.0 and result.flagged.tolist() == [False, True, False]


def test_pixels_and_few_heldout_images() -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (30, 1, 8, 8)).astype(np.uint8)
    flat = images.reshape(30, -1)
    result = memorisation(flat[:5], flat[:20], flat[20:], "pixels", false_alarm=0.01)
    assert (result.distance == 0).all() and result.flagged.all() and result.space == "pixels"
    assert result.false_alarm == 0.1  # one of ten: the best that ten can promise


def test_wrong_input(real) -> None:
    train, heldout, _ = real
    with pytest.raises(DataError, match="held-out"):
        memorisation(train, train, heldout[:1])
    with pytest.raises(DataError, match="different numbers"):
        memorisation(train[:, :4], train, heldout)
    with pytest.raises(DataError, match="NaN"):
        memorisation(np.full((2, 8), np.nan), train, heldout)
    with pytest.raises(UsageError, match="share"):
        memorisation(train, train, heldout, false_alarm=1.0)


def test_a_share_is_judged_by_what_a_model_that_copies_nothing_may_reach():
    rng = np.random.default_rng(0)
    for k, n in ((1, 20), (1, 7), (10, 1000)):
        thresholds = np.sort(rng.random((4000, n)), axis=1)[
            :, k - 1
        ]  # what ratios below it a model would have
        assert usual_share(k / n, n) == pytest.approx(np.quantile(thresholds, 0.95), rel=0.08)
    chance, said = verdict(0.14, 0.12, 1 / 20, 20)
    assert not chance and "14.0 %" in said and "13.9 %" in said and "more held-out people" in said
    more, said = verdict(0.14, 0.12, 0.05, 400)
    assert more and "--all-snapshots" in said and "--aug" in said and "--freezed" in said
