"""Splits by subject: a hash of seed and subject, so that a person falls alike in every source and every
rerun."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from mssg.errors import UsageError

SPLITS = ("train", "val", "test")


def unit_hash(seed: int, subject: str, purpose: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments.

    Args:
        purpose: Salt: draws for different purposes are independent of each other.
    """
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{subject}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


@dataclass(frozen=True)
class Shares:
    """How many subjects training does not see.

    Attributes:
        test: Share of all subjects that is tested on.
        val: Share of the rest that is validated on.

    Raises:
        UsageError: A share outside [0, 1).
    """

    test: float = 0.15
    val: float = 0.1

    def __post_init__(self) -> None:
        for name, share in asdict(self).items():
            if not 0 <= share < 1:
                raise UsageError(
                    "not a share", field=name, found=share, expected="a number from 0 to below 1"
                )


SHARES = Shares()
"""Those that are usual here."""


def split_subjects(subjects: Iterable[str], seed: int = 0, shares: Shares = SHARES) -> NDArray[np.str_]:
    """The split of every row.

    Args:
        subjects: Subject identifier of every row; rows of one subject fall together.
        seed: Another seed gives another, independent split.

    Returns:
        "train" | "val" | "test" [N].

    Source: docs/method/method.md section 6 (the original split by row, so that one person could be in train
    and test).
    """
    cuts = np.array([shares.test, shares.test + (1 - shares.test) * shares.val])
    names = np.array(["test", "val", "train"])
    draws = np.array([unit_hash(seed, s, "split") for s in subjects], np.float64)
    return names[np.searchsorted(cuts, draws, side="right")]


def assign_sources(subjects: Iterable[str], shares: Sequence[float], seed: int = 0) -> NDArray[np.int64]:
    """Divide one population among sources, each subject to exactly one, independently of its split.

    Args:
        subjects: Subject identifier of every row.
        shares: Relative share of each source.

    Returns:
        int64 [N], index of the source.

    Raises:
        UsageError: No positive share.
    """
    weights = np.asarray(shares, np.float64)
    if weights.ndim != 1 or not weights.size or (weights < 0).any() or not weights.sum() > 0:
        raise UsageError(
            "not a list of shares", field="shares", found=list(shares), expected="positive numbers"
        )
    edges = np.cumsum(weights)[:-1] / weights.sum()
    draws = np.array([unit_hash(seed, s, "source") for s in subjects], np.float64)
    return np.searchsorted(edges, draws, side="right").astype(np.int64)
