"""What is run, and what is not run again; the processes themselves are in test_processes.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fairsynth.benchmark import methods
from fairsynth.benchmark.cells import Cell, exceeds
from fairsynth.benchmark.engine import Ended, Task
from fairsynth.benchmark.locks import Claim
from fairsynth.benchmark.plan import Limits
from fairsynth.benchmark.runner import Summary, run_plan
from fairsynth.benchmark.store import Store
from fairsynth.errors import DataError, FairsynthWarning, SettingsError

PlanFile = Callable[..., Path]
COPY = '[[models]]\nname = "outside-copy"\n'
TWO = COPY + '[[models]]\nname = "reweighing"\nsettings = { base = "logistic_regression" }\n'


def run(plan: Path, folder: Path, engine: Any) -> tuple[Summary, list[str]]:
    done = run_plan(plan, folder, engine=engine)
    return done, [task.request["cell"]["label"] for task in engine.started]


def test_a_finished_plan_is_not_run_again(plan_file: PlanFile, tmp_path: Path, instant: Any) -> None:
    plan, engine = plan_file(TWO), instant()
    done, labels = run(plan, tmp_path / "out", engine)
    assert sorted(labels) == ["outside-copy"] * 2 + ["real data"] * 2 + ["reweighing"] * 2
    assert (done.total, done.ran, done.failed, done.reused) == (6, 6, 0, 0)
    assert engine.most == 2 and engine.closed
    again = instant()
    done, labels = run(plan, tmp_path / "out", again)
    assert labels == [] and (done.ran, done.reused) == (0, 6)
    for place in ("claims", "work"):
        assert not list((tmp_path / "out" / place).iterdir())


def test_a_changed_plan_runs_only_what_is_new(plan_file: PlanFile, tmp_path: Path, instant: Any) -> None:
    run(plan_file(TWO), tmp_path / "out", instant())
    _, labels = run(plan_file(TWO, "seeds = 3\nname = 'other words'"), tmp_path / "out", instant())
    assert sorted(labels) == ["outside-copy", "real data", "reweighing"]
    # Another name of the same thing is the same thing; other settings are not.
    renamed = TWO.replace('"outside-copy"\n', '"outside-copy"\nlabel = "copy"\n')
    _, labels = run(plan_file(renamed, "seeds = 3"), tmp_path / "out", instant())
    assert labels == []
    changed = TWO.replace('"outside-copy"\n', '"outside-copy"\nsettings = { noise = 0.5 }\n')
    _, labels = run(plan_file(changed, "seeds = 3"), tmp_path / "out", instant())
    assert labels == ["outside-copy"] * 3


def test_changed_rows_are_other_cells(plan_file: PlanFile, tmp_path: Path, rows: Path, instant: Any) -> None:
    mine = tmp_path / "mine.csv"
    shutil.copy(rows, mine)
    plan = plan_file(COPY)
    plan.write_text(plan.read_text().replace(str(rows), str(mine)))
    run(plan, tmp_path / "out", instant())
    os.utime(mine, (1, 1))  # touched, but with the same rows
    assert run(plan, tmp_path / "out", instant())[1] == []
    text = mine.read_text()
    mine.write_text(text + text.splitlines()[-1] + "\n")
    assert len(run(plan, tmp_path / "out", instant())[1]) == 4


def test_changed_code_is_other_cells(
    plan_file: PlanFile, tmp_path: Path, instant: Any, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_file(TWO)
    run(plan, tmp_path / "out", instant())
    module = outside / "outside_of_fairsynth.py"
    before = module.read_text()
    try:
        module.write_text(before + "\n# a change\n")
        assert set(run(plan, tmp_path / "out", instant())[1]) == {"outside-copy"}
    finally:
        module.write_text(before)
    monkeypatch.setattr(methods, "_own_code", lambda: "another digest")
    assert set(run(plan, tmp_path / "out", instant())[1]) == {"outside-copy", "reweighing", "real data"}


def test_a_failure_is_recorded_and_the_rest_goes_on(
    plan_file: PlanFile, tmp_path: Path, instant: Any
) -> None:
    def result(task: Task) -> Ended | None:
        label, seed = task.request["cell"]["label"], task.request["cell"]["seed"]
        if label != "outside-copy":
            return None
        return Ended(task.id, -9, "time" if seed else None, 61.0)

    plan = plan_file(TWO, "seeds = 2")
    plan.write_text(plan.read_text() + "\n[limits]\nseconds = 50\n")
    done, _ = run(plan, tmp_path / "out", instant(result=result))
    assert (done.ran, done.failed) == (6, 2)
    reasons = dict(done.failures)
    assert reasons["people · outside-copy demographic_parity 1 · seed 1"] == "took longer than 50 s"
    assert "signal 9" in reasons["people · outside-copy demographic_parity 1 · seed 0"]
    # It is not tried again without being asked; but then it is.
    done, labels = run(plan, tmp_path / "out", instant())
    assert labels == [] and len(done.failures) == 2
    engine = instant()
    done = run_plan(plan, tmp_path / "out", engine=engine, retry=True)
    assert (done.ran, done.failed, done.failures) == (2, 0, [])


def test_a_cell_that_took_too_long_is_run_again_when_it_may_take_longer(
    plan_file: PlanFile, tmp_path: Path, instant: Any
) -> None:
    def late(task: Task) -> Ended | None:
        return Ended(task.id, -9, "time", 9.0) if task.request["cell"]["kind"] == "generator" else None

    plan = plan_file(COPY, "seeds = 1")
    text = plan.read_text()
    plan.write_text(text + "[limits]\nseconds = 9\n")
    run(plan, tmp_path / "out", instant(result=late))
    plan.write_text(text + "[limits]\nseconds = 8\n")
    assert run(plan, tmp_path / "out", instant())[1] == []
    plan.write_text(text + "[limits]\nseconds = 90\n")
    assert run(plan, tmp_path / "out", instant())[1] == ["outside-copy"]


def test_limits_that_were_raised() -> None:
    assert exceeds(Limits(seconds=20), {"seconds": 10}, "time")
    assert exceeds(Limits(), {"seconds": 10}, "time")
    assert not exceeds(Limits(seconds=10), {"seconds": 10}, "time")
    assert not exceeds(Limits(seconds=20, memory_gb=1), {"seconds": 10, "memory_gb": 1}, "memory")


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_a_damaged_result_is_run_again_with_a_warning(
    plan_file: PlanFile, tmp_path: Path, instant: Any, damage: str
) -> None:
    plan, out = plan_file(TWO, "seeds = 1"), tmp_path / "out"
    run(plan, out, instant())
    victim, other = sorted((out / "cells").glob("*.json"))[:2]
    body = victim.read_bytes()
    broken = {
        "cut": body[: len(body) // 2],
        "flip": body.replace(b'"auroc"', b'"auroC"', 1) if b'"auroc"' in body else body[:-3],
        "empty": b"",
        "other": other.read_bytes(),
    }[damage]
    assert broken != body
    victim.write_bytes(broken)
    engine = instant()
    with pytest.warns(FairsynthWarning, match="run again"):
        done = run_plan(plan, out, engine=engine)
    assert [task.id for task in engine.started] == [victim.stem]
    assert (done.ran, done.reused) == (1, 2)
    assert Store(out).result(victim.stem) is not None


def test_a_cell_that_another_run_holds_is_left_to_it(
    plan_file: PlanFile, tmp_path: Path, instant: Any
) -> None:
    """Another process holds one cell, writes its result after a while, and lets go."""
    plan, out = plan_file(COPY, "seeds = 1"), tmp_path / "out"
    first = instant()
    run(plan, out, first)
    held = next(t.id for t in first.started if t.request["cell"]["kind"] == "generator")
    path = out / "cells" / f"{held}.json"
    kept = path.read_bytes()
    path.unlink()
    script = f"""
import sys, time
from pathlib import Path
from fairsynth.benchmark.store import Store
claim = Store({str(out)!r}).claim({held!r})
print("held", flush=True)
time.sleep(1.5)
Path({str(path)!r}).write_bytes({kept!r})
claim.release()
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    engine = instant()
    done = run_plan(plan, out, engine=engine)
    assert engine.started == [] and done.reused == 2
    assert other.wait() == 0


def test_what_a_killed_run_left_of_finished_cells_is_cleared_but_for_what_another_holds(
    plan_file: PlanFile, tmp_path: Path, instant: Any
) -> None:
    """SIGKILL may come after a result is written and before its desk and claim are gone."""
    plan, out = plan_file(COPY, "seeds = 1"), tmp_path / "out"
    run(plan, out, instant())
    store = Store(out)
    left, held = sorted(store.keys())
    (out / "claims" / f"{left}.lock").write_text("{}")
    for key in (left, held):
        store.desk(key).joinpath("result.json").write_text("{}")
    claim = store.claim(held)
    assert claim is not None
    assert run(plan, out, instant())[1] == []
    assert [path.name[:16] for path in (out / "work").iterdir()] == [held[:16]]
    assert [path.name for path in (out / "claims").iterdir()] == [f"{held}.lock"]
    claim.release()
    run(plan, out, instant())
    assert not list((out / "work").iterdir()) and not list((out / "claims").iterdir())


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    script = f"""
import os
from pathlib import Path
from fairsynth.benchmark.locks import Claim
claim = Claim.take(Path({str(path)!r}))
print("held", flush=True)
input()
os.kill(os.getpid(), 9)
"""
    other = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    assert json.loads(path.read_text())["pid"] == other.pid
    assert Claim.take(path) is None
    other.communicate("now\n")
    assert other.returncode == -9 and path.exists()
    claim = Claim.take(path)
    assert claim is not None and Claim.take(path) is None
    claim.release()
    assert not path.exists()


def test_the_parquet_file_follows_the_json_files(plan_file: PlanFile, tmp_path: Path, instant: Any) -> None:
    plan, out = plan_file(TWO, "seeds = 1"), tmp_path / "out"
    run(plan, out, instant())
    store = Store(out)
    frame = store.frame()
    assert frame["key"].n_unique() == 3
    stamp = store.parquet.stat().st_mtime_ns
    assert store.frame().equals(frame) and store.parquet.stat().st_mtime_ns == stamp
    victim = frame["key"][0]
    body = store.result(victim)
    assert body is not None
    body["scores"] = [["method", "utility", "auroc", None, 0.25, None, None, None]]
    store.keep(victim, body)
    assert store.frame([victim])["value"].to_list() == [0.25]
    assert pl.read_parquet(store.parquet).filter(pl.col("key") == victim)["value"].to_list() == [0.25]
    (out / "cells" / f"{victim}.json").unlink()
    assert victim not in store.frame()["key"]
    store.parquet.write_bytes(b"PAR1 no more")
    assert store.frame()["key"].n_unique() == 2


def test_keys_know_what_decides_and_nothing_else() -> None:
    base: dict[str, Any] = {
        "dataset": "a", "label": "b", "data": "d" * 64, "model": "m", "kind": "generator", "settings": {"x": 1, "y": 2},
        "criterion": "demographic_parity", "strength": 1.0, "seed": 0, "depth": "quick",
        "downstream": ("lightgbm",), "metrics": (), "search": None, "code": "1+a", "limits": {"seconds": 1},
    }  # fmt: skip
    key = Cell(**base).key
    for same in ({"dataset": "c"}, {"label": "c"}, {"limits": {}}, {"settings": {"y": 2, "x": 1}}):
        assert Cell(**{**base, **same}).key == key
    others = [
        {"data": "e" * 64}, {"model": "n"}, {"settings": {"x": 1}}, {"criterion": "equalized_odds"}, {"strength": 0.5},
        {"seed": 1}, {"depth": "core"}, {"downstream": ("random_forest",)}, {"metrics": ("z",)}, {"code": "1+b"},
        {"search": {"trials": 1}},
    ]  # fmt: skip
    assert len({key, *(Cell(**{**base, **other}).key for other in others)}) == 1 + len(others)
    cell = Cell(**base)
    assert Cell.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell


def test_what_cannot_be_run_is_said_before_anything_is(
    plan_file: PlanFile, tmp_path: Path, instant: Any
) -> None:
    plan = plan_file(COPY)
    plan.write_text(plan.read_text().replace('"sex"', '"gender"'))
    with pytest.raises(SettingsError, match=r"plan.toml: line \d+: datasets\[1\]: .*gender"):
        run_plan(plan, tmp_path / "out", engine=instant())
    assert not (tmp_path / "out").exists()
    for wrong in ({"jobs": 0}, {"engine": "cloud"}, {"address": "auto"}):
        with pytest.raises(SettingsError):
            run_plan(plan_file(COPY), tmp_path / "out", **wrong)
    with pytest.raises(DataError, match="no plan was run"):
        Store(tmp_path / "nothing").latest_plan()


def test_what_a_method_cannot_be_asked_for_is_left_out_with_a_word(
    plan_file: PlanFile, tmp_path: Path, instant: Any
) -> None:
    top = 'seeds = 1\ncriteria = ["demographic_parity", "equalized_odds"]\nstrengths = [0.0, 0.5, 1.0]'
    engine = instant()
    done = run_plan(plan_file(TWO, top), tmp_path / "out", engine=engine)
    asked = {
        (c["label"], c["criterion"], c["strength"]) for c in (task.request["cell"] for task in engine.started)
    }
    assert {a for a in asked if a[0] == "outside-copy"} == {
        ("outside-copy", criterion, strength)
        for criterion in ("demographic_parity", "equalized_odds")
        for strength in (0.0, 0.5, 1.0)
    }
    assert ("real data", None, None) in asked
    assert not any(a[0] == "reweighing" and a[1] == "equalized_odds" for a in asked)
    assert any("reweighing cannot be asked for equalized_odds" in remark for remark in done.remarks)
