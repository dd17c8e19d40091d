"""Picture files in a folder, and a table of what they show."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import polars as pl

from fairsynth.data.images.image_set import ImageSet
from fairsynth.data.images.pixels import CHANNELS, FolderSource, look_at, read_picture
from fairsynth.errors import DataError, SettingsError
from fairsynth.progress import Progress, Step

#: So many bad files are named in an error; all are counted.
NAMED = 5


def read_folder(
    folder: str | os.PathLike[str],
    csv: str | os.PathLike[str] | pl.DataFrame,
    *,
    label: str,
    sensitive: str,
    file: str = "file",
    size: tuple[int, int] | None = None,
    mode: Literal["L", "RGB", "RGBA"] | None = None,
    classes: Sequence[Any] | None = None,
    levels: Sequence[Any] | None = None,
    favorable: Sequence[str] = (),
    skip_bad: bool = False,
    look: Literal["pixels", "headers"] = "pixels",
    progress: Progress | None = None,
) -> ImageSet:
    """Make an `ImageSet` of picture files.

    Every file is looked at once; its pixels are read again when they are needed.

    Parameters
    ----------
    folder : path
        Where the files lie.
    csv : path
        Table with a header.
    label, sensitive, file : str
        Its columns: class, group, and the file's name within the folder.
    size : tuple of int, optional
        Height and width to which all pictures are brought (cut to that ratio around the middle, then scaled). By
        default all must be of one size.
    mode : {"L", "RGB", "RGBA"}, optional
        What all pictures are turned into. By default all must be of one mode, which must be one of these.
    classes, levels : sequence, optional
        Names in the order wanted; by default those that occur, in order.
    favorable : sequence of str, optional
        Classes that are good to be given.
    skip_bad : bool, default=False
        Leave bad files out, and list them in `ImageSet.skipped`, in the place of an error.
    look : {"pixels", "headers"}
        Whether a file is decoded to its end, or only its header is read (fast; then a truncated file is an error
        later, when it is read).
    progress : callable, optional
        Told of files looked at.

    Returns
    -------
    ImageSet

    Raises
    ------
    DataError
        If a column is missing; or, naming them, if files are missing, unreadable, truncated, or of mixed sizes or
        modes.
    SettingsError
        If two of the three columns are one.
    MissingDependencyError
        If Pillow is not installed.
    """
    base = Path(folder)
    if not base.is_dir():
        raise DataError(f"{base}: there is no such folder.")
    if look not in ("pixels", "headers"):
        raise SettingsError(f"look={look!r} is neither 'pixels' nor 'headers'.")
    if mode is not None and mode not in CHANNELS:
        raise SettingsError(f"mode={mode!r} is none of {', '.join(CHANNELS)}.")
    if size is not None and not (
        isinstance(size, tuple | list)
        and len(size) == 2
        and all(isinstance(n, int) and 1 <= n <= 8192 for n in size)
    ):
        raise SettingsError(f"size={size!r} must be (height, width), whole numbers from 1 to 8192.")
    table = csv if isinstance(csv, pl.DataFrame) else read_table(Path(csv))
    named = "the table" if isinstance(csv, pl.DataFrame) else str(csv)
    missing = [column for column in (file, label, sensitive) if column not in table.columns]
    if missing:
        raise DataError(
            f"{named}: there is no column {missing[0]!r}; it has {', '.join(table.columns)}. Name the columns with "
            "file=..., label=..., sensitive=...."
        )
    if len({file, label, sensitive}) < 3:
        raise SettingsError(
            f"file={file!r}, label={label!r} and sensitive={sensitive!r} must be three columns: a label that is also "
            "the sensitive attribute leaves nothing to compare."
        )
    if not len(table):
        raise DataError(f"{named}: it names no image.")
    looked = _Looked(base, size, mode, look)
    kept: list[int] = []
    bad: list[tuple[str, str]] = []
    rows = table.select(file, label, sensitive).rows()
    for place, (name, y, s) in enumerate(rows):
        if y is None or s is None:
            why: str | None = f"{label if y is None else sensitive} is missing"
        else:
            why = looked.fault(name)
        if why is None:
            kept.append(place)
        else:
            bad.append((str(name), why))
        if progress is not None:
            progress(Step("look at images", place + 1, len(rows)))
    if bad and not skip_bad:
        raise DataError(_told(base, len(rows), bad))
    if not kept:
        raise DataError(f"{base}: none of the {len(rows):,} files can be used. {_told(base, len(rows), bad)}")
    chosen = table[kept]
    source = FolderSource([base / str(rows[place][0]) for place in kept], looked.mode_used, looked.size_used)
    return ImageSet(
        source, chosen[label].cast(str).to_numpy().astype(str), chosen[sensitive].cast(str).to_numpy().astype(str),
        classes=classes, levels=levels, label=label, sensitive=sensitive, favorable=favorable, skipped=bad,
    )  # fmt: skip


class _Looked:
    """What the first good file is like, and what is wrong with others."""

    def __init__(self, base: Path, size: tuple[int, int] | None, mode: str | None, look: str) -> None:
        self._base, self._size, self._mode, self._look = base, size, mode, look
        self._first: tuple[str, str, tuple[int, int]] | None = None

    @property
    def mode_used(self) -> str:
        assert self._first is not None
        return self._mode or self._first[1]

    @property
    def size_used(self) -> tuple[int, int]:
        assert self._first is not None
        return (self._size[0], self._size[1]) if self._size is not None else self._first[2]

    def fault(self, name: Any) -> str | None:
        """Return what is wrong with a file; None if nothing is."""
        if not isinstance(name, str) or not name:
            return "no file is named"
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
            return "the name leads out of the folder"
        path = self._base / name
        try:
            own_mode, own_size = look_at(path)
            first = self._first or (name, own_mode, own_size)
            if self._mode is None and own_mode not in CHANNELS:
                return f"its mode is {own_mode}; give mode='RGB' to turn all pictures into one mode"
            if self._mode is None and own_mode != first[1]:
                return f"its mode is {own_mode}, and that of {first[0]} is {first[1]}; give mode=... for all"
            if self._size is None and own_size != first[2]:
                theirs, own = (f"{h}×{w}" for h, w in (first[2], own_size))
                return f"its size is {own}, and that of {first[0]} is {theirs}; give size=(height, width)"
            if self._look == "pixels":
                read_picture(path, self._mode or own_mode, self._size or own_size)
        except DataError as error:
            return str(error).removeprefix(f"{path}: ").rstrip(".")
        self._first = first
        return None


def read_table(path: Path) -> pl.DataFrame:
    """Read a CSV table with a header, every column as text.

    Raises
    ------
    DataError
        If it is none.
    """
    try:
        return pl.read_csv(path, infer_schema=False)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file.") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{path}: this is no CSV table with a header ({str(error).splitlines()[0]})."
        ) from error


def _told(base: Path, n: int, bad: list[tuple[str, str]]) -> str:
    kinds = Counter(why.split(";")[0].split(" (")[0] for _, why in bad)
    several = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
    names = "; ".join(f"{name}: {why}" for name, why in bad[:NAMED])
    common = f" (most often: {kinds.most_common(1)[0][0]})" if several else ""
    return (
        f"{base}: {len(bad):,} of {n:,} images cannot be used: {names}{several}{common}. Mend them, or leave them out "
        "with skip_bad=True (--skip-bad)."
    )
