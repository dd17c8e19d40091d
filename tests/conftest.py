"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# What is slow is a matter of who else uses the machine, and no test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

#: Files whose tests look at the same fitted models or evaluations; each line runs in one process.
TOGETHER = (
    (
        "generators/test_strength.py",
        "generators/test_students.py",
        "generators/test_fairvae.py",
        "generators/test_fldgm.py",
    ),
    (
        "report/test_browser.py",
        "report/test_html.py",
        "report/test_verdict.py",
        "report/test_card.py",
        "report/test_glossary.py",
        "report/test_figures.py",
        "report/test_croissant.py",
    ),
)
#: Files that take long: what is begun last is waited for alone.
FIRST = (
    "contract/test_generators.py",
    "test_cli.py",
    *TOGETHER[0],
    *TOGETHER[1],
    "evaluation/test_evaluate.py",
    "evaluation/test_images.py",
    "benchmark/test_processes.py",
    "evaluation/test_bad_tables.py",
    "generators/test_audited_trees.py",
    "generators/test_requirements.py",
)


class _Together(LoadFileScheduling):
    """As ``--dist loadfile``, but what stands in one line of `TOGETHER` is as one file."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return next((files[0] for files in TOGETHER if file.removeprefix("tests/") in files), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Let files that share models share a process."""
    return _Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `FIRST` first, in that order."""
    here = Path(__file__).resolve().parent
    place = {here / name: at for at, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(FIRST)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real tables beside the project; skip where it is absent."""
    given = os.environ.get("FAIRSYNTH_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "adult" / "train.csv.gz").exists():
        pytest.skip("the folder of real tables is not here; set FAIRSYNTH_DATA to it")
    return folder
