"""Very many rows as a folder of Parquet files, drawn by several processes or machines.

A generator draws rows in blocks, and chance in a block comes from the seed and the number of the block alone. A
partition is a run of whole blocks, so its rows do not depend on who draws it, on how many draw at the same time, or on
what was drawn before: all partitions together are the rows of ``sample_to`` with the same seed, in their order. That is
why a partition that was lost with its machine is simply drawn again.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.errors import DataError, SettingsError
from fairsynth.files import write_text
from fairsynth.progress import Progress, Step

if TYPE_CHECKING:
    from fairsynth.generators.base import Generator, Mix

__all__ = ["ENGINES", "MANIFEST", "PARTITION_ROWS", "Partition", "Partitions", "sample_partitions"]

ENGINES = ("local", "ray")
#: Rows of a partition unless it is said otherwise; rounded up to whole blocks of the generator.
PARTITION_ROWS = 1_000_000
MANIFEST = "manifest.json"
FORMAT = 1
#: Times that processes may die, or machines be lost, before it is told as an error.
LOSSES = 5
#: Ray tasks beyond those that the cluster's CPUs can run, so that no CPU waits.
_AHEAD = 2
_PART = re.compile(r"part-\d{5,}\.parquet")
_LEFT = re.compile(r"\.part-\d{5,}\.parquet\.[0-9a-f]{8}\.part")
_LOCK = ".fairsynth.lock"


@dataclass(frozen=True)
class Partition:
    """One file of the folder.

    Attributes
    ----------
    name : str
        Of the file.
    rows, bytes : int
        How many it holds, and how large it is.
    sha256 : str
        Of its contents.
    """

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Partitions:
    """What `sample_partitions` made.

    Attributes
    ----------
    folder : Path
        Where the files are.
    files : tuple of Partition
        All of them, in the order of the rows.
    drawn, kept : int
        Files that this call drew, and that it found finished.
    """

    folder: Path
    files: tuple[Partition, ...]
    drawn: int
    kept: int


def sample_partitions(
    model: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    n: int,
    *,
    seed: int | None = None,
    where: Mapping[str, Any] | None = None,
    sensitive: Mix = "empirical",
    target_mix: Mapping[Any, float] | None = None,
    partition_rows: int = PARTITION_ROWS,
    engine: str = "local",
    address: str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Partitions:
    """Draw rows into a folder of Parquet files, each of them whole or not there.

    Memory does not grow with `n`. A call that was killed goes on where it was if it is made again: finished partitions
    are checked and not drawn again, and the files are the same as if nothing had happened.

    Parameters
    ----------
    model : path
        A model file; of an image model, none.
    folder : path
        Made if need be; must be empty or hold partitions of the same call.
    n : int
        Rows in all.
    seed, where, sensitive, target_mix
        As of `Generator.sample`. Shares are exact over all rows together, not over each file.
    partition_rows : int, default=1_000_000
        Rows of a file, rounded up to whole blocks of 32,768. It changes the files and not the rows.
    engine : {"local", "ray"}, default="local"
        Processes of this machine, or tasks of a Ray cluster (needs ``pip install fairsynth[ray]`` here and there).
    address : str, optional
        Of the cluster; by default what ``RAY_ADDRESS`` says, the one of this machine, or a new one.
    jobs : int, optional
        Processes of the local engine; by default one for each core. More than one start as those of
        `multiprocessing` do, so that a script has to call this under ``if __name__ == "__main__":``.
    progress : callable, optional
        Told after every partition.

    Returns
    -------
    Partitions

    Raises
    ------
    SettingsError
        If an argument is out of its range, the folder holds something else, or another process is writing there.
    BundleError, DataError, CapabilityError
        If the model cannot be read, or cannot draw such rows.
    MissingDependencyError
        If Ray is not installed.

    Notes
    -----
    A machine of the cluster that sees the folder under the same path writes its files there; from others the finished
    files come back through Ray, and this process writes them.

    ``manifest.json`` in the folder says what was asked for and lists every finished file with its SHA-256. Equal bytes
    need equal versions of fairsynth, of its libraries, and the same kind of processor.
    """
    from fairsynth.generators.base import BLOCK_ROWS, load_generator

    if engine not in ENGINES:
        raise SettingsError(f"engine={engine!r} is not known; choose {' or '.join(ENGINES)}.")
    if address is not None and engine != "ray":
        raise SettingsError("address is that of a Ray cluster; give engine ray, or leave it out.")
    _check_counts(n=n, partition_rows=partition_rows, jobs=1 if jobs is None else jobs)
    model, place = Path(model).resolve(), Path(os.path.abspath(folder))
    generator = load_generator(model)
    asked = {"seed": generator.seed if seed is None else seed, "where": dict(where or {}) or None,
             "sensitive": sensitive if isinstance(sensitive, str) else dict(sensitive),
             "target_mix": None if target_mix is None else dict(target_mix)}  # fmt: skip
    _refuse_early(generator, n, asked)
    blocks = -(-partition_rows // BLOCK_ROWS)
    sizes = _sizes(n, blocks * BLOCK_ROWS)
    request = _request(model, n, asked, blocks * BLOCK_ROWS)
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        finished = _finished(place, request, sizes)
        kept = len(finished)
        for name in os.listdir(place):
            if _LEFT.fullmatch(name):
                (place / name).unlink(missing_ok=True)
        missing = [index for index in range(len(sizes)) if index not in finished]
        tasks = [_Task(index, n, range(index * blocks, index * blocks + -(-sizes[index] // BLOCK_ROWS)), asked)
                 for index in missing]  # fmt: skip
        told = sum(sizes[index] for index in finished)
        _write_manifest(place, request, sizes, finished)
        draw = _Local(model, place, jobs) if engine == "local" else _Ray(model, place, address)
        for index, part in draw.all(tasks):
            finished[index] = part
            _write_manifest(place, request, sizes, finished)
            told += part.rows
            if progress is not None:
                progress(Step("sample", told, n))
    return Partitions(place, tuple(finished[i] for i in range(len(sizes))), len(missing), kept)


@dataclass(frozen=True)
class _Task:
    """A partition that is to be drawn: blocks of the rows of one call."""

    index: int
    n: int
    blocks: range
    asked: dict[str, Any]

    @property
    def name(self) -> str:
        return f"part-{self.index:05d}.parquet"


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SettingsError(f"{name}={value!r} must be a whole number, at least 1.")


def _refuse_early(generator: Generator, n: int, asked: Mapping[str, Any]) -> None:
    """Raise what drawing would raise for bad arguments, before anything is written."""
    for _ in generator._blocks(n, **asked, only=range(0)):
        pass


def _sizes(n: int, rows: int) -> list[int]:
    return [rows] * (n // rows) + ([n % rows] if n % rows else [])


# ---------------------------------------------------------------------- the folder


def _request(model: Path, n: int, asked: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return all that decides the files, as plain values."""
    from fairsynth import __version__

    mix = asked.get("sensitive")
    if isinstance(mix, Mapping):  # a key of JSON is text, and joined levels might name another group
        asked = {**asked, "sensitive": [[group, share] for group, share in mix.items()]}
    body = {
        "fairsynth": __version__,
        "model_sha256": _digest(model),
        "rows": n,
        "partition_rows": rows,
        **asked,
    }
    plain: dict[str, Any] = json.loads(json.dumps(body, default=str))
    return plain


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep other processes from writing to the folder."""
    from fairsynth.benchmark.locks import Claim

    claim = Claim.take(place / _LOCK)
    if claim is None:
        raise SettingsError(
            f"{place}: another process is writing there; wait for it, or give another folder."
        )
    try:
        yield
    finally:
        claim.release()


def _finished(place: Path, request: Mapping[str, Any], sizes: list[int]) -> dict[int, Partition]:
    """Return the partitions of this call that are there and are what was written."""
    path = place / MANIFEST
    if not path.exists():
        foreign = [name for name in os.listdir(place) if name != _LOCK and not _LEFT.fullmatch(name)]
        if foreign:
            raise SettingsError(f"{place}: holds other files, such as {min(foreign)}; give an empty folder.")
        return {}
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        before, listed = body["request"], [Partition(**item) for item in body["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{path}: cannot be read ({error}); remove the folder, or give another one."
        ) from None
    if before != request:
        other = sorted(k for k in {*before, *request} if before.get(k) != request.get(k))
        raise SettingsError(
            f"{place}: holds rows that were asked for in another way ({', '.join(other)}); give another folder, or "
            "remove this one."
        )
    found = {}
    for part in listed:
        index = int(part.name[5:-8]) if _PART.fullmatch(part.name) else -1
        file = place / part.name
        wanted = 0 <= index < len(sizes) and part.rows == sizes[index] and file.is_file()
        if wanted and file.stat().st_size == part.bytes and _digest(file) == part.sha256:
            found[index] = part
    return found


def _write_manifest(
    place: Path, request: Mapping[str, Any], sizes: list[int], finished: Mapping[int, Partition]
) -> None:
    body = {
        "format": FORMAT,
        "request": request,
        "complete": len(finished) == len(sizes),
        "files": [asdict(finished[index]) for index in sorted(finished)],
    }
    write_text(place / MANIFEST, json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---------------------------------------------------------------------- drawing

#: The model of this worker process, by its path.
_MODELS: dict[str, Any] = {}


def _draw(model: str, folder: str, task: _Task, threads: int) -> Partition:
    """Draw one partition into a folder; runs in a process of its own, which reads the model once."""
    from fairsynth.data.io import TableWriter
    from fairsynth.generators.base import load_generator

    if model not in _MODELS:
        _MODELS.clear()
        _MODELS[model] = load_generator(model)
    generator: Generator = _MODELS[model]
    path = Path(folder) / task.name
    writer = TableWriter(path, generator.schema_)
    blocks = generator._blocks(
        task.n, **task.asked, finish=generator._to_arrow, only=task.blocks, workers=threads
    )
    try:
        with writer:
            for batch in blocks:
                writer.write(batch)
    except BaseException:
        writer.discard()
        raise
    finally:
        blocks.close()
    return Partition(task.name, writer.rows, path.stat().st_size, _digest(path))


class _Local:
    """Draws partitions in processes of this machine."""

    def __init__(self, model: Path, place: Path, jobs: int | None) -> None:
        from fairsynth.cores import cores

        self.model, self.place = str(model), str(place)
        self.cores = cores()
        self.jobs = self.cores if jobs is None else jobs

    def all(self, tasks: list[_Task]) -> Iterator[tuple[int, Partition]]:
        """Yield every partition as it is finished."""
        jobs = min(self.jobs, len(tasks))
        if jobs <= 1:
            for task in tasks:
                yield task.index, _draw(self.model, self.place, task, self.cores)
            return
        threads = max(1, self.cores // jobs)
        left = {task.index: task for task in tasks}
        for loss in range(LOSSES + 1):
            try:
                yield from self._turn(left, jobs, threads)
                return
            except BrokenProcessPool:
                if loss == LOSSES:
                    raise DataError(
                        f"processes that draw rows died {LOSSES + 1} times, of too little memory perhaps: give fewer "
                        "jobs or smaller partitions. The same call goes on from here."
                    ) from None

    def _turn(self, left: dict[int, _Task], jobs: int, threads: int) -> Iterator[tuple[int, Partition]]:
        pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
        try:
            waiting = {pool.submit(_draw, self.model, self.place, t, threads): i for i, t in left.items()}
            for future in as_completed(waiting):
                part = future.result()
                del left[waiting[future]]
                yield waiting[future], part
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Ray:
    """Draws partitions as tasks of a Ray cluster, which are run anew when their machine is lost."""

    def __init__(self, model: Path, place: Path, address: str | None) -> None:
        from fairsynth.benchmark.engine_ray import connect

        self.ray, self.own = connect(address, "sampling on a cluster")
        self.model, self.place = model, place

    def all(self, tasks: list[_Task]) -> Iterator[tuple[int, Partition]]:
        """Yield every partition as it is finished."""
        ray = self.ray
        try:
            remote = ray.remote(num_cpus=1, max_retries=LOSSES)(_on_node)
            content = ray.put(self.model.read_bytes())
            with tempfile.NamedTemporaryFile(dir=self.place, prefix=".shared-") as mark:
                queue = list(reversed(tasks))
                running: dict[Any, _Task] = {}
                while queue or running:
                    room = max(1, int(ray.cluster_resources().get("CPU", 1))) + _AHEAD
                    while queue and len(running) < room:
                        task = queue.pop()
                        running[remote.remote(content, str(self.place), mark.name, task)] = task
                    done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                    for reference in done:
                        task = running.pop(reference)
                        yield task.index, self._fetch(reference, task)
        finally:
            if self.own:
                ray.shutdown()

    def _fetch(self, reference: Any, task: _Task) -> Partition:
        try:
            part, body = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except self.ray.exceptions.RayError as error:
            raise DataError(
                f"{task.name} was lost with its machine more than {LOSSES} times: {error} The same call goes on from "
                "here."
            ) from None
        if body is not None:
            hidden = self.place / f".{task.name}.{os.urandom(4).hex()}.part"
            try:
                hidden.write_bytes(body)
                os.replace(hidden, self.place / task.name)
            finally:
                hidden.unlink(missing_ok=True)
        made: Partition = part
        return made


def _on_node(content: bytes, folder: str, mark: str, task: _Task) -> tuple[Partition, bytes | None]:
    """Draw one partition on a machine of the cluster: into the folder if it is seen here, else into the answer."""
    own = Path(tempfile.mkdtemp(prefix="fairsynth-part-"))
    try:
        path = (
            Path(tempfile.gettempdir())
            / f"fairsynth-model-{hashlib.sha256(content).hexdigest()}-{os.getpid()}"
        )
        if str(path) not in _MODELS:
            path.write_bytes(content)
        shared = os.path.exists(mark)
        try:
            part = _draw(str(path), folder if shared else str(own), task, 1)
        finally:
            with suppress(OSError):
                path.unlink()
        return part, None if shared else (own / task.name).read_bytes()
    finally:
        shutil.rmtree(own, ignore_errors=True)
