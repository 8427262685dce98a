"""Distances between sets of features, against known answers and against definitions written out as loops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg

from mssg.errors import DataError, MssgError, UsageError
from mssg.metrics import neighbours
from mssg.metrics.distribution import SmallSampleWarning, fid, fid_infinity, floor, inception_score, kid
from mssg.metrics.manifold import density_coverage, precision_recall
from mssg.metrics.moments import Moments
from mssg.metrics.neighbours import nearest, within


@pytest.fixture
def sets() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((12, 12))
    return rng.standard_normal((150, 12)) @ mix, rng.standard_normal((130, 12)) @ mix * 1.1 + 0.2


def with_moments(mean: np.ndarray, covariance: np.ndarray) -> Moments:
    return Moments(101, mean, covariance * 100)


def squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([[np.sum((i - j) ** 2) for j in y] for i in x])


def radii(x: np.ndarray, k: int) -> np.ndarray:
    d = squared(x, x)
    return np.array([np.sort(np.delete(d[i], i))[k - 1] for i in range(len(x))])


def awkward(kind: str, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Small sets on which single precision or sloppy comparisons go wrong."""
    rng = np.random.default_rng(seed)
    if kind == "lattice":  # ties everywhere
        return rng.integers(0, 3, (40, 3)).astype(float), rng.integers(0, 3, (30, 3)).astype(float)
    real = rng.standard_normal((40, 6))
    if kind == "copies":
        return real, np.concatenate([real[:10], real[:10], rng.standard_normal((10, 6))])
    if kind == "offset":  # far from the origin
        return real.astype(np.float32) + np.float32(3e4), rng.standard_normal((30, 6)).astype(
            np.float32
        ) + np.float32(3e4)
    if kind == "collapsed":
        return real, np.full((30, 6), 0.5)
    if kind == "clusters":  # distances far below what float32 resolves beside the norms
        fake = rng.standard_normal((30, 6)) * 1e-7
        real = real * 1e-7
        real[::2] += 1.0
        fake[::2] += 1.0
        return real, fake
    return real, rng.standard_normal((30, 6)) * 1e20 if kind == "huge" else rng.standard_normal((30, 6))


KINDS = ("plain", "lattice", "copies", "offset", "collapsed", "clusters", "huge")


class TestFid:
    def test_gaussians_with_commuting_covariances(self) -> None:
        # d² = |Δ|² + Σ (σ − τ)²
        a = with_moments(np.array([1.0, 2.0, 0.0]), np.diag([1.0, 4.0, 9.0]))
        b = with_moments(np.array([0.0, 0.0, 0.0]), np.diag([4.0, 4.0, 25.0]))
        assert fid(a, b) == pytest.approx(5.0 + 1.0 + 0.0 + 4.0, rel=1e-12)

    def test_equals_the_matrix_square_root(self, sets: tuple[np.ndarray, np.ndarray]) -> None:
        a, b = sets
        of_a, of_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        shift = a.mean(0) - b.mean(0)
        expected = shift @ shift + np.trace(of_a + of_b - 2 * scipy.linalg.sqrtm(of_a @ of_b).real)
        assert fid(a, b) == pytest.approx(expected, rel=1e-9)
        assert fid(b, a) == pytest.approx(expected, rel=1e-9)

    def test_no_distance_to_itself_and_the_shift_of_a_copy(self, sets: tuple[np.ndarray, np.ndarray]) -> None:
        a = sets[0]
        assert fid(a, a) == pytest.approx(0.0, abs=1e-10)
        assert fid(a, a + 3.0) == pytest.approx(9.0 * 12, rel=1e-10)

    def test_fewer_images_than_features_warns_and_is_still_the_distance(self) -> None:
        rng = np.random.default_rng(3)
        a, b = rng.standard_normal((8, 30)), rng.standard_normal((9, 30))
        with pytest.warns(SmallSampleWarning, match="KID"):
            value = fid(a, b)
        # tr (Σa Σb)^½ is the sum of the singular values of A Bᵀ / sqrt((n−1)(m−1))
        of_a, of_b = (a - a.mean(0)) / np.sqrt(7), (b - b.mean(0)) / np.sqrt(8)
        cross = np.linalg.svd(of_a @ of_b.T, compute_uv=False).sum()
        shift = a.mean(0) - b.mean(0)
        assert value == pytest.approx(shift @ shift + (of_a**2).sum() + (of_b**2).sum() - 2 * cross, rel=1e-7)

    def test_constant_feature(self, sets: tuple[np.ndarray, np.ndarray]) -> None:
        a, b = (np.concatenate([x, np.full((len(x), 1), v)], axis=1) for x, v in zip(sets, (1.0, 3.0)))
        assert fid(a, b) == pytest.approx(fid(*sets) + 4.0, rel=1e-9)

    def test_streamed_moments(self, sets: tuple[np.ndarray, np.ndarray]) -> None:
        a = sets[0] + 1e6  # a sum of squares would lose everything here
        whole, left, right = Moments.of(a), Moments.empty(12), Moments.empty(12)
        for start in range(0, 70, 7):
            left.add(a[start : start + 7])
        right.add(a[70:])
        left.merge(right).merge(Moments.empty(12))
        assert left.n == whole.n == 150
        for moments in (whole, left):
            np.testing.assert_allclose(moments.mean, a.mean(0), rtol=1e-12)
            np.testing.assert_allclose(moments.covariance, np.cov(a, rowvar=False), rtol=1e-7)
        assert fid(left, Moments.of(sets[1] + 1e6)) == pytest.approx(fid(*sets), rel=1e-6)

    def test_infinity_reads_the_line_at_zero(self) -> None:
        rng = np.random.default_rng(5)
        real, fake = Moments(10**9, np.zeros(30), np.eye(30) * (10**9 - 1)), rng.standard_normal((4000, 30))
        result = fid_infinity(real, fake, points=12, smallest=400, seed=1)
        assert result.sizes[0] == 400 and result.sizes[-1] == 4000 and len(result.fids) == 12
        assert result.fids[-1] == pytest.approx(fid(real, fake), rel=1e-9)
        slope, value = np.polyfit(1 / np.array(result.sizes), result.fids, 1)
        assert (result.value, result.slope) == (pytest.approx(value), pytest.approx(slope))
        # the truth is 0; one FID at n is biased by about (30 + 30 · 31 / 4) / n = 262 / n
        assert abs(result.value) < 0.4 * result.fids[-1] and result.slope == pytest.approx(262, rel=0.25)
        assert result == fid_infinity(real, fake, points=12, smallest=400, seed=1)
        with pytest.raises(UsageError):
            fid_infinity(real, fake, smallest=4000)

    def test_floor_is_of_disjoint_halves(self) -> None:
        rows = np.arange(11.0)[:, None]
        first, second = floor(lambda x, y: (x, y), rows, seed=2)
        assert len(first) == len(second) == 5 and not set(first.ravel()) & set(second.ravel())
        assert not np.array_equal(first, floor(lambda x, y: x, rows, seed=3))


class TestKid:
    @staticmethod
    def by_loops(a: np.ndarray, b: np.ndarray) -> float:
        def k(x: np.ndarray, y: np.ndarray) -> float:
            return (x @ y / len(x) + 1) ** 3

        n, m = len(a), len(b)
        same_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
        same_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
        return same_a + same_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)

    def test_equals_the_double_loop(
        self, sets: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a, b = sets[0][:40], sets[1][:33]
        expected = self.by_loops(a, b)
        assert kid(a, b) == (pytest.approx(expected, rel=1e-10), 0.0)
        monkeypatch.setattr("mssg.metrics.distribution.BLOCK", 16)  # several blocks on both axes
        assert kid(a, b).mean == pytest.approx(expected, rel=1e-10)

    def test_subsets(self, sets: tuple[np.ndarray, np.ndarray]) -> None:
        a, b = sets
        rng, values = np.random.RandomState(4), []
        for _ in range(3):
            i, j = rng.choice(150, 20, replace=False), rng.choice(130, 20, replace=False)
            values.append(self.by_loops(a[i], b[j]))
        result = kid(a, b, subset_size=20, subsets=3, seed=4)
        assert result == (pytest.approx(np.mean(values)), pytest.approx(np.std(values)))
        assert kid(a, b, 20, 3, seed=5).mean != result.mean

    def test_unbiased_for_equal_distributions(self) -> None:
        rng = np.random.default_rng(1)
        values = [kid(rng.standard_normal((20, 4)), rng.standard_normal((20, 4))).mean for _ in range(200)]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200) and min(values) < 0

    def test_subset_larger_than_a_set(self, sets: tuple[np.ndarray, np.ndarray]) -> None:
        with pytest.raises(UsageError, match="130"):
            kid(*sets, subset_size=140)
        with pytest.raises(UsageError):
            kid(*sets, subset_size=20, subsets=0)


class TestInceptionScore:
    def test_extremes(self) -> None:
        assert inception_score(np.full((20, 5), 0.2), 2) == (pytest.approx(1.0), pytest.approx(0.0))
        assert inception_score(np.tile(np.eye(5), (4, 1)), 2).mean == pytest.approx(5.0)

    def test_definition(self) -> None:
        p = np.random.default_rng(0).dirichlet(np.ones(4), 21)
        scores = [
            np.exp(np.mean([np.sum(r * np.log(r / q.mean(0))) for r in q])) for q in (p[:7], p[7:14], p[14:])
        ]
        assert inception_score(p, 3) == (pytest.approx(np.mean(scores)), pytest.approx(np.std(scores)))
        assert inception_score(p, 3, seed=1) != inception_score(p, 3)

    def test_logits_are_refused(self) -> None:
        with pytest.raises(DataError, match="softmax"):
            inception_score(np.random.default_rng(0).standard_normal((5, 3)))
        with pytest.raises(UsageError):
            inception_score(np.full((5, 2), 0.5), 6)


class TestManifolds:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("k", [1, 3, 5])
    def test_equals_the_definitions(self, kind: str, k: int) -> None:
        real, fake = awkward(kind)
        d = squared(real.astype(float), fake.astype(float))
        of_real, of_fake = radii(real.astype(float), k), radii(fake.astype(float), k)
        in_real, in_fake = d <= of_real[:, None], d <= of_fake[None]
        assert precision_recall(real, fake, k) == (in_real.any(0).mean(), in_fake.any(1).mean())
        assert density_coverage(real, fake, k) == (
            pytest.approx(in_real.sum() / (k * len(fake))),
            in_real.any(1).mean(),
        )
        strict = d < of_real[:, None]
        found = density_coverage(real, fake, k, closed=False)
        assert found == (pytest.approx(strict.sum() / (k * len(fake))), strict.any(1).mean())

    @pytest.mark.parametrize("kind", KINDS)
    def test_neighbours_equal_the_double_loop(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(neighbours, "BLOCK_BYTES", 4 * 40 * 7)  # blocks of seven rows
        monkeypatch.setattr(neighbours, "PAIR_BYTES", 8 * 6 * 5)
        monkeypatch.setattr(neighbours, "MANY", 2)  # so that the second screening is tried
        real, fake = awkward(kind)
        d = squared(fake.astype(float), real.astype(float))
        found = nearest(fake, real, 4)
        np.testing.assert_allclose(found.squared, np.sort(d, axis=1)[:, :4], rtol=1e-13)
        np.testing.assert_allclose(np.take_along_axis(d, found.index, 1), found.squared, rtol=1e-13)
        assert all(len(set(row)) == 4 for row in found.index.tolist())
        ties = found.squared[:, :-1] == found.squared[:, 1:]
        assert (found.index[:, :-1] < found.index[:, 1:])[ties].all()
        own = nearest(real, real, 4, exclude_self=True)
        np.testing.assert_allclose(own.squared[:, 3], radii(real.astype(float), 4), rtol=1e-13)
        assert (own.index != np.arange(len(real))[:, None]).all()

    def test_within_counts_both_ways(self) -> None:
        points, centres = np.array([[0.0], [1.0], [5.0]]), np.array([[0.0], [4.0]])
        of_point, of_centre = within(points, centres, np.array([1.0, 1.0]))
        assert of_point.tolist() == [1, 1, 1] and of_centre.tolist() == [2, 1]
        of_point, _ = within(points, centres, np.array([1.0, 1.0]), closed=False)
        assert of_point.tolist() == [1, 0, 0]

    def test_float32_gives_the_neighbours_of_float64(self) -> None:
        rng = np.random.default_rng(2)
        x = (rng.standard_normal((300, 200)) + 50).astype(np.float32)
        near = x[:50] + rng.standard_normal((50, 200)).astype(np.float32) * np.float32(1e-3)
        found = nearest(near, x, 2)
        d = squared(near.astype(float), x.astype(float))
        np.testing.assert_array_equal(found.index, np.argsort(d, axis=1)[:, :2])
        np.testing.assert_allclose(found.distance, np.sqrt(np.sort(d, axis=1)[:, :2]), rtol=1e-13)


@pytest.mark.parametrize("metric", [fid, kid, precision_recall, density_coverage, fid_infinity])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[0], "matrix"),
        (lambda x: x[:, :5], "different numbers of features"),
        (lambda x: np.where(np.arange(130)[:, None] == 77, np.nan, x), "row 77"),
        (lambda x: x[:0], "too few rows"),
        (lambda x: x.astype(str), "real numbers"),
        (lambda x: [[1.0, 2.0], [1.0]], "plain matrix"),
    ],
)
def test_wrong_features_are_told(metric, change, words, sets: tuple[np.ndarray, np.ndarray]) -> None:
    with warnings.catch_warnings(), pytest.raises(MssgError, match=words):
        warnings.simplefilter("ignore", SmallSampleWarning)
        metric(sets[0], change(sets[1]))


def test_the_smallest_columns_come_from_as_many_groups() -> None:
    """Many references, so that groups of columns are searched: neighbours are still those of the double loop,
    ties and all."""
    rng = np.random.default_rng(8)
    query, reference = rng.standard_normal((20, 3)), rng.standard_normal((1501, 3))
    for kind in ("plain", "whole numbers", "all alike"):
        if kind == "whole numbers":
            query, reference = np.rint(query), np.rint(reference)
        if kind == "all alike":
            query, reference = np.ones_like(query), np.ones_like(reference)
        d = ((query[:, None] - reference[None]) ** 2).sum(-1)
        for k in (1, 4):
            found = nearest(query, reference, k)
            np.testing.assert_allclose(found.squared, np.sort(d, axis=1)[:, :k], rtol=1e-12)
            np.testing.assert_allclose(np.take_along_axis(d, found.index, 1), found.squared, rtol=1e-12)
            assert all(len(set(row)) == k for row in found.index.tolist())


def test_one_pass_over_all_pairs_gives_the_kid_of_each_subset() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((210, 9)), rng.standard_normal((190, 9)) + 0.3
    draws, values = np.random.RandomState(6), []
    for _ in range(30):
        i, j = draws.choice(210, 60, replace=False), draws.choice(190, 60, replace=False)
        values.append(kid(a[i], b[j]).mean)
    together, apart = kid(a, b, 60, 30, seed=6), kid(a, b, 60, 2, seed=6)
    np.testing.assert_allclose(together, (np.mean(values), np.std(values)), rtol=1e-10)
    np.testing.assert_allclose(apart, (np.mean(values[:2]), np.std(values[:2])), rtol=1e-10)


def test_numbers_out_of_range_are_refused(sets: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = sets
    for metric, scale in ((fid, 1e200), (kid, 1e120)):
        with warnings.catch_warnings(), pytest.raises(DataError, match="too large"):
            warnings.simplefilter("ignore", SmallSampleWarning)
            metric(a * scale, b)
    for options in ({"subset_size": 2.5}, {"subsets": 2.5}, {"seed": -1}):
        with pytest.raises(UsageError, match="whole numbers"):
            kid(a, b, **({"subset_size": 5} | options))


def test_number_of_neighbours(sets: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(UsageError, match="positive"):
        precision_recall(*sets, k=0)
    with pytest.raises(DataError, match="at least 151"):
        density_coverage(*sets, k=150)
    with pytest.raises(UsageError):
        nearest(*sets, k=0)
    with pytest.raises(DataError, match="at least 2"):
        fid(Moments.of(sets[0][:1]), sets[1])
    with pytest.raises(DataError, match="two images"):
        _ = Moments.of(sets[0][:1]).covariance
    with pytest.raises(DataError, match="widths"):
        Moments.empty(3).add(sets[0])
