"""Figures from rows: each function takes canonical frames or arrays and returns a Plotly figure.

No real row is drawn as such, and no count of fewer than `rows.SMALL_CELL` real rows is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import polars as pl
from numpy.typing import NDArray

from fairsynth.errors import MissingDependencyError, SettingsError
from fairsynth.report.findings import source_label
from fairsynth.report.rows import FEW_VALUES, MISSING, SMALL_CELL, is_numeric, numbers, texts
from fairsynth.report.style import (
    DIVERGING,
    REAL,
    SEQUENTIAL,
    SYNTHETIC,
    color_of,
    hatching,
    pattern_of,
    styled,
)

Floats = NDArray[np.float64]
Method = Literal["pca", "tsne", "umap"]


# ---------------------------------------------------------------------- one column
def marginal(real: pl.Series, synthetic: Mapping[str, pl.Series], *, top: int = 12) -> go.Figure:
    """Draw one column, real and synthetic: a histogram for numbers, bars for categories and missing.

    Parameters
    ----------
    real : polars.Series
        Canonical column of the real rows.
    synthetic : mapping of str to polars.Series
        The same column of every synthetic table, by source.
    top : int, default=12
        Levels with a bar of their own; the others, and those with few real rows, are pooled.
    """
    few = is_numeric(real) and not real.dtype.is_temporal() and real.drop_nulls().n_unique() <= FEW_VALUES
    if is_numeric(real) and not few:
        return _histogram(real, synthetic)
    return _bars(real, synthetic, top)


def _bars(real: pl.Series, synthetic: Mapping[str, pl.Series], top: int) -> go.Figure:
    ordered = is_numeric(real)
    counted = texts(real).value_counts(sort=True)
    counts: dict[str, int] = dict(zip(counted[real.name].to_list(), counted["count"].to_list(), strict=True))
    shown = [level for level, n in counts.items() if n >= SMALL_CELL and level != MISSING][:top]
    if ordered:
        shown.sort(key=float)
    elif isinstance(real.dtype, pl.Enum) and len(shown) == len([c for c in counts if c != MISSING]):
        levels = real.dtype.categories.to_list()
        shown.sort(key=levels.index)
    others = "(others)"
    sources = {"real": real, **synthetic}
    shares: dict[str, dict[str, float]] = {}
    for source, series in sources.items():
        n = max(len(series), 1)
        level_counts = texts(series).value_counts()
        table = dict(zip(level_counts[series.name].to_list(), level_counts["count"].to_list(), strict=True))
        pooled = sum(v for k, v in table.items() if k not in shown and k != MISSING)
        shares[source] = {level: table.get(level, 0) / n for level in shown}
        shares[source] |= {others: pooled / n, MISSING: table.get(MISSING, 0) / n}
    names = shown + [extra for extra in (others, MISSING) if any(s[extra] > 0 for s in shares.values())]
    figure = go.Figure()
    for source in sources:
        figure.add_bar(
            y=[_short(n) for n in names],
            x=[shares[source][n] for n in names],
            orientation="h",
            name=source_label(source),
            marker=_marker(source, list(synthetic)),
            hovertemplate="%{y}: %{x:.1%}<extra>" + source_label(source) + "</extra>",
        )
    return styled(
        figure,
        height=90 + len(names) * (8 + 11 * len(sources)),
        barmode="group",
        bargap=0.2,
        xaxis={"tickformat": ".0%"},
        yaxis={"autorange": "reversed", "type": "category"},
    )


def _histogram(real: pl.Series, synthetic: Mapping[str, pl.Series]) -> go.Figure:
    temporal = real.dtype.is_temporal()
    known = numbers(real)
    known = known[np.isfinite(known)]
    figure = go.Figure()
    if len(known):
        low, high = np.quantile(known, [0.005, 0.995])
        if not high > low:
            low, high = known.min() - 0.5, known.max() + 0.5
        edges = _edges(real, float(low), float(high))
        for source, series in {"real": real, **synthetic}.items():
            counts = np.histogram(np.clip(numbers(series), edges[0], edges[-1]), bins=edges)[0]
            if source == "real":
                counts = np.where(counts < SMALL_CELL, 0, counts)
            share = counts / max(len(series), 1)
            x: Any = edges * 1000 if temporal else edges
            figure.add_scatter(
                x=np.repeat(x, 2)[1:-1],
                y=np.repeat(share, 2),
                name=source_label(source),
                mode="lines",
                fill="tozeroy" if source == "real" else None,
                line={
                    "color": color_of(source, list(synthetic)),
                    "width": 1 if source == "real" else 2,
                    "dash": "solid" if source == "real" else "dot" if len(synthetic) > 1 else "solid",
                },
                hovertemplate="%{y:.1%}<extra>" + source_label(source) + "</extra>",
            )
    return styled(
        figure,
        height=230,
        xaxis={"type": "date" if temporal else "linear", "showgrid": False},
        yaxis={"tickformat": ".0%", "rangemode": "tozero"},
    )


def _edges(real: pl.Series, low: float, high: float) -> Floats:
    bins = 30
    if real.dtype.is_integer():
        width = max(1, int(np.ceil((high - low + 1) / bins)))
        start = np.floor(low) - 0.5
        return start + width * np.arange(int(np.ceil((high - start) / width)) + 1, dtype=np.float64)
    return np.linspace(low, high, bins + 1)


def _marker(source: str, synthetic: list[str]) -> dict[str, Any]:
    return {"color": color_of(source, synthetic), "pattern": hatching(pattern_of(source, synthetic))}


def _short(text: str, length: int = 22) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# ---------------------------------------------------------------------- pairs of columns
def association_heatmap(matrix: Floats, columns: Sequence[str]) -> go.Figure:
    """Draw the strength of association of every pair of columns, 0 (none) to 1.

    Parameters
    ----------
    matrix : ndarray of float64, shape (p, p)
        As `fairsynth.metrics.marginals.association_matrix` gives it; the sign is not drawn.
    columns : sequence of str, length p
        Names.
    """
    return _heatmap(np.abs(matrix), columns, SEQUENTIAL, 0.0, 1.0)


def association_difference(real: Floats, synthetic: Floats, columns: Sequence[str]) -> go.Figure:
    """Draw synthetic minus real association of every pair of columns; colors end at -0.5 and 0.5."""
    return _heatmap(np.abs(synthetic) - np.abs(real), columns, DIVERGING, -0.5, 0.5)


def _heatmap(
    matrix: Floats, columns: Sequence[str], scale: list[list[Any]], low: float, high: float
) -> go.Figure:
    shown = np.where(np.eye(len(columns), dtype=bool), np.nan, np.round(matrix, 3))
    names = [_short(c, 16) for c in columns]
    figure = go.Figure(
        go.Heatmap(
            z=shown,
            x=names,
            y=names,
            zmin=low,
            zmax=high,
            colorscale=scale,
            colorbar={
                "orientation": "h",
                "thickness": 8,
                "len": 1.0,
                "x": 0.5,
                "y": 1.0,
                "yanchor": "bottom",
            },
            xgap=1,
            ygap=1,
            hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
        )
    )
    size = int(np.clip(190 + 15 * len(columns), 300, 640))
    return styled(
        figure,
        height=size,
        legend=False,
        xaxis={"tickangle": -90, "showgrid": False, "type": "category"},
        yaxis={"autorange": "reversed", "showgrid": False, "type": "category"},
    )


# ---------------------------------------------------------------------- all columns at once
def project(
    real: Floats, synthetic: Sequence[Floats], *, method: Method = "pca", seed: int = 0
) -> tuple[Floats, list[Floats]]:
    """Place rows of many columns in the plane.

    Parameters
    ----------
    real : ndarray of float64, shape (n, p)
        Points of real rows; PCA's axes are theirs.
    synthetic : sequence of ndarray, each of shape (m, p)
        Points of synthetic rows.
    method : {"pca", "tsne", "umap"}, default="pca"
        Linear; t-SNE (van der Maaten and Hinton 2008); UMAP, when ``umap-learn`` is installed.
    seed : int, default=0
        Decides everything.

    Returns
    -------
    real, synthetic
        Coordinates, each of shape (rows, 2).

    Raises
    ------
    SettingsError
        If the method is not one of the three.
    MissingDependencyError
        If ``umap-learn`` is wanted and not installed.
    """
    from sklearn.decomposition import PCA

    if method == "pca":
        pca = PCA(n_components=2, random_state=seed).fit(real)
        return pca.transform(real), [pca.transform(s) for s in synthetic]
    everything = np.concatenate([real, *synthetic])
    width = min(30, *everything.shape)
    compact = PCA(n_components=width, random_state=seed).fit_transform(everything)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = float(min(30, max(2, (len(compact) - 1) // 3)))
        plane = TSNE(perplexity=perplexity, init="pca", random_state=seed, max_iter=500).fit_transform(
            compact
        )
    elif method == "umap":
        try:
            import umap  # type: ignore[import-not-found, unused-ignore]
        except ImportError as error:
            raise MissingDependencyError("UMAP needs umap-learn: pip install umap-learn.") from error
        plane = umap.UMAP(random_state=seed).fit_transform(compact)
    else:
        raise SettingsError(f"method={method!r} is not known; choose pca, tsne or umap.")
    cuts = np.cumsum([len(real), *(len(s) for s in synthetic)])[:-1]
    first, *rest = np.split(np.asarray(plane, dtype=np.float64), cuts)
    return first, rest


def projection(
    real: Floats, synthetic: Mapping[str, Floats], *, extent: tuple[Floats, Floats] | None = None
) -> go.Figure:
    """Draw where real rows lie in the plane (shaded) and where synthetic rows do (dots).

    Parameters
    ----------
    real : ndarray of float64, shape (n, 2)
        Plane coordinates of real rows, of one group or of all. Only the crowding is drawn.
    synthetic : mapping of str to ndarray of shape (m, 2)
        Plane coordinates of synthetic rows, by source.
    extent : tuple of two ndarray of shape (2,), optional
        Lower and upper corner, to draw several groups to one scale.
    """
    pools = np.concatenate([real, *synthetic.values()])
    low, high = extent if extent is not None else (pools.min(axis=0), pools.max(axis=0))
    # Fewer rows, larger places: most of them should hold enough people to be shown.
    bins = int(np.clip(np.sqrt(len(real) / 10), 5, 26))
    counts, x, y = np.histogram2d(real[:, 0], real[:, 1], bins=bins, range=list(zip(low, high, strict=True)))
    shade = np.where(counts < SMALL_CELL, np.nan, np.sqrt(counts))
    figure = go.Figure(
        go.Heatmap(
            z=shade.T.round(2),
            x=((x[1:] + x[:-1]) / 2).round(3),
            y=((y[1:] + y[:-1]) / 2).round(3),
            colorscale=[[0, "rgba(59,130,196,0.25)"], [1, "rgba(59,130,196,0.95)"]],
            showscale=False,
            hoverinfo="skip",
        )
    )
    # A heat map has no entry in the legend; a square of its color stands in.
    square = {"color": REAL, "symbol": "square", "size": 12}
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=square, name=source_label("real"))
    for place, (source, points) in enumerate(synthetic.items()):
        figure.add_scatter(
            x=points[:, 0].round(2),
            y=points[:, 1].round(2),
            mode="markers",
            name=source_label(source),
            marker={
                "color": color_of(source, list(synthetic)),
                "size": 4,
                "opacity": 0.65,
                "symbol": ("circle", "x", "diamond", "square", "cross")[place % 5],
            },
            hoverinfo="skip",
        )
    bounds = [list(pair) for pair in zip(low.tolist(), high.tolist(), strict=True)]
    hidden = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": ""}
    return styled(
        figure, height=300, xaxis={"range": bounds[0], **hidden}, yaxis={"range": bounds[1], **hidden}
    )


# ---------------------------------------------------------------------- privacy
def distance_distributions(to_train: Floats, to_holdout: Floats) -> go.Figure:
    """Draw how near synthetic rows come to training rows and to rows never seen.

    A generator that remembers nobody gives two curves that lie on each other; where the curve of
    the training rows is above, synthetic rows are nearer to people it has seen.

    Parameters
    ----------
    to_train, to_holdout : ndarray of float64, shape (m,)
        Distance of each synthetic row to the nearest training row, and to the nearest hold-out row,
        with as many of each to choose from.
    """
    figure = go.Figure()
    grid = np.linspace(0, 1, 201)
    for name, values, color, dash in (
        ("to training rows", to_train, SYNTHETIC[0], "solid"),
        ("to unseen rows", to_holdout, REAL, "dash"),
    ):
        figure.add_scatter(
            x=np.quantile(values, grid).round(4),
            y=grid,
            mode="lines",
            name=name,
            line={"color": color, "dash": dash, "width": 2},
            hovertemplate="%{y:.0%} within %{x:.2f}<extra>" + name + "</extra>",
        )
    return styled(
        figure,
        height=320,
        xaxis={"title": "distance to the closest record", "rangemode": "tozero"},
        yaxis={"title": "share of synthetic rows", "tickformat": ".0%"},
    )


# ---------------------------------------------------------------------- honesty of probabilities
def reliability_curves(
    favorable: NDArray[np.bool_],
    probability: Floats,
    groups: NDArray[np.int64],
    names: Sequence[str],
    *,
    bins: int = 8,
    minimum: int = 30,
) -> go.Figure:
    """Draw what happened against what the model said would, by group.

    Parameters
    ----------
    favorable : ndarray of bool, shape (n,)
        Whether the person truly had the favorable outcome.
    probability : ndarray of float64, shape (n,)
        What the model said.
    groups : ndarray of int64, shape (n,)
        Codes into `names`.
    names : sequence of str
        Groups; those with fewer than `minimum` people are not drawn.
    bins : int, default=8
        Points of a curve, each of as many people.
    minimum : int, default=30
        Fewest people of a group.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="perfectly honest",
        line={"dash": "dot", "width": 1, "color": "rgba(128,128,128,0.9)"},
        hoverinfo="skip",
    )
    palette = (REAL, *SYNTHETIC)
    symbols = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")
    place = 0
    for code, name in enumerate(names):
        member = groups == code
        if member.sum() < minimum:
            continue
        said, happened = probability[member], favorable[member].astype(np.float64)
        pieces = np.array_split(np.argsort(said, kind="stable"), min(bins, max(1, member.sum() // 10)))
        figure.add_scatter(
            x=[float(said[p].mean().round(4)) for p in pieces],
            y=[float(happened[p].mean().round(4)) for p in pieces],
            mode="lines+markers",
            name=name,
            line={"color": palette[place % len(palette)], "width": 2},
            marker={"symbol": symbols[place % len(symbols)], "size": 8},
            hovertemplate="said %{x:.0%}, happened %{y:.0%}<extra>" + name + "</extra>",
        )
        place += 1
    return styled(
        figure,
        height=340,
        xaxis={"title": "probability the model gave", "range": [-0.02, 1.02], "tickformat": ".0%"},
        yaxis={"title": "what happened", "range": [-0.02, 1.02], "tickformat": ".0%"},
    )
