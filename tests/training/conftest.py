"""The study of blobs, for every test of training."""

from __future__ import annotations

from pathlib import Path

import pytest
from blob_study import write_blob_study


@pytest.fixture(scope="session")
def blob_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's TOML, its two sources beside it."""
    return write_blob_study(tmp_path_factory.mktemp("blobs"))
