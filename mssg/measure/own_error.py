"""How well an instrument reads real images: its own error, beside that of a constant guess.

A number that an instrument read off generated images is worth what the instrument is worth. Whoever states
one states this beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.text import amount, fixed, number, percent

if TYPE_CHECKING:  # studies stand above instruments: they name the one that fits their images
    from mssg.study.covariate import Covariate

FEWEST_PEOPLE = 5
"""People below which nothing is said about an instrument."""
ENOUGH_PEOPLE = 100
"""People below which a test split alone says little about an instrument."""
IN_TURN = "people left out in turn"
"""What an own error is on where each person is read by a fit that has not seen them."""
DRAWS = 500
WORSE, BETTER, UNKNOWN = "no better than guessing", "better than guessing", "not known"


@dataclass(frozen=True)
class OwnError:
    """How an instrument reads a covariate off real images it was not made from, in native units; NaN where
    undefined.

    Attributes:
        n, people: Real images, and the people they are of.
        mae, guess_mae: Mean absolute error, and that of a constant: the training images' median.
        r, r_ci95: Correlation of read and true values, and its bootstrap interval over people.
        slope: Of read on true values: how far readings of real images move where the truth moves by 1.
        accuracy, guess_accuracy: Share of levels read rightly, and that of a constant: the commonest level.
        on: Which real images: a split's, or `IN_TURN`.
        unit: Of the covariate.
        better: Whether it is better than guessing: a smaller error than the constant's and an r certainly
            above 0, or an accuracy certainly above the constant's. None where too few people say anything.
    """

    covariate: str
    n: int
    people: int = 0
    mae: float = math.nan
    guess_mae: float = math.nan
    r: float = math.nan
    r_ci95: tuple[float, float] = (math.nan, math.nan)
    slope: float = math.nan
    accuracy: float = math.nan
    guess_accuracy: float = math.nan
    on: str = "test"
    unit: str = ""
    better: bool | None = None

    @property
    def verdict(self) -> str:
        """`better` in words."""
        return UNKNOWN if self.better is None else BETTER if self.better else WORSE

    def to_json(self) -> dict[str, Any]:
        """What is known of it, as JSON holds it; without the covariate."""
        known = {k: v for k, v in asdict(self).items() if v is not None and v == v and k != "covariate"}
        return known if math.isfinite(self.r_ci95[0]) else {k: v for k, v in known.items() if k != "r_ci95"}

    @staticmethod
    def from_json(document: Mapping[str, Any], covariate: str = "") -> OwnError:
        """What `to_json` gave; parts of a wrong kind count as unknown."""
        kinds = {"n": int, "people": int, "on": str, "unit": str, "better": bool}
        known = {f.name: document.get(f.name) for f in fields(OwnError) if f.name in document}
        parts = {
            k: v
            for k, v in known.items()
            if isinstance(v, kinds.get(k, int | float)) and (k == "better" or not isinstance(v, bool))
        }
        pair = document.get("r_ci95")
        if (
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and all(isinstance(x, int | float) for x in pair)
        ):
            parts["r_ci95"] = (float(pair[0]), float(pair[1]))
        return OwnError(**{"covariate": covariate, "n": 0, **parts})

    @property
    def margin(self) -> str:
        """The mean error beside a number that was read: ±2.7; "" of levels, and where it is not known."""
        if math.isfinite(self.accuracy) or not math.isfinite(self.mae):
            return ""
        return (
            f"±{self.mae:.0f}"
            if self.mae >= 10
            else f"±{self.mae:.1f}"
            if self.mae >= 0.1
            else f"±{self.mae:.1g}"
        )

    def brief(self) -> str:
        """The same in the room of a table's cell."""
        if not self.n:
            return UNKNOWN
        if math.isfinite(self.accuracy):
            return f"right {percent(self.accuracy)} (guess {percent(self.guess_accuracy)}), n {self.n}"
        error = f"MAE {number(self.mae)}"
        error += f" (guess {number(self.guess_mae)})" if math.isfinite(self.guess_mae) else ""
        return f"r {fixed(self.r, 2)}, {error}, n {self.n}"

    def words(self) -> str:
        """Error beside the guess's, r and n, as a part of a sentence."""
        where = f", {self.on}" if self.on == IN_TURN else ""
        n = f"n = {self.n}{where}"
        if not self.n:
            return "own error on real images not known"
        if math.isfinite(self.accuracy):
            return f"right {percent(self.accuracy)}, a constant guess {percent(self.guess_accuracy)}; {n}"
        known = math.isfinite(self.guess_mae)
        guess = f", a constant guess {amount(self.guess_mae, self.unit)}" if known else ""
        return f"MAE {amount(self.mae, self.unit)}{guess}; r {fixed(self.r, 2)}, {n}"


def constant_guess(covariate: Covariate, training: np.ndarray) -> float:
    """The best guess of one who sees no image: median or commonest level of training values [N], NaN
    ignored."""
    known = training[np.isfinite(training)]
    if not known.size:
        return math.nan
    if covariate.is_continuous:
        return float(np.median(known))
    levels, counts = np.unique(known, return_counts=True)
    return float(levels[counts.argmax()])


def reading_errors(covariate: Covariate, truth: np.ndarray, found: np.ndarray | float) -> np.ndarray:
    """Absolute error, or hit, of each image [N]."""
    wrong = np.abs(found - truth)
    return wrong if covariate.is_continuous else (np.rint(wrong) == 0).astype(float)


def own_error(
    covariate: Covariate,
    truth: np.ndarray,
    found: np.ndarray,
    *,
    guess: float,
    people: Sequence[str] | np.ndarray,
    on: str = "test",
) -> OwnError:
    """Judge readings of real images.

    Args:
        truth, found: True and read values [N], native units; pairs with a NaN are left out.
        guess: As `constant_guess` gives it.
        people: Whose image each is [N]; the interval is over people.
        on: As in `OwnError`.
    """
    usable = np.isfinite(truth) & np.isfinite(found)
    truth, found, people = truth[usable], found[usable], np.asarray(people)[usable]
    if not truth.size:
        return OwnError(covariate.name, n=0, on=on)
    own, blind = reading_errors(covariate, truth, found), reading_errors(covariate, truth, guess)
    names, who = np.unique(people, return_inverse=True)
    weights = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)
    weights = weights[:, who].astype(np.float64)
    judged = len(names) >= FEWEST_PEOPLE
    common = {"n": truth.size, "people": len(names), "on": on, "unit": covariate.unit}
    if not covariate.is_continuous:
        gain = np.quantile(weights @ (own - blind) / weights.sum(1), 0.05)
        return OwnError(
            covariate.name,
            **common,
            accuracy=float(own.mean()),
            guess_accuracy=float(blind.mean()),
            better=bool(gain > 0) if judged else None,
        )
    r, drawn = _correlation(truth, found, np.ones((1, truth.size)))[0], _correlation(truth, found, weights)
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (math.nan, math.nan)
    return OwnError(
        covariate.name,
        **common,
        mae=float(own.mean()),
        guess_mae=float(blind.mean()),
        r=float(r),
        r_ci95=(float(low), float(high)),
        slope=float(r * found.std() / truth.std()) if math.isfinite(r) else math.nan,
        better=bool(own.mean() < blind.mean() and low > 0) if judged else None,
    )


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted correlations [B] of x and y [N], for weights [B, N]; NaN where one does not vary."""
    x, y, total = x - x.mean(), y - y.mean(), weights.sum(axis=1)
    mx, my = weights @ x / total, weights @ y / total
    xx, yy = weights @ x**2 / total - mx**2, weights @ y**2 / total - my**2
    xy = weights @ (x * y) / total - mx * my
    tiny = 1e-12 * (x.var() * y.var() or 1.0)
    return np.where(xx * yy > tiny, xy / np.sqrt(np.maximum(xx * yy, tiny)), math.nan)
