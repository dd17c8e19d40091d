"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a temporary path beside `path`, and move it there when the block ends well.

    Whoever looks at `path` sees the old file or the whole new one, never a part of it. When the
    block ends by any exception, Ctrl-C included, the temporary file is removed and `path` is as it
    was. Missing parent folders are made; a symbolic link is followed, not replaced.

    Parameters
    ----------
    path : str or path-like
        Where the file is to be.

    Yields
    ------
    pathlib.Path
        A path that does not exist yet, in the same folder and with the same suffixes, so that
        writers which choose their format by the name choose the right one.

    Raises
    ------
    OSError
        If the folder cannot be made, the file not written, or `path` is a folder.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(21, "is a folder, and a file is to be written there", str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".part-{secrets.token_hex(4)}-{target.name}")
    try:
        yield part
        _sync(part)
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    with suppress(OSError):  # a folder cannot be synced everywhere, and the file is there either way
        _sync(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all.

    Raises
    ------
    OSError
        As `atomic_path` does.
    """
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
