"""The model file: one zip of JSON and safetensors, read as if an enemy had written it.

Layout, in this order, every member stored without compression and with the same date::

    manifest.json            {"format", "version", "made_by", "members": {name: {bytes, sha256}}, "content"}
    documents/<name>.json    schema, settings and whatever else is text
    tensors.safetensors      weights

and as the archive's comment the SHA-256 of ``manifest.json``. The same content always gives the
same bytes, so a reader can write down what the file must look like and compare: whatever is not
exactly a model file of this format is refused, before anything in it is used. There is no pickle,
nothing is unpacked to disk, and no number that the file states is believed before it has been
held against the true size of the file.

A checksum guards against accidents and tampering in part, not against somebody who makes a whole
new file: the content of a model file is data, and what reads it (`Bundle.guard`) treats it so.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fairsynth.errors import BundleError, CapabilityError, FairsynthError, MissingDependencyError
from fairsynth.files import atomic_path

FORMAT = "fairsynth-model"
VERSION = 1

MAX_FILE_BYTES = 1 << 30
MAX_JSON_BYTES = 32 << 20
MAX_JSON_DEPTH = 64
MAX_MEMBERS = 64
MAX_TENSORS = 10_000
MAX_TENSOR_DIMENSIONS = 8

_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_DOCUMENT = re.compile(r"documents/([a-z][a-z0-9_]{0,63})\.json")
_COMMENT = b"fairsynth-model manifest sha256 "
_COMMENT_BYTES = len(_COMMENT) + 64
_DATE = (1980, 1, 1, 0, 0, 0)
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_REMEDY = "Get the file again from where it was made, or make it anew with `fairsynth fit` or `distill`."

Json = Any
Array = npt.NDArray[Any]
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
            raise _refuse(self.path, f"it holds no document {name!r} (it has: {_list(self.documents)})")
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
            raise _refuse(self.path, f"its content does not describe a model: {error}") from error
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
            raise _refuse(self.path, f"its content does not describe a model ({told})") from error


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
    data = _pack(str(path), manifest, documents, tensors)
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
    name = str(path)
    data = _load(path, name)
    infos = _directory(data, name)
    head = _parse_json(_content(data, infos[_MANIFEST], name), _MANIFEST, name)
    members = _check_manifest(head, name)

    for member in infos:
        if member != _MANIFEST and member != _TENSORS and not _DOCUMENT.fullmatch(member):
            raise _refuse(name, f"it holds a member {member!r}, which does not belong in a model file")
    declared, present = set(members), set(infos) - {_MANIFEST}
    if declared != present or _TENSORS not in present:
        missing = _list((declared | {_TENSORS}) - present) or "none"
        extra = _list(present - declared) or "none"
        raise _refuse(name, f"its members are not those of its manifest (missing: {missing}; extra: {extra})")
    contents: dict[str, bytes] = {_MANIFEST: _content(data, infos[_MANIFEST], name)}
    for member, said in members.items():
        content = _content(data, infos[member], name)
        if len(content) != said.bytes or hashlib.sha256(content).hexdigest() != said.sha256:
            raise _refuse(name, f"{member} is not what its checksum says: the file was altered")
        contents[member] = content
    if _zip(contents) != data:
        raise _refuse(name, "its bytes are not exactly those of its content: the file was altered")

    documents = {}
    for member, content in contents.items():
        if found := _DOCUMENT.fullmatch(member):
            documents[found.group(1)] = _parse_json(content, member, name)
    tensors = _parse_tensors(contents[_TENSORS], name)
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
        raise _refuse(str(path), f"the tensors {_list(missing)} are missing")
    if extra := set(tensors) - set(shapes):
        raise _refuse(str(path), f"the tensors {_list(extra)} do not belong to this model")
    for name, shape in shapes.items():
        found = tensors[name].shape
        if len(found) != len(shape) or any(
            want is not None and want != got for want, got in zip(shape, found, strict=True)
        ):
            told = " × ".join("any" if want is None else str(want) for want in shape) or "a single number"
            got = " × ".join(map(str, found)) or "a single number"
            raise _refuse(str(path), f"the tensor {name!r} is {got} and should be {told}")
    return dict(tensors)


# ---- writing ---------------------------------------------------------------------------------


def _pack(
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
        contents[member] = _to_json(documents[name], member, path)
    contents[_TENSORS] = _to_safetensors(tensors, path)
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
    contents = {_MANIFEST: _to_json(head, _MANIFEST, path), **contents}
    if len(contents) > MAX_MEMBERS:
        raise BundleError(
            f"{path}: {len(contents)} members are more than the {MAX_MEMBERS} a model file may have."
        )
    data = _zip(contents)
    if len(data) > MAX_FILE_BYTES:
        raise BundleError(
            f"{path}: the model takes {len(data):,} bytes; a model file has at most {MAX_FILE_BYTES:,}."
        )
    return data


def _zip(contents: Mapping[str, bytes]) -> bytes:
    """Pack members in the order given; the same members always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for member, content in contents.items():
            info = zipfile.ZipInfo(member, _DATE)
            info.create_system = 3  # the same on every operating system
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
        archive.comment = _COMMENT + hashlib.sha256(contents[_MANIFEST]).hexdigest().encode()
    return buffer.getvalue()


def _to_json(value: Json, member: str, path: str) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = text.encode("utf-8")
        _check_json(value, strict_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"{path}: {member} cannot be written as plain JSON: {error}.") from error
    if len(data) > MAX_JSON_BYTES:
        raise BundleError(
            f"{path}: {member} takes {len(data):,} bytes; at most {MAX_JSON_BYTES:,} are allowed."
        )
    return data


def _to_safetensors(tensors: Mapping[str, Array], path: str) -> bytes:
    from safetensors.numpy import save

    allowed = {np.dtype(dtype) for dtype in _DTYPES.values()}
    plain: dict[str, Array] = {}
    for name, given in tensors.items():
        array = np.array(given, order="C")
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if array.dtype not in allowed:
            raise BundleError(
                f"{path}: the tensor {name!r} is of dtype {array.dtype}, which a model file cannot hold."
            )
        if array.ndim > MAX_TENSOR_DIMENSIONS or name == "__metadata__" or not 0 < len(name) <= 256:
            raise BundleError(
                f"{path}: the tensor {name!r} has too many dimensions, or a name that is not allowed."
            )
        plain[name] = array
    if len(plain) > MAX_TENSORS:
        raise BundleError(f"{path}: {len(plain):,} tensors are more than the {MAX_TENSORS:,} allowed.")
    return save(plain)


# ---- reading ---------------------------------------------------------------------------------


def _load(path: str | os.PathLike[str], name: str) -> bytes:
    try:
        # Not blocking, because a name may lead to a pipe that nobody writes to.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise BundleError(f"{name}: there is no such file. Check the path of the model.") from error
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{name}: the file cannot be opened: {error}. Check the path and its rights."
        ) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{name}: this is a folder or a device, not a file. Name a model file.")
        if status.st_size == 0:
            raise _refuse(name, "it is empty")
        if status.st_size > MAX_FILE_BYTES:
            raise _refuse(
                name, f"it has {status.st_size:,} bytes, and a model file at most {MAX_FILE_BYTES:,}"
            )
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"{name}: the file cannot be read: {error}. Check the path and its rights."
        ) from error
    finally:
        os.close(handle)


def _directory(data: bytes, name: str) -> dict[str, zipfile.ZipInfo]:
    """List the members of the archive, without believing what it says of their sizes."""
    if not data.startswith(b"PK\x03\x04"):
        raise _refuse(name, "it is not a fairsynth model file (no zip archive begins like this)")
    end = len(data) - _COMMENT_BYTES - 22
    if end < 0 or data[end : end + 4] != b"PK\x05\x06":
        if data.rfind(b"PK\x05\x06", max(0, len(data) - 70_000)) >= 0:
            raise _refuse(name, "it is a zip archive, but not one that fairsynth made, or it was altered")
        raise _refuse(name, "it is truncated or altered: the end of the archive is not where it should be")
    count, size, start = struct.unpack_from("<HII", data, end + 10)
    # A directory of a few kilobytes: parsing it cannot cost much, whatever it says.
    if count > MAX_MEMBERS or size > MAX_MEMBERS * 256 or start + size != end:
        raise _refuse(name, "the directory of the archive is not sound: the file is altered or hostile")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
    except Exception as error:  # the parser of a foreign format, fed with anything at all
        raise _refuse(name, f"the archive cannot be read ({error}): the file is altered") from error

    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        member = info.filename
        parts = re.split(r"[/\\]", member)
        if member.startswith(("/", "\\")) or ".." in parts or ":" in member or "\0" in member:
            raise _refuse(name, f"it holds a member {member!r} that points outside of the archive: hostile")
        if member in found:
            raise _refuse(name, f"it holds the member {member!r} twice: altered or hostile")
        if info.flag_bits & 0x1:
            raise _refuse(name, f"its member {member!r} is encrypted, and a model file never is")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.is_dir():
            raise _refuse(name, f"its member {member!r} is a link or a folder, not a file: hostile")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise _refuse(name, f"its member {member!r} is compressed, and a model file never is: hostile")
        if info.header_offset + info.file_size > len(data):
            raise _refuse(
                name,
                f"its member {member!r} says it has {info.file_size:,} bytes, more than the file holds: "
                "truncated, altered or hostile",
            )
        found[member] = info
    if sum(info.file_size for info in infos) > len(data):
        raise _refuse(name, "its members say they hold more than the file does: hostile")
    if _MANIFEST not in found:
        raise _refuse(name, "it is a zip archive without manifest.json: not a fairsynth model file")
    return found


def _content(data: bytes, info: zipfile.ZipInfo, name: str) -> bytes:
    # Stored members are slices of the file. The layout of the local header is checked, together
    # with everything else, when the file is compared with the one that its content must give.
    start = info.header_offset + 30 + len(info.orig_filename.encode("utf-8", "surrogatepass"))
    content = data[start : start + info.file_size]
    if len(content) != info.file_size:
        raise _refuse(name, f"its member {info.filename!r} is cut off: the file is truncated or altered")
    return content


def _check_manifest(head: Json, name: str) -> dict[str, Member]:
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise _refuse(name, "its manifest is not one of fairsynth: not a fairsynth model file")
    version = head.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _refuse(name, "its manifest says no version of the format")
    if version > VERSION:
        raise BundleError(
            f"{name}: made by a newer fairsynth ({head.get('made_by', 'unknown')!s:.40}, format {version}; "
            f"this one reads up to {VERSION}). Upgrade fairsynth to read it."
        )
    if set(head) != {"format", "version", "made_by", "members", "content"}:
        raise _refuse(name, "its manifest has missing or unknown entries")
    members = head["members"]
    if not isinstance(members, dict) or not isinstance(head["content"], dict):
        raise _refuse(name, "its manifest has an entry of the wrong kind")
    if not isinstance(head["made_by"], str):
        raise _refuse(name, "its manifest does not say which version made it")
    checked = {}
    for member, said in members.items():
        if (
            not isinstance(said, dict)
            or set(said) != {"bytes", "sha256"}
            or type(said["bytes"]) is not int
            or not isinstance(said["sha256"], str)
        ):
            raise _refuse(name, f"its manifest states no size and checksum of {member!r}")
        checked[member] = Member(said["bytes"], said["sha256"])
    return checked


def _parse_json(content: bytes, member: str, name: str) -> Json:
    if len(content) > MAX_JSON_BYTES:
        raise _refuse(name, f"{member} has {len(content):,} bytes; at most {MAX_JSON_BYTES:,} are allowed")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
        _check_json(value)
    except (ValueError, RecursionError) as error:
        raise _refuse(name, f"{member} is not sound JSON ({error})") from error
    return value


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(text: str) -> Json:
    raise ValueError(f"{text} is not a JSON number")


def _check_json(value: Json, *, strict_keys: bool = False) -> None:
    """Refuse deep nesting and numbers past what a float can hold, without recursion."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        below: list[Json] = []
        for item in level:
            if isinstance(item, dict):
                if strict_keys and not all(isinstance(key, str) for key in item):
                    raise ValueError("a key is not text, and would not come back as it was")
                below.extend(item.values())
            elif isinstance(item, list | tuple):
                below.extend(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError("a number is too large")
        if not below:
            return
        level = below
    raise ValueError(f"nested more than {MAX_JSON_DEPTH} deep")


def _parse_tensors(content: bytes, name: str) -> dict[str, Array]:
    if len(content) < 8:
        raise _refuse(name, f"{_TENSORS} is cut off")
    (size,) = struct.unpack_from("<Q", content)
    if size > min(len(content) - 8, MAX_JSON_BYTES):
        raise _refuse(name, f"{_TENSORS} states a header of {size:,} bytes, more than there is")
    header = _parse_json(content[8 : 8 + size], f"the header of {_TENSORS}", name)
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise _refuse(name, f"the header of {_TENSORS} lists no tensors, or too many")
    body = memoryview(content)[8 + size :]
    spans: list[tuple[int, int]] = []
    tensors: dict[str, Array] = {}
    for tensor, entry in header.items():
        try:
            dtype, shape, begin, end = _tensor_entry(entry)
        except ValueError as error:
            raise _refuse(name, f"the tensor {tensor!r} {error}") from error
        if not 0 <= begin <= end <= len(body):
            raise _refuse(name, f"the tensor {tensor!r} lies outside of the file")
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise _refuse(name, f"the tensor {tensor!r} is of another size than its shape says")
        if dtype == np.bool_ and np.frombuffer(body[begin:end], np.uint8).max(initial=0) > 1:
            raise _refuse(name, f"the tensor {tensor!r} holds truth values that are neither true nor false")
        spans.append((begin, end))
        tensors[tensor] = np.frombuffer(body[begin:end], dtype).reshape(shape).astype(dtype.newbyteorder("="))
    spans.sort()
    edges = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != edges[:-1] or edges[-1] != len(body):
        raise _refuse(name, f"the tensors in {_TENSORS} overlap or leave gaps")
    return tensors


def _tensor_entry(entry: Json) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("has an entry that is not one of safetensors")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise ValueError(f"is of dtype {kind!r:.40}, which a model file cannot hold")
    if (
        not isinstance(shape, list)
        or len(shape) > MAX_TENSOR_DIMENSIONS
        or not all(type(length) is int and 0 <= length <= MAX_FILE_BYTES for length in shape)
        # NumPy also refuses an empty array whose other lengths multiply to too much.
        or math.prod(length for length in shape if length) > MAX_FILE_BYTES
    ):
        raise ValueError("has no sound shape")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int and 0 <= offset <= MAX_FILE_BYTES for offset in offsets)
    ):
        raise ValueError("has no sound place in the file")
    return np.dtype(_DTYPES[kind]).newbyteorder("<"), tuple(shape), offsets[0], offsets[1]


def _refuse(path: str, what: str) -> BundleError:
    return BundleError(f"{path}: this file cannot be used: {what}. {_REMEDY}")


def _list(names: Any) -> str:
    shown = sorted(map(str, names))
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
