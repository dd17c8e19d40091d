"""Which pictures stand on the page of an image evaluation: contact sheets as PNG inside of the page, and bars."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairsynth.report.findings import Findings, source_label
from fairsynth.report.images_verdict import likest

if TYPE_CHECKING:
    from fairsynth.data.images import ImageSet

Pixels = NDArray[np.uint8]
#: Images in a row; on a telephone they are about a centimeter wide.
ACROSS = 10
#: Most rows of a sheet.
DOWN = 10
#: Larger images are averaged down to this many pixels a side: a page is not an archive.
LARGEST = 128
EXAMPLES = 8
#: Orange speaks for the class, blue against it: Okabe and Ito's palette.
FOR, AGAINST = (217, 101, 11), (31, 90, 158)


@dataclass(frozen=True)
class Strip:
    """One row of images: its name, the PNG as an address that holds it, and lines of words, one for each image."""

    name: str
    uri: str
    count: int
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Sheet:
    """Rows of images under a title, with what to see in them, and what was measured of them."""

    title: str
    caption: str
    strips: tuple[Strip, ...]
    real: bool = False
    wide: bool = False
    numbers: tuple[tuple[str, str], ...] = ()

    @property
    def side_names(self) -> bool:
        """Whether names are short enough to stand at the side."""
        return max(len(s.name) for s in self.strips) <= 10 and not any(s.words for s in self.strips)


@dataclass(frozen=True)
class Bar:
    """One bar: what, how long (share of the full width), and its number as written."""

    name: str
    share: float
    text: str
    kind: str


@dataclass(frozen=True)
class Bars:
    """Groups of bars with a title."""

    title: str
    caption: str
    groups: tuple[tuple[str, tuple[Bar, ...]], ...]


@dataclass
class Shown:
    """What the pictures are made from, when it is at hand.

    Attributes
    ----------
    artifacts : mapping
        As `Evaluation.artifacts` of an image evaluation holds it; empty after reading JSON.
    real_images : bool
        Whether real images may be shown.
    seed : int
        Which images are picked.
    """

    artifacts: Mapping[str, Any] = field(default_factory=dict)
    real_images: bool = True
    seed: int = 0

    @property
    def synthetic(self) -> Mapping[str, ImageSet]:
        """Synthetic sets by source."""
        return dict(self.artifacts.get("synthetic") or {})


# ---------------------------------------------------------------------- PNG
def png(pixels: Pixels) -> bytes:
    """Encode one image, uint8 (h, w, 1, 3 or 4), as PNG."""
    height, width, channels = pixels.shape
    kind = {1: 0, 3: 2, 4: 6}[channels]
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines, 9))
        + chunk(b"IEND", b"")
    )


def as_rgba(images: Pixels) -> Pixels:
    """Return images uint8 (n, h, w, 4), at most `LARGEST` pixels a side."""
    n, height, width, channels = images.shape
    step = -(-max(height, width) // LARGEST)
    if step > 1:
        cut = images[:, : height // step * step, : width // step * step].astype(np.float32)
        shape = (n, height // step, step, width // step, step, channels)
        images = np.rint(cut.reshape(shape).mean(axis=(2, 4))).astype(np.uint8)
    if channels == 4:
        return images
    rgb = np.repeat(images, 3, axis=3) if channels == 1 else images
    return np.concatenate([rgb, np.full((*rgb.shape[:3], 1), 255, np.uint8)], axis=3)


def strip(name: str, images: Pixels, across: int, words: Sequence[tuple[str, Sequence[str]]] = ()) -> Strip:
    """Lay images side by side with clear gaps, `across` places wide."""
    rgba = as_rgba(images[:across])
    height, width = rgba.shape[1:3]
    gap = max(1, width // 12)
    sheet = np.zeros((height, across * (width + gap) - gap, 4), np.uint8)
    for i, image in enumerate(rgba):
        sheet[:, i * (width + gap) : i * (width + gap) + width] = image
    uri = "data:image/png;base64," + base64.b64encode(png(sheet)).decode()
    return Strip(name, uri, across, tuple((who, tuple(map(str, said))) for who, said in words))


# ---------------------------------------------------------------------- sheets
def grids(shown: Shown, found: Findings) -> list[Sheet]:
    """Show real and synthetic images of every class (or of every combination, where they are few)."""
    train = shown.artifacts.get("train")
    if train is None:
        return []
    sheets = []
    if shown.real_images:
        sheets.append(
            _grid(
                train, "Real training images", "What the generator learned from.", shown.seed, _of_set(found, "real"),
                real=True,
            )
        )  # fmt: skip
    for source, images in shown.synthetic.items():
        title = "Synthetic images" if source == "synthetic" else f"Synthetic images: {source_label(source)}"
        sheets.append(
            _grid(images, title, "Drawn at random, not picked.", shown.seed, _of_set(found, source))
        )
    return sheets


def _of_set(found: Findings, source: str) -> tuple[tuple[str, str], ...]:
    """Say in numbers what a grid of a set shows: does the group go with the label, who learns what, how real is it."""
    attribute = found.main_attribute
    numbers = []
    together = found.value("label_dependence_seen", source, attribute=attribute)
    if together is not None:
        label = str(found.meta.get("target") or "label")
        numbers.append((f"{label} and {attribute} go together, as seen", f"{together:.2f}"))
    right = [
        (str(column or "test"), found.value("accuracy", source, column=column))
        for column in dict.fromkeys(s.column for s in found.select("accuracy", group=None))
    ]
    for name, value in right:
        if value is not None:
            numbers.append((f"right on {name}, trained on these", f"{value:.1%}"))
    like = likest(found, source) if source != "real" else None
    for metric, name in (("density", "density"), ("coverage", "coverage"), ("fid", "FID")):
        value = found.value(metric, source, column=like)
        of_real = found.value(metric, "holdout", column=like)
        if value is not None and of_real is not None:
            numbers.append((name, f"{value:.2f}, of real images {of_real:.2f}"))
    return tuple(numbers)


def _grid(
    images: ImageSet,
    title: str,
    caption: str,
    seed: int,
    numbers: tuple[tuple[str, str], ...],
    *,
    real: bool = False,
) -> Sheet:
    rng = np.random.default_rng(seed)
    few = len(images.classes) * len(images.levels) <= 8
    strips = []
    for c, name in enumerate(images.classes[:DOWN]):
        for g in range(len(images.levels)) if few else [None]:
            of = (images.labels == c) if g is None else (images.labels == c) & (images.groups == g)
            rows = rng.permutation(np.flatnonzero(of))[:ACROSS]
            if len(rows):
                called = name if g is None else f"{name}, {images.levels[g]}"
                strips.append(strip(called, images.read(rows), ACROSS))
    rest = f" The first {DOWN} of {len(images.classes)} classes." if len(images.classes) > DOWN else ""
    return Sheet(
        title, f"One row for each {images.label}. {caption}{rest}", tuple(strips), real, numbers=numbers
    )


def latents(shown: Shown, found: Findings) -> list[Sheet]:
    """Show the same latents drawn for every group, and the way from one latent to another."""
    sensitive = str(found.main_attribute or "group")
    sheets = []
    train = shown.artifacts.get("train")
    for source, pictures in (shown.artifacts.get("pictures") or {}).items():
        of = "" if source == "synthetic" else f": {source_label(source)}"
        switched = pictures.get("switched")
        if switched is not None and np.ndim(switched) == 5:
            names = train.levels if train is not None and len(train.levels) >= len(switched) else ()
            strips = tuple(
                strip(names[i] if names else str(i + 1), np.asarray(row), ACROSS)
                for i, row in enumerate(switched[:DOWN])
            )
            caption = (
                f"Each column is one latent; each row draws it for another {sensitive}. Only what belongs to the "
                f"{sensitive} should change down a column."
            )
            told = _of_switching(found, source)
            sheets.append(Sheet(f"Same latent, {sensitive} switched{of}", caption, strips, numbers=told))
        between = pictures.get("interpolated")
        if between is not None and np.ndim(between) == 5:
            across = min(np.shape(between)[1], ACROSS)
            strips = tuple(strip("", np.asarray(row), across) for row in between[:DOWN])
            caption = (
                "From the latent on the left to the one on the right in equal steps. Every step should be an "
                "image."
            )
            told = _of_the_way(np.asarray(between), shown)
            sheets.append(Sheet(f"Between two latents{of}", caption, strips, numbers=told))
    return sheets


def _of_switching(found: Findings, source: str) -> tuple[tuple[str, str], ...]:
    """Say how often switching the group changes what classifiers decide."""
    numbers = []
    for by in (source, "real"):
        for score in found.select("switched_flip_rate", source=by):
            if score.column in (source, source.removeprefix("synthetic:")) and score.value is not None:
                who = "trained on these images" if by == source else "trained on real images"
                numbers.append((f"a classifier {who} changes its mind", f"{score.value:.1%} of latents"))
    return tuple(numbers)


def _of_the_way(between: Pixels, shown: Shown) -> tuple[tuple[str, str], ...]:
    """Say what the reader sees between two latents: one of the two ends, or something else."""
    reader = shown.artifacts.get("reader")
    if reader is None or between.shape[1] < 3:
        return ()
    from fairsynth.evaluation.image_models import probabilities

    rows, steps = between.shape[:2]
    seen = probabilities(reader, between.reshape(rows * steps, *between.shape[2:])).reshape(rows, steps, -1)
    label = seen.argmax(axis=2)
    inner = label[:, 1:-1]
    ends = (inner == label[:, :1]) | (inner == label[:, -1:])
    return (
        ("steps on the way that show what one of the two ends shows", f"{ends.mean():.0%}"),
        ("how sure the network is of a step, on average", f"{seen[:, 1:-1].max(axis=2).mean():.0%}"),
    )


def worst(shown: Shown) -> list[Sheet]:
    """Show the synthetic images that are furthest from every real one, in the network's features."""
    sheets = []
    reader = shown.artifacts.get("reader")
    for source, (rows, distance) in (shown.artifacts.get("worst") or {}).items():
        images = shown.synthetic[source]
        chosen = rows[: 2 * ACROSS]
        words = [("said to be", [images.classes[c] for c in images.labels[chosen]])]
        if reader is not None:
            from fairsynth.evaluation.image_models import probabilities

            seen = probabilities(reader, images.read(chosen)).argmax(axis=1)
            words.append(("seen as", [images.classes[c] for c in seen]))
        words.append(("distance", [f"{d:.2f}" for d in distance[: len(chosen)]]))
        strips = []
        for start in range(0, len(chosen), ACROSS):
            part = chosen[start : start + ACROSS]
            said = [(who, lines[start : start + ACROSS]) for who, lines in words]
            strips.append(strip("", images.read(part), ACROSS, said))
        of = "" if source == "synthetic" else f": {source_label(source)}"
        caption = (
            f"The {len(chosen)} images furthest from every real one, of the sample that distances were measured on "
            f"(distance {distance[0]:.2f} to {distance[len(chosen) - 1]:.2f} in the network's features)."
        )
        sheets.append(Sheet(f"The worst images{of}", caption, tuple(strips)))
    return sheets


def nearest(shown: Shown) -> list[Sheet]:
    """Show the synthetic images that are nearest to training images, with those."""
    train = shown.artifacts.get("train")
    sheets = []
    for source, (rows, places, distance, usual) in (shown.artifacts.get("nearest") or {}).items():
        images = shown.synthetic[source]
        words = [("distance", [f"{d:.2f}" for d in distance[:ACROSS]])]
        strips = [strip("Synthetic", images.read(rows[:ACROSS]), ACROSS, words)]
        if shown.real_images and train is not None:
            strips.append(strip("Nearest training image", train.read(places[:ACROSS]), ACROSS))
        of = "" if source == "synthetic" else f": {source_label(source)}"
        caption = (
            "The synthetic images that come nearest to a training image, pixel by pixel; "
            f"a real hold-out image is typically {usual:.2f} away from its nearest one."
        )
        sheets.append(Sheet(f"Nearest to training images{of}", caption, tuple(strips), shown.real_images))
    return sheets


def exchanged(shown: Shown) -> list[Sheet]:
    """Show images, the same in another color, and another shape in the same color, with what classifiers decide."""
    found = shown.artifacts.get("exchanged") or {}
    test, models = shown.artifacts.get("test"), shown.artifacts.get("models") or {}
    if not found or test is None or not shown.real_images or test.shape[2] == 1:
        return []
    from fairsynth.evaluation.image_models import probabilities
    from fairsynth.metrics.image_features import exchange_colours

    index, donors, first = found.get("real") or next(iter(found.values()))
    # Those first where color changes the mind of the classifier that learned from real images: they tell most.
    order = np.argsort(~first.colour_flips, kind="stable")[:EXAMPLES]
    images, given = test.read(index[order]), test.read(donors[order])
    strips = []
    before: dict[str, Any] = {}
    for name, pixels in (
        ("As it is", images),
        ("In another color", exchange_colours(images, given)),
        ("Another shape in its color", exchange_colours(given, images)),
    ):
        words: list[tuple[str, list[str]]] = []
        for source, network in models.items():
            decided = probabilities(network, pixels).argmax(axis=1)
            same = decided == before.setdefault(source, decided)
            said = [
                test.classes[c] if kept else f"≠ {test.classes[c]}"
                for c, kept in zip(decided, same, strict=True)
            ]
            words.append((_who(source), said))
        strips.append(strip(name, pixels, EXAMPLES, words))
    caption = (
        "Real test images, what each classifier takes them for, and what it takes them for when color alone, "
        "or shape alone, "
        "is exchanged with an image of another class and group (≠: it changes its mind). Images come first "
        "where color changes the mind of the "
        "classifier trained on real images."
    )
    return [Sheet("Color or shape?", caption, tuple(strips), True, wide=True)]


def attributions(shown: Shown) -> list[Sheet]:
    """Show where each classifier looks, on images that may be shown."""
    models = shown.artifacts.get("models") or {}
    images = shown.artifacts.get("test") if shown.real_images else next(iter(shown.synthetic.values()), None)
    if not models or images is None:
        return []
    import torch

    from fairsynth.evaluation.attribution import gradient_x_input, occlusion
    from fairsynth.evaluation.image_models import as_tensor

    rng = np.random.default_rng(shown.seed)
    order = rng.permutation(len(images))
    # One of each class, as far as there are so many.
    _, firsts = np.unique(images.labels[order], return_index=True)
    rows = order[np.sort(firsts)[:EXAMPLES]]
    rows = np.concatenate([rows, np.setdiff1d(order[: 4 * EXAMPLES], rows)])[:EXAMPLES]
    pixels = images.read(rows)
    inputs = as_tensor(pixels)
    strips = [strip("Image", pixels, EXAMPLES)]
    patch = max(1, min(images.shape[:2]) // 8)
    for source, network in models.items():

        def logits(x: torch.Tensor, network: Any = network) -> torch.Tensor:
            return network(x)["label"]

        decided = logits(inputs).argmax(dim=1)
        said = [images.classes[int(c)] for c in decided]
        by_gradient = gradient_x_input(logits, inputs, decided).numpy()
        by_patch = occlusion(logits, inputs, decided, size=patch).numpy()
        strips.append(strip(f"{_who(source)}: gradient × input", _painted(by_gradient), EXAMPLES))
        strips.append(strip(f"{_who(source)}: occlusion", _painted(by_patch), EXAMPLES, [("decides", said)]))
    caption = (
        "Orange speaks for the class that the classifier decides for, blue against it, the stronger the "
        "more. Maps show where "
        "a network looks. Where color and shape lie in the same pixels they cannot tell which of the two it "
        "looks at: that is "
        "what exchanging them is for."
    )
    return [Sheet("Where classifiers look", caption, tuple(strips), shown.real_images, wide=True)]


def _painted(maps: NDArray[Any]) -> Pixels:
    """Paint maps (n, h, w): the color says the sign, the opacity the strength beside the image's strongest pixel."""
    top = np.abs(maps).reshape(len(maps), -1).max(axis=1)
    share = np.divide(maps, top[:, None, None], out=np.zeros_like(maps), where=top[:, None, None] > 0)
    out = np.empty((*maps.shape, 4), np.uint8)
    out[..., :3] = np.where(share[..., None] > 0, FOR, AGAINST)
    out[..., 3] = np.rint(255 * np.abs(share))
    return out


def _who(source: str) -> str:
    if source == "real":
        return "Trained on real"
    return "Trained on synthetic" if source == "synthetic" else f"Trained on {source_label(source)}"


# ---------------------------------------------------------------------- bars
def accuracy_bars(found: Findings) -> list[Bars]:
    """Show how often each classifier is right on each real set."""
    groups = []
    for column in dict.fromkeys(s.column for s in found.select("accuracy", group=None)):
        bars = []
        for source in [*found.synthetic_sources, "real", "constant"]:
            value = found.value("accuracy", source, column=column)
            if value is not None:
                name = {"constant": "Constant predictor"}.get(source) or _who(source)
                kind = "own" if source in found.synthetic_sources else source
                bars.append(Bar(name, value, f"{value:.1%}", kind))
        if bars:
            groups.append((f"On {column or 'test'}", tuple(bars)))
    if not groups:
        return []
    caption = (
        "Share of real images whose class is decided rightly. A classifier that learned shapes is as good on "
        "every set; one "
        "that learned a shortcut falls where the shortcut leads elsewhere."
    )
    return [Bars("Right on real images", caption, tuple(groups))]
