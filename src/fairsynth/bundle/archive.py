"""The zip around the members: written always the same way, and read without believing what it says."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import zipfile
from collections.abc import Mapping

from fairsynth.bundle.limits import MANIFEST, MAX_FILE_BYTES, MAX_MEMBERS, refuse
from fairsynth.errors import BundleError

COMMENT = b"fairsynth-model manifest sha256 "
COMMENT_BYTES = len(COMMENT) + 64
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Pack members in the order given; the same members always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for member, content in contents.items():
            info = zipfile.ZipInfo(member, _DATE)
            info.create_system = 3  # the same on every operating system
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
        archive.comment = COMMENT + hashlib.sha256(contents[MANIFEST]).hexdigest().encode()
    return buffer.getvalue()


def load(path: str | os.PathLike[str], name: str) -> bytes:
    """Read a file into memory, if it is a file and not larger than a model file may be."""
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
            raise refuse(name, "it is empty")
        if status.st_size > MAX_FILE_BYTES:
            raise refuse(
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


def directory(data: bytes, name: str) -> dict[str, zipfile.ZipInfo]:
    """List the members of the archive, without believing what it says of their sizes."""
    if not data.startswith(b"PK\x03\x04"):
        raise refuse(name, "it is not a fairsynth model file (no zip archive begins like this)")
    end = len(data) - COMMENT_BYTES - 22
    if end < 0 or data[end : end + 4] != b"PK\x05\x06":
        if data.rfind(b"PK\x05\x06", max(0, len(data) - 70_000)) >= 0:
            raise refuse(name, "it is a zip archive, but not one that fairsynth made, or it was altered")
        raise refuse(name, "it is truncated or altered: the end of the archive is not where it should be")
    count, size, start = struct.unpack_from("<HII", data, end + 10)
    # A directory of a few kilobytes: parsing it cannot cost much, whatever it says.
    if count > MAX_MEMBERS or size > MAX_MEMBERS * 256 or start + size != end:
        raise refuse(name, "the directory of the archive is not sound: the file is altered or hostile")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
    except Exception as error:  # the parser of a foreign format, fed with anything at all
        raise refuse(name, f"the archive cannot be read ({error}): the file is altered") from error

    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        member = info.filename
        parts = re.split(r"[/\\]", member)
        if member.startswith(("/", "\\")) or ".." in parts or ":" in member or "\0" in member:
            raise refuse(name, f"it holds a member {member!r} that points outside of the archive: hostile")
        if member in found:
            raise refuse(name, f"it holds the member {member!r} twice: altered or hostile")
        if info.flag_bits & 0x1:
            raise refuse(name, f"its member {member!r} is encrypted, and a model file never is")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.is_dir():
            raise refuse(name, f"its member {member!r} is a link or a folder, not a file: hostile")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise refuse(name, f"its member {member!r} is compressed, and a model file never is: hostile")
        if info.header_offset + info.file_size > len(data):
            raise refuse(
                name,
                f"its member {member!r} says it has {info.file_size:,} bytes, more than the file holds: "
                "truncated, altered or hostile",
            )
        found[member] = info
    if sum(info.file_size for info in infos) > len(data):
        raise refuse(name, "its members say they hold more than the file does: hostile")
    if MANIFEST not in found:
        raise refuse(name, "it is a zip archive without manifest.json: not a fairsynth model file")
    return found


def content_of(data: bytes, info: zipfile.ZipInfo, name: str) -> bytes:
    """Return the bytes of one member."""
    # Stored members are slices of the file. The layout of the local header is checked, together
    # with everything else, when the file is compared with the one that its content must give.
    start = info.header_offset + 30 + len(info.orig_filename.encode("utf-8", "surrogatepass"))
    content = data[start : start + info.file_size]
    if len(content) != info.file_size:
        raise refuse(name, f"its member {info.filename!r} is cut off: the file is truncated or altered")
    return content
