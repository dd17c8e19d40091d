"""The folder of a benchmark: one JSON file for each cell, a Parquet file of all, and who is at work on what.

plan.toml            the plan as it was last run
plans/ID.json        cells of each plan that was run here, in its order
cells/KEY.json       result of a cell: status, seconds, memory, headline scores
evaluations/KEY.json.gz   every score of the cell
reports/KEY.html     its report
claims/KEY.lock      held by the run that is at work on it
work/                what cells are writing; nothing in it is ever read as a result
results.parquet      the scores of all cells, one row each
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.benchmark.locks import Claim
from fairsynth.errors import DataError, FairsynthWarning
from fairsynth.files import atomic_path, write_text

if TYPE_CHECKING:
    import polars as pl

_KEY = re.compile(r"[0-9a-f]{64}")
#: Fields of a score in a cell's file, in their order.
SCORE_FIELDS = ("source", "section", "metric", "attribute", "value", "low", "high", "note")
#: Fields of a cell's file that every row of the Parquet file repeats.
CELL_FIELDS = ("key", "status", "reason", "total_seconds", "fit_seconds", "memory_mb", "size", "mtime_ns")
_PARTS = re.compile(r"\.part-[0-9a-f]{8}-.*")
#: A temporary file that is older than this belongs to nobody.
_OLD_SECONDS = 24 * 3600.0


class Store:
    """The folder; several processes may use one at the same time.

    Parameters
    ----------
    folder : path
        Made if need be.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.cells = self.folder / "cells"
        self.evaluations = self.folder / "evaluations"
        self.reports = self.folder / "reports"
        self.claims = self.folder / "claims"
        self.work = self.folder / "work"
        self.plans = self.folder / "plans"
        self.parquet = self.folder / "results.parquet"

    def make(self) -> None:
        """Make the folders, and remove what a killed run left half written.

        Raises
        ------
        OSError
            If they cannot be made.
        """
        for place in (self.cells, self.evaluations, self.reports, self.claims, self.work, self.plans):
            place.mkdir(parents=True, exist_ok=True)
        now = time.time()
        for place in (self.folder, self.cells, self.evaluations, self.reports, self.plans):
            with os.scandir(place) as entries:
                for entry in entries:
                    if _PARTS.fullmatch(entry.name) and now - entry.stat().st_mtime > _OLD_SECONDS:
                        Path(entry.path).unlink(missing_ok=True)

    # ------------------------------------------------------------------ claims and work
    def claim(self, key: str) -> Claim | None:
        """Take a cell, so that no other run works on it; None if one does."""
        return Claim.take(self.claims / f"{key}.lock")

    def desk(self, key: str) -> Path:
        """Return an empty folder for the work on a claimed cell; what a killed run left of it is removed."""
        self._clear(key)
        place = self.work / f"{key[:16]}-{secrets.token_hex(4)}"
        place.mkdir(parents=True)
        return place

    def tidy(self) -> None:
        """Remove what a run left that was killed after a result was written, and before its desk was cleared.

        Such a cell is not run again, so `desk` never comes to it. What another run holds is left alone.
        """
        left = {path.name[:16] for place in (self.work, self.claims) for path in place.iterdir()}
        for key in sorted(key for key in self.keys() if key[:16] in left):
            claim = self.claim(key)
            if claim is not None:
                self._clear(key)
                claim.release()

    def _clear(self, key: str) -> None:
        for left in self.work.glob(f"{key[:16]}-*"):
            shutil.rmtree(left, ignore_errors=True)

    # ------------------------------------------------------------------ results
    def result(self, key: str) -> dict[str, Any] | None:
        """Return the result of a cell, or None if there is none.

        A file that is not what was written (cut off, altered, of a full disk) is moved aside with a warning, so that
        the cell is run again.
        """
        path = self.cells / f"{key}.json"
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return _unsealed(text, key)
        except DataError as error:
            aside = path.with_suffix(".corrupt")
            os.replace(path, aside)
            warnings.warn(
                f"{path}: {error} The cell is run again; the file is kept as {aside.name}.",
                FairsynthWarning,
                stacklevel=2,
            )
            return None

    def keep(self, key: str, body: Mapping[str, Any], desk: Path | None = None) -> None:
        """Write the result of a cell, and with it what lies in its `desk`; whole or not at all.

        The evaluation and the report go first: a cell that has a result has them, too.
        """
        if desk is not None:
            for name, place in (
                ("evaluation.json.gz", self.evaluations / f"{key}.json.gz"),
                ("report.html", self.reports / f"{key}.html"),
            ):
                if (desk / name).exists():
                    os.replace(desk / name, place)
        with atomic_path(self.cells / f"{key}.json") as part:
            part.write_bytes(_sealed({"key": key, **body}))

    def keys(self) -> set[str]:
        """Return the keys of all cells that have a result file."""
        if not self.cells.is_dir():
            return set()
        with os.scandir(self.cells) as entries:
            names = [e.name.removesuffix(".json") for e in entries if e.name.endswith(".json")]
        return {name for name in names if _KEY.fullmatch(name)}

    def evaluation(self, key: str) -> Any:
        """Return the whole evaluation of a cell.

        Raises
        ------
        DataError
            If there is none, or its file is damaged.
        """
        from fairsynth.evaluation.result import Evaluation

        path = self.evaluations / f"{key}.json.gz"
        try:
            return Evaluation.from_json(gzip.decompress(path.read_bytes()).decode())
        except FileNotFoundError:
            raise DataError(f"{path}: there is no such evaluation; the cell failed or was not run.") from None
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}: damaged: {error}. Remove cells/{key}.json and run the plan again."
            ) from error

    # ------------------------------------------------------------------ plans
    def keep_plan(self, identity: str, body: Mapping[str, Any], text: str) -> None:
        """Remember a plan that is run here: its identity, its cells, and its text."""
        write_text(self.folder / "plan.toml", text)
        path = self.plans / f"{identity}.json"
        with atomic_path(path) as part:
            part.write_bytes(_sealed(body))

    def plan(self, identity: str) -> dict[str, Any] | None:
        """Return what was kept of a plan, or None."""
        try:
            return _unsealed((self.plans / f"{identity}.json").read_bytes())
        except (FileNotFoundError, DataError):
            return None

    def latest_plan(self) -> dict[str, Any]:
        """Return the plan that was run last.

        Raises
        ------
        DataError
            If no plan was ever run in this folder.
        """
        files = sorted(self.plans.glob("*.json"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
        for file in files:
            found = self.plan(file.stem)
            if found is not None:
                return found
        raise DataError(
            f"{self.folder}: no plan was run in this folder; run `fairsynth benchmark PLAN.toml -o` it."
        )

    # ------------------------------------------------------------------ Parquet
    def frame(self, keys: Iterable[str] | None = None) -> pl.DataFrame:
        """Return the scores of all cells, or of those of `keys`, one row each; cells without scores have one row too.

        Rows come from the Parquet file where it is up to date, which size and time of each cell's file say, and from
        the JSON files otherwise; the Parquet file is then written anew.
        """
        import polars as pl

        seen = self._seen()
        kept = self._read_parquet()
        fresh = pl.DataFrame({"key": list(seen), "size": [s for s, _ in seen.values()],
                              "mtime_ns": [m for _, m in seen.values()]},
                             schema={"key": pl.String, "size": pl.Int64, "mtime_ns": pl.Int64})  # fmt: skip
        valid = kept.join(fresh, on=["key", "size", "mtime_ns"], how="semi", nulls_equal=True)
        have = set(valid["key"].unique().to_list())
        rows = self._read(sorted(set(seen) - have), seen)
        changed = rows.height > 0 or valid.height != kept.height
        frame = pl.concat([valid, rows]) if rows.height else valid
        if changed and self.folder.is_dir():
            with atomic_path(self.parquet) as part:
                frame.write_parquet(part)
        return frame if keys is None else frame.filter(pl.col("key").is_in(list(keys)))

    def _seen(self) -> dict[str, tuple[int, int]]:
        found = {}
        if self.cells.is_dir():
            with os.scandir(self.cells) as entries:
                for entry in entries:
                    key = entry.name.removesuffix(".json")
                    if _KEY.fullmatch(key) and entry.name.endswith(".json"):
                        stat = entry.stat()
                        found[key] = (stat.st_size, stat.st_mtime_ns)
        return found

    def _read_parquet(self) -> pl.DataFrame:
        import polars as pl

        empty = pl.DataFrame(schema=_schema())
        if not self.parquet.is_file():
            return empty
        try:
            found = pl.read_parquet(self.parquet)
        except (OSError, pl.exceptions.PolarsError):
            return empty  # it is made of the JSON files and can be made again
        return found if found.schema == empty.schema else empty

    def _read(self, keys: Iterable[str], seen: Mapping[str, tuple[int, int]]) -> pl.DataFrame:
        """Return the rows of some cells, from their JSON files."""
        import polars as pl

        heads: list[list[Any]] = [[] for _ in CELL_FIELDS]
        columns: list[list[Any]] = [[] for _ in SCORE_FIELDS]
        lengths: list[int] = []
        for key in keys:
            body = self.result(key)
            if body is None:
                continue
            took, scores = body.get("seconds", {}), body.get("scores") or [[None] * len(SCORE_FIELDS)]
            told = (took.get("total"), took.get("fit"), body.get("memory_mb"))
            head = (key, body["status"], body.get("reason"), *told, *seen[key])
            for values, value in zip(heads, head, strict=True):
                values.append(value)
            for values, some in zip(columns, zip(*scores, strict=True), strict=True):
                values.extend(some)
            lengths.append(len(scores))
        schema = _schema()
        cells = pl.DataFrame(
            dict(zip(CELL_FIELDS, heads, strict=True)), schema={n: schema[n] for n in CELL_FIELDS}
        )
        scores_of = pl.DataFrame(
            dict(zip(SCORE_FIELDS, columns, strict=True)),
            schema={n: schema[n] for n in SCORE_FIELDS},
            strict=False,
        )
        which = pl.Series(range(len(lengths)), dtype=pl.UInt32)
        repeated = which.to_frame("i").select(
            pl.col("i").repeat_by(pl.Series(lengths, dtype=pl.UInt32)).explode()
        )
        return pl.concat([cells[repeated["i"].drop_nulls()], scores_of], how="horizontal")


def _schema() -> dict[str, Any]:
    import polars as pl

    numbers = {"total_seconds", "fit_seconds", "memory_mb", "value", "low", "high"}
    whole = {"size", "mtime_ns"}
    return {
        name: pl.Float64 if name in numbers else pl.Int64 if name in whole else pl.String
        for name in (*CELL_FIELDS, *SCORE_FIELDS)
    }


def _sealed(body: Mapping[str, Any]) -> bytes:
    """Return JSON whose first line holds the SHA-256 of all the others."""
    rest = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()[1:] + b"\n"
    return b'{"sha256":"' + hashlib.sha256(rest).hexdigest().encode() + b'",\n' + rest


def _unsealed(text: bytes, key: str | None = None) -> dict[str, Any]:
    head, newline, rest = text.partition(b"\n")
    found = re.fullmatch(rb'\{"sha256":"([0-9a-f]{64})",', head)
    if not newline or not found or hashlib.sha256(rest).hexdigest().encode() != found[1]:
        raise DataError("it is not what was written (its checksum is wrong).")
    body: dict[str, Any] = json.loads(b"{" + rest)
    if key is not None and body.get("key") != key:
        raise DataError("it is the result of another cell.")
    return body
