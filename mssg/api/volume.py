"""A whole head that knows what it shows and how to draw it again."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.api.arguments import argument_errors, checked_path, shown
from mssg.checkpoint.header import Header
from mssg.errors import UsageError
from mssg.files import make_folder
from mssg.rendering import volume
from mssg.rendering.command_line import private_command, volume_command
from mssg.rendering.image_files import NIFTI_SUFFIXES
from mssg.rendering.request import RenderRequest


class Volume:
    """One head of a model.

    Attributes:
        array: Grey levels uint8 [X, Y, Z], in RAS order.
        affine: float64 [4, 4], from voxels to millimetres.
        values: Every covariate but the place in native units: numbers, 0 or 1, or the name of a level.
        seed: Seed of its latent.
        request: What was asked for.
    """

    def __init__(
        self,
        head: volume.DrawnVolume,
        request: RenderRequest,
        stated: Mapping[str, float],
        header: Header,
        snapshot: str,
    ) -> None:
        self.array: NDArray[np.uint8] = np.rint(head.data).astype(np.uint8)
        self.affine: NDArray[np.float64] = head.affine
        self.seed, self.request = request.seed, request
        personal = [c for c in header.study.conditions if c.name != header.study.position]
        self.values = {c.name: shown(c, stated[c.name]) for c in personal}
        self._head, self._stated, self._header, self._snapshot = head, stated, header, snapshot

    def to_nifti(self) -> Any:
        """The head as a nibabel image that overlays the template of its space."""
        return volume.volume_image(self._head, self._header)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the head with its provenance: .nii.gz or .nii, and a .json beside it. Folders are made as
        needed.

        Raises:
            ArgumentError: Another ending, or a place that cannot be written.
        """
        path = checked_path(path, *NIFTI_SUFFIXES)
        study, edge = self._header.study, self._head.edge
        command = private_command(volume_command(self.request, study, self._snapshot, edge, output=str(path)))
        with argument_errors():
            make_folder(path.parent, UsageError)
            volume.save_volume(path, self._head, self._header, self.request, [self._stated], None, command)
        return path

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.array.shape))
        values = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"<Volume {size}, seed {self.seed}: {values}>"
