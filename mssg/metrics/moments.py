"""Mean and covariance of features, in one pass and without keeping them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mssg.errors import DataError
from mssg.metrics.neighbours import as_features

BLOCK = 2048
"""Rows converted to double precision at a time."""


@dataclass
class Moments:
    """Running mean and covariance, so that features need never be kept.

    `n`, `mean` and `scatter` are the whole state: store them to keep the statistics of a set.

    Attributes:
        n: Rows seen.
        mean: Their mean, float64 [F].
        scatter: Sum of outer products of the deviations from the mean, float64 [F, F].
    """

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, width: int) -> Moments:
        """Moments of no rows of F = width features."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    @classmethod
    def of(cls, features: object) -> Moments:
        """Moments of a matrix [N, F]."""
        array = as_features(features, "features")
        return cls.empty(array.shape[1]).add(array)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance, float64 [F, F].

        Raises:
            DataError: With fewer than two rows.
        """
        if self.n < 2:
            raise DataError("a covariance needs at least two images", field="features", found=self.n)
        return self.scatter / (self.n - 1)

    def add(self, features: object) -> Moments:
        """Add rows [n, F]; returns itself.

        Raises:
            DataError: If they are no matrix of finite numbers, or have another width.
        """
        array = as_features(features, "features")
        for start in range(0, len(array), BLOCK):
            part = array[start : start + BLOCK].astype(np.float64)
            mean = part.mean(axis=0)
            part -= mean
            with np.errstate(over="ignore", invalid="ignore"):  # refused where it is used
                scatter = part.T @ part
            self.merge(Moments(len(part), mean, scatter))
        return self

    def merge(self, other: Moments) -> Moments:
        """Add the rows that other moments have seen (of another rank, say); returns itself.

        Source: Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm", eq. 2.1.

        Raises:
            DataError: If the widths differ.
        """
        if other.mean.shape != self.mean.shape:
            raise DataError(
                "features of different widths cannot be pooled",
                found=f"{len(self.mean)} and {len(other.mean)}",
            )
        n = self.n + other.n
        if other.n:
            shift = other.mean - self.mean
            self.scatter += other.scatter
            self.scatter += np.outer(shift, shift * (self.n * other.n / n))
            self.mean = self.mean + shift * (other.n / n)
            self.n = n
        return self
