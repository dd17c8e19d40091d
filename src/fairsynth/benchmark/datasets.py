"""The data sets of a plan: how they are read, and the digest by which their cells are known."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.benchmark.plan import Dataset
from fairsynth.errors import DataError
from fairsynth.files import write_text

if TYPE_CHECKING:
    from fairsynth.data.table import Table


def load(dataset: Dataset) -> tuple[Table, Table]:
    """Read train and test rows.

    Raises
    ------
    FairsynthError
        If they cannot be read.
    """
    try:
        train, test = _from_catalog(dataset) if dataset.path is None else _from_file(dataset)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from error
    return (train, test) if dataset.unseen is None else _apart(train, test, dataset.unseen)


def _from_catalog(dataset: Dataset) -> tuple[Table, Table]:
    from fairsynth.data.catalog import load_dataset
    from fairsynth.data.table import Table

    train, test = load_dataset(dataset.catalog or dataset.name)
    if dataset.sensitive is None:
        return train, test
    # From the native rows, so that groups are cut and checked as in any table whose roles a person named.
    roles: Any = {"sensitive": dataset.sensitive, "schema": train.schema.revised(sensitive=())}
    fresh = Table(train.native(), **roles)
    return fresh, fresh.align(test.native())


def _from_file(dataset: Dataset) -> tuple[Table, Table]:
    from fairsynth.data.schema import Schema
    from fairsynth.data.table import Table

    roles: dict[str, Any] = {
        name: getattr(dataset, name)
        for name in ("target", "favorable", "sensitive", "domain", "identifiers", "missing", "kinds")
        if getattr(dataset, name) is not None
    }
    schema = None
    if dataset.schema_file is not None:
        schema = Schema.from_json(Path(dataset.schema_file).read_text(encoding="utf-8"))
    table = Table(dataset.path, schema=schema, **roles)
    if dataset.test is not None:
        return table, table.align(dataset.test)
    return table.split(dataset.split, seed=dataset.split_seed)


def _apart(train: Table, test: Table, unseen: str) -> tuple[Table, Table]:
    """Return the train rows of all other domains and the test rows of one.

    Raises
    ------
    DataError
        If there is no domain column, or no such domain.
    """
    import polars as pl

    column = train.schema.domain
    if column is None:
        raise DataError(f"unseen = {unseen!r}: no column is declared as the domain")
    levels = train.schema[column].group_names()
    if unseen not in levels:
        raise DataError(f"unseen = {unseen!r} is no level of {column!r}; there are {', '.join(levels)}")
    there = pl.col(column).cast(pl.String) == unseen
    # A row whose domain is not known may be of the unseen one.
    return train.replace(train.frame.filter(~there)), test.replace(test.frame.filter(there))


def comparable(train: Table, test: Table, synthetic: Table) -> tuple[Table, Table, Table]:
    """Return the tables without the domain column where no test row is of a domain that was trained on.

    A later model cannot lean on a column of which it has never seen the value.
    """
    from fairsynth.data.table import Table

    column = train.schema.domain
    if column is None or set(train.frame[column].unique()) & set(test.frame[column].unique()):
        return train, test, synthetic
    left = tuple(c for c in train.schema.columns if c.name != column)
    schema = train.schema.revised(columns=left, domain=None)
    train, test, synthetic = (
        Table._of(table.frame.select(schema.names), schema) for table in (train, test, synthetic)
    )
    return train, test, synthetic


def digest(train: Table, test: Table) -> str:
    """Return the SHA-256 of the canonical train rows, test rows and schema."""
    from fairsynth.evaluation.features import fingerprint

    parts = [fingerprint(train.frame), fingerprint(test.frame), train.schema.to_json()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Digests:
    """Digests of data sets, kept in the benchmark's folder so that a resumed run need not read the rows again.

    A kept digest is trusted as long as the plan says the same of the data set, and the size and time of every file
    that it is read from are the same.

    Parameters
    ----------
    path : Path
        The file that they are kept in.
    code : str
        Version of the code that reads tables.
    """

    def __init__(self, path: Path, code: str) -> None:
        self._path, self._code = path, code
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        self._kept: dict[str, str] = kept if isinstance(kept, dict) else {}

    def known(self, dataset: Dataset) -> str | None:
        """Return the digest of an unchanged data set, or None."""
        token = self._token(dataset)
        found = self._kept.get(token) if token is not None else None
        return found if isinstance(found, str) and len(found) == 64 else None

    def of(self, dataset: Dataset) -> str:
        """Return the digest of a data set, reading its rows where that is not known."""
        found = self.known(dataset)
        if found is None:
            found = digest(*load(dataset))
            token = self._token(dataset)
            if token is not None:
                self._kept[token] = found
                write_text(self._path, json.dumps(self._kept, indent=1) + "\n")
        return found

    def _token(self, dataset: Dataset) -> str | None:
        files = _files(dataset)
        if files is None:
            return None
        told = []
        for file in files:
            try:
                stat = file.stat()
            except OSError:
                return None
            told.append([str(file), stat.st_size, stat.st_mtime_ns])
        body = [dataset.model_dump(mode="json"), told, self._code]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _files(dataset: Dataset) -> list[Path] | None:
    """Return the files that a data set is read from; None where that cannot be said."""
    if dataset.path is not None:
        named = [dataset.path, dataset.test, dataset.schema_file]
        if any(text is not None and "://" in text for text in named):
            return None
        return [Path(text) for text in named if text is not None]
    folder = os.environ.get("FAIRSYNTH_DATA")
    name = dataset.catalog or dataset.name
    if name.endswith(".toml") or (folder and (Path(folder) / f"{name}.toml").is_file()):
        return None  # it names files, which may change without it
    place = Path(folder) / name if folder else None
    if place is not None and place.is_dir():
        return sorted(file for file in place.iterdir() if file.is_file())
    # A catalog's own set comes with a version of this code or with a checksum, so that its name says all.
    return []
