"""Sets of images on disk: a NumPy archive or a folder of PNG files, written batch by batch and whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fairsynth.data.images.pixels import Pixels, Shape, pillow
from fairsynth.errors import DataError
from fairsynth.files import atomic_path

#: The same content gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


class Writer(Protocol):
    """Takes images in order."""

    written: int

    def write(self, images: Pixels, labels: np.ndarray, groups: np.ndarray) -> None:
        """Add images uint8 ``(k, height, width, channels)`` with labels and groups int64 ``(k,)``."""


@contextmanager
def writer_for(
    path: str | os.PathLike[str], n: int, shape: Shape, meta: Mapping[str, Any]
) -> Iterator[Writer]:
    """Lend a writer of `n` images to a ``.npz`` file, or to a folder if the path has no suffix.

    Parameters
    ----------
    path : path
        Where the set is to be.
    n : int
        How many images will come.
    shape : tuple of int
        Height, width and channels.
    meta : mapping
        As `ImageSet.meta` gives it.

    Raises
    ------
    DataError
        If the kind is not known, the folder is there already, or it cannot be written.
    """
    target = Path(path)
    try:
        if target.suffix.lower() == ".npz":
            with atomic_path(target) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
                with archive.open(_info("images"), "w", force_zip64=True) as stream:
                    stream.write(_header((n, *shape), "|u1"))
                    writer = _ArrayWriter(stream)
                    yield writer
                _check(writer.written, n, target)
                arrays = {
                    "labels": np.concatenate(writer.labels), "groups": np.concatenate(writer.groups),
                    "classes": np.array(meta["classes"]), "levels": np.array(meta["levels"]),
                    "names": np.array([meta["label"], meta["sensitive"]]),
                    "favorable": np.array(meta["favorable"], dtype=str),
                }  # fmt: skip
                for name, array in arrays.items():
                    archive.writestr(_info(name), _npy(array))
        elif not target.suffix:
            with _new_folder(target) as part:
                pictures = _PictureWriter(part, n, meta)
                yield pictures
                _check(pictures.written, n, target)
                pictures.finish()
        else:
            raise DataError(
                f"{target}: a set of images is written to a .npz file or to a folder (no suffix)."
            )
    except OSError as error:
        raise DataError(f"{target}: the images could not be written: {error.strerror or error}.") from error


class _ArrayWriter:
    def __init__(self, stream: Any) -> None:
        self._stream, self.written = stream, 0
        self.labels: list[np.ndarray] = []
        self.groups: list[np.ndarray] = []

    def write(self, images: Pixels, labels: np.ndarray, groups: np.ndarray) -> None:
        self._stream.write(np.ascontiguousarray(images).tobytes())
        self.labels.append(np.asarray(labels, dtype=np.int64))
        self.groups.append(np.asarray(groups, dtype=np.int64))
        self.written += len(images)


class _PictureWriter:
    def __init__(self, folder: Path, n: int, meta: Mapping[str, Any]) -> None:
        self._image, self._folder, self._meta, self.written = pillow(), folder, meta, 0
        self._digits = max(5, len(str(n - 1)))
        self._table = io.StringIO(newline="")
        self._lines = csv.writer(self._table, lineterminator="\n")
        self._lines.writerow(["file", meta["label"], meta["sensitive"]])

    def write(self, images: Pixels, labels: np.ndarray, groups: np.ndarray) -> None:
        for image, label, group in zip(images, labels, groups, strict=True):
            name = f"{self.written:0{self._digits}}.png"
            plain = image[..., 0] if image.shape[2] == 1 else image
            self._image.fromarray(np.ascontiguousarray(plain)).save(self._folder / name)
            self._lines.writerow([name, self._meta["classes"][label], self._meta["levels"][group]])
            self.written += 1

    def finish(self) -> None:
        (self._folder / "images.csv").write_text(self._table.getvalue(), encoding="utf-8", newline="\n")


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: it is there already; give a new folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".part-{secrets.token_hex(4)}-{target.name}")
    part.mkdir()
    try:
        yield part
        if target.exists():
            target.rmdir()
        os.replace(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _check(written: int, n: int, target: Path) -> None:
    if written != n:
        raise DataError(f"{target}: {written:,} images came, and {n:,} were announced; nothing is written.")


def _info(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", _DATE)


def _header(shape: tuple[int, ...], descr: str) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
