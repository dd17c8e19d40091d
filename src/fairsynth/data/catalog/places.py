"""Where named data sets are: the catalog's entries, a folder of one's own, the cache."""

from __future__ import annotations

import difflib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from fairsynth.data.catalog.entry import Entry, read_entry
from fairsynth.data.catalog.fetch import Shelf, cache_folder
from fairsynth.errors import DataError

FOLDER_VARIABLE = "FAIRSYNTH_DATA"
BUNDLED = ("loanapp",)
_ENTRIES = Path(__file__).parent / "entries"


@cache
def entries() -> dict[str, Entry]:
    """Return the entries of the catalog by name."""
    return {path.stem: read_entry(path) for path in sorted(_ENTRIES.glob("*.toml"))}


def folder_of(folder: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder that was given, or that ``FAIRSYNTH_DATA`` names; None if neither is there to be had.

    Raises
    ------
    DataError
        If it does not exist.
    """
    given = os.environ.get(FOLDER_VARIABLE) if folder is None else folder
    if not given:
        return None
    place = Path(given)
    if not place.is_dir():
        named = f" ({FOLDER_VARIABLE})" if folder is None else ""
        raise DataError(f"the folder of data sets {place}{named} does not exist.")
    return place


def in_folder(place: Path | None) -> list[str]:
    """Return the names of the data sets in a folder: those with a card, and those of a TOML."""
    if place is None:
        return []
    return sorted(
        {path.parent.name for path in place.glob("*/dataset.json")}
        | {path.stem for path in place.glob("*.toml")}
    )


def shelf_of(name: str, place: Path | None) -> Shelf:
    """Return where the files of a data set of the folder's TOMLs or of the catalog may lie."""
    if place is not None and (place / f"{name}.toml").is_file():
        return shelf_of_toml(place / f"{name}.toml")
    return Shelf(name, entries()[name], cache_folder() / name, None if place is None else place / name)


def shelf_of_toml(path: Path) -> Shelf:
    """Return where the files of data of one's own may lie: beside its TOML, or in the cache."""
    # Of another name than any of the catalog's, so that what was trusted there is not asked for here.
    return Shelf(path.stem, read_entry(path), cache_folder() / f"own-{path.stem}", path.parent)


def unknown(name: str, place: Path | None) -> DataError:
    """Return the error for a name that nobody knows, with those that are."""
    known = [*BUNDLED, *sorted({*in_folder(place), *entries()} - set(BUNDLED))]
    where = f"in {place}" if place else f"and no folder is known; set {FOLDER_VARIABLE} or give folder=..."
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return DataError(f"there is no data set {name!r} {where}; known are {', '.join(known)}.{hint}")


def card_of(place: Path) -> dict[str, Any]:
    """Read the ``dataset.json`` of a folder.

    Raises
    ------
    DataError
        Naming the file and what it lacks.
    """
    card_path = place / "dataset.json"
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{card_path} is not JSON: {error}") from error
    if not isinstance(card, dict):
        raise DataError(f"{card_path} is no JSON object.")
    lacking = [key for key in ("target", "favorable", "sensitive") if key not in card]
    if lacking:
        raise DataError(f"{card_path} does not say {', '.join(lacking)}.")
    return card
