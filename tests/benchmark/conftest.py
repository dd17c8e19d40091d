"""A package outside of fairsynth with methods and a metric of its own, small data, and plans on it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from toys import proxy_frame

from fairsynth.benchmark.engine import Ended, Task
from fairsynth.files import write_text

OUTSIDE = '''
import os, time
import numpy as np
from fairsynth.errors import DataError
from fairsynth.generators.base import Capabilities, Generator


class Copy(Generator):
    """Draws train rows again; writes down when it is fitted, and misbehaves as told."""

    name = "outside-copy"
    capabilities = Capabilities(title="rows drawn again", paper="")

    def __init__(self, *, fairness=None, seed: int = 0, log: str = "", does: str = "", seconds: float = 0.0,
                 noise: float = 0.0):
        self.fairness, self.seed, self.log, self.does, self.seconds = fairness, seed, log, does, seconds
        self.noise = noise

    def _fit(self, table, *, progress, checkpoint):
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')} seed={self.seed}\\n")
        time.sleep(self.seconds)
        if self.does == "raise":
            raise DataError("it does not work today")
        if self.does == "die":
            os.kill(os.getpid(), 9)
        if self.does == "exit":
            print("not my day")
            os._exit(7)
        if self.does == "eat":
            kept = []
            while True:
                kept.append(np.ones(10_000_000))
                time.sleep(0.02)
        self.frame_ = table.frame

    def _draw(self, n, request, seed):
        rng = np.random.default_rng(seed)
        return self.frame_[rng.integers(0, self.frame_.height, n)]

    def _state(self):
        return {}, {}, []

    def _restore(self, content):
        raise NotImplementedError


def rows_a_column(judged):
    return len(judged.test) / len(judged.test.schema)


def wrong(judged):
    return "a word"


rows_a_column.higher_is_better = False
'''
ENTRY_POINTS = """
[fairsynth.generators]
outside-copy = outside_of_fairsynth:Copy
outside-broken = outside_of_fairsynth:Absent

[fairsynth.metrics]
rows-a-column = outside_of_fairsynth:rows_a_column
wrong = outside_of_fairsynth:wrong
"""


# For one module: other tests list what is installed, and one of these methods is broken by intent.
@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Install a package as pip would: a module, and metadata with entry points."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outside_of_fairsynth.py").write_text(OUTSIDE)
    info = folder / "outside_of_fairsynth-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-of-fairsynth\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("outside_of_fairsynth", None)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a CSV file of 300 biased decisions."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    proxy_frame(300, 0).write_csv(path)
    return path


@pytest.fixture
def plan_file(tmp_path: Path, rows: Path, outside: Path) -> Callable[..., Path]:
    """Return the function that writes a plan on these rows: its models as TOML, other keys as they stand."""

    def write(models: str, top: str = "seeds = 2", name: str = "plan.toml") -> Path:
        text = f"""
{top}
downstream = ["logistic_regression"]
reports = false

[[datasets]]
name = "people"
path = "{rows}"
target = "paid"
favorable = "yes"
sensitive = "sex"
{models}
"""
        path = tmp_path / name
        write_text(path, text)
        return path

    return write


class Instant:
    """An engine without processes: every cell ends at once, with scores that its key and settings decide."""

    def __init__(self, jobs: int = 2, result: Callable[[Task], Ended | None] | None = None) -> None:
        self.jobs, self.result = jobs, result
        self.started: list[Task] = []
        self.running: list[Task] = []
        self.closed = False
        self.most = 0

    def free(self, limits: dict[str, Any]) -> bool:
        return len(self.running) < self.jobs

    def start(self, task: Task) -> None:
        self.started.append(task)
        self.running.append(task)
        self.most = max(self.most, len(self.running))

    def wait(self, seconds: float) -> list[Ended]:
        if not self.running:
            return []
        task = self.running.pop(0)
        ended = self.result(task) if self.result is not None else None
        if ended is None:
            write_result(task)
            ended = Ended(task.id, 0, None, 1.0, 1.0, 100.0)
        return [ended]

    def close(self) -> None:
        self.closed = True


def write_result(task: Task) -> None:
    """Write what a cell that went well writes."""
    import json

    cell = task.request["cell"]
    sources = ("real", "constant", "holdout") if cell["kind"] == "baseline" else ("method",)
    number = int(task.id[:8], 16) / 0xFFFFFFFF
    scores = [
        [source, section, metric, attribute, value, None, None, None]
        for source in sources
        for section, metric, attribute, value in (
            ("utility", "auroc", None, 0.5 if source == "constant" else 0.6 + 0.3 * number),
            ("fairness", "dpr", "sex", 1.0 if source == "constant" else 0.5 + 0.4 * number),
            ("fidelity", "coverage", None, 0.8 + 0.1 * number),
        )
        if not (metric == "coverage" and source in ("real", "constant"))
    ]
    body = {"status": "done", "scores": scores, "seconds": {"total": 1.0, "fit": 0.5}, "settings": {}}
    write_text(task.desk / "result.json", json.dumps(body))


@pytest.fixture
def instant() -> type[Instant]:
    """Return the engine without processes."""
    return Instant
