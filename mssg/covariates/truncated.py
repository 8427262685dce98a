"""One-dimensional Gaussian mixtures cut to an interval [low, high], row by row.

Shapes: weights w and means m [n, K] (or [1, K] for all rows alike), standard deviations s [K], y and q [n].
Cutting renormalises: no mass is clipped onto the bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from mssg.covariates.protocol import FittedModel, Variable

_HALF_LOG_2PI = 0.9189385332046727
_TINY = 1e-300
_ROUNDS = 6  # of rejection, before the few remaining rows are drawn by inversion
WIDENING = 0.1  # of the observed range, on either side: how far a conditional may go beyond what was seen
_NODES = 32  # Gauss-Legendre nodes per component of an expectation


@cache
def legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes on [−1, 1] and weights, worked out once."""
    return np.polynomial.legendre.leggauss(count)


@cache
def hermite(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes for the standard normal and weights that sum to 1, worked out once."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def _mass(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Φ(b) − Φ(a) without cancellation in the upper tail."""
    from scipy.special import ndtr

    flip = a > 0
    return ndtr(np.where(flip, -a, b)) - ndtr(np.where(flip, -b, a))


def _between(a: np.ndarray, b: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The standard normal cut to [a, b] at its quantile u."""
    from scipy.special import ndtr, ndtri

    flip = a > 0
    low, high = ndtr(np.where(flip, -b, a)), ndtr(np.where(flip, -a, b))
    z = ndtri(low + np.where(flip, 1 - u, u) * (high - low))
    return np.where(flip, -z, z)


def inside(
    w: np.ndarray, m: np.ndarray, s: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mass of each component inside the interval [n, K], and of the whole mixture [n]."""
    mass = w * _mass((low - m) / s, (high - m) / s)
    return mass, mass.sum(-1)


def log_density(
    y: np.ndarray, w: np.ndarray, m: np.ndarray, s: np.ndarray, low: float, high: float
) -> np.ndarray:
    """Log density at y [n] -> [n]; −inf outside the interval."""
    z = (y[:, None] - m) / s
    with np.errstate(divide="ignore", under="ignore"):
        terms = np.log(w) - 0.5 * z * z - np.log(s) - _HALF_LOG_2PI
    top = terms.max(1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", under="ignore"):
        value = top + np.log(np.exp(terms - top[:, None]).sum(1))
    value = value - np.log(np.maximum(inside(w, m, s, low, high)[1], _TINY))
    return np.where((y >= low) & (y <= high), value, -np.inf)


def cdf(y: np.ndarray, w: np.ndarray, m: np.ndarray, s: np.ndarray, low: float, high: float) -> np.ndarray:
    """P(child ≤ y) [n]."""
    below = (w * _mass((low - m) / s, (np.clip(y, low, high)[:, None] - m) / s)).sum(1)
    total = inside(w, m, s, low, high)[1]
    return np.where(total > _TINY, np.clip(below / np.maximum(total, _TINY), 0.0, 1.0), (y >= low) * 1.0)


def choose(weights: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    """One column index per row, with the row's weights [n or 1, K] as probabilities -> int [n]."""
    cumulative = np.cumsum(weights, axis=1)
    u = rng.random(n) * cumulative[:, -1]
    if len(weights) == 1:
        return np.minimum(np.searchsorted(cumulative[0], u, side="right"), weights.shape[1] - 1)
    return np.minimum((cumulative <= u[:, None]).sum(1), weights.shape[1] - 1)


def sample(
    w: np.ndarray, m: np.ndarray, s: np.ndarray, low: float, high: float, rng: np.random.Generator, n: int
) -> np.ndarray:
    """n draws: rejection first, which is fast while most of the mass is inside, then inversion for what
    remains."""
    k = choose(w, rng, n)
    rows: np.ndarray | int = np.arange(n) if len(m) > 1 else 0
    y = m[rows, k] + s[k] * rng.standard_normal(n)
    for _ in range(_ROUNDS):
        out = np.flatnonzero((y < low) | (y > high))
        if not out.size:
            return y
        wr, mr = (w[out] if len(w) > 1 else w), (m[out] if len(m) > 1 else m)
        k = choose(wr, rng, out.size)
        y[out] = mr[np.arange(out.size) if len(mr) > 1 else 0, k] + s[k] * rng.standard_normal(out.size)
    out = np.flatnonzero((y < low) | (y > high))
    if out.size:
        wr, mr = (w[out] if len(w) > 1 else w), (m[out] if len(m) > 1 else m)
        y[out] = _sample_inside(wr, mr, s, low, high=high, rng=rng, n=out.size)
    return y


def _sample_inside(
    w: np.ndarray, m: np.ndarray, s: np.ndarray, low: float, high: float, rng: np.random.Generator, n: int
) -> np.ndarray:
    """n draws by inversion, exact also where hardly any mass is inside."""
    mass, total = inside(w, m, s, low, high)
    # where nothing at all is inside (parents far from everything seen) the nearest bound is the limit of the
    # cut law
    k = choose(np.where(total[:, None] > _TINY, mass, w), rng, n)
    centre, spread = m[np.arange(n) if len(m) > 1 else 0, k], s[k]
    u = np.clip(rng.random(n), 1e-12, 1 - 1e-12)
    z = _between((low - centre) / spread, (high - centre) / spread, u)
    y = np.where(np.isfinite(z), centre + spread * z, centre)
    return np.clip(y, low, high)


def quantile(
    q: np.ndarray, w: np.ndarray, m: np.ndarray, s: np.ndarray, low: float, high: float
) -> np.ndarray:
    """The inverse of `cdf`: q [n] -> [n], by Newton steps kept inside a shrinking bracket."""
    n = len(q)
    left, right = np.full(n, float(low)), np.full(n, float(high))
    y = np.clip((w * m).sum(1) / w.sum(1) + np.zeros(n), low, high)
    close = 1e-13 * (high - low)
    for _ in range(100):
        gap = cdf(y, w, m, s, low, high) - q
        left, right = np.where(gap < 0, y, left), np.where(gap < 0, right, y)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            step = y - gap * np.exp(-log_density(y, w, m, s, low, high))
        # y is one end of the bracket by now: a step too small to leave it has arrived
        good = ((step > left) & (step < right)) | (np.abs(step - y) <= close)
        new = np.where(good, step, 0.5 * (left + right))
        if np.all(np.abs(new - y) <= close):
            return new
        y = new
    return y


def expectation(
    w: np.ndarray,
    m: np.ndarray,
    s: np.ndarray,
    low: float,
    high: float,
    of: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Expectation of the child or of a function of it, by Gauss-Legendre quadrature over each component's
    quantiles."""
    mass, total = inside(w, m, s, low, high)
    mass = np.where(total[:, None] > _TINY, mass, w)
    nodes, share = legendre(_NODES)
    a, b = ((low - m) / s)[..., None], ((high - m) / s)[..., None]
    z = _between(a, b, (nodes + 1) / 2)  # [n, K, nodes]
    value = np.clip(np.where(np.isfinite(z), m[..., None] + s[:, None] * z, m[..., None]), low, high)
    value = (value if of is None else of(value)) @ (share / 2)
    return (mass * value).sum(1) / mass.sum(1)


def support(y: np.ndarray, child: Variable, widening: float) -> tuple[float, float]:
    """The interval a model may fill: the observed range of y [n], widened by a share of it.

    A covariate that is not logged and was never negative stays so.
    """
    low, high = float(y.min()), float(y.max())
    room = widening * (high - low)
    floor = 0.0 if low >= 0 and not child.logged else -np.inf
    return max(low - room, floor), high + room


class CutModel(FittedModel):
    """A continuous child that is a Gaussian mixture given its parents, cut to [low, high]."""

    low: float
    high: float

    def conditional(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Component weights [n or 1, K], means [n or 1, K] and standard deviations [K] given x, before
        cutting."""
        raise NotImplementedError

    def sample(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return sample(*self.conditional(x), self.low, self.high, rng, len(x))

    def log_density(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return log_density(y, *self.conditional(x), self.low, self.high)

    def mean(self, x: np.ndarray, of: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        return expectation(*self.conditional(x), self.low, self.high, of) + np.zeros(len(x))

    def cdf(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return cdf(y, *self.conditional(x), self.low, self.high)

    def quantile(self, q: np.ndarray, x: np.ndarray) -> np.ndarray:
        return quantile(q, *self.conditional(x), self.low, self.high)
