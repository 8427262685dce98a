"""The loader: epochs, shares, independence of world size, and purity."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from mssg.data.dataset import open_sources
from mssg.data.loader import MultiSourceLoader
from mssg.errors import DataError, UsageError
from mssg.study.model import Source


@pytest.fixture
def sources(folders, study):
    return open_sources(study)


def rows_of(batch) -> np.ndarray:
    """Row numbers, which the test images carry in their first pixel."""
    return batch.images[:, 0, 0, 0].astype(int)


def test_a_batch_holds_what_the_tables_say(sources, study):
    batch = MultiSourceLoader(sources, study, "train", 12, seed=0).batch(4)
    assert batch.images.shape == (12, 1, 8, 8) and batch.images.dtype == np.uint8
    for image, row, values, observed, source in zip(
        batch.images, rows_of(batch), batch.values, batch.observed, batch.source
    ):
        np.testing.assert_array_equal(image, sources[source].images[row])
        np.testing.assert_array_equal(values, sources[source].values[row])
        np.testing.assert_array_equal(observed, study.observed_mask(source))
        assert np.isnan(values[~observed]).all() and sources[source].split[row] == "train"


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_image_is_visited_once_an_epoch(sources, study, split):
    loader = MultiSourceLoader(sources, study, split, 7, seed=5)
    batches = [loader.batch(step) for step in range(120)]
    source = np.concatenate([b.source for b in batches])
    visited = np.concatenate([rows_of(b) for b in batches])
    for index, packed in enumerate(sources):
        rows, mine = packed.rows(split), visited[source == index]
        epochs = len(mine) // len(rows)
        assert epochs >= 2
        counts = np.bincount(mine, minlength=len(packed))
        assert (counts[np.setdiff1d(np.arange(len(packed)), rows)] == 0).all()
        assert set(counts[rows]) <= {epochs, epochs + 1}
        assert loader.epochs(120)[index] == pytest.approx(len(mine) / len(rows))


def test_epochs_are_shuffled_anew(folders, study):
    study = replace(
        study, sources=(Source("north", "north", ("age", "sex")),), covariates=study.covariates[:2]
    )
    sources = open_sources(study)
    size = sources[0].rows("train").size
    loader = MultiSourceLoader(sources, study, "train", size, seed=0)
    first, second = rows_of(loader.batch(0)), rows_of(loader.batch(1))
    assert sorted(first) == sorted(second) == sources[0].rows("train").tolist()
    assert (first != second).any()


@pytest.mark.parametrize("weights", [(2.0, 1.0), (1.0, 1.0), (0.05, 0.95), (1.0, 7.3)])
def test_shares_follow_the_weights_over_any_stretch(sources, study, weights):
    study = replace(study, sources=tuple(replace(s, weight=w) for s, w in zip(study.sources, weights)))
    loader = MultiSourceLoader(sources, study, "train", 5, seed=1)
    north = np.cumsum([(loader.batch(step).source == 0).sum() for step in range(60)])
    exact = np.arange(1, 61) * 5 * weights[0] / sum(weights)
    assert np.abs(north - exact).max() <= 1 + 1e-9


def test_counts_add_up_and_never_fall_with_many_light_sources(sources, study):
    weights = (0.3, 0.01, 0.2, 0.01, 0.48)
    loader = MultiSourceLoader(sources, study, "train", 3, seed=1)
    loader._weights = [Fraction(w).limit_denominator(10**6) for w in weights]
    counts = np.array([loader._counts(3 * step) for step in range(2000)])
    np.testing.assert_array_equal(counts.sum(1), 3 * np.arange(2000))
    assert np.diff(counts, axis=0).min() >= 0
    assert np.abs(counts - 3 * np.arange(2000)[:, None] * np.array(weights)).max() < len(weights)


@pytest.mark.parametrize("world", [2, 3, 6])
def test_ranks_together_see_the_batch_of_one_process(sources, study, world):
    whole = MultiSourceLoader(sources, study, "train", 12, seed=9).batch(11)
    for rank in range(world):
        part = MultiSourceLoader(sources, study, "train", 12, 9, rank, world).batch(11)
        for name in ("images", "values", "observed", "source"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rank::world])


def test_batches_depend_on_seed_and_step_alone(sources, study):
    walked = MultiSourceLoader(sources, study, "train", 8, seed=2)
    for step in range(50):
        last = walked.batch(step)
    fresh = MultiSourceLoader(sources, study, "train", 8, seed=2).batch(49)
    np.testing.assert_array_equal(last.images, fresh.images)
    np.testing.assert_array_equal(last.values, fresh.values)
    other = MultiSourceLoader(sources, study, "train", 8, seed=3).batch(49)
    assert (other.images != fresh.images).any()


def test_conditions_are_label_rows_by_another_stream(sources, study):
    loader = MultiSourceLoader(sources, study, "train", 8, seed=2)
    values, source = loader.conditions(3, 20)
    assert values.shape == (20, 3) and set(source) == {0, 1}
    for row, index in zip(values, source):
        known = sources[index].values[sources[index].rows("train")]
        assert any(np.array_equal(row, k, equal_nan=True) for k in known)
    again = MultiSourceLoader(sources, study, "train", 8, 2, rank=1, world=2).conditions(3, 20)
    np.testing.assert_array_equal(again[0], values)  # the same on every rank
    assert not np.array_equal(loader.conditions(4, 20)[0], values, equal_nan=True)
    assert not np.array_equal(loader.conditions(3, 8)[0], loader.batch(3).values, equal_nan=True)


def test_rows_of_both_sources_are_mixed(sources, study):
    loader = MultiSourceLoader(sources, study, "train", 24, seed=0)
    halves = [set(loader.batch(step).source[:12]) for step in range(10)]
    assert sum(half == {0, 1} for half in halves) >= 9


@pytest.mark.parametrize(
    ("batch", "rank", "world", "field"), [(0, 0, 1, "batch"), (8, 0, 3, "batch"), (8, 2, 2, "rank")]
)
def test_sizes_that_do_not_fit_are_refused(sources, study, batch, rank, world, field):
    with pytest.raises(UsageError, match=field):
        MultiSourceLoader(sources, study, "train", batch, 0, rank, world)


def test_a_source_without_a_row_in_the_split_is_named(sources, study):
    empty = replace(sources[1], split=np.full(len(sources[1]), "test"))
    with pytest.raises(DataError, match=r"south.*no row in split 'train'"):
        MultiSourceLoader((sources[0], empty), study, "train", 4, 0)


def test_all_sources_of_the_study_are_needed(sources, study):
    with pytest.raises(UsageError, match="not the study's sources"):
        MultiSourceLoader(sources[:1], study, "train", 4, 0)
