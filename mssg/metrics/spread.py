"""How much images of one class differ from each other, pixel by pixel: generated against real.

A generator may put every covariate right and still draw one image per class; correlation does not see that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mssg.data.dataset import PackedSource
from mssg.errors import UsageError
from mssg.study.covariate import SOURCE, Covariate
from mssg.study.model import Study

CHUNK = 512
"""Images converted to floating point at a time."""


@dataclass(frozen=True)
class Spread:
    """Spread of one class, or of all: rms over pixels of what remains after the class mean, in grey levels.

    `ratio` is generated / real; NaN where either has fewer than two images.
    """

    level: str
    generated: float
    real: float
    n_generated: int
    n_real: int

    @property
    def ratio(self) -> float:
        """Generated / real."""
        return self.generated / self.real if self.real > 0 else math.nan


@dataclass
class ClassVariance:
    """Running pixel variance of every class, in one pass and without keeping images."""

    classes: int
    count: np.ndarray = field(init=False)
    _sum: list[np.ndarray | float] = field(init=False)
    _squares: np.ndarray = field(init=False)
    _pixels: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        self.count = np.zeros(self.classes, int)
        self._sum = [0.0] * self.classes
        self._squares = np.zeros(self.classes)

    def add(self, images: np.ndarray, level: np.ndarray) -> None:
        """Add uint8 images [n, C, H, W] of classes level [n]; rows with a NaN level are left out."""
        for start in range(0, len(images), CHUNK):
            part, of = images[start : start + CHUNK], level[start : start + CHUNK]
            for k in np.unique(of[np.isfinite(of)]).astype(int):
                x = part[of == k].astype(np.float64)
                self.count[k] += len(x)
                self._sum[k] = self._sum[k] + x.sum(0)
                self._squares[k] += float((x * x).sum())
                self._pixels = x[0].size

    def variance(self) -> np.ndarray:
        """Mean over pixels of the sample variance within each class [classes]; NaN with fewer than two
        images."""
        out = np.full(self.classes, math.nan)
        for k, n in enumerate(self.count):
            if n > 1:
                mean = np.asarray(self._sum[k]) / n
                rest = self._squares[k] - n * float((mean * mean).sum())
                out[k] = max(rest, 0.0) / (n - 1) / self._pixels
        return out


def class_covariate(study: Study) -> Covariate | None:
    """The covariate whose levels are the classes: the first categorical one, or none."""
    return next((c for c in study.covariates if not c.is_ordered and c.name != SOURCE), None)


def real_levels(source: PackedSource, study: Study, rows: np.ndarray) -> np.ndarray:
    """Class of real images [n]: as observed, else from the truth the table keeps beside it, else NaN."""
    covariate = class_covariate(study)
    if covariate is None:
        return np.zeros(len(rows))
    observed = source.values[rows, study.index(covariate.name)]
    if np.isfinite(observed).any() or covariate.name not in source.table:
        return observed
    out = np.full(len(rows), math.nan)
    for i, text in enumerate(np.asarray(source.table[covariate.name])[rows]):
        try:
            out[i] = covariate.parse(str(text))
        except UsageError:
            continue  # a truth column that nobody vouches for: rows that do not read as a level do not count
    return out


def real_variance(sources: Sequence[PackedSource], study: Study) -> ClassVariance:
    """Class variances of real images: the test split of every source, or its whole where it has none."""
    covariate = class_covariate(study)
    total = ClassVariance(covariate.width if covariate else 1)
    for source in sources:
        rows = source.rows("test")
        rows = rows if len(rows) else np.arange(len(source))
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            total.add(np.asarray(source.images[part]), real_levels(source, study, part))
    return total


def compare(generated: ClassVariance, real: ClassVariance, study: Study) -> tuple[Spread, ...]:
    """Spread of all classes together (first, classes weighted as among the real images), then of each."""
    covariate = class_covariate(study)
    levels = covariate.levels if covariate else ()
    fake, true = generated.variance(), real.variance()
    usable = np.isfinite(fake) & np.isfinite(true)
    share = np.where(usable, real.count, 0)
    if not share.any():
        return ()
    generated_sd, real_sd = (
        float(np.sqrt(np.average(v[usable], weights=share[usable]))) for v in (fake, true)
    )
    whole = Spread(
        level="all",
        generated=generated_sd,
        real=real_sd,
        n_generated=int(generated.count[usable].sum()),
        n_real=int(real.count[usable].sum()),
    )
    each = [
        Spread(
            level=level,
            generated=float(np.sqrt(fake[k])),
            real=float(np.sqrt(true[k])),
            n_generated=int(generated.count[k]),
            n_real=int(real.count[k]),
        )
        for k, level in enumerate(levels)
    ]
    return (whole, *each)
