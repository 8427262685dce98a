"""Make assets/brain/colin27.npz, the second head of the brain phantoms, from the Colin27 average.

apt install mricron-data
python tests/benchmarks/pack_colin27.py /usr/share/mricron/templates/ch2bet.nii.gz

The file has a picture only. Grey and white matter are found by a mixture of three Gaussians over its grey
levels, whose weights at each place come from the MNI ICBM 152 maps (Ashburner & Friston, NeuroImage 1997):
both heads lie in MNI space.
"""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_opening, gaussian_filter, label

from mssg import assets
from mssg.data.recipes import phantom_anatomy as anatomy

LOOSE = 4.0
"""Millimetres by which the prior maps are smoothed: the two heads' folds differ."""
LEAST = 0.02
"""Weight of every class everywhere in the brain."""
OPENING = 2
ROUNDS = 30
TARGETS = (0.0, 0.26, 0.70, 0.88, 1.0)
"""Grey levels of the other template for air, fluid, grey, white and the brightest."""


def main(file: str) -> None:
    """Read the average, find its tissues, and write the three maps on the grid of the other template."""
    image = nib.load(file)
    if not np.array_equal(image.affine[:3, :3], np.eye(3)):
        sys.exit(f"{file}: voxels of 1 mm along RAS axes expected, found\n{image.affine}")
    picture, prior = np.asarray(image.dataobj, np.float32), anatomy.template("mni152")
    picture = on_grid(picture, np.rint(image.affine[:3, 3] - anatomy.ORIGIN).astype(int), prior[0].shape)
    brain = largest(
        binary_opening(picture > 0, iterations=OPENING)
    )  # what is thin is left over from the skull
    picture *= brain
    grey, white = (gaussian_filter(m, LOOSE) for m in prior[1:])
    weights = np.stack([np.clip(1 - grey - white, 0, 1), grey, white])[:, brain] + LEAST
    share, means = mixture(picture[brain], weights / weights.sum(0))
    maps = np.zeros((3, *picture.shape), np.float32)
    maps[0] = np.interp(picture, [0, *means, picture.max()], TARGETS)
    maps[1][brain], maps[2][brain] = share[1:]
    packed = {n: np.rint(255 * m).astype(np.uint8) for n, m in zip(("t1", "grey", "white"), maps)}
    np.savez_compressed(assets.path("brain") / "colin27.npz", **packed)
    litres = maps[1:].sum((1, 2, 3)) / 1e6
    print(f"class means {means.round(1)}; grey matter {litres[0]:.3f} l, white matter {litres[1]:.3f} l")


def on_grid(picture: np.ndarray, offset: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The picture with its first voxel at `offset` of a zero volume; no value is changed."""
    out = np.zeros(shape, picture.dtype)
    size = np.minimum(picture.shape, np.subtract(shape, offset))
    x, y, z = (slice(o, o + s) for o, s in zip(offset, size))
    out[x, y, z] = picture[tuple(slice(s) for s in size)]
    return out


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part."""
    parts, _ = label(mask)
    return parts == np.bincount(parts[parts > 0]).argmax()


def mixture(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expectation-maximisation of three Gaussians: shares [3, N] of fluid, grey and white, and the means
    [3]."""
    share = weights
    for _ in range(ROUNDS):
        total = share.sum(1)
        means = share @ values / total
        spread = np.sqrt((share * (values - means[:, None]) ** 2).sum(1) / total)
        density = np.exp(-0.5 * ((values - means[:, None]) / spread[:, None]) ** 2) / spread[:, None]
        share = weights * density
        share = share / share.sum(0)
    return share, means


if __name__ == "__main__":
    main(sys.argv[1])
