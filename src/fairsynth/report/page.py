"""The page's contents, before any HTML: sections, tables and pictures, made from whatever was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fairsynth.evaluation.result import Score
from fairsynth.report.findings import Findings, is_synthetic, source_label
from fairsynth.report.glossary import Entry, canonical, format_value, lookup, order
from fairsynth.report.verdict import RATIO_OF

if TYPE_CHECKING:
    from fairsynth.report.pictures import Picture
    from fairsynth.report.verdict import Answer

#: Groups beyond which the table by group is folded away.
OPEN_GROUPS = 12
#: Rows of the longest tables; the rest is in the JSON file.
LONGEST = 200


@dataclass(frozen=True)
class Column:
    """One column of numbers: its heading, and over it the name it shares with its neighbors."""

    head: str
    over: str = ""
    synthetic: bool = False


@dataclass(frozen=True)
class Cell:
    """One number as written, what stands small beneath it, and its footnotes."""

    text: str
    detail: str = ""
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line: its name, what it means, and a cell for each column (None: not measured)."""

    head: str
    cells: tuple[Cell | None, ...]
    entry: Entry | None = None
    detail: str = ""


@dataclass(frozen=True)
class NumberTable:
    """A table of numbers with its caption and footnotes."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def first(self) -> str:
        """Heading of the column of names."""
        return "Measure" if any(r.entry for r in self.rows) else "Of"


@dataclass
class Block:
    """A part of a section: a heading, words, tables and pictures; folded away when `folded`."""

    title: str = ""
    text: str = ""
    tables: list[NumberTable] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    folded: bool = False

    def __bool__(self) -> bool:
        """Say whether there is anything to show."""
        return bool(self.tables or self.pictures)


@dataclass
class Section:
    """A section of the page, with the answers to its question."""

    id: str
    title: str
    text: str
    blocks: list[Block] = field(default_factory=list)
    answers: list[tuple[str, Answer]] = field(default_factory=list)


# ---------------------------------------------------------------------- tables of scores
def tabulate(
    scores: Iterable[Score],
    caption: str,
    *,
    row: Callable[[Score], tuple[Hashable, ...]],
    column: Callable[[Score], tuple[str, str]],
    head: Callable[[Score], tuple[str, str]],
    explained: bool,
    columns: Sequence[tuple[str, str]] = (),
    longest: int = LONGEST,
) -> NumberTable | None:
    """Put scores into a table.

    Parameters
    ----------
    scores : iterable of Score
        In the order of the rows.
    caption : str
        Of the table.
    row, column : callable
        Key of the row, and (over, head) of the column, that a score belongs to.
    head : callable
        A row's name and the small words beneath it.
    explained : bool
        Whether a row is a metric and carries its entry of the glossary.
    columns : sequence of (str, str)
        Order of the columns; those without a score are left out, others follow.
    longest : int
        Most rows.

    Returns
    -------
    NumberTable or None
        None without scores.
    """
    cells: dict[tuple[Hashable, ...], dict[tuple[str, str], Score]] = {}
    for score in scores:
        cells.setdefault(row(score), {}).setdefault(column(score), score)
    if not cells:
        return None
    present = dict.fromkeys(key for line in cells.values() for key in line)
    ordered = [c for c in columns if c in present] + [c for c in present if c not in columns]
    synthetic = {key: is_synthetic(s.source) for line in cells.values() for key, s in line.items()}
    notes: dict[str, int] = {}
    rows = []
    for line in list(cells.values())[:longest]:
        first = next(iter(line.values()))
        name, detail = head(first)
        shown = tuple(_cell(line[c], notes) if c in line else None for c in ordered)
        rows.append(Row(name, shown, lookup(first.metric) if explained else None, detail))
    return NumberTable(
        caption,
        tuple(Column(c[1], c[0], synthetic[c]) for c in ordered),
        tuple(rows),
        tuple(notes),
        max(len(cells) - longest, 0),
    )


def _cell(score: Score, notes: dict[str, int]) -> Cell:
    style = lookup(score.metric).style
    detail = []
    if score.low is not None and score.high is not None:
        detail.append(f"{format_value(score.low, style)} to {format_value(score.high, style)}")
    if score.std is not None:
        detail.append(f"± {format_value(score.std, style)} over seeds")
    marks: tuple[int, ...] = ()
    if score.note:
        marks = (notes.setdefault(score.note, len(notes) + 1),)
    value = score.value if score.value is not None and math.isfinite(score.value) else None
    return Cell(format_value(value, style), "; ".join(detail), marks)


def headline(scores: Iterable[Score]) -> list[Score]:
    """Keep, of scores that differ only in the model, the mean; the only one where there is no mean."""
    kept: dict[Hashable, Score] = {}
    for score in scores:
        key = (score.metric, score.source, score.attribute, score.group, score.column, score.label)
        if key not in kept or score.model == "mean":
            kept[key] = score
    return list(kept.values())


def measures(found: Findings, scores: Iterable[Score], caption: str) -> NumberTable | None:
    """Tabulate metrics (down) by source (across), each with its meaning."""
    chosen = sorted(headline(scores), key=lambda s: order(s.metric))
    several = len({s.attribute for s in chosen}) > 1

    def head(score: Score) -> tuple[str, str]:
        words = [f"by {score.attribute}"] if several and score.attribute else []
        words += [f"favorable: {score.label}"] if score.label else []
        return lookup(score.metric).label, ", ".join(words)

    return tabulate(
        chosen,
        caption,
        row=lambda s: (canonical(s.metric), s.attribute, s.label),
        column=lambda s: ("", source_label(s.source)),
        head=head,
        explained=True,
        columns=[("", source_label(s)) for s in found.sources],
    )


def by_model(found: Findings, scores: Iterable[Score], caption: str) -> NumberTable | None:
    """Tabulate metrics for every downstream model (down) by source (across)."""
    chosen = [s for s in scores if s.model not in (None, "mean") and s.group is None and s.column is None]
    chosen.sort(key=lambda s: (order(s.metric), s.attribute or ""))
    return tabulate(
        chosen,
        caption,
        row=lambda s: (canonical(s.metric), s.attribute, s.label, s.model),
        column=lambda s: ("", source_label(s.source)),
        head=lambda s: (
            lookup(s.metric).label,
            ", ".join(
                w
                for w in (
                    _words(s.model),
                    s.attribute and f"by {s.attribute}",
                    s.label and f"favorable: {s.label}",
                )
                if w
            ),
        ),
        explained=False,
        columns=[("", source_label(s)) for s in found.sources],
    )


def by_group(found: Findings, scores: Iterable[Score], caption: str) -> NumberTable | None:
    """Tabulate groups (down) by metric and source (across)."""
    chosen = headline(s for s in scores if s.group is not None)
    metrics = sorted({canonical(s.metric) for s in chosen}, key=order)
    people: dict[str, int] = {}
    for score in chosen:
        if score.n is not None and score.group is not None and not score.label:
            people[score.group] = max(people.get(score.group, 0), score.n)
    return tabulate(
        chosen,
        caption,
        row=lambda s: (s.group, s.label),
        column=lambda s: (lookup(s.metric).label, source_label(s.source)),
        head=lambda s: (
            str(s.group),
            ", ".join(
                w
                for w in (
                    f"n = {people[s.group]:,}" if s.group in people else "",
                    f"favorable: {s.label}" if s.label else "",
                )
                if w
            ),
        ),
        explained=False,
        columns=[(lookup(m).label, source_label(s)) for m in metrics for s in found.sources],
    )


def by_column(found: Findings, scores: Iterable[Score], caption: str) -> NumberTable | None:
    """Tabulate columns (down) by metric and source (across), the largest first synthetic value first."""
    chosen = headline(s for s in scores if s.column is not None)
    first = [s for s in chosen if is_synthetic(s.source)] or chosen
    worst: dict[str | None, float] = {}
    for score in first:
        worst[score.column] = max(worst.get(score.column, -math.inf), score.value or 0.0)
    chosen.sort(key=lambda s: -worst.get(s.column, 0.0))
    metrics = sorted({canonical(s.metric) for s in chosen}, key=order)
    several = len({s.attribute for s in chosen}) > 1
    return tabulate(
        chosen,
        caption,
        row=lambda s: (s.column, s.attribute, s.label),
        column=lambda s: (lookup(s.metric).label, source_label(s.source)),
        head=lambda s: (str(s.column), f"by {s.attribute}" if several and s.attribute else ""),
        explained=False,
        columns=[(lookup(m).label, source_label(s)) for m in metrics for s in found.sources],
    )


def at_a_glance(found: Findings, criterion: str) -> NumberTable | None:
    """Tabulate the dozen numbers that decide, for every source."""
    ratio = RATIO_OF[criterion]
    wanted = [(ratio, a) for a in found.attributes] + [
        (m, None)
        for m in (
            "auroc",
            "r2",
            "balanced_accuracy",
            "accuracy",
            "coverage",
            "c2st",
            "dcr_share",
            "exact_copies",
        )
    ]
    scores = []
    for metric, attribute in wanted:
        for source in found.sources:
            score = found.get(metric, source, attribute=attribute)
            if score is not None:
                scores.append(score)
    several = len(found.attributes) > 1
    return tabulate(
        scores,
        "What was reached, beside the baselines",
        row=lambda s: (canonical(s.metric), s.attribute),
        column=lambda s: ("", source_label(s.source)),
        head=lambda s: (lookup(s.metric).label, f"by {s.attribute}" if several and s.attribute else ""),
        explained=True,
        columns=[("", source_label(s)) for s in found.sources],
    )


def _words(name: str | None) -> str:
    return (name or "").replace("_", " ")


# ---------------------------------------------------------------------- sections
def fairness_section(found: Findings) -> Section:
    """Collect fairness: for each attribute the measures, then the groups, then the table itself."""
    section = Section(
        "fair",
        "Fairness by group",
        "Models were trained on the synthetic rows and asked about real people whom neither the generator "
        "nor they had seen. What counts is how those people are treated.",
    )
    scores = found.select(section="fairness")
    for attribute in [*found.attributes, None]:
        mine = [s for s in scores if s.attribute == attribute]
        where = f"by {attribute}" if attribute else "over all groups"
        block = Block(f"By {attribute}" if attribute else "Over all groups")
        _add(block, measures(found, _whole(mine), f"Fairness {where}"))
        groups = by_group(found, mine, f"Rates {where}, with 95 % intervals")
        columns = by_column(found, mine, f"Columns {where}")
        folded = Block(f"Every group and model {where}", folded=True)
        _add(block if groups and len(groups.rows) <= OPEN_GROUPS else folded, groups)
        _add(folded, columns, by_model(found, mine, f"Fairness {where}, model by model"))
        section.blocks += [b for b in (block, folded) if b]
    table = found.select(section="table_fairness")
    block = Block(
        "The table itself", "What the rows say, before any model. It matters less than it seems: see above."
    )
    _add(block, measures(found, _whole(table), "Fairness of the table itself"))
    for attribute in found.attributes:
        mine = [s for s in table if s.attribute == attribute]
        _add(block, by_group(found, mine, f"Shares in the table by {attribute}"))
    section.blocks += [block] if block else []
    return section


def plain_section(found: Findings, which: str, id: str, title: str, text: str) -> Section:
    """Collect a section that has measures, columns, pairs and models."""
    section = Section(id, title, text)
    scores = found.select(section=which)
    block = Block()
    _add(block, measures(found, _whole(scores), title))
    section.blocks += [block] if block else []
    columns = [s for s in scores if s.column and " × " not in s.column]
    pairs = [s for s in scores if s.column and " × " in s.column]
    for folded in (
        Block(
            "Column by column",
            tables=_some(by_column(found, columns, f"{title}, column by column")),
            folded=True,
        ),
        Block("Pair by pair", tables=_some(by_column(found, pairs, f"{title}, pair by pair")), folded=True),
        Block(
            "Group by group", tables=_some(by_group(found, scores, f"{title}, group by group")), folded=True
        ),
        Block(
            "Model by model", tables=_some(by_model(found, scores, f"{title}, model by model")), folded=True
        ),
    ):
        section.blocks += [folded] if folded else []
    return section


def _whole(scores: Iterable[Score]) -> list[Score]:
    return [s for s in scores if s.group is None and s.column is None]


def _add(block: Block, *tables: NumberTable | None) -> None:
    block.tables += [t for t in tables if t is not None]


def _some(table: NumberTable | None) -> list[NumberTable]:
    return [table] if table is not None else []
