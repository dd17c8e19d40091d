"""On which line of a TOML text every value stands.

Python's TOML reader says where a text is no TOML, but not where a value stands that is TOML and still wrong. The walk
below is over a text that `tomllib` has read already, so it only has to find places, not mistakes.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

Path = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# What is no string, array or inline table ends where the line, the comment or the collection does.
_PLAIN = re.compile(r"[^,\]}\n#]*")
_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}(?!")', re.S),
    re.compile(r"'''.*?'{3,5}(?!')", re.S),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)


def locate(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every table, key and array item of a valid TOML text.

    Parameters
    ----------
    text : str
        TOML that `tomllib.loads` reads without an error.

    Returns
    -------
    dict of tuple to int
        Path of keys and positions → line: ``("models", 1, "settings", "epochs")``. A table that is opened several
        times stands where it is first named.
    """
    walk = _Walk(text.replace("\r\n", "\n"))
    walk.document()
    return walk.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of a path, or of the nearest thing around it that the text has; 1 if there is none."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Walk:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.lines: dict[Path, int] = {}
        #: How many items an array of tables has so far.
        self.counts: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while True:
            self._skip(_BETWEEN)
            if self.at >= len(self.text):
                return
            if self._next("[["):
                keys = self._keys()
                self._take("]]")
                name = (*self._resolved(keys[:-1]), keys[-1])
                self._mark_around(name)
                table = (*name, self.counts.get(name, 0))
                self.counts[name] = table[-1] + 1  # type: ignore[operator]
                self._mark(table)
            elif self._next("["):
                keys = self._keys()
                self._take("]")
                table = self._resolved(keys)
                self._mark_around(table)
            else:
                self._pair(table)

    def _resolved(self, keys: list[str]) -> Path:
        """Follow keys, into the last item wherever one of them is an array of tables."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        return path

    def _pair(self, table: Path) -> None:
        start = self.at
        keys = self._keys()
        path = table
        for key in keys:
            path = (*path, key)
            self._mark(path, start)
        self._skip(_SPACE)
        self._take("=")
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._next("["):
            position = 0
            while True:
                self._skip(_BETWEEN)
                if self._next("]"):
                    return
                item = (*path, position)
                self._mark(item)
                self._value(item)
                position += 1
                self._skip(_BETWEEN)
                self._next(",")
        elif self._next("{"):
            while True:
                self._skip(_BETWEEN)
                if self._next("}"):
                    return
                self._pair(path)
                self._skip(_BETWEEN)
                self._next(",")
        elif not self._string():
            self._skip(_PLAIN)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            start = self.at
            if self._string():
                # tomllib itself says what a quoted key means, escapes and all.
                keys.append(next(iter(tomllib.loads(f"{self.text[start : self.at]} = 0"))))
            else:
                self._skip(_BARE)
                keys.append(self.text[start : self.at])
            self._skip(_SPACE)
            if not self._next("."):
                return keys

    def _string(self) -> bool:
        for form in _STRINGS:
            found = form.match(self.text, self.at)
            if found:
                self.at = found.end()
                return True
        return False

    def _skip(self, form: re.Pattern[str]) -> None:
        found = form.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _next(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def _take(self, mark: str) -> None:
        if not self._next(mark):
            raise AssertionError(f"{mark!r} expected at {self.at} in a text that tomllib has read")

    def _mark_around(self, path: Path) -> None:
        for length in range(1, len(path) + 1):
            self._mark(path[:length])

    def _mark(self, path: Path, at: int | None = None) -> None:
        self.lines.setdefault(path, self.text.count("\n", 0, self.at if at is None else at) + 1)


def paths(value: Any, path: Path = ()) -> list[Path]:
    """Return the paths of everything in what `tomllib.loads` gave, outermost first."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = [path] if path else []
    for key, inner in items:
        found += paths(inner, (*path, key))
    return found
