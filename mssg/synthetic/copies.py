"""Pictures that are nearer to a training image than to real images nobody trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mssg.data.dataset import PackedSource
from mssg.errors import DataError
from mssg.metrics.groups.memorisation import shrunk
from mssg.metrics.memorisation import copy_threshold, distance_ratio
from mssg.metrics.neighbours import nearest


@dataclass(frozen=True, eq=False)
class CopyScreen:
    """The memorisation screen (`mssg.metrics.memorisation`) in pixels, ready for any picture.

    Attributes:
        train: Training images as rows of pixels, float32 [T, F].
        held: Real images of other people, float32 [H, F].
        threshold: Pictures whose ratio of distances is at or below it count as copies.
        false_alarm: Share of the real images of other people that it flags.
    """

    train: NDArray[np.float32]
    held: NDArray[np.float32]
    threshold: float
    false_alarm: float

    @classmethod
    def of(cls, sources: Sequence[PackedSource]) -> CopyScreen:
        """The screen of a study's sources: their training split against the others.

        Raises:
            DataError: Fewer than two images were held out.
        """
        parts = {
            split: np.concatenate([_pixels(source, split) for source in sources])
            for split in ("train", "val", "test")
        }
        held = np.concatenate([parts["val"], parts["test"]])
        if len(held) < 2:
            raise DataError(
                "too few images were held out from training to say what is usual",
                file=sources[0].path,
                found=len(held),
                expected="2 or more in the splits val and test",
            )
        threshold, false_alarm = copy_threshold(parts["train"], held)
        return cls(parts["train"], held, threshold, false_alarm)

    @property
    def trained(self) -> int:
        """How many training images are compared with."""
        return len(self.train)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the images, hexadecimal."""
        sha = hashlib.sha256(self.train.tobytes())
        sha.update(self.held.tobytes())
        return sha.hexdigest()

    def is_copy(self, image: NDArray[np.uint8]) -> bool:
        """Whether a picture uint8 [C, H, W] counts as a copy."""
        row = shrunk(image[None])
        to_train, to_held = (nearest(row, rows).distance[:, 0] for rows in (self.train, self.held))
        return bool(distance_ratio(to_train, to_held)[0] <= self.threshold)


def _pixels(source: PackedSource, split: str) -> NDArray[np.float32]:
    rows = source.rows(split)
    return np.concatenate(
        [shrunk(np.asarray(source.images[rows[i : i + 256]])) for i in range(0, max(len(rows), 1), 256)]
    )
