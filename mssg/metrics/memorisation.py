"""Does the generator repeat its training images? Nearest training neighbours, judged by those of held-out
real images.

This is a screen for copies as far as one set of features (or pixels) can see them. It is no privacy
guarantee: what it does not flag may still reveal a training image, to other features or to an attacker who
    knows more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mssg.errors import DataError, UsageError
from mssg.metrics.neighbours import as_features, nearest, same_width
from mssg.text import percent

DISCLAIMER = "A screen for copies in one space of features; no privacy guarantee."
"""The sentence to print beside any number of this module."""


WHAT_TO_DO = (
    "Look at the pairs in the report before the snapshot is shared. If they are copies, take an earlier"
    " snapshot (mssg evaluate RUN --all-snapshots --metrics memorisation), or train again with augmentation"
    " (--aug, and [augment] allow in the study), a frozen discriminator (--freezed), or more people"
)
CHANCE = 0.95
"""Certainty with which a share is called more than chance."""


def usual_share(false_alarm: float, n_heldout: int) -> float:
    """The share flagged that a model which copies nothing stays below, with certainty `CHANCE`.

    With few held-out images the threshold itself is uncertain: of 20 it is the smallest ratio, and a model
    that copies nothing is often flagged more often than one in 20.

    Source: the share of a continuous distribution below its k-th of H draws is Beta(k, H + 1 - k).
    """
    from scipy.special import betaincinv

    k = max(1, round(false_alarm * n_heldout))
    return float(betaincinv(k, n_heldout + 1 - k, CHANCE))


def verdict(share: float, low: float, false_alarm: float, n_heldout: int) -> tuple[bool, str]:
    """Whether more images are flagged than chance explains, and a sentence that says so and what to do.

    Args:
        share, low: Share of generated images flagged, and the lower end of its interval.
        false_alarm, n_heldout: Share of the held-out images flagged, and how many they are.
    """
    usual = usual_share(false_alarm, n_heldout)
    said = (
        f"{percent(share)} of the generated images are flagged as near a training image,"
        f" {percent(false_alarm)} of {n_heldout} held-out real images; up to {percent(usual)} is chance"
    )
    if low > usual:
        return True, f"{said}. {WHAT_TO_DO}."
    few = "; more held-out people would say more" if usual > 0.05 else ""
    return False, f"{said}: no more than a model that copies nothing{few}."


@dataclass(frozen=True)
class Memorisation:
    """Nearest training images of generated ones. No privacy guarantee.

    Attributes:
        space: What the distances were taken in, such as "pixels" or the name of the features.
        distance: Distance of every fake to its nearest training image, float64 [N].
        index: That training image, int64 [N].
        ratio: `distance` over the distance to the nearest held-out image, float64 [N]: well below 1 means
            closer to what was trained on than to images of the same kind that were not. 1 where both are
            zero.
        heldout_distance: Distance of every held-out image to its nearest training image, float64 [H].
        heldout_ratio: The same ratio for held-out images, each left out of its own comparison, float64 [H].
        threshold: Fakes with a ratio at or below it are flagged.
        false_alarm: Share of held-out images, copies of nothing, that the threshold flags.
    """

    space: str
    distance: np.ndarray
    index: np.ndarray
    ratio: np.ndarray
    heldout_distance: np.ndarray
    heldout_ratio: np.ndarray
    threshold: float
    false_alarm: float

    @property
    def flagged(self) -> np.ndarray:
        """Whether a fake is suspected to be a copy, bool [N]."""
        return self.ratio <= self.threshold

    @property
    def share(self) -> float:
        """Share of fakes flagged; compare it with `false_alarm`."""
        return float(self.flagged.mean())

    @property
    def relative_distance(self) -> float:
        """Median distance of fakes to training over that of held-out images; NaN where the latter is zero."""
        typical = float(np.median(self.heldout_distance))
        return float(np.median(self.distance)) / typical if typical > 0.0 else float("nan")

    def closest(self, n: int) -> np.ndarray:
        """The n most suspect pairs for a gallery, int64 [n, 2]: fake, training image; lowest ratio first."""
        fakes = np.lexsort((self.distance, self.ratio))[:n]
        return np.stack([fakes, self.index[fakes]], axis=1)

    def summary(self) -> dict[str, float | int | str]:
        """The numbers of a report, ready for JSON."""
        return {
            "space": self.space,
            "n": len(self.ratio),
            "n_heldout": len(self.heldout_ratio),
            "median_ratio": float(np.median(self.ratio)),
            "relative_distance": self.relative_distance,
            "threshold": self.threshold,
            "false_alarm": self.false_alarm,
            "flagged": int(self.flagged.sum()),
            "share": self.share,
            "note": DISCLAIMER,
        }


def memorisation(
    fake: object, train: object, heldout: object, space: str = "features", false_alarm: float = 0.01
) -> Memorisation:
    """Compare generated images with training images, and both with real images held out from training.

    The held-out images must be of other subjects than the training images; otherwise they are near-copies
    themselves, and the threshold falls so low that it flags nothing.

    Args:
        fake: Features [N, F] of generated images (or flattened pixels).
        train: Features [T, F] of the images trained on.
        heldout: Features [H, F] of real images not trained on.
        space: Name of the features, kept with the result.
        false_alarm: Share of held-out images the threshold may flag. With fewer than 1 / false_alarm - 1 of
            them it is their smallest ratio; the result carries the share that was reached.

    Returns:
        Distances, ratios, threshold and its measured false-alarm rate. It says nothing about privacy.

    Raises:
        DataError: If the matrices are wrong, differ in F, or fewer than two images are held out.
        UsageError: If false_alarm is outside 0..1.

    Source: the ratio after Meehan, Chaudhuri & Dasgupta 2020, "A non-parametric test to detect data-copying";
    the
        threshold is a conformal quantile (Vovk et al. 2005).
    """
    if not 0.0 < false_alarm < 1.0:
        raise UsageError(
            "the false-alarm rate must be a share", found=false_alarm, expected="between 0 and 1"
        )
    fake, train = as_features(fake, "fake"), as_features(train, "train")
    heldout = as_features(heldout, "heldout")
    if len(heldout) < 2:
        raise DataError(
            "too few held-out images to say what is usual", field="heldout", found=len(heldout), expected="2"
        )
    same_width(fake, train, ("fake", "train"))
    same_width(heldout, train, ("heldout", "train"))
    to_train = nearest(fake, train)
    usual = nearest(heldout, train).distance[:, 0]
    heldout_ratio, threshold = _usual_ratio(usual, heldout, false_alarm)
    distance = to_train.distance[:, 0]
    ratio = distance_ratio(distance, nearest(fake, heldout).distance[:, 0])
    return Memorisation(
        space=space,
        distance=distance,
        index=to_train.index[:, 0],
        ratio=ratio,
        heldout_distance=usual,
        heldout_ratio=heldout_ratio,
        threshold=threshold,
        false_alarm=float((heldout_ratio <= threshold).mean()),
    )


def copy_threshold(train: np.ndarray, heldout: np.ndarray, false_alarm: float = 0.01) -> tuple[float, float]:
    """The threshold of `memorisation`, for pictures that come one at a time.

    Returns:
        The threshold, and the share of held-out images that it flags.
    """
    usual = nearest(heldout, train).distance[:, 0]
    ratio, threshold = _usual_ratio(usual, heldout, false_alarm)
    return threshold, float((ratio <= threshold).mean())


def _usual_ratio(usual: np.ndarray, heldout: np.ndarray, false_alarm: float) -> tuple[np.ndarray, float]:
    """Ratios of held-out images, given their distances to training images; the threshold among them."""
    ratio = distance_ratio(usual, nearest(heldout, heldout, exclude_self=True).distance[:, 0])
    rank = max(1, int(false_alarm * (len(heldout) + 1) + 1e-9))
    return ratio, float(np.sort(ratio)[rank - 1])


def distance_ratio(distance: np.ndarray, to_heldout: np.ndarray) -> np.ndarray:
    """distance / to_heldout, [N] each; infinite where only the latter is zero, 1 where both are."""
    equal = (distance == 0.0) & (to_heldout == 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(equal, 1.0, distance / to_heldout)
