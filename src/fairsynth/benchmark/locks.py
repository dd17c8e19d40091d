"""Claims on cells: files locked by the operating system, which lets go of them however a process ends."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Claim:
    """A lock that this process holds until `release`, or until it ends, even by SIGKILL.

    Nothing has to be found out about processes that are gone: a lock is part of the open file, and goes with it.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path, self._handle = path, handle

    @classmethod
    def take(cls, path: Path) -> Claim | None:
        """Lock a file, made if need be; None if another process (or claim) holds it.

        Raises
        ------
        OSError
            If the file cannot be made or the file system knows no locks.
        """
        while True:
            # Not inherited by the processes of the cells: they must not hold what this one lets go.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            if not _lock(handle):
                os.close(handle)
                return None
            try:
                same = os.path.samestat(os.fstat(handle), os.stat(path))
            except FileNotFoundError:
                same = False
            if same:
                break
            # Whoever held it removed it between our opening and locking: this is no longer the file of that name.
            os.close(handle)
        told = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(handle, 0)
        os.pwrite(handle, (json.dumps(told) + "\n").encode(), 0) if hasattr(os, "pwrite") else None
        return cls(path, handle)

    def release(self) -> None:
        """Remove the file and let go."""
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            os.close(self._handle)
