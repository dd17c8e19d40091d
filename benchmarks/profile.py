"""Where the time of audited trees goes: ``python -m benchmarks profile --part fit|stream|sample``.

Prints the functions that took most of their own, by `cProfile`, and for drawing the nanoseconds a row of each step by
the clock of the process, without the profiler in between. Drawing is done in one thread: nothing hides in another.
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import load

BLOCKS = 30


def run(part: str, *, dataset: str = "adult", lines: int = 25, rows: int = 2_000_000) -> None:
    """Profile one part, and print."""
    import fairsynth as fs

    if part == "stream":
        _stream(rows, lines)
        return
    train, _ = load(dataset, ["sex"] if dataset == "adult" else None)
    model = fs.AuditedTrees(seed=0)
    if part == "fit":
        _profiled(lambda: model.fit(train), lines)
        return
    _sample(model.fit(train), lines)


def _profiled(work: Callable[[], Any], lines: int) -> None:
    profile = cProfile.Profile()
    profile.enable()
    work()
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(lines)


def _stream(rows: int, lines: int) -> None:
    import fairsynth as fs
    from benchmarks.scale import ROLES, _write

    with tempfile.TemporaryDirectory() as folder:
        _write(f"{folder}/rows", rows)
        _profiled(lambda: fs.AuditedTrees(seed=0).fit(fs.StreamedTable(f"{folder}/rows", **ROLES)), lines)


def _sample(model: Any, lines: int) -> None:
    from fairsynth.data.io import TableWriter
    from fairsynth.data.level_states import LevelStates
    from fairsynth.data.number_states import NumberStates
    from fairsynth.generators.base import BLOCK_ROWS, Request
    from fairsynth.generators.tree_label import TreeLabel
    from fairsynth.trees.lookup import ColumnLookup
    from fairsynth.trees.scores import PairScores

    wanted = model._prepare(Request({}, None))

    def draw(index: int) -> Any:
        return model._draw_batch(BLOCK_ROWS, wanted, np.random.SeedSequence([0, index]))

    def all_blocks() -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            TableWriter(Path(folder) / "o.parquet", model.schema_) as out,
        ):
            for index in range(BLOCKS):
                out.write(draw(index))

    draw(0)
    _profiled(all_blocks, lines)
    steps = ((ColumnLookup, "draw"), (PairScores, "scores"), (TreeLabel, "draw"), (NumberStates, "decode_arrow"),
             (LevelStates, "decode_arrow"), (TableWriter, "write"))  # fmt: skip
    spent: dict[str, float] = {}
    restore = [_timed(home, name, spent) for home, name in steps]
    began = time.process_time()
    all_blocks()
    total = time.process_time() - began
    for undo in restore:
        undo()
    per_row = 1e9 / (BLOCKS * BLOCK_ROWS)
    for name, seconds in spent.items():
        print(f"{name:30} {seconds * per_row:7.0f} ns a row")
    print(f"{'all':30} {total * per_row:7.0f} ns a row, {1e9 / (total * per_row):,.0f} rows a CPU second")


def _timed(home: type, name: str, spent: dict[str, float]) -> Callable[[], None]:
    """Count the seconds of a method; return what undoes it."""
    plain = getattr(home, name)
    label = f"{home.__name__}.{name}"

    def counted(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return plain(*args, **kwargs)
        finally:
            spent[label] = spent.get(label, 0.0) + time.process_time() - began

    setattr(home, name, counted)
    return lambda: setattr(home, name, plain)
