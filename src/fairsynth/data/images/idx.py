"""The idx format of MNIST: a header of big-endian numbers, then the array; plain or gzipped."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from fairsynth.errors import DataError

_UBYTE = 0x08
#: More than any set of images that this reads.
MAX_BYTES = 1 << 38
_PIECE = 1 << 20
#: No set of images shrinks to less than such a part of itself; what does is made to fill a disk.
MOST_PACKED, LITTLE = 400, 1 << 28


def read_idx(path: str | os.PathLike[str], dimensions: tuple[int, ...]) -> np.ndarray:
    """Map an idx file of bytes into memory; a gzipped one by way of a temporary file without a name.

    Parameters
    ----------
    path : path
        The file.
    dimensions : tuple of int
        How many dimensions it may have.

    Returns
    -------
    np.ndarray
        uint8, not to be written to.

    Raises
    ------
    DataError
        If it is no idx file of unsigned bytes, or is shorter or longer than its header says.
    """
    place = Path(path)
    try:
        with place.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not zipped:
                shape, start = _header(raw, place, dimensions)
                found = place.stat().st_size - start
                if found != math.prod(shape):
                    raise _wrong_length(place, shape, found)
                return np.memmap(place, np.uint8, "r", offset=start, shape=shape)
            with gzip.GzipFile(fileobj=raw) as stream:
                shape, _ = _header(stream, place, dimensions)
                packed = place.stat().st_size
                return spill(stream.read, math.prod(shape), str(place), packed=packed).reshape(shape)
    except FileNotFoundError as error:
        raise DataError(f"{place}: there is no such file.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place}: the file cannot be read to its end ({error}); get it again.") from error


def _header(
    stream: IO[bytes] | gzip.GzipFile, path: Path, dimensions: tuple[int, ...]
) -> tuple[tuple[int, ...], int]:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] != _UBYTE or head[3] not in dimensions:
        raise DataError(
            f"{path}: this is no idx file of unsigned bytes with {' or '.join(map(str, dimensions))} dimensions."
        )
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{path}: the idx file is cut off in its header.")
    shape = struct.unpack(f">{head[3]}I", sizes)
    if math.prod(shape) > MAX_BYTES or 0 in shape:
        raise DataError(f"{path}: its header speaks of {' × '.join(map(str, shape))} bytes; it is not read.")
    return shape, 4 + len(sizes)


def spill(read: Callable[[int], bytes], size: int, path: str, *, packed: int) -> np.ndarray:
    """Put a stream of exactly `size` bytes into a file without a name and map it, so that memory does not hold it.

    `packed` is how many bytes it has before it is unpacked.

    Raises
    ------
    DataError
        If the stream is shorter or longer, unpacks to far more than images do, or the disk has no room for it.
    """
    if size > LITTLE and size > MOST_PACKED * packed:
        raise DataError(
            f"{path}: {packed:,} bytes would unpack to {size:,}; no images are packed so closely, and it is not read."
        )
    folder = tempfile.gettempdir()
    if size > shutil.disk_usage(folder).free:
        raise DataError(
            f"{path}: unpacked it has {size:,} bytes, and {folder} has no room for them; set TMPDIR to another folder."
        )
    with tempfile.TemporaryFile() as file:
        left = size
        while left:
            piece = read(min(_PIECE, left))
            if not piece:
                raise _wrong_length(Path(path), (size,), size - left)
            file.write(piece)
            left -= len(piece)
        if read(1):
            raise DataError(f"{path}: it holds more than its header says; it is damaged or hostile.")
        file.flush()
        return np.memmap(file, np.uint8, "r", shape=(size,))


def _wrong_length(path: Path, shape: tuple[int, ...], found: int) -> DataError:
    return DataError(
        f"{path}: its header speaks of {math.prod(shape):,} bytes, and {found:,} follow: it is truncated or damaged; "
        "get it again."
    )
