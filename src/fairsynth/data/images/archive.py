"""NumPy archives, read as if an enemy had written them, and mapped rather than loaded.

An archive is a zip of ``NAME.npy``. Members that are stored are mapped from the archive itself; compressed ones go
through a temporary file. No object array is ever read, since that would be a pickle.
"""

from __future__ import annotations

import ast
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from fairsynth.data.images.idx import MAX_BYTES, spill
from fairsynth.errors import DataError

MAX_MEMBERS = 64
#: Text and codes are read whole; pixels never are.
MAX_SMALL_BYTES = 1 << 28
MAX_HEADER = 4096
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,63})\.npy")


@dataclass(frozen=True)
class _Member:
    info: zipfile.ZipInfo
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # of the array within the member

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """A NumPy archive, opened and looked through; no array is read yet.

    Parameters
    ----------
    path : path
        The file.

    Raises
    ------
    DataError
        If it is no archive, or one that is damaged or hostile.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with zipfile.ZipFile(self.path) as archive:
                self._members = self._look_through(archive)
        except FileNotFoundError as error:
            raise DataError(f"{self.path}: there is no such file.") from error
        except (
            OSError,
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise DataError(f"{self.path}: this is no NumPy archive that can be read ({error}).") from error

    def __contains__(self, name: object) -> bool:
        """Whether there is an array of this name."""
        return name in self._members

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return sorted(self._members)

    def _look_through(self, archive: zipfile.ZipFile) -> dict[str, _Member]:
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise DataError(f"{self.path}: {len(infos)} members are more than an archive of images has.")
        found: dict[str, _Member] = {}
        for info in infos:
            said = f"{self.path}: its member {info.filename!r}"
            named = _NAME.fullmatch(info.filename)
            if named is None:
                raise DataError(f"{said} is no array of a plain name; the archive is foreign or hostile.")
            if named.group(1) in found:
                raise DataError(f"{said} is there twice; the archive is altered or hostile.")
            if info.flag_bits & 1 or stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                raise DataError(f"{said} is encrypted, or a link; the archive is hostile.")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"{said} is compressed in a way that NumPy does not use.")
            with archive.open(info) as stream:
                dtype, shape, start = _npy_header(stream, said)
            member = _Member(info, dtype, shape, start)
            if member.size > MAX_BYTES or start + member.size != info.file_size:
                raise DataError(
                    f"{said} is of another size than its header says; it is truncated or hostile."
                )
            found[named.group(1)] = member
        return found

    def small(self, name: str) -> np.ndarray:
        """Return an array of codes or names, read into memory."""
        member = self._member(name)
        if member.size > MAX_SMALL_BYTES:
            raise DataError(f"{self.path}: {name!r} is too large for codes or names ({member.size:,} bytes).")
        with zipfile.ZipFile(self.path) as archive:
            content = self._whole(archive, member)
        return np.frombuffer(content, member.dtype, offset=member.start).reshape(member.shape)

    def mapped(self, name: str) -> np.ndarray:
        """Return an array that is mapped from disk; its checksum is looked at in one pass."""
        member = self._member(name)
        flat: np.ndarray
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(member.info) as stream:
                if member.info.compress_type != zipfile.ZIP_STORED:
                    stream.read(member.start)
                    said, packed = f"{self.path}: {name!r}", member.info.compress_size
                    flat = spill(stream.read, member.size, said, packed=packed).view(member.dtype)
                    return flat.reshape(member.shape)
                while stream.read(1 << 20):
                    pass
            start = self._place(member) + member.start
            if start + member.size > self.path.stat().st_size:
                raise DataError(
                    f"{self.path}: {name!r} lies outside of the file; it is truncated or hostile."
                )
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise self._damaged(name, error) from error
        return np.memmap(self.path, member.dtype, "r", offset=start, shape=member.shape)

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise DataError(
                f"{self.path}: there is no array {name!r}; it holds {', '.join(self.names) or 'none'}. Say which array "
                "is what: from_npz(path, images=..., labels=..., sensitive=...)."
            )
        return self._members[name]

    def _whole(self, archive: zipfile.ZipFile, member: _Member) -> bytes:
        try:
            return archive.read(member.info)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise self._damaged(member.info.filename, error) from error

    def _damaged(self, name: str, error: BaseException) -> DataError:
        return DataError(f"{self.path}: {name!r} is damaged ({error}); get the file again.")

    def _place(self, member: _Member) -> int:
        """Return where in the file the bytes of a stored member begin."""
        with self.path.open("rb") as file:
            file.seek(member.info.header_offset)
            head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise DataError(f"{self.path}: its directory points to no member; it is hostile.")
        name_length, extra_length = struct.unpack("<HH", head[26:30])
        return member.info.header_offset + 30 + int(name_length) + int(extra_length)


def _npy_header(stream: IO[bytes], said: str) -> tuple[np.dtype, tuple[int, ...], int]:
    """Read the header of an array: dtype, shape, and where the array begins."""
    start = stream.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise DataError(f"{said} is no NumPy array.")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if not 0 < length <= MAX_HEADER:
        raise DataError(f"{said} has a header of {length:,} bytes; it is hostile.")
    try:
        # The header is a Python literal by definition of the format; literal_eval runs no code.
        told = ast.literal_eval(stream.read(length).decode("utf-8"))
        shape, order = told["shape"], told["fortran_order"]
        description = told["descr"]
        dtype = np.dtype(description) if isinstance(description, str) else None
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(f"{said} has a header that is not one of NumPy.") from error
    if dtype is None or dtype.hasobject or dtype.kind not in "uibfU":
        raise DataError(f"{said} holds no plain numbers or text (objects are pickles, which are never read).")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n <= MAX_BYTES for n in shape):
        raise DataError(f"{said} has no sound shape.")
    if order and len(shape) > 1:
        raise DataError(f"{said} is in Fortran order; save it with np.ascontiguousarray.")
    return dtype, shape, 8 + width + length
