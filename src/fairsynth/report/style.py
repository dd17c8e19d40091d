"""How figures look: one palette, readable on white and on black, never color alone."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from fairsynth.report.findings import is_synthetic

#: Okabe and Ito's palette, told apart in the common kinds of color blindness.
REAL, CONSTANT, HOLDOUT = "#3b82c4", "#8a8f98", "#56b4e9"
SYNTHETIC = ("#d9650b", "#009e73", "#cc79a7", "#b58900", "#7a5fd0")
SYMBOLS = {
    "lightgbm": "circle",
    "logistic_regression": "square",
    "ridge_regression": "square",
    "random_forest": "diamond",
    "mean": "star",
}
MARKS = ("diamond", "square", "triangle-up", "star", "x")
PATTERNS = ("/", "x", ".", "\\", "+")
GRID = "rgba(128,128,128,0.25)"
#: Blues that are readable under dark and under light text.
SEQUENTIAL = [[0.0, "#f1f5fb"], [0.35, "#b5cdea"], [0.7, "#5b93cf"], [1.0, "#1f5a9e"]]
#: Light enough for dark figures on every one of them.
UNDER_TEXT = [[0.0, "#f4f7fc"], [1.0, "#86b3e2"]]
DIVERGING = [[0.0, "#b0520a"], [0.25, "#e8a46c"], [0.5, "#f4f4f4"], [0.75, "#8ab6de"], [1.0, "#1f5a9e"]]


def color_of(source: str, synthetic: list[str]) -> str:
    """Return the color of a source, the same in every figure of a page."""
    if is_synthetic(source):
        place = synthetic.index(source) if source in synthetic else 0
        return SYNTHETIC[place % len(SYNTHETIC)]
    return {"real": REAL, "constant": CONSTANT, "holdout": HOLDOUT}.get(source, CONSTANT)


def pattern_of(source: str, synthetic: list[str]) -> str:
    """Return the hatching of a source's bars, so that they differ without color."""
    if not is_synthetic(source):
        return ""
    place = synthetic.index(source) if source in synthetic else 0
    return PATTERNS[place % len(PATTERNS)]


def mark_of(source: str, synthetic: list[str]) -> str:
    """Return the shape of a source's marks, so that they differ without color."""
    if not is_synthetic(source):
        return "circle-open"
    place = synthetic.index(source) if source in synthetic else 0
    return MARKS[place % len(MARKS)]


def hatching(shape: str | list[str]) -> dict[str, Any]:
    """Return the pattern of filled bars, hatched over their color."""
    return {
        "shape": shape,
        "fillmode": "overlay",
        "fgcolor": "rgba(255,255,255,0.75)",
        "size": 7,
        "solidity": 0.25,
    }


def styled(figure: go.Figure, *, height: int = 320, legend: bool = True, **layout: Any) -> go.Figure:
    """Give a figure the page's look: transparent ground, thin grid, legend above, nothing to drag."""
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        margin={"l": 8, "r": 8, "t": 34 if legend else 10, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 12},
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "xanchor": "left"},
        dragmode=False,
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True, fixedrange=True)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, automargin=True, fixedrange=True)
    figure.update_layout(**layout)
    return figure
