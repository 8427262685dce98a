"""What every instrument says of itself."""

from __future__ import annotations

import pytest

from mssg.measure.instruments import INSTRUMENTS, instrument


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_an_instrument_says_what_its_readings_rest_on_and_how_well_it_reads(name):
    module = instrument(name)
    assert module.ABOUT.endswith(".") and set(module.UNITS) == set(module.COVARIATES)
    for own in module.own_errors():
        assert own.covariate in module.COVARIATES and own.unit == module.UNITS[own.covariate]
        assert own.n > 100 and own.r > 0.5
        assert 0 < own.mae or own.accuracy > own.guess_accuracy


def test_the_brain_oracle_states_the_errors_of_the_scanner_it_reads_worst():
    """docs/method/phantoms.md has them of both."""
    own = {e.covariate: e for e in instrument("brain").own_errors()}
    assert [round(own[n].mae, 1) for n in ("age", "ventricle", "grey_matter")] == [2.7, 1.7, 14.6]


def test_the_fundus_oracle_finds_the_side_of_every_phantom():
    """docs/phantoms.md says so, of both cameras."""
    own = {e.covariate: e for e in instrument("fundus").own_errors()}
    assert own["eye"].accuracy > 0.98 and own["cataract"].accuracy > 0.95
