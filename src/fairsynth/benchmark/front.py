"""The front as pictures: fairness against usefulness, one figure for each data set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from fairsynth.benchmark.board import Leaderboard, Row, oriented

#: Pictures of so many data sets; the table has them all.
MOST = 24
#: Of a picture, in pixels.
HEIGHT = 400


@dataclass(frozen=True)
class Figure:
    """A picture of the page.

    Attributes
    ----------
    dataset, caption : str
        What it shows.
    json : str
        Plotly figure, safe inside of a script element.
    height : int
        In pixels.
    """

    dataset: str
    caption: str
    json: str
    height: int


def figures(board: Leaderboard) -> list[Figure]:
    """Draw every data set that has methods with fairness and utility."""
    found = []
    for dataset in board.datasets[:MOST]:
        figure = _figure(board, dataset)
        if figure is not None:
            found.append(figure)
    return found


def _figure(board: Leaderboard, dataset: str) -> Figure | None:
    from fairsynth.benchmark.render import asked
    from fairsynth.report.style import CONSTANT, REAL, SYNTHETIC

    x, y, z = (board.metric_on(role, dataset) for role in ("fairness", "utility", "fidelity"))
    rows = [row for row in board.of(dataset) if x in row.numbers and y in row.numbers]
    if not any(not row.baseline for row in rows):
        return None
    traces: list[dict[str, Any]] = []
    edge = _edge(board, rows, x, y)
    if len(edge) > 1:
        line = {"color": CONSTANT, "dash": "dot", "width": 1.5}
        traces.append(
            {"type": "scatter", "x": [p[0] for p in edge], "y": [p[1] for p in edge], "mode": "lines",
             "hoverinfo": "skip", "showlegend": False, "line": line}
        )  # fmt: skip
    groups = (
        ("generators", [r for r in rows if r.kind == "generator"], "circle", SYNTHETIC[0]),
        ("mitigators", [r for r in rows if r.kind == "mitigator"], "square", SYNTHETIC[1]),
        ("real data", [r for r in rows if r.kind == "real"], "star", REAL),
        ("constant predictor", [r for r in rows if r.kind == "constant"], "x", CONSTANT),
    )
    few = sum(not row.baseline for row in rows) <= 14
    places = _places([(row.numbers[x].mean, row.numbers[y].mean) for row in rows])
    sides = {id(row): _side(places, i) for i, row in enumerate(rows)} if few else {}
    for name, some, symbol, color in groups:
        if not some:
            continue
        traces.append(
            {
                "type": "scatter",
                "x": [r.numbers[x].mean for r in some],
                "y": [r.numbers[y].mean for r in some],
                "error_x": _error(some, x, color, few),
                "error_y": _error(some, y, color, few),
                "mode": "markers+text" if few and name in ("generators", "mitigators") else "markers",
                "text": [r.label for r in some],
                "textposition": [sides[id(r)] for r in some] if few else "top center",
                "textfont": {"size": 11},
                "name": name,
                "marker": {
                    "symbol": [symbol if r.front or r.baseline else f"{symbol}-open" for r in some],
                    "color": color,
                    "size": 11,
                    "line": {"width": 2, "color": color},
                },
                "customdata": [
                    [
                        f"{r.label} {asked(r.criterion, r.strength)}".strip(),
                        _told(r, z),
                        "yes" if r.front else "no",
                    ]
                    for r in some
                ],
                "hovertemplate": f"%{{customdata[0]}}<br>{x} %{{x:.3f}}<br>{y} %{{y:.3f}}<br>{z} %{{customdata[1]}}"
                "<br>on the front: %{customdata[2]}<extra></extra>",
            }
        )
    layout = json.loads(_layout())
    for axis, metric in (("xaxis", x), ("yaxis", y)):
        layout[axis]["title"] = {"text": board.head(metric)}
    caption = (
        f"{board.head(x)} against {board.head(y)}, means over seeds, with standard deviations where few methods are "
        f"drawn. Filled marks are on the front: no other method beats them on {x}, {y} and {z} at once. The dotted "
        "line joins the best of the two that are drawn."
    )
    safe = json.dumps({"data": traces, "layout": layout}, ensure_ascii=True).replace("<", "\\u003c")
    return Figure(dataset, caption, safe, HEIGHT)


@cache
def _layout() -> str:
    """Return the look of all pictures of the project, as JSON; Plotly's own objects would be made for each anew."""
    import plotly.graph_objects as go

    from fairsynth.report.style import styled

    return json.dumps(json.loads(styled(go.Figure(), height=HEIGHT).to_json())["layout"])


def _edge(board: Leaderboard, rows: list[Row], x: str, y: str) -> list[tuple[float, float]]:
    """Return the points that no method beats in what is drawn, in the order of fairness."""
    from fairsynth.benchmark.compare import pareto

    mine = [row for row in rows if not row.baseline]
    points = [
        (oriented(x, r.numbers[x].mean, board.lower), oriented(y, r.numbers[y].mean, board.lower))
        for r in mine
    ]
    kept = [row for row, on in zip(mine, pareto(points), strict=True) if on] if points else []
    return sorted((r.numbers[x].mean, r.numbers[y].mean) for r in kept)


def _error(rows: list[Row], metric: str, color: str, visible: bool) -> dict[str, Any]:
    return {
        "type": "data", "array": [r.numbers[metric].std or 0.0 for r in rows], "thickness": 1, "width": 3,
        "color": color, "visible": visible,
    }  # fmt: skip


def _told(row: Row, metric: str) -> str:
    number = row.numbers.get(metric)
    return "none, it makes no rows" if number is None else f"{number.mean:.3f}"


def _places(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points as shares of the picture's width and height."""
    scaled = []
    for values in zip(*points, strict=True):
        low, high = min(values), max(values)
        scaled.append([(v - low) / (high - low) if high > low else 0.5 for v in values])
    return list(zip(*scaled, strict=True))


def _side(places: list[tuple[float, float]], i: int) -> str:
    """Return where the name of a point stands: inside of the picture, off its bars, and off other points if it can."""
    x, y = places[i]
    inward = ("right", "left") if x < 0.5 else ("left", "right")

    def taken(up: str, side: str) -> int:
        wide, high = (0.22 if side == "right" else -0.22), (0.1 if up == "top" else -0.1)
        return sum(
            0 <= (a - x) / wide <= 1 and 0 <= (b - y) / high <= 1 for j, (a, b) in enumerate(places) if j != i
        )

    # Only inward at an edge, where a name would be cut off.
    sides = inward if 0.25 < x < 0.75 else inward[:1]
    up, side = min(((u, s) for s in sides for u in ("top", "bottom")), key=lambda where: taken(*where))
    return f"{up} {side}"
