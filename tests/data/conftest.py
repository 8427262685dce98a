"""A small study of two sources with missing values, and its prepared folders."""

import pytest

from mssg.data.dataset_writer import write_packed
from mssg.study.covariate import Covariate
from mssg.study.model import Source, Study
from tests.data.example_sources import SIDE, SIZES, make_images, make_table


@pytest.fixture
def study(tmp_path) -> Study:
    """Age shared; sex only north, site only south; south weighs half of north."""
    return Study(
        "small",
        SIDE,
        1,
        (
            Covariate("age", "continuous", "years"),
            Covariate("sex", "binary"),
            Covariate("site", "categorical", levels=("x", "y", "z")),
        ),
        (Source("north", "north", ("age", "sex"), 2.0), Source("south", "south", ("age", "site"), 1.0)),
        path=str(tmp_path / "study.toml"),
    )


@pytest.fixture
def folders(tmp_path, study):
    """Both sources written below tmp_path."""
    for name, n in SIZES.items():
        write_packed(tmp_path / name, make_images(n), make_table(name, n), {"recipe": "test"})
    return tmp_path
