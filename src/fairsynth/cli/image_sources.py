"""Where images come from on the command line: the options that say it, and the reading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairsynth.cli.app import note
from fairsynth.errors import DataError, SettingsError

if TYPE_CHECKING:
    from fairsynth.data.images import ImageSet
    from fairsynth.progress import Progress

ImagesArgument = Annotated[
    str, typer.Argument(metavar="IMAGES", help="A .npz or .csv file, a folder, or a named set.")
]
LabelOption = Annotated[
    str | None, typer.Option("--label", metavar="NAME", help="Column or array of the label to be predicted.")
]
GroupOption = Annotated[
    str | None,
    typer.Option("--sensitive", metavar="NAME", help="Column or array of the sensitive attribute."),
]
FavorableOption = Annotated[
    list[str] | None, typer.Option("--favorable", metavar="CLASS", help="Class that is good to be given.")
]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Where the files of a .csv lie. [default: beside it]"),
]
FileOption = Annotated[
    str, typer.Option("--file", metavar="COL", help="Column of a .csv that names the picture's file.")
]
SizeOption = Annotated[
    str | None,
    typer.Option("--size", metavar="HxW", help="Bring all pictures to this size, such as 64x64."),
]
ModeOption = Annotated[
    str | None, typer.Option("--mode", metavar="MODE", help="Turn all pictures into L (gray), RGB or RGBA.")
]
SkipOption = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out files that cannot be used, count and list them."),
]
IdxLabelsOption = Annotated[
    Path | None,
    typer.Option("--idx-labels", metavar="FILE", help="idx file of labels, for an idx file of images."),
]
IdxGroupsOption = Annotated[
    Path | None,
    typer.Option("--idx-groups", metavar="FILE", help="idx file of groups, for an idx file of images."),
]


def open_images(
    source: str,
    *,
    label: str | None = None,
    sensitive: str | None = None,
    favorable: list[str] | None = None,
    folder: Path | None = None,
    file: str = "file",
    size: str | None = None,
    mode: str | None = None,
    skip_bad: bool = False,
    idx_labels: Path | None = None,
    idx_groups: Path | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Read a set of images from whatever `source` is.

    Parameters
    ----------
    source : str
        ``.npz`` file, ``.csv`` table of picture files, folder that `ImageSet.save` wrote, idx file, or named set with
        its split (``colored-digits:reversed``).
    label, sensitive, favorable, folder, file, size, mode, skip_bad, idx_labels, idx_groups
        As the options of the same names.
    progress : callable, optional
        Told of files looked at.

    Returns
    -------
    ImageSet

    Raises
    ------
    DataError
        If the images cannot be used; the message names the file.
    SettingsError
        If an option that is needed is missing, or one does not fit the source.
    """
    from fairsynth.data.images import ImageSet, load_images

    path = Path(source)
    picture: dict[str, Any] = {
        "file": file, "size": _size(size), "mode": mode, "skip_bad": skip_bad, "progress": progress
    }  # fmt: skip
    roles: dict[str, Any] = {"favorable": tuple(favorable)} if favorable else {}
    if path.suffix.lower() == ".csv":
        if not (label and sensitive):
            raise SettingsError(f"{source}: which columns are meant? Give --label and --sensitive.")
        images = ImageSet.from_folder(
            folder or path.parent, path, label=label, sensitive=sensitive, **roles, **picture
        )
    elif path.suffix.lower() == ".npz":
        images = _archive(path, label, sensitive, roles)
    elif idx_labels or idx_groups:
        if not (idx_labels and idx_groups):
            raise SettingsError(f"{source}: an idx file of images needs both --idx-labels and --idx-groups.")
        names: dict[str, Any] = {"label": label or "label", "sensitive": sensitive or "group"}
        images = ImageSet.from_idx(path, idx_labels, groups=idx_groups, **names, **roles)
    elif path.is_dir():
        if not (path / "images.csv").is_file():
            raise DataError(
                f"{source}: there is no images.csv in this folder, which would say what the pictures show. Give the "
                f"table itself: {path / 'TABLE.csv'} --label COL --sensitive COL."
            )
        given: dict[str, Any] = {k: v for k, v in (("label", label), ("sensitive", sensitive)) if v}
        images = load_images(path, **given, **roles, **picture)
    else:
        name, _, split = source.partition(":")
        settings: dict[str, Any] = {k: v for k, v in (("label", label), ("sensitive", sensitive)) if v}
        if name in ("celeba", "fairface"):
            settings |= {"skip_bad": skip_bad, **roles} | ({"size": picture["size"]} if size else {})
        elif path.suffix or "/" in source:
            raise DataError(f"{source}: there is no such file or folder.")
        elif roles:
            raise SettingsError(f"{name}: no class is better than another; leave out --favorable.")
        elif settings:
            own = load_images(name, split=split or "train")
            if own.label != settings.get("label", own.label) or own.sensitive != settings.get(
                "sensitive", own.sensitive
            ):
                raise SettingsError(
                    f"{name}: its label is {own.label!r} and its sensitive attribute {own.sensitive!r}."
                )
            settings = {}
        images = load_images(name, split=split or "train", folder=folder, progress=progress, **settings)
    tell_skipped(source, images)
    return images


def _archive(path: Path, label: str | None, sensitive: str | None, roles: Mapping[str, Any]) -> ImageSet:
    """Read a .npz whose arrays, or whose own names for them, are those that were asked for."""
    from fairsynth.data.images import ImageSet

    if label is None and sensitive is None:
        return ImageSet.from_npz(path, **roles)
    try:
        images = ImageSet.from_npz(path, **roles)
        if label in (None, images.label) and sensitive in (None, images.sensitive):
            return images
    except DataError:
        pass  # the arrays have names of the user's own
    return ImageSet.from_npz(path, labels=label or "labels", sensitive=sensitive or "groups", **roles)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdigit() and width.isdigit()):
        raise SettingsError(f"--size {text}: write height and width as 64x64.")
    return int(height), int(width)


def tell_skipped(source: str, images: ImageSet, most: int = 20) -> None:
    """List the files that were left out of a set, with the reason of each."""
    skipped = images.skipped
    if not skipped:
        return
    note(f"{source}: {len(skipped):,} files were left out, {len(images):,} remain.", always=True)
    for name, why in skipped[:most]:
        note(f"  {name}: {why}", always=True)
    if len(skipped) > most:
        note(f"  … and {len(skipped) - most:,} more.", always=True)
