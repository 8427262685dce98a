"""The bias field of a volume: found on a real template to which one was added, and not invented where there
is none."""

import numpy as np
import pytest

from mssg import assets
from mssg.data import bias
from mssg.data.nifti import NiftiVolume
from mssg.errors import DataError

STEP = 3


@pytest.fixture(scope="module")
def template():
    """The template's T1 and its white matter, every third voxel, and where they lie."""
    with np.load(assets.path("brain/mni152.npz")) as file:
        t1, white = (file[name][::STEP, ::STEP, ::STEP].astype(np.float32) for name in ("t1", "white"))
    affine = np.diag([STEP, STEP, STEP, 1.0])
    affine[:3, 3] = (-98, -134, -72)
    points = affine[:3, :3] @ np.indices(t1.shape).reshape(3, -1) + affine[:3, 3:]
    return NiftiVolume(t1, affine), white.ravel() > 0.95 * white.max(), points


def unevenness(values):
    return values.std() / values.mean()


@pytest.mark.slow
def test_an_added_field_is_found_and_none_is_invented(template):
    volume, white, points = template
    plain = volume.data.ravel()
    before = unevenness(plain[white])
    assert unevenness((plain / bias.estimate(volume).at(points))[white]) < 1.1 * before
    x, y, z = points / np.array([80, 100, 80])[:, None]
    for field in (
        np.exp(0.15 * x - 0.1 * y * z + 0.1 * z),
        np.exp(0.12 * np.sin(2 * y + 1) + 0.1 * (x * x - 1 / 3)),
    ):
        uneven = (plain * field).astype(np.float32)
        found = bias.estimate(NiftiVolume(uneven.reshape(volume.data.shape), volume.affine)).at(points)
        assert unevenness(uneven[white]) > 2 * before
        assert unevenness((uneven / found)[white]) < 1.25 * before
        assert np.corrcoef(np.log(found[white]), np.log(field[white]))[0, 1] > 0.9


def test_nothing_to_fit_to_is_said():
    with pytest.raises(DataError, match="too little"):
        bias.estimate(NiftiVolume(np.ones((6, 6, 6), np.float32), np.diag([4.0, 4, 4, 1])))
