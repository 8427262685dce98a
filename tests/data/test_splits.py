"""Splits by subject: stable, disjoint, of the shares asked for."""

import numpy as np
import pytest

from mssg.data.split import assign_sources, split_subjects, unit_hash
from mssg.errors import UsageError

SUBJECTS = [f"sub-{i:04d}" for i in range(4000)]
HASH = 0.4609338619340772
FIRST = ["val", "train", "test", "test", "train", "val", "train", "train"]


def test_shares_are_met():
    split = split_subjects(SUBJECTS, seed=3, test=0.2, val=0.25)
    shares = [(split == name).mean() for name in ("test", "val", "train")]
    np.testing.assert_allclose(shares, [0.2, 0.2, 0.6], atol=0.02)


def test_a_subject_falls_alike_whatever_else_is_there():
    whole = dict(zip(SUBJECTS, split_subjects(SUBJECTS, seed=1)))
    part = SUBJECTS[::7][::-1]
    assert split_subjects(part, seed=1).tolist() == [whole[s] for s in part]
    assert len(set(split_subjects(["sub-0001"] * 5, seed=1))) == 1


def test_the_hash_is_fixed_for_all_time():
    # a change here would move subjects between splits of data prepared earlier
    assert unit_hash(0, "sub-0001", "split") == pytest.approx(HASH, abs=1e-15)
    assert split_subjects(SUBJECTS[:8], seed=0).tolist() == FIRST


def test_seeds_and_purposes_are_independent():
    first, other = split_subjects(SUBJECTS, 0, 0.5, 0.0), split_subjects(SUBJECTS, 1, 0.5, 0.0)
    assert abs((first == other).mean() - 0.5) < 0.05
    home = assign_sources(SUBJECTS, [1, 1], 0)
    assert abs(home[first == "test"].mean() - 0.5) < 0.05


def test_sources_divide_a_population_by_their_shares():
    home = assign_sources(SUBJECTS, [2, 1, 1], seed=5)
    np.testing.assert_allclose(np.bincount(home) / len(home), [0.5, 0.25, 0.25], atol=0.03)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2])
def test_impossible_shares_are_refused(share):
    with pytest.raises(UsageError, match="share"):
        split_subjects(SUBJECTS, test=share)
    with pytest.raises(UsageError, match="shares"):
        assign_sources(SUBJECTS, [share, -share])
