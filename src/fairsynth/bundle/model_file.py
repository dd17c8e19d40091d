"""A model file as a whole: its manifest against its members, and what its reader asks of it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from fairsynth.bundle.archive import content_of, directory, load, pack
from fairsynth.bundle.content import Array, Json, parse_json, parse_tensors, to_json, to_safetensors
from fairsynth.bundle.limits import (
    FORMAT,
    MANIFEST,
    MAX_FILE_BYTES,
    MAX_MEMBERS,
    TENSORS,
    VERSION,
    listed,
    refuse,
)
from fairsynth.errors import BundleError, CapabilityError, FairsynthError, MissingDependencyError
from fairsynth.files import atomic_path

_DOCUMENT = re.compile(r"documents/([a-z][a-z0-9_]{0,63})\.json")

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Member:
    """Size in bytes and SHA-256 (hexadecimal) of one file in the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Bundle:
    """What a model file holds, checked.

    Attributes
    ----------
    manifest : dict
        What the writer said of the model.
    documents : dict of str to JSON value
        By name, without folder and suffix.
    tensors : dict of str to numpy.ndarray
        Writable copies in the machine's memory, C order.
    path : str
        The file read, for messages.
    version : int
        Version of the format.
    made_by : str
        fairsynth version that wrote the file.
    members : dict of str to Member
        Size and checksum of every member but the manifest.
    """

    manifest: dict[str, Json]
    documents: dict[str, Json]
    tensors: dict[str, Array]
    path: str = ""
    version: int = VERSION
    made_by: str = ""
    members: dict[str, Member] = field(default_factory=dict)

    def document(self, name: str) -> Json:
        """Return one document.

        Raises
        ------
        BundleError
            If the file holds none of this name.
        """
        if name not in self.documents:
            raise refuse(self.path, f"it holds no document {name!r} (it has: {listed(self.documents)})")
        return self.documents[name]

    def expect(self, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        """Return the tensors if they are exactly those named, in the shapes named; see `expect`."""
        return expect(self.tensors, shapes, path=self.path)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn whatever goes wrong while a model is built from this content into a `BundleError`.

        A file can pass every check here and still describe no model: a setting of the wrong type,
        a schema with two targets. Code that builds the model runs inside this block.
        """
        try:
            yield
        except (BundleError, CapabilityError, MissingDependencyError):
            raise
        except FairsynthError as error:
            raise refuse(self.path, f"its content does not describe a model: {error}") from error
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            told = f"{type(error).__name__}: {error}".splitlines()[0]
            raise refuse(self.path, f"its content does not describe a model ({told})") from error


def write(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Json],
    documents: Mapping[str, Json],
    tensors: Mapping[str, Array],
) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Where; an existing file is replaced at the very end, in one step.
    manifest : mapping
        What the model is, as plain JSON values; read back as `Bundle.manifest` (tuples as lists).
    documents : mapping of str to JSON value
        Names are lower-case words with digits and underscores.
    tensors : mapping of str to numpy.ndarray
        Real, integer or boolean arrays.

    Raises
    ------
    BundleError
        If something is no plain JSON (NaN and infinity are not), an array has another dtype, a
        limit is passed, or the file cannot be written. Nothing is left behind then.
    """
    data = _packed(str(path), manifest, documents, tensors)
    try:
        with atomic_path(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise BundleError(
            f"{path}: the model could not be written: {error.strerror or error}. "
            "Choose a folder that can be written and has space."
        ) from error


def read(path: str | os.PathLike[str]) -> Bundle:
    """Read a model file and check everything in it; nothing is written anywhere.

    Parameters
    ----------
    path : str or path-like
        A file that `write` made.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        If the file is absent, truncated, altered, foreign, hostile, or of a newer format. The
        message names the file, what is wrong with it, and what to do.
    """
    if not isinstance(path, str | os.PathLike):
        raise BundleError(
            f"a model is read from its file, and this is {type(path).__name__}; save it first: "
            "model.save('model.fairsynth')."
        )
    name = str(path)
    data = load(path, name)
    infos = directory(data, name)
    head = parse_json(content_of(data, infos[MANIFEST], name), MANIFEST, name)
    members = _check_manifest(head, name)

    for member in infos:
        if member != MANIFEST and member != TENSORS and not _DOCUMENT.fullmatch(member):
            raise refuse(name, f"it holds a member {member!r}, which does not belong in a model file")
    declared, present = set(members), set(infos) - {MANIFEST}
    if declared != present or TENSORS not in present:
        missing = listed((declared | {TENSORS}) - present) or "none"
        extra = listed(present - declared) or "none"
        raise refuse(name, f"its members are not those of its manifest (missing: {missing}; extra: {extra})")
    contents: dict[str, bytes] = {MANIFEST: content_of(data, infos[MANIFEST], name)}
    for member, said in members.items():
        content = content_of(data, infos[member], name)
        if len(content) != said.bytes or hashlib.sha256(content).hexdigest() != said.sha256:
            raise refuse(name, f"{member} is not what its checksum says: the file was altered")
        contents[member] = content
    if pack(contents) != data:
        raise refuse(name, "its bytes are not exactly those of its content: the file was altered")

    documents = {}
    for member, content in contents.items():
        if found := _DOCUMENT.fullmatch(member):
            documents[found.group(1)] = parse_json(content, member, name)
    tensors = parse_tensors(contents[TENSORS], name)
    return Bundle(
        manifest=head["content"],
        documents=documents,
        tensors=tensors,
        path=name,
        version=head["version"],
        made_by=head["made_by"],
        members=members,
    )


def expect(
    tensors: Mapping[str, Array], shapes: Mapping[str, Shape], *, path: str | os.PathLike[str] = "model file"
) -> dict[str, Array]:
    """Return `tensors` if they are exactly those named, in the shapes named.

    Parameters
    ----------
    tensors : mapping of str to numpy.ndarray
        What was read.
    shapes : mapping of str to tuple
        Name to shape; None in a shape stands for any length.
    path : str or path-like, optional
        The file, for the message.

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    BundleError
        If a tensor is missing, not expected, or of another shape.
    """
    if missing := set(shapes) - set(tensors):
        raise refuse(str(path), f"the tensors {listed(missing)} are missing")
    if extra := set(tensors) - set(shapes):
        raise refuse(str(path), f"the tensors {listed(extra)} do not belong to this model")
    for name, shape in shapes.items():
        found = tensors[name].shape
        if len(found) != len(shape) or any(
            want is not None and want != got for want, got in zip(shape, found, strict=True)
        ):
            told = " × ".join("any" if want is None else str(want) for want in shape) or "a single number"
            got = " × ".join(map(str, found)) or "a single number"
            raise refuse(str(path), f"the tensor {name!r} is {got} and should be {told}")
    return dict(tensors)


def _packed(
    path: str, manifest: Mapping[str, Json], documents: Mapping[str, Json], tensors: Mapping[str, Array]
) -> bytes:
    from fairsynth import __version__

    contents: dict[str, bytes] = {}
    for name in sorted(documents):
        member = f"documents/{name}.json"
        if not _DOCUMENT.fullmatch(member):
            raise BundleError(
                f"{path}: a document cannot be called {name!r}; use lower-case words and digits."
            )
        contents[member] = to_json(documents[name], member, path)
    contents[TENSORS] = to_safetensors(tensors, path)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "made_by": __version__,
        "members": {
            member: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for member, content in contents.items()
        },
        "content": dict(manifest),
    }
    contents = {MANIFEST: to_json(head, MANIFEST, path), **contents}
    if len(contents) > MAX_MEMBERS:
        raise BundleError(
            f"{path}: {len(contents)} members are more than the {MAX_MEMBERS} a model file may have."
        )
    data = pack(contents)
    if len(data) > MAX_FILE_BYTES:
        raise BundleError(
            f"{path}: the model takes {len(data):,} bytes; a model file has at most {MAX_FILE_BYTES:,}."
        )
    return data


def _check_manifest(head: Json, name: str) -> dict[str, Member]:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise refuse(name, "its manifest is not one of fairsynth: not a fairsynth model file")
    version = head.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise refuse(name, "its manifest says no version of the format")
    if version > VERSION:
        raise BundleError(
            f"{name}: made by a newer fairsynth ({head.get('made_by', 'unknown')!s:.40}, format {version}; "
            f"this one reads up to {VERSION}). Upgrade fairsynth to read it."
        )
    if set(head) != {"format", "version", "made_by", "members", "content"}:
        raise refuse(name, "its manifest has missing or unknown entries")
    members = head["members"]
    if not isinstance(members, dict) or not isinstance(head["content"], dict):
        raise refuse(name, "its manifest has an entry of the wrong kind")
    if not isinstance(head["made_by"], str):
        raise refuse(name, "its manifest does not say which version made it")
    checked = {}
    for member, said in members.items():
        if (
            not isinstance(said, dict)
            or set(said) != {"bytes", "sha256"}
            or type(said["bytes"]) is not int
            or not isinstance(said["sha256"], str)
        ):
            raise refuse(name, f"its manifest states no size and checksum of {member!r}")
        checked[member] = Member(said["bytes"], said["sha256"])
    return checked
