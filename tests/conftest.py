"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real tables beside the project; skip where it is absent."""
    given = os.environ.get("FAIRSYNTH_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "adult" / "train.csv.gz").exists():
        pytest.skip("the folder of real tables is not here; set FAIRSYNTH_DATA to it")
    return folder
