"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share fitted models in one process, which `--dist loadgroup` reads.

    Otherwise every process fits them anew: the contract's for each generator, elsewhere those of a file.
    """
    for item in items:
        name = item.callspec.params.get("name") if hasattr(item, "callspec") else None
        contract = item.path.name == "test_generators.py" and isinstance(name, str)
        item.add_marker(pytest.mark.xdist_group(f"contract of {name}" if contract else item.path.stem))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real tables beside the project; skip where it is absent."""
    given = os.environ.get("FAIRSYNTH_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "adult" / "train.csv.gz").exists():
        pytest.skip("the folder of real tables is not here; set FAIRSYNTH_DATA to it")
    return folder
