"""Bias field of a volume by N4, as SimpleITK has it (extra `n4`).

Source: Tustison et al., IEEE TMI 2010, "N4ITK: improved N3 bias correction".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mssg.data.bias import FEWEST, samples
from mssg.data.nifti import NiftiVolume
from mssg.errors import DataError
from mssg.extras import need


@dataclass(frozen=True)
class N4Field:
    """A field on a grid of samples; 1 on average over the head.

    Attributes:
        log: Its logarithm, float32 [nx, ny, nz].
        to_sample: [4, 4], patient coordinates in millimetres -> indices of samples.
    """

    log: NDArray[np.float32]
    to_sample: NDArray[np.float64]

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """The field at points in millimetres [3, …]; beyond the volume it keeps its border's value."""
        from scipy.ndimage import map_coordinates

        where = self.to_sample[:3, :3] @ points.reshape(3, -1) + self.to_sample[:3, 3:]
        found = map_coordinates(self.log, where, order=1, mode="nearest", output=np.float64)
        return np.exp(found).reshape(points.shape[1:])


def estimate(volume: NiftiVolume) -> N4Field:
    """Estimate the bias field of a volume.

    Args:
        volume: With or without skull; air darker than tissue.

    Raises:
        UsageError: SimpleITK is not installed.
        DataError: Too little in the volume to fit anything to.
    """
    need("n4", "N4")
    import SimpleITK as sitk

    values, to_world = samples(volume)
    image = sitk.GetImageFromArray((values - min(values.min(), 0)).astype(np.float32))
    image.SetSpacing(np.linalg.norm(to_world[:3, :3], axis=0)[::-1].tolist())
    head = sitk.OtsuThreshold(image, 0, 1, 200)
    inside = sitk.GetArrayFromImage(head) > 0
    if inside.sum() < FEWEST or min(values.shape) < 4:
        raise DataError("too little in the volume to estimate a bias field from", found=int(inside.sum()))
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.Execute(image, head)
    log = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
    return N4Field((log - log[inside].mean()).astype(np.float32), np.linalg.inv(to_world).astype(np.float64))
