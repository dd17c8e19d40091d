"""Files of publishers: fetched once, kept in a cache, and never used without their checksum being looked at.

A file of a known checksum (``sha256`` of its entry) has to have it. Of any other the first one that is seen is trusted:
its checksum is written beside the cached file, as ``NAME.sha256`` in the form of ``sha256sum``, and asked for ever
after. That finds a file that was damaged or exchanged later; it cannot find one that was wrong the first time.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from fairsynth import __version__
from fairsynth.data.catalog.entry import Entry, RawFile
from fairsynth.errors import DataError, FairsynthWarning
from fairsynth.files import atomic_path
from fairsynth.progress import Progress, Step

CACHE_VARIABLE = "FAIRSYNTH_CACHE"
OFFLINE_VARIABLE = "FAIRSYNTH_OFFLINE"
TIMEOUT = 60.0  # seconds without a byte
MOST_BYTES = 2 * 1024**3
_PIECE = 1 << 20


def cache_folder() -> Path:
    r"""Return where downloaded files are kept.

    Returns
    -------
    Path
        What ``FAIRSYNTH_CACHE`` says, or the folder for caches of this system: ``$XDG_CACHE_HOME/fairsynth`` or
        ``~/.cache/fairsynth``, ``~/Library/Caches/fairsynth``, ``%LOCALAPPDATA%\\fairsynth\Cache``.
    """
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fairsynth"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "fairsynth" / "Cache"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fairsynth"


def is_offline() -> bool:
    """Whether ``FAIRSYNTH_OFFLINE`` forbids to fetch anything."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no")


@dataclass(frozen=True)
class Shelf:
    """The places where the files of one entry may lie.

    Attributes
    ----------
    name : str
        Of the data set.
    entry : Entry
        What it says.
    cache : Path
        Its folder in the cache.
    folder : Path or None
        Where a person may have put the files.
    """

    name: str
    entry: Entry
    cache: Path
    folder: Path | None

    @property
    def names(self) -> list[str]:
        """Names of the files that are needed."""
        if self.entry.openml is not None:
            return [f"openml-{self.entry.openml}.csv"]
        return [file.name for file in self.entry.files]

    def find(self, name: str) -> Path | None:
        """Return where a file lies, unchecked; None if it is not here."""
        places = [self.cache] if self.folder is None else [self.folder, self.cache]
        return next((place / name for place in places if (place / name).is_file()), None)

    def is_here(self) -> bool:
        """Whether all files are."""
        return all(self.find(name) is not None for name in self.names)

    def recorded(self, name: str) -> str | None:
        """Return the checksum that was kept when a file was first seen."""
        try:
            text = (self.cache / f"{name}.sha256").read_text(encoding="utf-8")
        except OSError:
            return None
        return text.split()[0] if text.strip() else None

    def gather(self, progress: Progress | None = None, *, again: bool = False) -> dict[str, Path]:
        """Return every file, fetched where it is not here, with its checksum looked at.

        Parameters
        ----------
        progress : callable, optional
            Hears of the bytes that come.
        again : bool, default=False
            Whether to fetch what is here already.

        Raises
        ------
        DataError
            If a file cannot be fetched, saying which one, from where, and where to put it; or if its checksum is
            not the one that is known.
        """
        if again or not self.is_here():
            self._fetch(progress, again)
        found = {}
        for name in self.names:
            path = self.find(name)
            if path is None:
                raise DataError(f"{self.cache / name} has been removed while it was used; try again.")
            self._verify(path, name)
            found[name] = path
        return found

    def _pinned(self, name: str) -> str | None:
        return next((file.sha256 for file in self.entry.files if file.name == name), None)

    def _verify(self, path: Path, name: str) -> None:
        found, pinned = digest(path), self._pinned(name)
        if pinned is not None:
            if found != pinned:
                raise DataError(
                    f"{path} is not the file that data set {self.name!r} is made from: its SHA-256 is {found}, and "
                    f"{pinned} is expected. Remove it and fetch it again from {self.entry.page}."
                )
            return
        kept = self.recorded(name)
        if kept is None:
            kept = self._trust(path, name, found)
        if found != kept:
            raise DataError(
                f"{path} has changed since it was first used: its SHA-256 is {found} and was {kept} "
                f"({self.cache / (name + '.sha256')}). Put the old file back; "
                "or remove that note, if you trust the new one."
            )

    def _trust(self, path: Path, name: str, found: str) -> str:
        note = self.cache / f"{name}.sha256"
        said = f"{path} is trusted on first use, since its publisher gives no checksum: SHA-256 {found}"
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            # "x": of several processes that see the file first at once, one decides and the others compare.
            with open(note, "x", encoding="utf-8", newline="\n") as file:
                file.write(f"{found}  {name}\n")
        except FileExistsError:
            return self.recorded(name) or found
        except OSError as error:
            warnings.warn(
                f"{said}. It cannot be kept ({error.strerror or error}: {note}), so a later change will not be seen.",
                FairsynthWarning,
                stacklevel=2,
            )
            return found
        warnings.warn(f"{said}, kept in {note} and asked for from now on.", FairsynthWarning, stacklevel=2)
        return found

    def _fetch(self, progress: Progress | None, again: bool) -> None:
        if is_offline():
            raise self._unreachable(f"{OFFLINE_VARIABLE} is set")
        try:
            if self.entry.openml is not None:
                self._fetch_openml(self.entry.openml, self.names[0])
                return
            wanted = [file for file in self.entry.files if again or self.find(file.name) is None]
            for url in dict.fromkeys(file.url for file in wanted):
                self._fetch_url(url, [file for file in wanted if file.url == url], progress)
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            raise self._unreachable(str(getattr(error, "reason", "") or error)) from error

    def _fetch_url(self, url: str, files: list[RawFile], progress: Progress | None) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".part-") as place:
            whole = Path(place) / "whole"
            _download(url, whole, f"fetch {self.name}", progress)
            for file in files:
                with atomic_path(self.cache / file.name) as part:
                    if file.member is None:
                        part.write_bytes(whole.read_bytes())
                    else:
                        part.write_bytes(_member(whole.read_bytes(), file.member, url))
                    self._refuse_other(part, file.name, url)

    def _fetch_openml(self, number: int, name: str) -> None:
        from sklearn.datasets import fetch_openml

        with tempfile.TemporaryDirectory() as place:
            # OpenML tells the MD5 of what it sends, and scikit-learn compares it.
            try:
                rows = fetch_openml(data_id=number, data_home=place, as_frame=True, parser="auto").frame
            except (ValueError, OSError) as error:
                raise self._unreachable(str(error)) from error
        with atomic_path(self.cache / name) as part:
            rows.to_csv(part, index=False, lineterminator="\n")
            self._refuse_other(part, name, f"OpenML {number}")

    def _refuse_other(self, part: Path, name: str, source: str) -> None:
        """Keep what was fetched out of the cache unless it is what is known of it."""
        expected = self._pinned(name) or self.recorded(name)
        found = digest(part)
        if expected is not None and found != expected:
            raise DataError(
                f"{source} sent another {name} than the one that data set {self.name!r} is made from: its SHA-256 is "
                f"{found}, and {expected} is expected. Nothing was kept. See {self.entry.page}."
            )

    def _unreachable(self, reason: str) -> DataError:
        entry = self.entry
        place = self.folder or self.cache
        lacking = ", ".join(name for name in self.names if self.find(name) is None) or ", ".join(self.names)
        if entry.openml is not None:
            remedy = (
                f"On a machine that reaches openml.org, run `fairsynth datasets {self.name} --download` and copy "
                f"{lacking} from its cache into {place}"
            )
        else:
            sources = dict.fromkeys(
                file.url + (f" ({file.member} in it)" if file.member else "") for file in entry.files
            )
            remedy = f"Fetch {' and '.join(sources)} and put {lacking} into {place}"
        return DataError(
            f"data set {self.name!r} is not here and could not be fetched: {reason}. {remedy}. "
            f"Its publisher's page: {entry.page or 'not stated'}."
        )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, path: Path, stage: str, progress: Progress | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": f"fairsynth/{__version__}"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        headers: Mapping[str, str] = answer.headers
        told = headers.get("Content-Length")
        total = int(told) if told is not None and told.isdigit() else 0
        done = 0
        while piece := answer.read(_PIECE):
            done += len(piece)
            if done > MOST_BYTES:
                raise DataError(
                    f"{url} sends more than {MOST_BYTES // 1024**3} GiB; that is no data set of the catalog."
                )
            file.write(piece)
            if progress is not None:
                progress(Step(stage, done, max(total, done)))
        if total and done < total:
            raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


def _member(archive: bytes, member: str, url: str) -> bytes:
    """Return a file of a ZIP archive; a path through an inner archive names that first."""
    inner, mark, rest = member.partition(".zip/")
    wanted = inner + ".zip" if mark else member
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as held:
            names = held.namelist()
            found = [name for name in names if name == wanted]
            # Publishers have moved files into a folder of the archive and out of it again.
            found = found or [name for name in names if name.rpartition("/")[2] == wanted.rpartition("/")[2]]
            if len(found) != 1:
                raise DataError(f"the archive {url} holds no {member}, but {', '.join(names[:20])}.")
            if held.getinfo(found[0]).file_size > MOST_BYTES:
                raise DataError(f"{found[0]} in {url} has more than {MOST_BYTES // 1024**3} GiB unpacked.")
            body = held.read(found[0])
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{url} sent no ZIP archive: {error}. Try again later, or see its page in a browser."
        ) from error
    return _member(body, rest, url) if mark else body
