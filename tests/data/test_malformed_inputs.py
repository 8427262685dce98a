"""What is wrong with an input is said, and everything else is prepared. 1,000 of them:
tests/benchmarks/malformed_inputs.py."""

import numpy as np
import pytest

from tests.data import malformed


def test_every_kind_of_spoiled_image_has_its_reason(tmp_path):
    rng = np.random.default_rng(0)
    assert malformed.check(tmp_path, rng, list(malformed.SPOILS)) == []


@pytest.mark.parametrize("kind", malformed.TABLES)
def test_a_spoiled_table_ends_with_a_message(kind, tmp_path):
    assert malformed.check_table(tmp_path, np.random.default_rng(0), kind) == []


@pytest.mark.parametrize("kind", malformed.LINES)
def test_a_spoiled_line_is_reported(kind, tmp_path):
    assert malformed.check_lines(tmp_path, np.random.default_rng(0), kind) == []
