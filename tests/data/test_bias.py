"""The bias field of a volume: found on a real template to which one was added, and not invented where there
is none."""

import numpy as np
import pytest
from click.testing import CliRunner

from mssg import assets
from mssg.data import bias, n4
from mssg.data.nifti import NiftiVolume
from mssg.errors import DataError
from trainer_cli.main import cli


def template(step):
    """The template's T1 and its white matter, every so many voxels, and where they lie."""
    with np.load(assets.path("brain/mni152.npz")) as file:
        t1, white = (file[name][::step, ::step, ::step].astype(np.float32) for name in ("t1", "white"))
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = (-98, -134, -72)
    points = affine[:3, :3] @ np.indices(t1.shape).reshape(3, -1) + affine[:3, 3:]
    return NiftiVolume(t1, affine), white.ravel() > 0.95 * white.max(), points


def unevenness(values):
    return values.std() / values.mean()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "step"), [(bias, 3), (n4, 6)], ids=["polynomial", "N4"])
def test_an_added_field_is_found_and_none_is_invented(method, step):
    volume, white, points = template(step)  # N4 takes ten times as long
    plain = volume.data.ravel()
    before = unevenness(plain[white])
    assert unevenness((plain / method.estimate(volume).at(points))[white]) < 1.1 * before
    x, y, z = points / np.array([80, 100, 80])[:, None]
    for field in (
        np.exp(0.15 * x - 0.1 * y * z + 0.1 * z),
        np.exp(0.12 * np.sin(2 * y + 1) + 0.1 * (x * x - 1 / 3)),
    ):
        uneven = (plain * field).astype(np.float32)
        found = method.estimate(NiftiVolume(uneven.reshape(volume.data.shape), volume.affine)).at(points)
        assert unevenness(uneven[white]) > 2 * before
        assert unevenness((uneven / found)[white]) < 1.25 * before
        assert np.corrcoef(np.log(found[white]), np.log(field[white]))[0, 1] > 0.9


@pytest.mark.parametrize("method", [bias, n4], ids=["polynomial", "N4"])
def test_nothing_to_fit_to_is_said(method):
    with pytest.raises(DataError, match="too little"):
        method.estimate(NiftiVolume(np.ones((6, 6, 6), np.float32), np.diag([4.0, 4, 4, 1])))


def test_without_simpleitk_n4_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("mssg.extras.missing", lambda extra: ["simpleitk"] if extra == "n4" else [])
    done = CliRunner().invoke(cli, ["prepare", "mri", str(tmp_path), "--out", str(tmp_path / "out"), "--n4"])
    assert done.exit_code == 2 and 'pip install "mssg[n4]"' in done.output
