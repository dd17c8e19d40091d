"""The page of an image evaluation: one HTML file that holds everything and asks the network for nothing."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.evaluation.result import Score
from fairsynth.files import write_text
from fairsynth.report import images_pictures as pictures
from fairsynth.report.findings import Findings, source_label
from fairsynth.report.glossary import Entry, entries, lookup, order
from fairsynth.report.html import _policy, _resource, _runs
from fairsynth.report.images_pictures import Bars, Sheet, Shown
from fairsynth.report.images_verdict import BANDS, OTHER_RULES, image_verdict, likest, set_name
from fairsynth.report.page import NumberTable, headline, tabulate
from fairsynth.report.provenance import CRITERIA, Fact, repeat
from fairsynth.report.verdict import Answer, Verdict

if TYPE_CHECKING:
    from fairsynth.evaluation.result import Evaluation

LIMITS = (
    "Fairness is measured against the labels that were given. If those were unjust, a classifier that "
    "predicts them well is "
    "unjust, too.",
    "Color is exchanged by its cast and brightness. Where the sensitive attribute shows in more than that, "
    "the share of "
    "decisions changed by color says less than all.",
    "Only the named sensitive attribute was looked at, only images like those in the test sets, and only "
    "small convolutional "
    "classifiers.",
    "Distances depend on the features they are measured in; numbers of other pages or papers are not comparable.",
    "Whether images may be released is also a matter of law and of purpose, which no number settles.",
)
SHOWS_REAL = (
    "This page shows real images, so that synthetic ones can be compared with them. Write it without them "
    "before it goes where "
    "they must not: evaluation.to_html(path, real_images=False), or --no-real-images on the command line."
)


@dataclass
class ImageBlock:
    """A part of a section: words, sheets, bars and tables; folded away when `folded`."""

    title: str = ""
    text: str = ""
    sheets: list[Sheet] = field(default_factory=list)
    bars: list[Bars] = field(default_factory=list)
    tables: list[NumberTable] = field(default_factory=list)
    folded: bool = False

    def __bool__(self) -> bool:
        """Say whether there is anything to show."""
        return bool(self.sheets or self.bars or self.tables)


@dataclass
class ImageSection:
    """A section of the page, with the answers to its question."""

    id: str
    title: str
    text: str
    blocks: list[ImageBlock] = field(default_factory=list)
    answers: list[tuple[str, Answer]] = field(default_factory=list)


def write_images_html(
    evaluation: Evaluation,
    path: str | os.PathLike[str],
    *,
    real_images: bool = True,
    title: str | None = None,
    seed: int = 0,
) -> Path:
    """Write the report of an image evaluation as one HTML file.

    Parameters
    ----------
    evaluation : Evaluation
        What `evaluate_images` gave; after reading it from JSON the page has the numbers and no images.
    path : str or path-like
        Where the page is to be; it appears whole or not at all.
    real_images : bool, default=True
        Whether real images may stand on it.
    title : str, optional
        Heading of the page; ``meta["title"]`` by default.
    seed : int, default=0
        Which images are picked.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    write_text(path, render_images_html(evaluation, real_images=real_images, title=title, seed=seed))
    return Path(path)


def render_images_html(
    evaluation: Evaluation, *, real_images: bool = True, title: str | None = None, seed: int = 0
) -> str:
    """Return the page that `write_images_html` writes, as text."""
    import jinja2

    found = Findings(evaluation)
    shown = Shown(evaluation.artifacts, real_images, seed)
    judged = image_verdict(found)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groupby_run"] = _runs
    script = _resource("report.js")
    glance = _glance(found)
    gallery = [
        ImageBlock(sheets=s) for s in (pictures.grids(shown, found), pictures.latents(shown, found)) if s
    ]
    sections = _sections(found, judged, shown)
    real = any(s.real for part in (*gallery, *(b for s in sections for b in s.blocks)) for s in part.sheets)
    return environment.get_template("images.html.j2").render(
        title=title
        or str(found.meta.get("title") or "Are these synthetic images fair, useful, faithful, private?"),
        verdict=judged,
        shows_real=SHOWS_REAL if real else "",
        asked=_asked(found, judged),
        bars=pictures.accuracy_bars(found),
        glance=glance,
        gallery=gallery,
        sections=sections,
        shortfalls=_shortfalls(found, judged),
        repeat=repeat(found),
        bands=BANDS,
        other_rules=OTHER_RULES,
        glossary=[_worded(e) for e in entries() if found.select(e.metric)],
        css=_resource("report.css") + _resource("images.css"),
        script=script,
        policy=_policy(script),
    )


# ---------------------------------------------------------------------- words
def label_of(source: str | None) -> str:
    """Return a source in words a reader of the page knows."""
    if source == "synthetic":
        return "Synthetic images"
    return {"real": "Real train images", "holdout": "Real hold-out images"}.get(str(source)) or source_label(
        source
    )


@cache
def _words() -> dict[str, dict[str, str]]:
    return tomllib.loads(files(__package__).joinpath("images.toml").read_text(encoding="utf-8"))


def _worded(entry: Entry) -> Entry:
    """Say of images what the glossary says of rows."""
    return replace(entry, **_words().get(entry.metric, {}))  # type: ignore[arg-type]


def _reworded(table: NumberTable | None) -> list[NumberTable]:
    if table is None:
        return []
    rows = tuple(replace(r, entry=_worded(r.entry)) if r.entry is not None else r for r in table.rows)
    return [replace(table, rows=rows)]


def _table(
    found: Findings, scores: Iterable[Score], caption: str, *, plain: str, as_given: bool = False
) -> list[NumberTable]:
    """Tabulate metrics and the real sets they were measured on (down) by source (across)."""
    chosen = headline(scores)
    if not as_given:
        chosen.sort(key=lambda s: order(s.metric))
    several = {s.metric for s in chosen if s.column is not None}

    def head(score: Score) -> tuple[str, str]:
        if score.metric == "switched_flip_rate":  # its column names the set whose latents were switched
            return _worded(lookup(score.metric)).label, f"latents of {score.column}"
        where = set_name(score.column, plain) if score.metric in several and plain else ""
        return _worded(lookup(score.metric)).label, where

    made = tabulate(
        chosen,
        caption,
        row=lambda s: (s.metric, s.column),
        column=lambda s: ("", label_of(s.source)),
        head=head,
        explained=True,
        columns=[("", label_of(s)) for s in found.sources],
    )
    return _reworded(made)


def _grouped(
    found: Findings, scores: Iterable[Score], caption: str, by: str, names: str
) -> list[NumberTable]:
    """Tabulate groups or classes (down) by metric, real set and source (across)."""
    chosen = [s for s in headline(scores) if getattr(s, by) is not None and s.source != "constant"]
    several = {s.metric for s in chosen if s.column is not None}

    def over(score: Score) -> str:
        name = _worded(lookup(score.metric)).label
        return f"{name}, {score.column or 'test'}" if score.metric in several else name

    made = tabulate(
        chosen,
        caption,
        row=lambda s: (getattr(s, by),),
        column=lambda s: (over(s), label_of(s.source)),
        head=lambda s: (str(getattr(s, by)), ""),
        names=names,
        columns=[(o, label_of(s)) for o in dict.fromkeys(over(c) for c in chosen) for s in found.sources],
    )
    return _reworded(made)


# ---------------------------------------------------------------------- sections
def _whole(found: Findings, *metrics: str) -> list[Score]:
    return [s for m in metrics for s in found.select(m, group=None, label=None)]


def _glance(found: Findings) -> list[NumberTable]:
    """Tabulate the numbers that decide; distances are those against the real sets that are composed most alike."""
    like = {likest(found, s) for s in found.synthetic_sources}
    scores = _whole(found, "colour_flip_rate", "shape_flip_rate")
    scores += [s for s in _whole(found, "label_dependence") if s.column is None]
    if found.meta.get("favorable"):
        scores += [s for s in _whole(found, "dpr", "eor") if s.column is None]
    scores += [s for s in _whole(found, "density", "coverage", "fid") if s.column in like]
    scores += _whole(found, "dcr_share", "near_copies")
    caption = "What was reached, beside real images"
    return _table(
        found, scores, caption, plain="the training images" if like != {None} else "", as_given=True
    )


def _sections(found: Findings, judged: Verdict, shown: Shown) -> list[ImageSection]:
    s = found.main_attribute or "the sensitive attribute"
    plain = "the plain test set"
    first, more = (
        (("dpr", "eor"), ("dpd", "eod", "equal_opportunity_ratio", "equal_opportunity_difference"))
        if found.meta.get("favorable")
        else (("dpr_class_mean", "eod_class_mean"), ("dpr", "dpd", "eor", "eod", "eor_class_mean"))
    )
    fair = ImageSection(
        "fair",
        "Fairness",
        "One classifier was trained on the synthetic images, another on the real ones, both of the same make "
        "and both as "
        "anybody would. What counts is what they do with real images that neither they nor the generator saw.",
        [
            ImageBlock(
                "Color or shape?",
                sheets=[*pictures.exchanged(shown), *pictures.attributions(shown)],
                tables=_table(
                    found,
                    [
                        *_whole(
                            found, "colour_flip_rate", "shape_flip_rate", "colour_reliance", "colour_effect"
                        ),
                        *_whole(found, "shape_effect", "switched_flip_rate"),
                    ],
                    "What decides",
                    plain="",
                ),
            ),
            ImageBlock(
                f"By {s}",
                tables=_table(
                    found,
                    _whole(found, "worst_group_accuracy", "accuracy_gap_beyond_chance", *first),
                    f"Fairness by {s}",
                    plain=plain,
                ),
            ),
            ImageBlock(
                "The set itself",
                "Who and what is in the images, before any classifier.",
                tables=_table(
                    found,
                    [
                        x
                        for x in _whole(
                            found, "label_dependence", "label_dependence_seen", "label_read", "sensitive_read"
                        )
                        if x.column is None
                    ],
                    "Label and group in the set itself",
                    plain="",
                ),
            ),
            ImageBlock(
                f"All numbers by {s}",
                tables=_table(
                    found, _whole(found, "accuracy_gap", *more), f"Further numbers by {s}", plain=plain
                ),
                folded=True,
            ),
            ImageBlock(
                "Group by group",
                tables=[
                    *_grouped(
                        found,
                        found.select("accuracy", section="fairness"),
                        f"Accuracy by {s}",
                        "group",
                        s.capitalize(),
                    ),
                    *_grouped(found, found.select("group_share"), f"Shares of {s}", "group", s.capitalize()),
                ],
                folded=True,
            ),
            ImageBlock(
                "Class by class",
                tables=[
                    *_grouped(
                        found,
                        [x for m in ("dpr", "eor", "eod") for x in found.select(m) if x.label is not None],
                        "Each class against the rest",
                        "label",
                        "Class",
                    ),
                    *_grouped(found, found.select("class_share"), "Shares of the classes", "label", "Class"),
                ],
                folded=True,
            ),
        ],
    )
    useful = ImageSection(
        "useful",
        "Usefulness",
        "How often the classifiers are right on real images, on the plain test set and on every further one.",
        [
            ImageBlock(
                tables=_table(
                    found,
                    _whole(found, "accuracy", "balanced_accuracy", "accuracy_gain"),
                    "Usefulness",
                    plain=plain,
                )
            )
        ],
    )
    faithful = ImageSection(
        "faithful",
        "Likeness to real images",
        "Distances are measured in the features of a network; how good that network is stands under “How to "
        "repeat it”. "
        "Real hold-out images in the place of the synthetic ones show what would be perfect with as many images.",
        [
            ImageBlock(
                tables=_table(
                    found,
                    _whole(
                        found, "density", "coverage", "knn_precision", "knn_recall", "fid", "fid_infinity", "kid",
                        "composition_distance",
                    ),
                    "Likeness",
                    plain="the training images",
                )
            ),
            ImageBlock("The worst images", sheets=pictures.worst(shown)),
            ImageBlock(
                "Group by group",
                tables=_grouped(
                    found, [x for m in ("fid", "kid") for x in found.select(m) if x.group is not None],
                    f"Distances by {s}", "group", s.capitalize(),
                ),
                folded=True,
            ),
        ],
    )  # fmt: skip
    private = ImageSection(
        "private",
        "Privacy",
        "What the synthetic images give away about those that the generator learned from. Images that it "
        "never saw show "
        "what is chance.",
        [
            ImageBlock(
                tables=_table(
                    found, _whole(found, "dcr_share", "dcr", "dcr_5_percent", "exact_copies", "near_copies"), "Copies",
                    plain="",
                )
            ),
            ImageBlock("Nearest to training images", sheets=pictures.nearest(shown)),
        ],
    )  # fmt: skip
    sections = [fair, useful, faithful, private]
    for section in sections:
        section.blocks = [b for b in section.blocks if b]
        section.answers = [(t.name, t.answer(section.id)) for t in judged.tables]  # type: ignore[arg-type]
    return sections


# ---------------------------------------------------------------------- facts
def _asked(found: Findings, judged: Verdict) -> list[Fact]:
    meta = found.meta
    facts = []
    if judged.criterion_given:
        words = f"{judged.criterion.replace('_', ' ')}: {CRITERIA[judged.criterion]}"
        strength = found.wanted.get("strength")
        facts.append(Fact("Fairness wanted", words))
        if strength is not None:
            facts.append(Fact("Strength", f"{strength:g} (0 is a faithful copy of the bias, 1 the fairest)"))
    generator = meta.get("generator")
    if isinstance(generator, dict) and generator.get("model"):
        facts.append(Fact("Made by", str(generator["model"])))
    for key, name in (("target", "Label"), ("favorable", "Favorable"), ("sensitive", "Sensitive attribute")):
        value = meta.get(key)
        if value:
            facts.append(Fact(name, value if isinstance(value, str) else ", ".join(map(str, value))))
    for key, name in (("classes", "Classes"), ("levels", "Groups")):
        if meta.get(key):
            facts.append(Fact(name, ", ".join(map(str, meta[key][:40]))))
    if meta.get("shape"):
        facts.append(Fact("Images", " × ".join(map(str, meta["shape"])) + " (height × width × channels)"))
    names = {"train": "real, seen by the generator", "test": "real, never seen by it"}
    rows = [
        f"{n:,} {names.get(k) or ('synthetic' if k == 'synthetic' else f'in {source_label(k)}')}"
        for k, n in (meta.get("rows") or {}).items()
    ]
    facts.append(Fact("How many", "; ".join(rows)))
    if meta.get("features"):
        known = {"trained": "a network trained on the real train images", "inception": "Inception v3"}
        facts.append(Fact("Distances measured in", known.get(str(meta["features"]), str(meta["features"]))))
    return [f for f in facts if f.value]


def _shortfalls(found: Findings, judged: Verdict) -> list[tuple[str, list[str]]]:
    parts: list[tuple[str, list[str]]] = []
    for table in judged.tables:
        seen = dict.fromkeys(
            f"{reason.word}: {reason.text}"
            for answer in table.answers
            for reason in answer.reasons
            if reason.level in ("poor", "caution")
        )
        words = list(seen) or ["Nothing that was measured fell short of the limits."]
        words += [f"Not measured: {a.asked}" for a in table.answers if a.level == "unknown"]
        parts.append((table.name if len(judged.tables) > 1 else "Against the limits", words))
    undefined: dict[str, None] = {}
    for score in found.scores:
        if score.value is None:
            where = ", ".join(w for w in (score.group, score.label, score.column) if w)
            of = f" ({where})" if where else ""
            undefined[
                f"{_worded(lookup(score.metric)).label}{of}, {label_of(score.source).lower()}: {score.note}."
            ] = None
    if undefined:
        listed = list(undefined)
        more = [f"And {len(listed) - 20} more, in the JSON file."] if len(listed) > 20 else []
        parts.append(("Not defined for these images", listed[:20] + more))
    told: list[Any] = [*(found.meta.get("notes") or [])]
    for name, lines in (found.meta.get("repairs") or {}).items():
        told.append(f"{source_label(str(name))}: {len(lines)} files were left out.")
        told += [f"{source_label(str(name))}: {line}" for line in lines[:20]]
    if told:
        parts.append(("Left out, sampled, or to be known", [str(t) for t in told]))
    parts.append(("What no number here shows", list(LIMITS)))
    return parts
