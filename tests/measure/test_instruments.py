"""What every instrument says of itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mssg.data.recipes import eye_phantom_anatomy as anatomy
from mssg.data.recipes.eye_phantom_camera import CAMERAS, photograph
from mssg.measure.instruments import INSTRUMENTS, instrument


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_an_instrument_says_what_its_readings_rest_on_and_how_well_it_reads(name):
    module = instrument(name)
    assert module.ABOUT.endswith(".") and set(module.UNITS) == set(module.COVARIATES)
    for own in module.own_errors():
        assert own.covariate in module.COVARIATES and own.unit == module.UNITS[own.covariate]
        assert own.n > 100 and own.r > (0.5 if own.better else 0.2)
        assert 0 < own.mae or own.accuracy > own.guess_accuracy
    doubtful = {own.covariate for own in module.own_errors() if not own.better}
    assert doubtful == ({"vessel_density", "vessel_calibre"} if name == "fundus" else set())


def test_the_brain_oracle_states_the_errors_of_the_scanner_it_reads_worst():
    """docs/method/phantoms.md has them of both."""
    own = {e.covariate: e for e in instrument("brain").own_errors()}
    assert [round(own[n].mae, 1) for n in ("age", "ventricle", "grey_matter")] == [2.7, 1.7, 14.6]


def test_blur_is_no_cataract_on_a_real_photograph():
    data = pytest.importorskip("skimage.data")
    photo = Image.fromarray(data.retina())
    batch = np.stack(
        [np.asarray(p.resize((128, 128))) for p in (photo, photo.filter(ImageFilter.GaussianBlur(25)))]
    )
    read = instrument("fundus").measure(batch.transpose(0, 3, 1, 2))
    assert not read["cataract"].any() and not read["eye"].any()  # a left eye
    field = batch.max(-1, keepdims=True) > 20
    hazy = (0.45 * batch + 0.55 * np.array([150, 105, 60]) * field).astype(np.uint8)
    assert instrument("fundus").measure(hazy.transpose(0, 3, 1, 2))["cataract"].all()
    nothing = instrument("fundus").measure(np.zeros((1, 3, 64, 64), np.uint8))
    assert all(np.isnan(values).all() for values in nothing.values())


def test_the_fundus_oracle_finds_the_side_of_every_phantom():
    """docs/phantoms.md says so, of both cameras."""
    own = {e.covariate: e for e in instrument("fundus").own_errors()}
    assert own["eye"].accuracy > 0.98 and own["cataract"].accuracy > 0.95


def test_disc_fovea_and_spots_of_a_known_eye_are_outlined():
    rng = np.random.default_rng(5)
    for size in (64, 128):
        drawn = replace(anatomy.draw_eye(rng), haze=0.02, right=False)
        photo = photograph(np.random.default_rng(1), drawn, CAMERAS[0], size)
        found = instrument("fundus").regions(photo)
        assert list(found) == ["optic disc", "fovea", "dark spots", "bright spots"]
        pixel = CAMERAS[0].degrees / CAMERAS[0].circle / size * drawn.mm_per_degree
        for name, place in (("optic disc", drawn.disc), ("fovea", (0.0, 0.0))):
            row, column = (index.mean() - (size - 1) / 2 for index in np.nonzero(found[name]))
            x, y = (place[i] - drawn.centre[i] for i in (0, 1))
            assert abs(column - x / pixel) < size / 40 and abs(row + y / pixel) < size / 40, name
    assert instrument("fundus").regions(np.zeros((3, 64, 64), np.uint8)) == {}
