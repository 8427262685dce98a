"""Volumes of structures from label maps, by a scheme that says which labels belong to which structure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.data.nifti import LARGEST_LABEL, NiftiVolume
from mssg.errors import DataError
from mssg.study.covariate import name_problem
from mssg.study.toml_table import read_toml

MOST_LABELS = 2**16
"""Labels of one structure above which a scheme is refused."""
_FORM = '[structures] with name = [1, "10-13"], and may_lack = ["name"] before it'


@dataclass(frozen=True)
class LabelScheme:
    """Whose labels.

    Attributes:
        structures: Name -> labels that belong to it.
        may_lack: Structures of which a volume of 0 is believed, such as lesions.
    """

    structures: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    may_lack: tuple[str, ...] = ()

    def volumes(self, labels: NiftiVolume) -> dict[str, float]:
        """Volumes of all structures in millilitres: voxels of a structure's labels, times a voxel's volume.

        Args:
            labels: From `read_labels`.

        Returns:
            By structure; NaN for one without a voxel, which its segmentation has missed, unless it may lack.

        Raises:
            DataError: No voxel of any structure: another label scheme.
        """
        counts = np.bincount(labels.data.ravel())
        voxels = {name: int(counts[ids[ids < len(counts)]].sum()) for name, ids in self.structures.items()}
        if not any(voxels.values()):
            found = ", ".join(map(str, np.flatnonzero(counts)[:12]))
            raise DataError(
                "holds no label of this scheme", found=found, hint="Choose another --label-scheme"
            )
        believed = {name: count or name in self.may_lack for name, count in voxels.items()}
        return {n: count * labels.voxel_ml if believed[n] else math.nan for n, count in voxels.items()}


def load_scheme(name: str) -> LabelScheme:
    """A label scheme: a TOML's path, or the name of a shipped one.

    Raises:
        UsageError, DataError: No such scheme, or not one.
    """
    path = Path(name) if name.endswith(".toml") else assets.path(f"labels/{name}.toml")
    document = read_toml(path, DataError)
    try:
        structures = {key: _labels(key, entries) for key, entries in document["structures"].items()}
        may_lack = tuple(document.get("may_lack", ()))
        wrong = [key for key in structures if name_problem(key)] or [
            key for key in may_lack if key not in structures
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"cannot be read as a label scheme: {error}", file=path, expected=_FORM) from None
    if wrong:
        problem = name_problem(str(wrong[0])) or "not one of its structures"
        raise DataError(f"the name is {problem}", file=path, field=str(wrong[0]), expected=_FORM)
    return LabelScheme(structures, may_lack)


def _labels(name: str, entries: list[object]) -> NDArray[np.int64]:
    ids: set[int] = set()
    for entry in entries:
        first, _, last = str(entry).partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high <= min(low + MOST_LABELS, LARGEST_LABEL):
            raise ValueError(f"{name}: {entry!r} are no labels")
        ids |= set(range(low, high + 1))
    return np.array(sorted(ids), np.int64)
