"""Rows in many files: the same rows whoever draws them, whatever dies meanwhile, and nothing drawn twice."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "helpers"))
from toys import mixed_table
from typer.testing import CliRunner

from fairsynth import partitions
from fairsynth.benchmark.locks import Claim
from fairsynth.cli import app
from fairsynth.errors import DataError, SchemaError, SettingsError
from fairsynth.generators.base import BLOCK_ROWS, load_generator
from fairsynth.generators.fair_trees import FairTrees
from fairsynth.partitions import MANIFEST, Partitions, sample_partitions
from fairsynth.progress import Step

N = 3 * BLOCK_ROWS + 1000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "trees.fairsynth"
    FairTrees(seed=3).fit(mixed_table(400)).save(path)
    return path


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return all rows in one file."""
    path = tmp_path_factory.mktemp("whole") / "rows.parquet"
    load_generator(model).sample_to(path, N, seed=7)
    return path


def draw(model: Path, folder: Path, **options: Any) -> Partitions:
    return sample_partitions(
        model, folder, N, **{"seed": 7, "partition_rows": BLOCK_ROWS, "jobs": 1, **options}
    )


def contents(done: Partitions) -> list[bytes]:
    return [(done.folder / part.name).read_bytes() for part in done.files]


def rows(done: Partitions) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(done.folder / part.name) for part in done.files])


@pytest.mark.parametrize("size", [1, BLOCK_ROWS + 1, 10 * N])
def test_the_files_together_are_the_rows_of_one_file(
    model: Path, whole: Path, tmp_path: Path, size: int
) -> None:
    """Identifiers go on from file to file as well."""
    done = draw(model, tmp_path / "rows", partition_rows=size)
    assert len(done.files) == {1: 4, BLOCK_ROWS + 1: 2, 10 * N: 1}[size]
    found = rows(done)
    assert found.equals(pl.read_parquet(whole))
    assert found["person"].n_unique() == N
    told = json.loads((tmp_path / "rows" / MANIFEST).read_text())
    assert told["complete"] and [item["rows"] for item in told["files"]] == [part.rows for part in done.files]
    assert sorted(os.listdir(tmp_path / "rows")) == [MANIFEST, *(part.name for part in done.files)]


@pytest.mark.slow
def test_processes_draw_the_same_files(model: Path, tmp_path: Path) -> None:
    """… also when one of them is killed in the middle, which is not told as an error."""
    alone = draw(model, tmp_path / "alone")
    killed: list[int] = []

    def kill(step: Step) -> None:
        if not killed:
            child = multiprocessing.active_children()[0]
            killed.append(int(child.pid or 0))
            os.kill(killed[0], signal.SIGKILL)

    steps: list[Step] = []
    together = draw(model, tmp_path / "two", jobs=2, progress=lambda s: (steps.append(s), kill(s))[0])
    assert killed
    assert contents(together) == contents(alone)
    assert together.files == alone.files
    assert sorted(s.done for s in steps)[-1] == N


def test_finished_files_are_not_drawn_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = draw(model, tmp_path / "rows")
    before = contents(first)
    damaged, lost = (tmp_path / "rows" / first.files[i].name for i in (1, 2))
    damaged.write_bytes(before[1][:-8] + bytes(8))
    lost.unlink()
    left = tmp_path / "rows" / f".{lost.name}.0123abcd.part"
    left.write_bytes(b"what a killed process leaves")
    drawn: list[str] = []
    real = partitions._draw

    def counted(model: str, folder: str, task: Any, threads: int) -> Any:
        drawn.append(task.name)
        return real(model, folder, task, threads)

    monkeypatch.setattr(partitions, "_draw", counted)
    again = draw(model, tmp_path / "rows")
    assert drawn == [damaged.name, lost.name]
    assert (again.drawn, again.kept) == (2, 2)
    assert contents(again) == before
    assert not left.exists()
    drawn.clear()
    assert draw(model, tmp_path / "rows").drawn == 0 and not drawn


def test_what_is_listed_is_whole(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that fails in the middle leaves a manifest of what is there, and the next one goes on."""
    real = partitions._draw

    def failing(model: str, folder: str, task: Any, threads: int) -> Any:
        if task.index == 2:
            raise DataError("no space left")
        return real(model, folder, task, threads)

    monkeypatch.setattr(partitions, "_draw", failing)
    with pytest.raises(DataError, match="no space"):
        draw(model, tmp_path / "rows")
    told = json.loads((tmp_path / "rows" / MANIFEST).read_text())
    assert not told["complete"] and [item["name"] for item in told["files"]] == [
        "part-00000.parquet", "part-00001.parquet",
    ]  # fmt: skip
    monkeypatch.setattr(partitions, "_draw", real)
    done = draw(model, tmp_path / "rows")
    assert (done.drawn, done.kept) == (2, 2)


def test_shares_are_exact_over_all_files(model: Path, tmp_path: Path) -> None:
    mix = {"yes": 0.5, "no": 0.5}
    found = rows(draw(model, tmp_path / "rows", target_mix=mix, where={"sex": "woman"}))
    assert found["paid"].value_counts().sort("paid")["count"].to_list() == [N // 2, N // 2]
    assert set(found["sex"]) == {"woman"}


def test_groups_may_be_named_by_their_levels(model: Path, tmp_path: Path) -> None:
    by_levels = draw(model, tmp_path / "rows", sensitive={("woman",): 1.0})
    assert set(rows(by_levels)["sex"]) == {"woman"}
    again = draw(model, tmp_path / "rows", sensitive={("woman",): 1.0})
    assert (again.drawn, again.kept) == (0, len(by_levels.files))
    with pytest.raises(SettingsError):
        draw(model, tmp_path / "rows", sensitive={("man",): 1.0})


def test_memory_is_that_of_one_file(model: Path, tmp_path: Path) -> None:
    """Each file is written row group by row group; no process holds more than some blocks."""
    done = draw(model, tmp_path / "rows", partition_rows=3 * BLOCK_ROWS)
    file = pq.ParquetFile(tmp_path / "rows" / done.files[0].name)
    assert file.metadata.num_rows == 3 * BLOCK_ROWS
    assert file.schema_arrow.field("paid").type == "string"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 8}, r"\(seed\)"),
        ({"where": {"sex": "man"}}, r"\(where\)"),
        ({"partition_rows": 2 * BLOCK_ROWS}, r"\(partition_rows\)"),
        ({"n": N + 1}, r"\(rows\)"),
    ],
)
def test_rows_of_another_call_are_refused(
    model: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    chosen: dict[str, Any] = {"n": 2000, "seed": 7, "partition_rows": BLOCK_ROWS, "jobs": 1}
    sample_partitions(model, tmp_path / "rows", **chosen)
    before = sorted((p.name, p.read_bytes()) for p in (tmp_path / "rows").iterdir())
    with pytest.raises(SettingsError, match=told):
        sample_partitions(model, tmp_path / "rows", **{**chosen, **change})
    assert sorted((p.name, p.read_bytes()) for p in (tmp_path / "rows").iterdir()) == before


def test_bad_calls_are_refused_before_anything_is_written(model: Path, tmp_path: Path) -> None:
    for wrong, error in (
        ({"engine": "spark"}, SettingsError),
        ({"address": "auto"}, SettingsError),
        ({"jobs": 0}, SettingsError),
        ({"partition_rows": 0}, SettingsError),
        ({"where": {"absent": 1}}, SchemaError),
        ({"sensitive": {"neither": 1.0}}, SettingsError),
        ({"seed": -1}, SettingsError),
    ):
        with pytest.raises(error):
            draw(model, tmp_path / "rows", **wrong)
        assert not (tmp_path / "rows").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(SettingsError, match=r"mine\.txt"):
        draw(model, tmp_path / "full")
    (tmp_path / "busy").mkdir()
    claim = Claim.take(tmp_path / "busy" / partitions._LOCK)
    assert claim is not None
    with pytest.raises(SettingsError, match="another process"):
        draw(model, tmp_path / "busy")
    claim.release()
    assert draw(model, tmp_path / "busy").drawn == 4


def test_a_machine_without_the_folder_sends_the_file(model: Path, tmp_path: Path) -> None:
    asked = {"seed": 7, "where": None, "sensitive": "empirical", "target_mix": None}
    task = partitions._Task(3, N, range(3, 4), asked)
    there, absent = tmp_path / "there", tmp_path / "absent"
    there.mkdir()
    mark = there / ".shared"
    mark.touch()
    part, body = partitions._on_node(model.read_bytes(), str(there), str(mark), task)
    assert body is None and (there / part.name).stat().st_size == part.bytes
    same, sent = partitions._on_node(model.read_bytes(), str(absent), str(absent / ".shared"), task)
    assert same == part and sent == (there / part.name).read_bytes() and not absent.exists()


def cli(*arguments: Any, status: int = 0) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == status, done.output
    return " ".join(done.output.split())


def test_the_command(model: Path, whole: Path, tmp_path: Path) -> None:
    common = ("sample", model, "-n", N, "--seed", 7)
    told = cli(*common, "-o", f"{tmp_path}/rows/", "--jobs", 1, "--partition-rows", BLOCK_ROWS)
    assert f"{N:,} rows in 4 files" in told
    assert pl.read_parquet(tmp_path / "rows" / "*.parquet").equals(pl.read_parquet(whole))
    assert "4 of them were there" in cli(
        *common, "-o", tmp_path / "rows", "--jobs", 1, "--partition-rows", BLOCK_ROWS
    )
    for wrong in (("--jobs", 2), ("--engine", "local")):
        assert wrong[0] in cli(*common, "-o", tmp_path / "x.parquet", *wrong, status=2)
    assert "/ for a folder" in cli(*common, "-o", tmp_path / "x", status=2)
    assert "one file" in cli(*common, "-o", f"{tmp_path}/y/", "--croissant", tmp_path / "c.json", status=2)


@pytest.mark.slow
def test_sigkill_loses_no_finished_file(model: Path, tmp_path: Path) -> None:
    alone = draw(model, tmp_path / "alone", partition_rows=1)
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "fairsynth", "-q", "sample", str(model), "-n", str(N), "--seed", "7",
               "-o", f"{folder}/", "--jobs", "1", "--partition-rows", "1"]  # fmt: skip
    process = subprocess.Popen(command)
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if (folder / "part-00000.parquet").exists():
            process.kill()
            break
        time.sleep(0.002)
    process.wait()
    assert not json.loads((folder / MANIFEST).read_text())["complete"]
    subprocess.run(command, check=True)
    assert contents(Partitions(folder, alone.files, 0, 0)) == contents(alone)
    assert json.loads((folder / MANIFEST).read_text())["complete"]


@pytest.mark.slow
def test_a_cluster_draws_the_same_files_and_a_killed_node_loses_none(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install fairsynth[ray]")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(place for place in sys.path if place))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    n = 40 * BLOCK_ROWS
    chosen: dict[str, Any] = {"seed": 7, "partition_rows": 2 * BLOCK_ROWS}
    alone = sample_partitions(model, tmp_path / "alone", n, jobs=1, **chosen)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        doomed = cluster.add_node(num_cpus=1)
        killed: list[Step] = []

        def kill(step: Step) -> None:
            if not killed:
                killed.append(step)
                threading.Thread(target=cluster.remove_node, args=(doomed, False)).start()

        done = sample_partitions(
            model, tmp_path / "ray", n, engine="ray", address=cluster.address, progress=kill, **chosen
        )
    finally:
        cluster.shutdown()
    assert killed and killed[0].done < n
    assert done.files == alone.files
    assert contents(done) == contents(alone)
