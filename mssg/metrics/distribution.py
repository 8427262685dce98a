"""Distances between two sets of images, from their features: plain matrices, one row for each image.

Every number depends on the network that made the features: name it beside the number, and never compare
numbers from different features. On few images FID is biased upwards and KID leads; both mean little without
the floor, the same number between two halves of the real images.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from mssg.errors import DataError, UsageError
from mssg.metrics.moments import BLOCK, Moments
from mssg.metrics.neighbours import as_features, same_width

T = TypeVar("T")


class SmallSampleWarning(UserWarning):
    """A number was worked out from too few images to mean what its name says."""


class MeanSd(NamedTuple):
    """Mean and standard deviation (ddof 0) over subsets or splits; with a single one sd is 0 and says
    nothing."""

    mean: float
    sd: float


def fid(a: object, b: object) -> float:
    """Fréchet distance between the Gaussians fitted to two sets of features.

    d² = |μa − μb|² + tr(Σa + Σb − 2 (Σa^½ Σb Σa^½)^½), the last trace as the sum of the singular values of
    Σa^½ Σb^½: no complex numbers, and rank-deficient covariances do no harm.

    Args:
        a: Features [N, F], or their `Moments`.
        b: Features [M, F], or their `Moments`.

    Returns:
        The distance d² ≥ 0, in squared units of the features.

    Raises:
        DataError: If the matrices are wrong, differ in F, or have fewer than two rows.

    Warns:
        SmallSampleWarning: If a set has no more rows than features; then the number is mostly bias, use KID.

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule", eq. 6.
    """
    a, b = _moments(a, "a"), _moments(b, "b")
    if len(a.mean) != len(b.mean):
        raise DataError(
            "a and b have different numbers of features",
            found=f"{len(a.mean)} and {len(b.mean)}",
            expected="features from the same network",
        )
    _warn_few(min(a.n, b.n), len(a.mean))
    covariance = a.covariance
    return _frechet(a.mean, np.trace(covariance), _root(covariance), b)


@np.errstate(over="ignore", invalid="ignore")  # what leaves the range of numbers is refused at the end
def kid(a: object, b: object, subset_size: int | None = None, subsets: int = 100, seed: int = 0) -> MeanSd:
    """Kernel distance: the unbiased squared MMD with the kernel (x·y / F + 1)³.

    Args:
        a: Features [N, F].
        b: Features [M, F].
        subset_size: Rows drawn without replacement from each set for one subset; None for a single subset of
            all rows.
        subsets: How many subsets; of no effect where subset_size is None.
        seed: Of the draws. They are those of torch-fidelity with the same `rng_seed`.

    Returns:
        Mean and standard deviation over the subsets. The estimate is unbiased, hence around zero, and at
        times below it, for sets of the same distribution.

    Raises:
        DataError: If the matrices are wrong, differ in F, or have fewer than two rows.
        UsageError: If a subset is larger than a set, or there is none.

    Source: Bińkowski et al. 2018, "Demystifying MMD GANs", section 4.
    """
    a, b = as_features(a, "a", 2), as_features(b, "b", 2)
    same_width(a, b, ("a", "b"))
    if subset_size is None:
        return MeanSd(_finite(_mmd2(a, b), "KID"), 0.0)
    whole = all(isinstance(x, int | np.integer) for x in (subset_size, subsets, seed))
    if not whole or not 0 <= seed < 2**32:
        raise UsageError(
            "sizes and seed are whole numbers, the seed below 2³²",
            field="subset_size, subsets, seed",
            found=f"{subset_size}, {subsets}, {seed}",
        )
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise UsageError(
            "a subset must fit into both sets",
            field="subset_size",
            found=subset_size,
            expected=f"2 to {min(len(a), len(b))}",
        )
    if subsets < 1:
        raise UsageError("at least one subset is needed", field="subsets", found=subsets)
    rng = np.random.RandomState(seed)  # the legacy generator: the same subsets as other programs draw
    drawn = [(_choose(rng, len(a), subset_size), _choose(rng, len(b), subset_size)) for _ in range(subsets)]
    if max(len(a), len(b)) ** 2 > subsets * subset_size**2:  # most pairs are in no subset
        values = [_mmd2(a[i], b[j]) for i, j in drawn]
    else:
        values = _mmd2_of_subsets(a, b, [i for i, _ in drawn], [j for _, j in drawn])
    return MeanSd(_finite(float(np.mean(values)), "KID"), float(np.std(values)))


def inception_score(probabilities: object, splits: int = 10, seed: int | None = None) -> MeanSd:
    """Inception score: exp of the mean KL divergence of a classifier's answer from its average.

    Args:
        probabilities: Class probabilities [N, C] of generated images (after the softmax).
        splits: Equal runs of rows that are scored apart.
        seed: Shuffles the rows first; None keeps their order. Shuffle where images are ordered by what they
            show.

    Returns:
        Mean and standard deviation over the splits; 1 (all answers alike) to C.

    Raises:
        DataError: If rows are no probabilities.
        UsageError: If there are more splits than rows.

    Source: Salimans et al. 2016, "Improved techniques for training GANs", section 4.
    """
    p = as_features(probabilities, "probabilities").astype(np.float64)
    if p.min() < 0.0 or np.abs(p.sum(axis=1) - 1.0).max() > 1e-3:
        raise DataError(
            "rows must be probabilities that sum to one", field="probabilities", hint="apply the softmax"
        )
    if not 1 <= splits <= len(p):
        raise UsageError(
            "wrong number of splits",
            field="splits",
            found=splits,
            expected=f"1 to {len(p)}, one per image at most",
        )
    if seed is not None:
        p = p[np.random.default_rng(seed).permutation(len(p))]
    scores = []
    for i in range(splits):
        part = p[i * len(p) // splits : (i + 1) * len(p) // splits]
        average = np.broadcast_to(part.mean(axis=0), part.shape)
        ratio = np.divide(part, average, out=np.ones_like(part), where=part > 0.0)
        scores.append(np.exp((part * np.log(ratio)).sum(axis=1).mean()))
    return MeanSd(float(np.mean(scores)), float(np.std(scores)))


@dataclass(frozen=True)
class FidInfinity:
    """FID extrapolated to infinitely many generated images.

    Attributes:
        value: The intercept.
        slope: Change per 1/n.
        sizes: Numbers of generated images, ascending.
        fids: FID at each of them.
        residual: Root mean square distance of the values from the line; large means that the line is no
            model.
    """

    value: float
    slope: float
    sizes: tuple[int, ...]
    fids: tuple[float, ...]
    residual: float


def fid_infinity(
    a: object, b: object, points: int = 15, smallest: int | None = None, seed: int = 0
) -> FidInfinity:
    """FID without the bias of a finite number of generated images: a line in 1/n, read at 0.

    Removes the bias of `b` only; that of the real set remains, and the floor shows it.

    Args:
        a: Features [N, F] of the real images, or their `Moments`; always used whole.
        b: Features [M, F] of the generated images.
        points: Sizes, evenly spaced from smallest to M.
        smallest: Fewest images; the default is M / 10, but more than F where M allows.
        seed: Of the random subset at each size.

    Returns:
        Intercept, slope and the values behind them.

    Raises:
        DataError: As for `fid`.
        UsageError: If fewer than two sizes fit.

    Warns:
        SmallSampleWarning: If a size has no more images than features: there the bias is no line in 1/n.

    Source: Chong & Forsyth 2020, "Effectively unbiased FID and inception score", section 3.
    """
    a, b = _moments(a, "a"), as_features(b, "b", 3)
    if len(a.mean) != b.shape[1]:
        raise DataError("a and b have different numbers of features", found=f"{len(a.mean)} and {b.shape[1]}")
    if smallest is None:
        smallest = max(2, len(b) // 10, min(b.shape[1] + 1, len(b) // 2))
    sizes = (
        np.unique(np.linspace(smallest, len(b), points).astype(int)) if 2 <= smallest else np.zeros(0, int)
    )
    if len(sizes) < 2 or smallest >= len(b):
        raise UsageError(
            "a line needs at least two sizes",
            found=f"{points} points from {smallest} to {len(b)} images",
            expected=f"2 <= smallest < {len(b)} and points >= 2",
        )
    _warn_few(min(a.n, int(sizes[0])), b.shape[1])
    rng = np.random.default_rng(seed)
    covariance = a.covariance
    total, root = float(np.trace(covariance)), _root(covariance)
    fids = [_frechet(a.mean, total, root, Moments.of(b[rng.permutation(len(b))[:n]])) for n in sizes]
    slope, value = np.polyfit(1.0 / sizes, fids, 1)
    residual = float(np.sqrt(np.mean((np.array(fids) - (value + slope / sizes)) ** 2)))
    return FidInfinity(
        value=float(value),
        slope=float(slope),
        sizes=tuple(int(n) for n in sizes),
        fids=tuple(fids),
        residual=residual,
    )


def floor(metric: Callable[[np.ndarray, np.ndarray], T], real: object, seed: int = 0) -> T:
    """What a metric says of real images against real images: two random halves.

    A half has half as many images, so a biased metric such as FID has a higher floor here than on the whole
    set.

    Args:
        metric: A function of two feature matrices, such as `fid`.
        real: Features [N, F].

    Returns:
        metric(first half, second half), halves of floor(N / 2) rows.

    Raises:
        DataError: If the matrix is wrong or has fewer than four rows.
    """
    array = as_features(real, "real", 4)
    order, half = np.random.default_rng(seed).permutation(len(array)), len(array) // 2
    return metric(array[order[:half]], array[order[half : 2 * half]])


def _moments(features: object, name: str) -> Moments:
    if isinstance(features, Moments):
        if features.n < 2:
            raise DataError("too few rows", field=name, found=features.n, expected="at least 2")
        return features
    return Moments.of(as_features(features, name, 2))


def _warn_few(n: int, width: int) -> None:
    if n <= width:
        text = (
            f"FID from {n} images and {width} features is meaningless (covariances are singular); read KID"
            " instead"
        )
        warnings.warn(text, SmallSampleWarning, stacklevel=3)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root; eigenvalues that are rounding errors count as zero."""
    _finite(float(np.abs(covariance).max()), "FID")
    values, vectors = np.linalg.eigh(covariance)
    noise = len(values) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    values = np.where(values > noise, values, 0.0)
    return (vectors * np.sqrt(values)) @ vectors.T


def _frechet(mean: np.ndarray, total: float, root: np.ndarray, other: Moments) -> float:
    """Fréchet distance of a Gaussian (mean, trace and root of its covariance) and the moments of a sample."""
    covariance = other.covariance
    cross = np.linalg.svd(root @ _root(covariance), compute_uv=False).sum()
    shift = mean - other.mean
    return max(0.0, float(shift @ shift + total + np.trace(covariance) - 2.0 * cross))


def _mmd2(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD of all rows with the cubic kernel."""
    n, m = len(a), len(b)
    within_a, within_b = _kernel_sum(a, a), _kernel_sum(b, b)
    value = within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2.0 * _kernel_sum(a, b) / (n * m)
    return float(value)


def _choose(rng: np.random.RandomState, n: int, size: int) -> np.ndarray:
    return rng.choice(n, size, replace=False)


def _mmd2_of_subsets(
    a: np.ndarray, b: np.ndarray, of_a: list[np.ndarray], of_b: list[np.ndarray]
) -> np.ndarray:
    """`_mmd2` of equally large subsets [S], from one pass over all pairs: a pair counts where both are in the
    subset."""
    size = len(of_a[0])
    in_a, in_b = _membership(of_a, len(a)), _membership(of_b, len(b))
    within = _sums_of_subsets(a, a, in_a, in_a) + _sums_of_subsets(b, b, in_b, in_b)
    return within / (size * (size - 1)) - 2.0 * _sums_of_subsets(a, b, in_a, in_b) / size**2


def _membership(subsets: list[np.ndarray], n: int) -> np.ndarray:
    """Which rows are in which subset: 0 or 1 [S, n]."""
    member = np.zeros((len(subsets), n))
    for row, chosen in zip(member, subsets):
        row[chosen] = 1.0
    return member


def _sums_of_subsets(a: np.ndarray, b: np.ndarray, in_a: np.ndarray, in_b: np.ndarray) -> np.ndarray:
    """Sum of the kernel over the pairs of each subset [S]; over pairs of different rows where a and b are the
    same matrix."""
    total = np.zeros(len(in_a))
    for rows, columns, kernel in _kernel_blocks(a, b):
        sums = np.einsum("sj,sj->s", in_a[:, rows] @ kernel, in_b[:, columns])
        if a is b and rows == columns:
            sums -= in_a[:, rows] @ np.diagonal(kernel)
        total += 2.0 * sums if a is b and rows != columns else sums
    return total


def _finite(value: float, name: str) -> float:
    """The value, unless it left the range of numbers on the way."""
    if not np.isfinite(value):
        raise DataError(
            f"features are too large for {name}",
            found=value,
            hint="Scale both sets by the same factor; features of a network are of the order of one",
        )
    return value


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of the kernel over all pairs; over pairs of different rows where a and b are the same matrix."""
    total = 0.0
    for rows, columns, kernel in _kernel_blocks(a, b):
        if a is not b:
            total += kernel.sum()
        else:
            total += 2.0 * kernel.sum() if rows != columns else kernel.sum() - np.trace(kernel)
    return total


def _kernel_blocks(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """(rows, columns, cubic kernel of them); where a and b are the same matrix a block right of the diagonal
    stands for two."""
    for i in range(0, len(a), BLOCK):
        x = a[i : i + BLOCK].astype(np.float64)
        for j in range(i if a is b else 0, len(b), BLOCK):
            kernel = x @ b[j : j + BLOCK].astype(np.float64).T
            kernel /= a.shape[1]
            kernel += 1.0
            yield slice(i, i + BLOCK), slice(j, j + BLOCK), kernel * kernel * kernel
