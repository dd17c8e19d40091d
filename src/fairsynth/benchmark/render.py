"""The leaderboard as terminal tables, HTML, Markdown, LaTeX and CSV."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.benchmark.board import COSTS, Leaderboard, Measure, Number, Row, Standing
from fairsynth.errors import SettingsError
from fairsynth.files import write_text

if TYPE_CHECKING:
    from rich.table import Table as RichTable

#: How criteria are called in narrow columns.
SHORT = {"demographic_parity": "DP", "equalized_odds": "EO", "equal_opportunity": "EOpp"}
FORMATS = {".html": "html", ".md": "markdown", ".tex": "latex", ".csv": "csv"}


def write(board: Leaderboard, path: str | os.PathLike[str]) -> Path:
    """Write a leaderboard, in the format that the name of the file says.

    Parameters
    ----------
    board : Leaderboard
        Of `fairsynth.benchmark.read_leaderboard`.
    path : path
        Ends in ``.html``, ``.md``, ``.tex`` or ``.csv``. The page's links to the reports are relative to its place.

    Raises
    ------
    SettingsError
        If the name ends otherwise.
    OSError
        If it cannot be written.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise SettingsError(
            f"{path}: a leaderboard is written as {', '.join(FORMATS)}; choose one of these endings."
        )
    makers: dict[str, Callable[[], str]] = {
        "html": lambda: html(board, path.parent),
        "markdown": lambda: markdown(board),
        "latex": lambda: latex(board),
        "csv": lambda: csv(board),
    }
    write_text(path, makers[FORMATS[path.suffix]]())
    return path


def asked(criterion: str | None, strength: float | None) -> str:
    """Return what was asked for, in few letters: ``DP 1``."""
    return "" if criterion is None else f"{SHORT.get(criterion, criterion)} {strength:g}"


def shown(number: Number | None, column: str = "") -> str:
    """Return a mean and its standard deviation as text: ``0.812 ± 0.013``."""
    if number is None:
        return "–"
    if column in COSTS:
        return f"{number.mean:,.0f}" if number.mean >= 100 else f"{number.mean:.3g}"
    return f"{number.mean:.3f}" + (f" ± {number.std:.3f}" if number.std is not None else "")


def _seeds(row: Row) -> str:
    done = sum(link.status == "done" for link in row.cells)
    return f"{done}/{len(row.cells)}" if done < len(row.cells) else str(done)


# ---------------------------------------------------------------------- terminal
def terminal(board: Leaderboard) -> list[RichTable]:
    """Return one Rich table for each data set, and one of the ranks; costs are left to the page, which has room."""
    from rich.table import Table as RichTable
    from rich.text import Text

    tables, columns = [], [column for column in board.columns if column not in COSTS]
    for dataset in board.datasets:
        table = RichTable(title=f"{board.name}: {dataset}", title_justify="left")
        table.add_column("method", no_wrap=True)
        table.add_column("asked", no_wrap=True)
        for column in columns:
            table.add_column(board.head(column), justify="right", no_wrap=True)
        table.add_column("seeds", justify="right")
        rows = board.of(dataset)
        for i, row in enumerate(rows):
            style = "dim" if row.baseline else ""
            name = Text(f"{'● ' if row.front else '  '}{row.label}", style)
            cells = [_cell(board, row, column, style) for column in columns]
            last = i + 1 < len(rows) and rows[i + 1].baseline and not row.baseline
            table.add_row(
                name,
                Text(asked(row.criterion, row.strength), style),
                *cells,
                Text(_seeds(row), style),
                end_section=last,
            )
        tables.append(table)
    if standings := _ranks_table(board):
        tables.append(standings)
    tables[-1].caption = "\n".join(["● on the front: nothing beats it on fairness, utility and fidelity at once.",
                                    *board.remarks])  # fmt: skip
    tables[-1].caption_justify = "left"
    return tables


def _cell(board: Leaderboard, row: Row, column: str, style: str) -> Any:
    from rich.text import Text

    number = row.numbers.get(column)
    if number is not None and not row.baseline and number.mean == board.best_of(row.dataset, column):
        style = "bold"
    return Text(_narrow(number, column), style)


def _narrow(number: Number | None, column: str) -> str:
    """Return a mean and its deviation in few letters: ``0.812±.013``."""
    return shown(number, column).replace(" ± 0.", "±.").replace(" ± ", "±")


def _ranks_table(board: Leaderboard) -> RichTable | None:
    from rich.table import Table as RichTable

    measures = [measure for measure in board.measures if measure.standings]
    if not measures:
        return None
    table = RichTable(title="Mean ranks (1 is best), and the difference to the first", title_justify="left")
    table.add_column("method")
    table.add_column("asked")
    for measure in measures:
        table.add_column(f"{measure.role}: {board.head(measure.metric)}", justify="right")
    by = [{s.method: s for s in measure.standings} for measure in measures]
    for method in dict.fromkeys(m for each in by for m in each):
        told = [
            _standing(each[method], measure.standings[0]) if method in each else "–"
            for each, measure in zip(by, measures, strict=True)
        ]
        table.add_row(method[0], asked(*method[1:]), *told)
    return table


def _standing(standing: Standing, first: Standing) -> str:
    text = f"{standing.rank:.2f}"
    if standing.low == standing.low and standing is not first:
        text += f"  ({standing.difference:+.3f}, {standing.low:+.3f} to {standing.high:+.3f})"
    return text


# ---------------------------------------------------------------------- text formats
def csv(board: Leaderboard) -> str:
    """Return one line for each method and data set, numbers in full."""
    return board.to_frame().write_csv()


def markdown(board: Leaderboard) -> str:
    """Return tables as GitHub reads them."""
    parts = [f"# {_md(board.name)}"]
    for dataset in board.datasets:
        heads = ["Method", "Asked", *(board.head(c) for c in board.columns), "Seeds"]
        lines = [
            f"## {_md(dataset)}", "",
            "| " + " | ".join(heads) + " |",
            "|---|---|" + "--:|" * (len(board.columns) + 1),
        ]  # fmt: skip
        for row in board.of(dataset):
            cells = []
            for column in board.columns:
                number = row.numbers.get(column)
                text = shown(number, column)
                top = (
                    number is not None and not row.baseline and number.mean == board.best_of(dataset, column)
                )
                cells.append(f"**{text}**" if top else text)
            name = f"*{_md(row.label)}*" if row.baseline else _md(row.label) + (" ●" if row.front else "")
            told = [name, asked(row.criterion, row.strength), *cells, _seeds(row)]
            lines.append("| " + " | ".join(told) + " |")
        parts.append("\n".join(lines))
    parts += [_md_measure(board, measure) for measure in board.measures if measure.standings]
    notes = [
        "● on the front: no other method beats it on fairness, utility and fidelity at once.",
        *board.remarks,
    ]
    parts.append("\n".join(f"- {_md(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _md_measure(board: Leaderboard, measure: Measure) -> str:
    lines = [
        f"## Ranks: {measure.role}, {board.head(measure.metric)}", "",
        "| Method | Asked | Mean rank | Difference to the first | 95 % interval | Data sets |",
        "|---|---|--:|--:|--:|--:|",
    ]  # fmt: skip
    for s in measure.standings:
        gap = ["–", "–"] if s.low != s.low else [f"{s.difference:+.3f}", f"{s.low:+.3f} to {s.high:+.3f}"]
        told = [_md(s.method[0]), asked(*s.method[1:]), f"{s.rank:.2f}", *gap, str(s.n)]
        lines.append("| " + " | ".join(told) + " |")
    if measure.differences is not None:
        lines += ["", differences(measure)]
    return "\n".join(lines)


def differences(measure: Measure) -> str:
    """Return what the tests of ranks say, in a sentence."""
    found = measure.differences
    if found is None:
        return ""
    p = f"p = {found.p:.3f}" if found.p == found.p else "all tie"
    return (
        f"Friedman test over {found.n} data sets: {p}. Critical difference of mean ranks (Nemenyi, 5 %): "
        f"{found.critical:.2f}."
    )


def _md(text: str) -> str:
    for mark in "\\|*_`<>[]":
        text = text.replace(mark, "\\" + mark)
    return text


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "→": r"$\rightarrow$", "–": "--", "●": r"$\bullet$", "×": r"$\times$", "≥": r"$\geq$", "≤": r"$\leq$", "²": "$^2$",
    "·": r"$\cdot$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(mark, mark) for mark in text)


def latex(board: Leaderboard) -> str:
    """Return a ``table`` for each data set; needs the package ``booktabs``."""
    parts = [r"% \usepackage{booktabs}"]
    for dataset in board.datasets:
        heads = ["Method", "Asked", *(_tex(board.head(c)) for c in board.columns)]
        lines = [
            r"\begin{table}", r"  \centering", f"  \\caption{{{_tex(board.name)}: {_tex(dataset)}}}",
            rf"  \begin{{tabular}}{{ll{'r' * len(board.columns)}}}", r"    \toprule",
            "    " + " & ".join(heads) + r" \\", r"    \midrule",
        ]  # fmt: skip
        rows = board.of(dataset)
        for i, row in enumerate(rows):
            cells = []
            for column in board.columns:
                number = row.numbers.get(column)
                text = _tex(shown(number, column))
                top = (
                    number is not None and not row.baseline and number.mean == board.best_of(dataset, column)
                )
                cells.append(rf"\textbf{{{text}}}" if top else text)
            if row.baseline and i and not rows[i - 1].baseline:
                lines.append(r"    \midrule")
            name = (
                rf"\emph{{{_tex(row.label)}}}"
                if row.baseline
                else _tex(row.label + (" ●" if row.front else ""))
            )
            lines.append(
                "    " + " & ".join([name, _tex(asked(row.criterion, row.strength)), *cells]) + r" \\"
            )
        lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------------- the page
def html(board: Leaderboard, place: Path) -> str:
    """Return one HTML page that holds everything but the reports, to which it links from `place`."""
    import jinja2

    from fairsynth.benchmark.front import figures
    from fairsynth.report.html import _packed, _policy, plotly_source
    from fairsynth.report.html import _resource as report_resource

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    plots, script = report_resource("report.js"), _resource("leaderboard.js")
    drawn = figures(board)
    plotly = plotly_source()
    reports = os.path.relpath(board.folder / "reports", place)
    have = {p.stem for p in (board.folder / "reports").glob("*.html")}
    return environment.get_template("leaderboard.html.j2").render(
        board=board,
        rows=[_html_row(board, row, reports, have) for row in board.rows],
        heads=[(column, board.head(column)) for column in board.columns],
        figures=drawn,
        measures=[m for m in board.measures if m.standings],
        asked=asked,
        differences=differences,
        criteria=sorted({row.criterion for row in board.rows if row.criterion}),
        css=report_resource("report.css") + _resource("leaderboard.css"),
        plots=plots,
        script=script,
        plotly=_packed(plotly) if drawn else "",
        policy=_policy(plots, script, plotly),
    )


def _html_row(board: Leaderboard, row: Row, reports: str, have: set[str]) -> dict[str, Any]:
    cells = []
    for column in board.columns:
        number = row.numbers.get(column)
        cells.append(
            {
                "text": shown(number, column).split(" ± ")[0],
                "sd": ""
                if number is None or number.std is None or column in COSTS
                else f"± {number.std:.3f}",
                "sort": "" if number is None else repr(number.mean),
                "head": board.head(column),
                "best": number is not None
                and not row.baseline
                and number.mean == board.best_of(row.dataset, column),
            }
        )
    links = [
        {
            "seed": link.seed,
            "href": f"{reports}/{link.key}.html" if link.key in have else "",
            "status": link.status,
            "reason": " ".join((link.reason or "").split())[:300],
        }
        for link in row.cells
    ]
    return {"row": row, "cells": cells, "links": links, "asked": asked(row.criterion, row.strength)}


def _resource(name: str) -> str:
    return files("fairsynth.benchmark").joinpath("templates").joinpath(name).read_text(encoding="utf-8")
