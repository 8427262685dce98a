"""The oracle of whole brains: what it reads of heads whose volumes are known, and what it refuses."""

import numpy as np
import pytest
from benchmarks.calibrating import calibrate

from mssg.data.plane import stored
from mssg.data.recipes import phantom, phantom_anatomy, phantom_scan
from mssg.errors import DataError
from mssg.measure import brain_stack
from mssg.measure.calibration import read_calibrated

PLACES = np.arange(-105.0, 76.0, 6.0)


@pytest.fixture(scope="module")
def heads():
    """Four heads from small to large ventricles, every 6 mm, and their truth."""
    whole, volumes = phantom_anatomy.build("mni152")
    cuts = [(place, phantom_scan.slice_points("coronal", 64, place)) for place in PLACES]
    drawn = [phantom.draw_head(np.random.default_rng([9, i]), volumes) for i in range(40)]
    drawn.sort(key=lambda head: head.truth[1])
    chosen = [drawn[i] for i in (2, 14, 26, 38)]
    out = []
    for i, head in enumerate(chosen):
        rng = np.random.default_rng(i)
        stack = phantom_scan.draw_stack(rng, head, whole, cuts, phantom_scan.SCANNERS[0])
        out.append(np.concatenate([stored(picture, "coronal") for picture in stack], 1))
    return np.stack(out), np.array([head.truth for head in chosen])


@pytest.mark.slow
def test_volumes_are_read_off_the_stack(heads):
    volumes, truth = heads
    read = brain_stack.measure(volumes, (2.5, 6.0, 2.5))
    age, ventricle, grey = truth.T
    assert np.corrcoef(read["ventricle"], ventricle)[0, 1] > 0.97
    assert np.abs(read["ventricle"] - ventricle).max() < 8
    assert np.abs(read["grey_matter"] - grey).max() < 25
    assert np.abs(read["age"] - age).max() < 8
    assert {e.covariate: e.r > 0.85 for e in brain_stack.own_errors()} == dict.fromkeys(read, True)


def test_what_is_no_head_reads_as_nothing():
    empty = np.zeros((2, 20, 20, 20), np.uint8)
    assert all(np.isnan(values).all() for values in brain_stack.measure(empty, (2.5, 3, 2.5)).values())
    with pytest.raises(DataError, match="batch of heads"):
        brain_stack.measure(empty[0], (2.5, 3, 2.5))


def test_a_calibration_finds_the_form_it_was_made_from():
    rng = np.random.default_rng(0)
    found = {"a": rng.normal(size=200), "b": rng.normal(3, 2, 200), "contrast": np.full(200, 0.6)}
    truth = {"age": 50 + 4 * found["a"] - found["a"] * found["b"], "ventricle": np.exp(0.2 * found["b"])}
    inputs = {"age": ("a", "b"), "ventricle": ("b",)}
    scanner = calibrate(found, truth, inputs)
    read = read_calibrated(found, [scanner], inputs)
    for name in truth:
        np.testing.assert_allclose(read[name], truth[name], rtol=1e-8)
        assert scanner["error_on_phantoms"][name]["n"] == 100
    few = {name: values[:24] for name, values in found.items()}
    linear = calibrate(few, {name: values[:24] for name, values in truth.items()}, inputs)
    assert len(linear["covariates"]["age"]["weights"]) == 3  # 12 rows carry no quadratic form of two features
