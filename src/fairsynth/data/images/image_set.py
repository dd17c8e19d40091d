"""ImageSet: images, one label and one sensitive attribute, read from disk as they are needed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fairsynth.data.images.pixels import ArraySource, Pixels, Shape, Source
from fairsynth.errors import DataError, SettingsError

if TYPE_CHECKING:
    from fairsynth.progress import Progress

#: More classes or groups than this are no classes but numbers.
MAX_LEVELS = 1000
#: Images read at a time where all have to be gone through.
BATCH = 512

Codes = npt.NDArray[np.int64]


class ImageSet:
    """Images with a label and a sensitive attribute.

    Made by `of_arrays`, `from_folder`, `from_npz`, `from_idx` or :func:`fairsynth.load_images`. Pixels stay where they
    are until `read` or `batches` asks for them.

    Attributes
    ----------
    labels : np.ndarray
        Class of each image, int64 ``(n,)``, index into `classes`.
    classes : tuple of str
        Names of the classes.
    label : str
        Name of the label.
    favorable : tuple of str
        Classes that are good to be given; may be empty.
    groups : np.ndarray
        Group of each image, int64 ``(n,)``, index into `levels`.
    levels : tuple of str
        Names of the groups.
    sensitive : str
        Name of the sensitive attribute.
    shape : tuple of int
        Height, width and channels (1, 3 or 4); pixels are uint8.
    skipped : list of tuple of str
        Files that were left out, and why.
    """

    def __init__(
        self,
        source: Source,
        labels: npt.ArrayLike,
        groups: npt.ArrayLike,
        *,
        classes: Sequence[Any] | None = None,
        levels: Sequence[Any] | None = None,
        label: str = "label",
        sensitive: str = "group",
        favorable: Sequence[str] = (),
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._source = source
        self._rows: Codes = np.arange(len(source), dtype=np.int64)
        self.labels, self.classes = _coded(labels, classes, label, len(source))
        self.groups, self.levels = _coded(groups, levels, sensitive, len(source))
        if label == sensitive or not label or not sensitive:
            raise DataError(f"label={label!r} and sensitive={sensitive!r} must be two names.")
        self.label, self.sensitive = str(label), str(sensitive)
        self.favorable = tuple(map(str, favorable))
        unknown = [name for name in self.favorable if name not in self.classes]
        if unknown:
            raise DataError(
                f"favorable: {unknown[0]!r} is not a class of {label!r}; they are {', '.join(self.classes)}."
            )
        self.skipped = list(skipped)

    # -------------------------------------------------------------------------------------------------- making
    @classmethod
    def of_arrays(
        cls,
        images: np.ndarray,
        labels: npt.ArrayLike,
        groups: npt.ArrayLike,
        *,
        classes: Sequence[Any] | None = None,
        levels: Sequence[Any] | None = None,
        label: str = "label",
        sensitive: str = "group",
        favorable: Sequence[str] = (),
    ) -> ImageSet:
        """Make a set of arrays in memory.

        Parameters
        ----------
        images : np.ndarray
            uint8 ``(n, height, width)`` or ``(n, height, width, channels)``; not copied.
        labels, groups : array_like
            Whole numbers or text ``(n,)``. With `classes` (`levels`), whole numbers are indices into them.
        classes, levels : sequence, optional
            Names; by default those that occur, in order.
        label, sensitive : str
            What the two are called.
        favorable : sequence of str, optional
            Classes that are good to be given.

        Raises
        ------
        DataError
            If shapes, dtypes or lengths are wrong.
        """
        return cls(
            ArraySource(np.asarray(images)), labels, groups, classes=classes, levels=levels, label=label,
            sensitive=sensitive, favorable=favorable,
        )  # fmt: skip

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        csv: str | os.PathLike[str],
        *,
        label: str,
        sensitive: str,
        file: str = "file",
        size: tuple[int, int] | None = None,
        mode: Literal["L", "RGB", "RGBA"] | None = None,
        classes: Sequence[Any] | None = None,
        levels: Sequence[Any] | None = None,
        favorable: Sequence[str] = (),
        skip_bad: bool = False,
        look: Literal["pixels", "headers"] = "pixels",
        progress: Progress | None = None,
    ) -> ImageSet:
        """Make a set of picture files and a table that says what they show; see `folder.read_folder`."""
        from fairsynth.data.images.folder import read_folder

        return read_folder(
            folder, csv, label=label, sensitive=sensitive, file=file, size=size, mode=mode, classes=classes,
            levels=levels, favorable=favorable, skip_bad=skip_bad, look=look, progress=progress,
        )  # fmt: skip

    @classmethod
    def from_npz(
        cls,
        path: str | os.PathLike[str],
        *,
        images: str = "images",
        labels: str = "labels",
        sensitive: str = "groups",
        classes: Sequence[Any] | None = None,
        levels: Sequence[Any] | None = None,
        names: tuple[str, str] | None = None,
        favorable: Sequence[str] = (),
    ) -> ImageSet:
        """Make a set of a NumPy archive, whose pixels are mapped from disk.

        Parameters
        ----------
        path : path
            What `save` or ``np.savez`` wrote.
        images, labels, sensitive : str
            Names of the arrays: uint8 images, and two of whole numbers or text.
        classes, levels : sequence, optional
            Names of classes and groups; by default the arrays ``classes`` and ``levels`` of the archive, or those
            that occur.
        names : tuple of str, optional
            What label and sensitive attribute are called; by default what the archive says, or the arrays' names.
        favorable : sequence of str, optional
            Classes that are good to be given; by default what the archive says.

        Raises
        ------
        DataError
            If the file is damaged, hostile, or lacks an array.
        """
        from fairsynth.data.images.archive import Archive

        archive = Archive(path)
        source = ArraySource(archive.mapped(images), f"{path}: {images!r}")

        def told(name: str) -> list[str] | None:
            return [str(entry) for entry in archive.small(name).ravel()] if name in archive else None

        stored = told("names")
        called = names or ((stored[0], stored[1]) if stored and len(stored) == 2 else (labels, sensitive))
        try:
            return cls(
                source, archive.small(labels), archive.small(sensitive), classes=classes or told("classes"),
                levels=levels or told("levels"), label=called[0], sensitive=called[1],
                favorable=favorable or told("favorable") or (),
            )  # fmt: skip
        except DataError as error:
            if str(error).startswith(str(path)):
                raise
            raise DataError(f"{path}: {error}") from error

    @classmethod
    def from_idx(
        cls,
        images: str | os.PathLike[str],
        labels: str | os.PathLike[str],
        *,
        groups: str | os.PathLike[str] | npt.ArrayLike,
        classes: Sequence[Any] | None = None,
        levels: Sequence[Any] | None = None,
        label: str = "label",
        sensitive: str = "group",
        favorable: Sequence[str] = (),
    ) -> ImageSet:
        """Make a set of idx files (MNIST's format), plain or gzipped.

        Parameters
        ----------
        images, labels : path
            idx files of unsigned bytes with three (four: channels) dimensions and with one.
        groups : path or array_like
            The sensitive attribute: an idx file, or whole numbers or text ``(n,)``.
        classes, levels, label, sensitive, favorable
            As of `of_arrays`.

        Raises
        ------
        DataError
            If a file is no such file, is truncated, or they are of different lengths.
        """
        from fairsynth.data.images.idx import read_idx

        source = ArraySource(read_idx(images, (3, 4)), os.fspath(images))
        codes = read_idx(labels, (1,))
        if len(codes) != len(source):
            raise DataError(f"{images} holds {len(source):,} images, and {labels} {len(codes):,} labels.")
        s = read_idx(groups, (1,)) if isinstance(groups, str | os.PathLike) else groups
        return cls(
            source, np.asarray(codes), s, classes=classes, levels=levels, label=label, sensitive=sensitive,
            favorable=favorable,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------- reading
    @property
    def shape(self) -> Shape:
        """Height, width and channels."""
        return self._source.shape

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self._rows)

    def __repr__(self) -> str:
        """Say what is in it."""
        height, width, channels = self.shape
        return (
            f"ImageSet({len(self):,} images of {height}×{width}×{channels}, {self.label}: {len(self.classes)} classes, "
            f"{self.sensitive}: {len(self.levels)} groups)"
        )

    def read(self, indices: npt.ArrayLike) -> Pixels:
        """Return images by number, uint8 ``(k, height, width, channels)``.

        Raises
        ------
        DataError
            If there is no such image, or its file cannot be read.
        """
        return self._source.read(self._rows[self._chosen(indices)])

    def batches(self, size: int, *, seed: int | None = None) -> Iterator[tuple[Codes, Pixels]]:
        """Go through all images once.

        Parameters
        ----------
        size : int
            Images a batch; the last may be smaller.
        seed : int, optional
            Shuffles them; by default they come in order.

        Yields
        ------
        indices : np.ndarray
            int64 ``(k,)``.
        images : np.ndarray
            uint8 ``(k, height, width, channels)``.
        """
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise SettingsError(f"size={size!r} must be a whole number from 1 up.")
        order = np.arange(len(self)) if seed is None else np.random.default_rng(seed).permutation(len(self))
        for start in range(0, len(order), int(size)):
            chosen = order[start : start + int(size)]
            yield chosen, self.read(chosen)

    def counts(self) -> Codes:
        """Return how many images there are of each class and group, int64 ``(classes, groups)``."""
        table = np.zeros((len(self.classes), len(self.levels)), dtype=np.int64)
        np.add.at(table, (self.labels, self.groups), 1)
        return table

    def fingerprint(self) -> str:
        """Return a checksum of images, labels, groups and names, SHA-256 in hexadecimal."""
        if not hasattr(self, "_fingerprint"):
            names = [self.shape, self.classes, self.levels, self.label, self.sensitive, self.favorable]
            total = hashlib.sha256(json.dumps([len(self), *names]).encode())
            total.update(self.labels.tobytes() + self.groups.tobytes())
            for _, images in self.batches(BATCH):
                total.update(np.ascontiguousarray(images).data)
            self._fingerprint = total.hexdigest()
        return self._fingerprint

    # ------------------------------------------------------------------------------------------------ choosing
    def subset(self, indices: npt.ArrayLike) -> ImageSet:
        """Return a set of some of the images, in the order given; classes and groups stay."""
        return self._of_rows(self._chosen(indices))

    def split(self, test_size: float = 0.3, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """Return two parts, each with the same share of every class in every group as far as whole images go.

        Parameters
        ----------
        test_size : float, default=0.3
            Share of the second part, between 0 and 1.
        seed : int, default=0
            Which images go where.

        Raises
        ------
        SettingsError
            If the share is out of its range.
        DataError
            If one part would be empty.
        """
        if not isinstance(test_size, int | float) or not 0 < test_size < 1:
            raise SettingsError(f"test_size={test_size!r} must lie between 0 and 1.")
        cells = self.labels * len(self.levels) + self.groups
        # Shuffled, then in order of their cells: every stretch of the line holds its share of each cell.
        line = np.random.default_rng(seed).permutation(len(self))
        line = line[np.argsort(cells[line], kind="stable")]
        ends = np.floor(np.arange(1, len(line) + 1) * test_size + 1e-9)
        held = np.diff(ends, prepend=0.0) > 0
        if held.all() or not held.any():
            raise DataError(
                f"{len(self)} images cannot be split with test_size={test_size}: one part would be empty."
            )
        return self.subset(np.sort(line[~held])), self.subset(np.sort(line[held]))

    def _of_rows(self, rows: Codes) -> ImageSet:
        part = object.__new__(ImageSet)
        part.__dict__.update({k: v for k, v in self.__dict__.items() if k != "_fingerprint"})
        part._rows, part.labels, part.groups = self._rows[rows], self.labels[rows], self.groups[rows]
        return part

    def _chosen(self, indices: npt.ArrayLike) -> Codes:
        given = np.asarray(indices)
        if given.size == 0:
            return np.zeros(0, dtype=np.int64)
        if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
            raise DataError("indices must be whole numbers in one line.")
        if given.min() < 0 or given.max() >= len(self):
            raise DataError(f"there are images 0 to {len(self) - 1}, and not {given.min()} to {given.max()}.")
        return given.astype(np.int64)

    # -------------------------------------------------------------------------------------------------- saving
    def save(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> None:
        """Write the set to a NumPy archive (``.npz``), or to a new folder of PNG files with ``images.csv``.

        It appears when it is whole. `from_npz` and `from_folder` read it.

        Raises
        ------
        DataError
            If it cannot be written there.
        """
        from fairsynth.data.images.writers import writer_for
        from fairsynth.progress import Step

        with writer_for(path, len(self), self.shape, self.meta()) as writer:
            for chosen, images in self.batches(BATCH):
                writer.write(images, self.labels[chosen], self.groups[chosen])
                if progress is not None:
                    progress(Step("save", writer.written, len(self)))

    def meta(self) -> Mapping[str, Any]:
        """Return the names: ``classes``, ``levels``, ``label``, ``sensitive``, ``favorable``."""
        return {
            name: getattr(self, name) for name in ("classes", "levels", "label", "sensitive", "favorable")
        }


def _coded(
    values: npt.ArrayLike, names: Sequence[Any] | None, what: str, n: int
) -> tuple[Codes, tuple[str, ...]]:
    """Turn whole numbers or text into codes and names."""
    array = np.asarray(values)
    if array.shape != (n,):
        raise DataError(f"{what!r} is of shape {array.shape}, and there are {n:,} images: ({n},) is needed.")
    if n == 0:
        raise DataError("there is no image.")
    if array.dtype.kind == "O" and all(isinstance(entry, str) for entry in array):
        array = array.astype(str)
    if array.dtype.kind not in "uibU":
        raise DataError(f"{what!r} holds {array.dtype}, and whole numbers or text without gaps are needed.")
    known = None if names is None else tuple(map(str, names))
    if known is not None and (len(set(known)) != len(known) or not 1 <= len(known) <= MAX_LEVELS):
        raise DataError(f"{what!r}: the names must be 1 to {MAX_LEVELS} different ones.")
    if known is not None and array.dtype.kind != "U":
        if array.min() < 0 or array.max() >= len(known):
            raise DataError(
                f"{what!r}: codes run from {array.min()} to {array.max()}, and there are {len(known)} names."
            )
        return array.astype(np.int64), known
    found, codes = np.unique(array, return_inverse=True)
    if known is None:
        if len(found) > MAX_LEVELS:
            raise DataError(
                f"{what!r} has {len(found):,} different values; at most {MAX_LEVELS:,} are allowed."
            )
        return codes.reshape(-1).astype(np.int64), tuple(map(str, found))
    unknown = [str(value) for value in found if str(value) not in known]
    if unknown:
        raise DataError(f"{what!r}: {unknown[0]!r} is none of {', '.join(known)}.")
    places = np.array([known.index(str(value)) for value in found], dtype=np.int64)
    return places[codes.reshape(-1)], known
