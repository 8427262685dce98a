"""Fidelity and diversity apart: which images lie within the other set's neighbourhoods.

Plain matrices of features, one row for each image; every number depends on the network that made them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.neighbours import as_features, nearest, same_width, within, within_each_other


class PrecisionRecall(NamedTuple):
    """Share of fakes inside the real manifold, share of reals inside the fake one; 0..1."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """Density (about 1 where the sets agree, may exceed it) and coverage (0..1)."""

    density: float
    coverage: float


def precision_recall(real: object, fake: object, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall: is an image within some image's k-th neighbour distance in the other
    set?

    Args:
        real: Features [N, F].
        fake: Features [M, F].
        k: Neighbours (the image itself does not count, a duplicate of it does).

    Returns:
        Precision (fakes among reals) and recall (reals among fakes).

    Raises:
        DataError: If the matrices are wrong, differ in F, or have k rows or fewer.
        UsageError: If k < 1.

    Source: Kynkäänniemi et al. 2019, "Improved precision and recall metric", eq. 1 and 2; closed balls as
    there.
    """
    real, fake = _two_sets(real, fake, k)
    in_real, in_fake = within_each_other(fake, real, _squared_radii(fake, k), _squared_radii(real, k))
    return PrecisionRecall(float(in_real.mean()), float(in_fake.mean()))


def density_coverage(real: object, fake: object, k: int = 5, closed: bool = True) -> DensityCoverage:
    """Density and coverage: how many real neighbourhoods a fake lies in, how many hold a fake.

    Args:
        real: Features [N, F].
        fake: Features [M, F].
        k: Neighbours (the image itself does not count, a duplicate of it does).
        closed: Whether an image exactly at the radius is inside, as for `precision_recall`; False is what the
            authors' package does. They differ only with ties, such as copies of training images.

    Returns:
        Density and coverage.

    Raises:
        DataError: If the matrices are wrong, differ in F, or real has k rows or fewer.
        UsageError: If k < 1.

    Source: Naeem et al. 2020, "Reliable fidelity and diversity metrics", eq. 3 and 4.
    """
    real, fake = _two_sets(real, fake, k, 1)
    of_fake, of_real = within(fake, real, _squared_radii(real, k), closed)
    return DensityCoverage(float(of_fake.mean() / k), float((of_real > 0).mean()))


def _two_sets(
    real: object, fake: object, k: int, least_fake: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    if k < 1:
        raise UsageError("the number of neighbours must be positive", field="k", found=k)
    real, fake = as_features(real, "real", k + 1), as_features(fake, "fake", least_fake or k + 1)
    same_width(real, fake, ("real", "fake"))
    return real, fake


def _squared_radii(features: np.ndarray, k: int) -> np.ndarray:
    """Squared distance [N] of every row to its k-th neighbour in the same set."""
    return nearest(features, features, k, exclude_self=True).squared[:, -1]
