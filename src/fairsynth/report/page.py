"""The page's contents, before any HTML: sections, tables and pictures, made from whatever was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fairsynth.evaluation.result import Score
from fairsynth.report.findings import Findings, is_synthetic, source_label
from fairsynth.report.glossary import Entry, canonical, format_value, lookup, order
from fairsynth.report.rows import SMALL_CELL
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
    names: str = "Measure"
    notes: tuple[str, ...] = ()
    left_out: int = 0


@dataclass
class Block:
    """A part of a section: a heading, words, tables and pictures; folded away when `folded`."""

    title: str = ""
    text: str = ""
    lines: list[str] = field(default_factory=list)
    tables: list[NumberTable] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    folded: bool = False

    def __bool__(self) -> bool:
        """Say whether there is anything to show."""
        return bool(self.tables or self.pictures or self.lines)


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
    names: str = "Measure",
    explained: bool = False,
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
    names : str, default="Measure"
        Heading of the column of names.
    explained : bool, default=False
        Whether a row is a metric and carries its entry of the glossary, the first time.
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
    told: set[str] = set()
    rows = []
    for line in list(cells.values())[:longest]:
        first = next(iter(line.values()))
        name, detail = head(first)
        shown = tuple(_cell(line[c], notes) if c in line else None for c in ordered)
        entry = lookup(first.metric) if explained and first.metric not in told else None
        told.add(first.metric)
        rows.append(Row(name, shown, entry, detail))
    return NumberTable(
        caption,
        tuple(Column(c[1], c[0], synthetic[c]) for c in ordered),
        tuple(rows),
        names,
        tuple(notes),
        max(len(cells) - longest, 0),
    )


def _cell(score: Score, notes: dict[str, int]) -> Cell:
    style = lookup(score.metric).style
    if score.group is not None and score.n is not None and score.n < SMALL_CELL:
        return Cell("too few", f"fewer than {SMALL_CELL}")
    detail = []
    if score.low is not None and score.high is not None and score.low != score.high:
        low, high = format_value(score.low, style), format_value(score.high, style)
        detail.append(f"{low.removesuffix(' %')} to {high}")
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


def measures(
    found: Findings, scores: Iterable[Score], caption: str, *, explained: bool = True
) -> NumberTable | None:
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
        explained=explained,
        columns=[("", source_label(s)) for s in found.sources],
    )


def by_model(found: Findings, scores: Iterable[Score], caption: str) -> NumberTable | None:
    """Tabulate metrics for every downstream model (down) by source (across)."""
    chosen = [s for s in scores if s.model not in (None, "mean") and s.group is None and s.column is None]
    chosen.sort(key=lambda s: (order(s.metric), s.attribute or ""))
    if len({s.model for s in chosen}) < 2:  # one model alone is the headline already
        return None
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
        columns=[("", source_label(s)) for s in found.sources],
    )


def by_group(found: Findings, scores: Iterable[Score], caption: str) -> NumberTable | None:
    """Tabulate groups (down) by metric and source (across); the constant predictor is left out."""
    chosen = headline(s for s in scores if s.group is not None and s.source != "constant")
    metrics = sorted({canonical(s.metric) for s in chosen}, key=order)
    sizes: dict[str, set[int]] = {}
    for score in chosen:
        if score.n is not None and score.group is not None:
            sizes.setdefault(score.group, set()).add(score.n)
    people = {group: max(n) for group, n in sizes.items() if len(n) == 1 and max(n) >= SMALL_CELL}
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
        names="Group",
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
        names="Column",
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
        shown = Block(f"By {attribute}" if attribute else "Over all groups")
        folded = Block(f"All numbers {where}", folded=True)
        # The first attribute stands open, with its explanations; the others have the same shape.
        open_too = attribute in (found.main_attribute, None)
        groups = by_group(found, mine, f"Rates {where}, with 95 % intervals")
        _add(
            shown if open_too else folded,
            measures(found, _whole(mine), f"Fairness {where}", explained=open_too),
        )
        _add(shown if open_too and groups and len(groups.rows) <= OPEN_GROUPS else folded, groups)
        _add(
            folded,
            by_column(found, mine, f"Columns {where}"),
            by_model(found, mine, f"Fairness {where}, model by model"),
        )
        if attribute is not None or shown:
            section.blocks.append(shown)
        section.blocks += [folded] if folded else []
    table = found.select(section="table_fairness")
    block = Block(
        "The table itself", "What the rows say, before any model. It matters less than it seems: see above."
    )
    _add(block, measures(found, _whole(table), "Fairness of the table itself"))
    folded = Block("Groups and columns of the table itself", folded=True)
    for attribute in found.attributes:
        mine = [s for s in table if s.attribute == attribute]
        first = attribute == found.main_attribute
        _add(block if first else folded, by_group(found, mine, f"Shares in the table by {attribute}"))
        _add(folded, by_column(found, mine, f"Columns of the table, by {attribute}"))
    section.blocks += [b for b in (block, folded) if b]
    return section


def plain_section(found: Findings, which: str, id: str, title: str, text: str) -> Section:
    """Collect a section that has measures, columns, pairs and models."""
    section = Section(id, title, text)
    scores = found.select(section=which)
    block = Block()
    whole = _whole(scores)
    plain = [s for s in whole if not s.metric.startswith("relative_")]
    _add(block, measures(found, plain, title))
    section.blocks += [block] if block else []
    relative = measures(
        found,
        [s for s in whole if s.metric.startswith("relative_")],
        f"{title}, relative to real rows",
        explained=False,
    )
    columns = [s for s in scores if s.column and " × " not in s.column]
    pairs = [s for s in scores if s.column and " × " in s.column]
    for folded in (
        Block("Relative to training on real rows", tables=_some(relative), folded=True),
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


def giveaways(found: Findings, value: Callable[[str, int, str], str | None], most: int = 8) -> list[Block]:
    """List the synthetic rows that the detective is surest of, and what gives them away.

    Parameters
    ----------
    found : Findings
        With ``meta["giveaways"]``: source → list of ``{"row", "probability", "columns"}``.
    value : callable
        (source, row, column) → the value there as text, or None where the rows are not at hand.
    most : int, default=8
        Rows listed for each source.
    """
    blocks = []
    given = found.meta.get("giveaways") or {}
    for source in [s for s in found.synthetic_sources if given.get(s)]:
        lines = []
        for item in given[source][:most]:
            row, parts = int(item["row"]), []
            for column in item["columns"]:
                text = value(source, row, column)
                parts.append(column if text is None else f"{column} = {text}")
            share = format_value(float(item["probability"]), "share")
            lines.append(f"Row {row:,}, synthetic with a certainty of {share}: {', '.join(parts)}.")
        name = f" in {source_label(source)}" if len(found.synthetic_sources) > 1 else ""
        text = (
            "The synthetic rows that the trained detective is surest of, and the columns that give them away."
        )
        blocks.append(Block(f"Rows that give the table away{name}", text, lines=lines, folded=True))
    return blocks


def _whole(scores: Iterable[Score]) -> list[Score]:
    return [s for s in scores if s.group is None and s.column is None]


def _add(block: Block, *tables: NumberTable | None) -> None:
    block.tables += [t for t in tables if t is not None]


def _some(table: NumberTable | None) -> list[NumberTable]:
    return [table] if table is not None else []
