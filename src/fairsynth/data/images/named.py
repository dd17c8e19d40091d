"""Named sets of images: digits in colours, and faces of publishers whose files the user has.

The colours follow the convention of Colored MNIST (Kim et al., "Learning Not to Learn", CVPR 2019; Nam et al.,
"Learning from Failure", NeurIPS 2020; used by FLDGM, ECAI 2023): each class has a colour of its own, and in training a
digit has the colour of its class with a given probability. There the shade is drawn from a Gaussian around each
colour; here there are ten plain colours, another of which is drawn uniformly otherwise, so that one number says how
closely colour and digit go together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fairsynth.data.catalog.places import FOLDER_VARIABLE, folder_of
from fairsynth.data.images.folder import read_folder, read_table
from fairsynth.data.images.idx import read_idx
from fairsynth.data.images.image_set import ImageSet
from fairsynth.data.images.pixels import ArraySource, Source, TintedSource
from fairsynth.errors import DataError, SettingsError
from fairsynth.progress import Progress

#: Name and shade of each colour; the first so many are used.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (230, 40, 40),
    "orange": (255, 150, 20),
    "yellow": (240, 235, 60),
    "lime": (140, 220, 40),
    "green": (20, 150, 70),
    "cyan": (60, 220, 225),
    "blue": (50, 90, 240),
    "violet": (150, 60, 220),
    "pink": (250, 110, 200),
    "white": (235, 235, 235),
}
SPLITS = ("train", "test", "decorrelated", "reversed")
#: Share of scikit-learn's digits that are kept for testing.
TEST_SHARE = 0.3


def load_images(
    name: str | os.PathLike[str],
    *,
    split: str = "train",
    correlation: float = 0.95,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **settings: Any,
) -> ImageSet:
    """Load a named set of images, or one that `ImageSet.save` wrote.

    Parameters
    ----------
    name : str or path
        ``"colored-digits"``: scikit-learn's bundled 8×8 handwritten digits, tinted; no download.
        ``"colored-mnist"``: MNIST's idx files, tinted; they lie in the folder ``mnist`` of `folder`.
        ``"celeba"``, ``"fairface"``: the publishers' files, in a folder that the user has (`celeba`, `fairface`).
        A ``.npz`` file, or a folder with ``images.csv``.
    split : {"train", "test", "decorrelated", "reversed"}
        Of the digits: ``"train"``; ``"test"``: the published test digits in colours by the same law;
        ``"decorrelated"``: the same test digits in colours drawn uniformly; ``"reversed"``: the same test digits, where
        a digit has, with probability `correlation`, the colour of *another* class, half the classes further on, else
        one of the others uniformly. (In the papers the colour of the test digits is drawn uniformly, which is
        ``"decorrelated"`` here; reversing it is the harder question.) Of faces: ``"train"``, ``"valid"`` and
        ``"test"``, as far as published.
    correlation : float, default=0.95
        Probability that a digit has its colour, from 0 to 1.
    folder : path, optional
        Where files lie; by default what ``FAIRSYNTH_DATA`` says.
    seed : int, default=0
        Of the colours, and of the split of scikit-learn's digits.
    progress : callable, optional
        Told of picture files looked at.
    **settings
        Of `celeba`, `fairface`, `ImageSet.from_npz` or `ImageSet.from_folder`.

    Returns
    -------
    ImageSet

    Raises
    ------
    DataError
        If there is no such set, or its files are not here (saying which, and where to put them).
    SettingsError
        If the split or the correlation is out of its range.
    """
    named: dict[str, Callable[[], ImageSet]] = {
        "colored-digits": lambda: _colored(*_digits(split, seed), split, correlation, seed),
        "colored-mnist": lambda: _colored(*_mnist(split, folder), split, correlation, seed),
        "celeba": lambda: celeba(folder, split=split, progress=progress, **settings),
        "fairface": lambda: fairface(folder, split=split, progress=progress, **settings),
    }
    text = os.fspath(name)
    if text in named:
        if text.startswith("colored-") and settings:
            raise SettingsError(f"{text} takes no {next(iter(settings))}=....")
        return named[text]()
    place = Path(text)
    if place.suffix.lower() == ".npz":
        return ImageSet.from_npz(place, **settings)
    if (place / "images.csv").is_file():
        table = read_table(place / "images.csv")
        others = [column for column in table.columns if column != settings.get("file", "file")]
        given = {"label": others[0], "sensitive": others[1]} if len(others) > 1 else {}
        roles = {**given, **settings}
        if not {"label", "sensitive"} <= set(roles):
            raise DataError(
                f"{place / 'images.csv'}: it has {', '.join(table.columns)}; a label and a sensitive attribute are "
                "needed beside the file."
            )
        return read_folder(place, place / "images.csv", progress=progress, **roles)
    raise DataError(
        f"there is no set of images {text!r}; known are {', '.join(named)}, a .npz file, and a folder with images.csv "
        "(for other tables: ImageSet.from_folder)."
    )


def _colored(strokes: Source, digits: np.ndarray, split: str, correlation: float, seed: int) -> ImageSet:
    if not isinstance(correlation, int | float) or not 0 <= correlation <= 1:
        raise SettingsError(f"correlation={correlation!r} must lie between 0 and 1.")
    names = list(COLOURS)
    codes = colour_codes(digits, len(names), split, float(correlation), seed)
    source = TintedSource(strokes, np.array(list(COLOURS.values()), dtype=np.uint8), codes)
    return ImageSet(
        source, digits.astype(np.int64), codes, classes=[str(d) for d in range(10)], levels=names, label="digit",
        sensitive="color",
    )  # fmt: skip


def colour_codes(labels: np.ndarray, n_colours: int, split: str, correlation: float, seed: int) -> np.ndarray:
    """Return a colour for every label, int64 ``(n,)``.

    Parameters
    ----------
    labels : np.ndarray
        int ``(n,)``, from 0 to `n_colours` - 1.
    n_colours : int
        As many as there are classes.
    split : {"train", "test", "decorrelated", "reversed"}
        As of `load_images`.
    correlation : float
        Probability of the favoured colour; the others share the rest.
    seed : int
        Of the draw; each split has chance of its own.
    """
    _check_split(split)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    uniform = rng.integers(n_colours, size=len(labels))
    if split == "decorrelated":
        return uniform.astype(np.int64)
    shift = n_colours // 2 if split == "reversed" else 0
    favoured = (labels.astype(np.int64) + shift) % n_colours
    other = (favoured + 1 + rng.integers(n_colours - 1, size=len(labels))) % n_colours
    return np.where(rng.random(len(labels)) < correlation, favoured, other)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise SettingsError(f"split={split!r} is none of {', '.join(SPLITS)}.")


def _digits(split: str, seed: int) -> tuple[Source, np.ndarray]:
    from sklearn.datasets import load_digits

    _check_split(split)
    bundled = load_digits()
    grey = (bundled.images * (255 / 16)).round().astype(np.uint8)
    digits = bundled.target.astype(np.int64)
    whole = ImageSet.of_arrays(grey, digits, np.zeros(len(digits), dtype=np.int64))
    train, test = whole.split(TEST_SHARE, seed=seed)
    part = train if split == "train" else test
    return ArraySource(part.read(np.arange(len(part)))), part.labels


def _mnist(split: str, folder: str | os.PathLike[str] | None) -> tuple[Source, np.ndarray]:
    _check_split(split)
    place = folder_of(folder)
    if place is None:
        raise DataError(
            f"colored-mnist is made of MNIST's four idx files: set {FOLDER_VARIABLE} (or folder=...) to a folder in "
            "which they lie in a folder 'mnist'."
        )
    part = "train" if split == "train" else "t10k"
    images, labels = (
        _either(place / "mnist", f"{part}-{kind}") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    strokes, digits = ArraySource(read_idx(images, (3,)), str(images)), np.array(read_idx(labels, (1,)))
    if len(strokes) != len(digits):
        raise DataError(f"{images} holds {len(strokes):,} images, and {labels} {len(digits):,} labels.")
    if digits.max() > 9:
        raise DataError(f"{labels}: it holds the label {digits.max()}, and digits run from 0 to 9.")
    return strokes, digits


def _either(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{folder}: there is no file {name} or {name}.gz; get MNIST's four idx files and put them there."
    )


def celeba(
    folder: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    label: str = "Smiling",
    sensitive: str = "Male",
    favorable: Sequence[str] = ("yes",),
    size: tuple[int, int] = (64, 64),
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> ImageSet:
    """Load CelebA from the publisher's files (Liu et al., ICCV 2015; for non-commercial research, by agreement).

    Parameters
    ----------
    folder : path, optional
        Holds ``img_align_celeba/``, ``list_attr_celeba.txt`` and ``list_eval_partition.txt``; by default the folder
        ``celeba`` of ``FAIRSYNTH_DATA``.
    split : {"train", "valid", "test"}
        Of the published partition.
    label, sensitive : str
        Two of the 40 attributes; their levels are ``"no"`` and ``"yes"``.
    favorable : sequence of str
        Levels of the label that are good to be given.
    size : tuple of int
        Height and width.
    skip_bad, progress
        As of `ImageSet.from_folder`. Only headers of files are looked at unless bad ones are to be skipped, which takes
        the time of reading them all.
    """
    base = _publisher(
        "celeba", folder, ("img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt")
    )
    partitions = {"train": "0", "valid": "1", "test": "2"}
    if split not in partitions:
        raise SettingsError(f"split={split!r} is none of {', '.join(partitions)}.")
    lines = _lines(base / "list_attr_celeba.txt")
    header = lines[1].split() if len(lines) > 1 else []
    for name in (label, sensitive):
        if name not in header:
            raise DataError(
                f"{base / 'list_attr_celeba.txt'}: there is no attribute {name!r}; it has {', '.join(header)}."
            )
    words = [line.split() for line in lines[2:]]
    parts = [line.split() for line in _lines(base / "list_eval_partition.txt") if line.strip()]
    if any(len(w) != 2 for w in parts):
        raise DataError(
            f"{base / 'list_eval_partition.txt'}: a line has not a file and its part; the file is damaged."
        )
    part = {name: number for name, number in parts}
    if any(len(w) != len(header) + 1 for w in words):
        raise DataError(
            f"{base / 'list_attr_celeba.txt'}: a line has not {len(header)} attributes; the file is damaged."
        )
    own = [w for w in words if part.get(w[0]) == partitions[split]]
    places = {name: header.index(name) + 1 for name in (label, sensitive)}
    table = pl.DataFrame(
        {"file": [w[0] for w in own]}
        | {name: ["yes" if w[at] == "1" else "no" for w in own] for name, at in places.items()},
        schema=dict.fromkeys(("file", label, sensitive), pl.String),
    )
    return read_folder(
        base / "img_align_celeba", table, label=label, sensitive=sensitive, size=size, mode="RGB",
        classes=("no", "yes"), levels=("no", "yes"), favorable=favorable, skip_bad=skip_bad,
        look="pixels" if skip_bad else "headers", progress=progress,
    )  # fmt: skip


def fairface(
    folder: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    label: str = "gender",
    sensitive: str = "race",
    favorable: Sequence[str] = (),
    size: tuple[int, int] = (64, 64),
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> ImageSet:
    """Load FairFace from the publisher's files (Kärkkäinen and Joo, WACV 2021; CC BY 4.0).

    Parameters
    ----------
    folder : path, optional
        Holds ``fairface_label_train.csv``, ``fairface_label_val.csv`` and the folders ``train`` and ``val``; by default
        the folder ``fairface`` of ``FAIRSYNTH_DATA``.
    split : {"train", "valid"}
        As published.
    label, sensitive : str
        Two of ``age``, ``gender`` and ``race``.
    favorable : sequence of str
        Levels of the label that are good to be given.
    size : tuple of int
        Height and width.
    skip_bad, progress
        As of `ImageSet.from_folder`. Only headers of files are looked at unless bad ones are to be skipped, which takes
        the time of reading them all.
    """
    files = {"train": "fairface_label_train.csv", "valid": "fairface_label_val.csv"}
    if split not in files:
        raise SettingsError(f"split={split!r} is none of {', '.join(files)}: no more is published.")
    base = _publisher("fairface", folder, (files[split],))
    return read_folder(
        base, base / files[split], label=label, sensitive=sensitive, favorable=favorable, size=size, mode="RGB",
        skip_bad=skip_bad, look="pixels" if skip_bad else "headers", progress=progress,
    )  # fmt: skip


def _publisher(name: str, folder: str | os.PathLike[str] | None, needed: tuple[str, ...]) -> Path:
    given = folder_of(None) if folder is None else None
    base = Path(folder) if folder is not None else (given / name if given else None)
    if base is None:
        raise DataError(f"{name}: give folder=..., where {', '.join(needed)} of the publisher lie.")
    lacking = [entry for entry in needed if not (base / entry).exists()]
    if lacking:
        raise DataError(
            f"{base}: there is no {lacking[0]}; get {name} from its publisher and put {', '.join(needed)} there."
        )
    return base


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the file cannot be read ({error}).") from error
