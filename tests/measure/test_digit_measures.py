"""Digit morphometry: ideal strokes, set-then-measure on shipped digits, and images that hold no digit."""

import numpy as np
import pytest

from mssg.data.recipes import digit_changes
from mssg.data.recipes import digits as recipe
from mssg.errors import DataError, UsageError
from mssg.measure import digits
from mssg.measure.instruments import INSTRUMENTS, instrument


def bar(width: float, angle: float, side: int = 32, level: float = 200.0) -> np.ndarray:
    """An anti-aliased stroke of 20 units with round ends, float [side, side]."""
    fine = 512
    y, x = (np.mgrid[:fine, :fine] + 0.5) * 32 / fine - 16.0
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    along, across = x * c + y * s, y * c - x * s
    shape = np.hypot(np.maximum(np.abs(along) - 10, 0), across) < width / 2
    cell = fine // side
    return shape.reshape(side, cell, side, cell).mean((1, 3)) * level


def changed(image: np.ndarray, **wanted: float) -> np.ndarray:
    """A digit of which only what is named changes."""
    own = {name: values[0] for name, values in digits.measure(image[None]).items()}
    return digit_changes.set_all(image, **(own | wanted), resolution=len(image))


@pytest.fixture(scope="module")
def originals() -> np.ndarray:
    return recipe.load(limit=40).images


@pytest.fixture(scope="module")
def targets() -> np.ndarray:
    return np.array([recipe.structural_equations(np.random.default_rng([7, i])) for i in range(40)])


@pytest.fixture(scope="module")
def drawn(originals: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.stack([digit_changes.set_all(image, *target) for image, target in zip(originals, targets)])


@pytest.mark.parametrize("width", [2.0, 3.0, 5.0, 7.0])
@pytest.mark.parametrize("angle", [0, 20, 45, 70])
def test_ideal_stroke_measures_its_width(width, angle):
    assert digits.measure(bar(width, angle)[None])["thickness"][0] == pytest.approx(width, abs=0.12)


@pytest.mark.parametrize("side", [16, 64, 128])
def test_thickness_of_a_resampled_canvas_keeps_the_unit(side):
    assert digits.measure(bar(4.0, 30, side)[None])["thickness"][0] == pytest.approx(4.0, abs=0.25)


@pytest.mark.parametrize("lean", [-50, -20, 0, 35])
def test_slant_of_a_leaning_stroke_is_its_angle_from_upright(lean):
    measured = digits.measure(bar(2.0, 90 + lean)[None])
    assert measured["slant"][0] == pytest.approx(lean, abs=0.6)  # positive: the top leans to the right
    assert np.abs(digits.measure(bar(2.0, 90 + lean)[None, :, ::-1])["slant"][0] + lean) < 0.6


def test_intensity_is_the_grey_level_of_a_flat_stroke():
    assert digits.measure(bar(5.0, 0, level=137.0)[None])["intensity"][0] == pytest.approx(137.0)


@pytest.mark.slow
def test_set_then_measure_stays_within_the_floor(drawn, targets):
    measured = digits.measure(drawn)
    floors = {"thickness": 0.02, "intensity": 0.3, "slant": 0.3}
    for column, (name, floor) in enumerate(floors.items()):
        assert np.corrcoef(measured[name], targets[:, column])[0, 1] > 0.998, name
        assert np.abs(measured[name] - targets[:, column]).mean() < floor, name


def test_drawn_digits_are_not_cut_by_the_frame(drawn):
    rim = np.concatenate([drawn[:, 0], drawn[:, -1], drawn[:, :, 0], drawn[:, :, -1]], axis=1)
    assert rim.max() < 60 and (rim.max(1) > 0).mean() < 0.1


@pytest.mark.slow
def test_thin_strokes_stay_in_one_piece(originals):
    from scipy.ndimage import label

    whole = [i for i in range(30) if label(originals[i] > 60, np.ones((3, 3)))[1] == 1]
    thin = [changed(originals[i], thickness=1.3) for i in whole]
    pieces = [label(image > 0.2 * image.max(), np.ones((3, 3)))[1] for image in thin]
    assert np.mean(np.array(pieces) == 1) > 0.9


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("thickness", (1.2, 2.0, 3.0, 4.5, 6.0)),
        ("intensity", (60, 100, 160, 220, 255)),
        ("slant", (-45, -20, 0, 20, 45)),
    ],
)
def test_each_quantity_moves_alone_and_the_frame_is_kept(originals, name, steps):
    for image in originals[:4]:
        drawn = np.stack([changed(image, **{name: step}) for step in steps])
        assert drawn.dtype == np.uint8 and drawn.shape[1:] == image.shape
        measured = digits.measure(drawn)[name]
        assert (np.diff(measured) > 0).all()
        np.testing.assert_allclose(
            measured, steps, atol={"thickness": 0.25, "intensity": 1, "slant": 2.5}[name]
        )


def test_slant_leaves_thickness_and_intensity_alone(originals):
    before = digits.measure(originals[:8])
    after = digits.measure(np.stack([changed(image, slant=25.0) for image in originals[:8]]))
    moved = np.abs(after["thickness"] - before["thickness"])
    assert np.median(moved) < 0.03 and moved.max() < 0.3
    np.testing.assert_allclose(after["intensity"], before["intensity"], atol=1.0)


def test_shapes_and_types_measure_alike(drawn):
    as_bytes = digits.measure(drawn[:5])
    for images in (drawn[:5, None], drawn[:5].astype(np.float32), drawn[:5, None].astype(np.float64)):
        for name, values in digits.measure(images).items():
            np.testing.assert_array_equal(values, as_bytes[name])


def test_noise_changes_little(drawn, targets):
    noisy = np.clip(drawn + np.random.default_rng(0).normal(0, 8, drawn.shape), 0, 255)
    bright = targets[:, 1] > 120
    measured, clean = digits.measure(noisy), digits.measure(drawn)
    for name, bound in (("thickness", 0.15), ("intensity", 6.0), ("slant", 1.0)):
        assert np.abs(measured[name] - clean[name])[bright].mean() < bound, name


def test_images_without_a_digit_are_nan_and_the_rest_is_not(drawn):
    rng = np.random.default_rng(0)
    images = np.stack(
        [
            np.zeros((32, 32)),
            np.full((32, 32), 255.0),
            rng.uniform(0, 9, (32, 32)),
            np.full((32, 32), np.nan),
            np.full((32, 32), np.inf),
            drawn[0].astype(np.float64),
        ]
    )
    for values in digits.measure(images).values():
        assert np.isnan(values[:5]).all() and np.isfinite(values[5])


def test_any_noise_is_measured_without_error():
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32), dtype=np.uint8)
    single = np.zeros((1, 32, 32), np.uint8)
    single[0, 5, 5] = 255
    for values in digits.measure(np.concatenate([images, single])).values():
        assert values.shape == (21,)


def test_an_empty_batch_measures_to_empty_columns():
    assert all(values.shape == (0,) for values in digits.measure(np.zeros((0, 32, 32), np.uint8)).values())


@pytest.mark.parametrize("shape", [(32, 32), (2, 3, 32, 32), (2, 32, 30)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="not a batch of digits"):
        digits.measure(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("change", [changed, digit_changes.set_intensity])
def test_setting_an_empty_image_is_refused(change):
    with pytest.raises(DataError, match="no digit"):
        change(np.zeros((28, 28), np.uint8), intensity=2.0)


@pytest.mark.parametrize(("name", "value"), [("thickness", 40), ("slant", 89), ("intensity", 300)])
def test_targets_out_of_range_are_refused(originals, name, value):
    with pytest.raises(UsageError, match="out of range"):
        changed(originals[0], **{name: value})


def test_instruments_are_looked_up_by_name():
    assert instrument("digits") is digits and "digits" in INSTRUMENTS
    with pytest.raises(UsageError, match="digits"):
        instrument("ruler")
