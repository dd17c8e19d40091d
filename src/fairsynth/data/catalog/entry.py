"""What a catalog entry says of a data set, and the TOML that it is read from, with a line for every mistake."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fairsynth.errors import DataError

Text = Annotated[str, Field(min_length=1)]
Scalar = bool | int | float | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RawFile(_Strict):
    """A file as its publisher gives it.

    Attributes
    ----------
    name : str
        What it is called in the cache, or in a folder that a person puts it into.
    url : str
        Where it is, or the archive that holds it.
    member : str, optional
        Its path in a ZIP archive; ``"inner.zip/file.csv"`` lies in an archive within the archive.
    sha256 : str, optional
        Of the file itself (not of the archive). Without it the first file that is seen is trusted, and its checksum
        kept and asked for ever after.
    part : {"all", "train", "test"}
        Which rows it holds.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")]
    url: Annotated[str, Field(pattern=r"^https?://")]
    member: Text | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    part: Literal["all", "train", "test"] = "all"


class Reading(_Strict):
    """How a publisher's text file is read; every value comes as text, without spaces around it.

    Attributes
    ----------
    format : {"csv", "arff"}
        ARFF: the names are those of the ``@attribute`` lines, whatever kinds these claim.
    separator : str
        Between values.
    columns : list of str, optional
        Names, for a file without a header or instead of the one it has.
    header : bool
        Whether the first line is one.
    comment : str, optional
        Lines that begin with this are left out.
    trailing : dict of str to str
        Column → text that is taken off the end of its values.
    """

    format: Literal["csv", "arff"] = "csv"
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    columns: list[Text] | None = None
    header: bool = True
    comment: Text | None = None
    trailing: dict[str, Text] = Field(default_factory=dict)


class Where(_Strict):
    """Rows that are kept: those of which `column` holds one of, none of, or lies between (both ends included)."""

    column: Text
    is_in: list[Scalar] | None = None
    not_in: list[Scalar] | None = None
    between: tuple[float, float] | None = None

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, given: Any) -> Any:
        # TOML has no tuples, and strict models take nothing else for one.
        if isinstance(given, dict) and isinstance(given.get("between"), list):
            return {**given, "between": tuple(given["between"])}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(value is not None for value in (self.is_in, self.not_in, self.between)) != 1:
            raise ValueError("give exactly one of is_in, not_in and between")
        return self


class Derive(_Strict):
    """A column made from another one.

    Attributes
    ----------
    source : str
        The other one; ``from`` in the TOML.
    map : dict of str to str
        Its values, each with the new one.
    otherwise : str, optional
        The new value where `map` has none; without it such a value is an error.
    edges, names : list
        Or: a number below the first edge has the first name, one below the second the second, and so on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    source: Text = Field(alias="from")
    map: dict[str, Text] | None = None
    otherwise: Text | None = None
    edges: list[float] | None = None
    names: list[Text] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.map is None) == (self.edges is None):
            raise ValueError("give either map, or edges with names")
        if self.edges is not None:
            if sorted(set(self.edges)) != self.edges:
                raise ValueError("edges must rise")
            if self.names is None or len(self.names) != len(self.edges) + 1:
                raise ValueError(f"{len(self.edges)} edges need {len(self.edges) + 1} names")
        return self


class Split(_Strict):
    """How test rows are set apart: a share of all rows, stratified on target × groups."""

    test_size: Annotated[float, Field(gt=0, lt=1)] = 0.3
    seed: Annotated[int, Field(ge=0)] = 0


class Entry(_Strict):
    """A data set: where its rows are, what is done to them, and what its columns mean.

    Attributes
    ----------
    target, favorable, sensitive, domain, identifiers, missing, kinds
        As of `fairsynth.Table`.
    title, source, page, terms, changes : str
        What a person wants to know: its name, who published it, where, under which terms, and what is done to it here.
    rows : int, optional
        How many there are after all that is done; another number is an error.
    rows_published : int, optional
        How many its publisher says there are, where that could not be checked.
    path, test : str, optional
        For data of one's own: the table, and test rows in a file of their own; relative to the TOML.
    files : list of RawFile
        Or what is downloaded.
    openml : int, optional
        Or the number of a data set of OpenML.
    by_hand : str, optional
        Or how a person makes the files, where no program can.
    read : Reading
        How downloaded files are read.
    where, derive, unique, keep, drop
        What is done to the rows, in this order: rows kept, columns made, the first row of each value of `unique`
        kept, columns kept or dropped.
    split : Split
        Unless there are test rows.
    """

    target: Text
    favorable: list[Scalar] | Scalar
    sensitive: Annotated[list[Text], Field(min_length=1)] | dict[str, list[float]] | Text
    domain: Text | None = None
    identifiers: list[Text] = Field(default_factory=list)
    missing: list[str] | str = Field(default_factory=list)
    kinds: dict[str, str | dict[str, Any]] = Field(default_factory=dict)
    title: str = ""
    source: str = ""
    page: str = ""
    terms: str = ""
    changes: str = ""
    rows: Annotated[int, Field(gt=0)] | None = None
    rows_published: Annotated[int, Field(gt=0)] | None = None
    path: Text | None = None
    test: Text | None = None
    files: list[RawFile] = Field(default_factory=list)
    openml: Annotated[int, Field(gt=0)] | None = None
    by_hand: Text | None = None
    read: Reading = Field(default_factory=Reading)
    where: list[Where] = Field(default_factory=list)
    derive: dict[str, Derive] = Field(default_factory=dict)
    unique: Text | None = None
    keep: list[Text] = Field(default_factory=list)
    drop: list[Text] = Field(default_factory=list)
    split: Split = Field(default_factory=Split)

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in ("path", "files", "openml", "by_hand") if getattr(self, name)]
        if len(given) != 1:
            held = f"has {' and '.join(given)}" if given else "has none of them"
            raise ValueError(f"rows come from exactly one of path, files, openml and by_hand; this {held}")
        if self.test is not None and self.path is None:
            raise ValueError("test goes with path; files say their part themselves")
        parts = sorted({file.part for file in self.files})
        if self.files and parts not in (["all"], ["test", "train"]):
            raise ValueError(f"the files are of the parts {', '.join(parts)}; give all, or train and test")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("two files have the same name")
        if self.keep and self.drop:
            raise ValueError("give either keep or drop")
        return self

    @property
    def attributes(self) -> list[str]:
        """Names of the sensitive columns."""
        return [self.sensitive] if isinstance(self.sensitive, str) else list(self.sensitive)


def read_entry(path: Path) -> Entry:
    """Read an entry from TOML.

    Raises
    ------
    DataError
        Naming the file, the line and the key of every mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"there is no file {path}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 (byte {error.start}); save it as such.") from None
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is no TOML: {error}.") from None
    try:
        return Entry.model_validate(body)
    except ValidationError as error:
        said = list(dict.fromkeys(_tell(problem, text) for problem in error.errors(include_url=False)))
        raise DataError(f"{path}: {'; '.join(said)}.") from None


def _tell(problem: Any, text: str) -> str:
    # What pydantic adds for the branches of a union says nothing to who wrote the file.
    where = [part for part in problem["loc"] if isinstance(part, int) or re.fullmatch(r"[\w ./-]+", part)]
    if where and where[-1] in ("str", "bool", "int", "float", "constrained-str"):
        where = where[:-1]
    key = ".".join(str(part) for part in where)
    line = line_of(text, where)
    place = f"line {line}, {key}" if key and line else (key or "the entry")
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(where[-1]), _known_keys(where), n=1)
        reason = "there is no such key" + (f"; did you mean {near[0]!r}?" if near else "")
    elif problem["type"] == "missing":
        reason = "is needed and not there"
    return f"{place}: {reason}"


def _known_keys(where: list[str | int]) -> list[str]:
    nested: dict[str, type[BaseModel]] = {
        "files": RawFile, "read": Reading, "where": Where, "derive": Derive, "split": Split,
    }  # fmt: skip
    model = nested.get(str(where[0]), Entry) if len(where) > 1 else Entry
    return [item.alias or name for name, item in model.model_fields.items()]


def line_of(text: str, where: list[str | int]) -> int | None:
    """Return the line, from 1, on which a key of a TOML stands, or the nearest table around it; None if neither.

    Parameters
    ----------
    text : str
        TOML in the plain style of an entry: one key a line, tables under headers.
    where : list of str and int
        Path of keys and positions: ``["files", 0, "url"]``.
    """
    best: tuple[int, int] | None = None
    table: list[str | int] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*(\[{1,2})\s*([^\]]+?)\s*\]", line)
        pair = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        if header:
            table = [part.strip("\"' ") for part in header[2].split(".")]
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], -1) + 1
                table.append(counts[header[2]])
            found = table
        elif pair:
            found = table + [part.strip("\"'") for part in pair[1].split(".")]
        else:
            continue
        if found == where[: len(found)] and (best is None or len(found) > best[0]):
            best = (len(found), number)
    return best[1] if best else None
