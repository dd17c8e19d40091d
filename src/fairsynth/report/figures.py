"""Figures from scores: each function takes an evaluation and returns a Plotly figure.

Figures that are drawn from rows (marginals, associations, projections, distances, reliability) are in
`fairsynth.report.row_figures` and are named here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from fairsynth.report.findings import Findings, source_label
from fairsynth.report.glossary import lookup
from fairsynth.report.row_figures import (
    association_difference,
    association_heatmap,
    distance_distributions,
    marginal,
    projection,
    reliability_curves,
)
from fairsynth.report.rows import SMALL_CELL
from fairsynth.report.style import SYMBOLS, UNDER_TEXT, color_of, hatching, mark_of, pattern_of, styled
from fairsynth.report.verdict import FOUR_FIFTHS, RATIO_OF

if TYPE_CHECKING:
    from fairsynth.evaluation.result import Evaluation, Score

__all__ = [
    "association_difference",
    "association_heatmap",
    "distance_distributions",
    "fairness_utility_plane",
    "group_rates",
    "intersectional_heatmap",
    "marginal",
    "person_explanation",
    "projection",
    "reliability_curves",
    "shap_comparison",
]


def _findings(evaluation: Evaluation | Findings) -> Findings:
    return evaluation if isinstance(evaluation, Findings) else Findings(evaluation)


def group_rates(
    evaluation: Evaluation | Findings, attribute: str, metric: str = "selection_rate"
) -> go.Figure:
    """Draw a rate by group, trained on real and on synthetic rows, with its 95 % intervals.

    Parameters
    ----------
    evaluation : Evaluation
        Scores with `group` set.
    attribute : str
        Sensitive attribute, joint ones as ``"race × sex"``.
    metric : str, default="selection_rate"
        ``selection_rate``, ``tpr``, ``fpr``, ``ppv`` or any metric that is given by group.
    """
    found = _findings(evaluation)
    synthetic = found.synthetic_sources
    figure = go.Figure()
    groups: dict[str, None] = {}
    drawn = [s for s in found.sources if s not in ("constant", "holdout")]
    for place, source in enumerate(drawn):
        scores = [s for s in _by_group(found, metric, source, attribute) if not _tiny(s)]
        groups.update(dict.fromkeys(s.group for s in scores if s.group))
        if not scores:
            continue
        figure.add_scatter(
            x=[s.value for s in scores],
            y=[s.group for s in scores],
            name=source_label(source),
            mode="markers",
            marker={
                "color": color_of(source, synthetic),
                "size": 11,
                "symbol": mark_of(source, synthetic),
                "line": {"width": 2, "color": color_of(source, synthetic)},
            },
            error_x=_error(scores, color_of(source, synthetic)),
            hovertemplate="%{y}: %{x:.1%}<extra>" + source_label(source) + "</extra>",
            orientation="h",
            offsetgroup=str(place),
            alignmentgroup="groups",
        )
    return styled(
        figure,
        height=120 + (16 + 16 * len(drawn)) * max(len(groups), 1),
        scattermode="group",
        scattergap=0.55,
        xaxis={"title": lookup(metric).label, "tickformat": ".0%", "range": [-0.02, 1.02], "dtick": 0.25},
        yaxis={"autorange": "reversed", "type": "category", "showgrid": True},
    )


def _tiny(score: Score) -> bool:
    """Say whether a rate rests on so few real people that it would speak of them singly."""
    return score.n is not None and score.n < SMALL_CELL


def _by_group(found: Findings, metric: str, source: str, attribute: str) -> list[Score]:
    scores = [
        s
        for s in found.select(metric, source=source, attribute=attribute, label=None)
        if s.group is not None and s.value is not None
    ]
    for model in ("mean", None):
        chosen = [s for s in scores if s.model == model]
        if chosen:
            return chosen
    models = list(dict.fromkeys(s.model for s in scores))
    return [s for s in scores if s.model == models[0]] if models else []


def _error(scores: list[Score], color: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if s.high is None else max(s.high - (s.value or 0.0), 0.0) for s in scores],
        "arrayminus": [0.0 if s.low is None else max((s.value or 0.0) - s.low, 0.0) for s in scores],
        "color": color,
        "thickness": 1.5,
        "width": 5,
    }


def fairness_utility_plane(
    evaluation: Evaluation | Findings, attribute: str | None = None, criterion: str = "demographic_parity"
) -> go.Figure:
    """Draw every model of every source by how useful (AUROC) and how fair (criterion's ratio) it is.

    The upper right corner is where one wants to be; the constant predictor sits upper left.

    Parameters
    ----------
    evaluation : Evaluation
        Scores of ``auroc`` and the criterion's ratio, by model.
    attribute : str, optional
        Sensitive attribute; the main one when not given.
    criterion : str, default="demographic_parity"
        Which ratio is drawn upwards.
    """
    found = _findings(evaluation)
    attribute = attribute or found.main_attribute
    ratio = RATIO_OF.get(criterion, "dpr")
    synthetic = found.synthetic_sources
    across = "auroc" if found.select("auroc") else "r2"
    figure = go.Figure()
    for source in found.sources:
        points: list[tuple[str, float, float]] = []
        for score in found.select(across, source=source, label=None):
            up = found.select(
                ratio, source=source, attribute=attribute, model=score.model, group=None, label=None
            )
            if score.value is not None and up and up[0].value is not None:
                points.append((score.model or "model", score.value, up[0].value))
        if not points:
            continue
        figure.add_scatter(
            x=[p[1] for p in points],
            y=[p[2] for p in points],
            text=[p[0].replace("_", " ") for p in points],
            name=source_label(source),
            mode="markers",
            marker={
                "color": color_of(source, synthetic),
                "opacity": 1,
                "symbol": [SYMBOLS.get(p[0], "cross") for p in points],
                "size": [16 if p[0] == "mean" else 10 for p in points],
                "line": {"width": 1, "color": "rgba(128,128,128,0.9)"},
            },
            hovertemplate="%{text}<br>%{x:.3f}, %{y:.3f}<extra>" + source_label(source) + "</extra>",
        )
    figure.add_hline(
        y=FOUR_FIFTHS,
        line={"dash": "dash", "width": 1, "color": "rgba(128,128,128,0.9)"},
        annotation_text="four fifths",
        annotation_position="bottom left",
    )
    return styled(
        figure,
        height=380,
        xaxis={"title": f"{lookup(across).label} (further right: more useful)"},
        yaxis={"title": f"{lookup(ratio).label}<br>(higher: fairer)", "range": [0, 1.05]},
    )


def intersectional_heatmap(
    evaluation: Evaluation | Findings, attribute: str, source: str, metric: str = "selection_rate"
) -> go.Figure:
    """Draw a rate in every joint group: the first attribute down, the others across.

    Parameters
    ----------
    evaluation : Evaluation
        Scores with `attribute` a joint one and `group` written ``"Black × Female"``.
    attribute : str
        The joint attribute, ``"race × sex"``.
    source : str
        Whose models: ``"real"``, ``"synthetic"``, ``"synthetic:NAME"``.
    metric : str, default="selection_rate"
        Rate to show.
    """
    found = _findings(evaluation)
    cells = {tuple((s.group or "").split(" × ", 1)): s for s in _by_group(found, metric, source, attribute)}
    down = list(dict.fromkeys(key[0] for key in cells))
    across = list(dict.fromkeys(key[-1] for key in cells))
    table = [[cells.get((d, a)) for a in across] for d in down]
    figure = go.Figure(
        go.Heatmap(
            z=[[None if c is None or _tiny(c) else c.value for c in row] for row in table],
            x=across,
            y=down,
            text=[[_cell_text(c) for c in row] for row in table],
            texttemplate="%{text}",
            textfont={"color": "#101418"},
            zmin=0,
            zmax=1,
            colorscale=UNDER_TEXT,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{y} × %{x}: %{text}<extra></extra>",
        )
    )
    return styled(
        figure,
        height=90 + 46 * max(len(down), 1),
        legend=False,
        xaxis={"side": "top", "type": "category", "showgrid": False},
        yaxis={"autorange": "reversed", "type": "category", "showgrid": False},
    )


def _cell_text(score: Score | None) -> str:
    if score is None or score.value is None:
        return ""
    if _tiny(score):
        return f"n<{SMALL_CELL}"
    return f"{score.value:.0%}" + ("" if score.n is None else f"<br>n={score.n:,}")


def shap_comparison(
    evaluation: Evaluation | Findings, metric: str = "shap_share", attribute: str | None = None, top: int = 15
) -> go.Figure:
    """Draw how much each column drives decisions, trained on real and on synthetic rows.

    Parameters
    ----------
    evaluation : Evaluation
        Scores of section ``explanation``.
    metric : str, default="shap_share"
        ``shap_share``, ``shap_importance`` or ``shap_group_gap``.
    attribute : str, optional
        For ``shap_group_gap``, between the groups of which attribute.
    top : int, default=15
        Columns to show, by the largest value of any source.
    """
    found = _findings(evaluation)
    synthetic = found.synthetic_sources
    values: dict[str, dict[str, float]] = {}
    for score in found.select(metric, attribute=attribute, group=None):
        if score.column and score.source and score.value is not None:
            values.setdefault(score.source, {})[score.column] = score.value
    columns = {c: max(v.get(c, 0.0) for v in values.values()) for v in values.values() for c in v}
    shown = sorted(columns, key=columns.__getitem__, reverse=True)[:top]
    figure = go.Figure()
    for source in [s for s in ("real", *synthetic) if s in values]:
        figure.add_bar(
            y=shown,
            x=[values[source].get(c, 0.0) for c in shown],
            orientation="h",
            name=source_label(source),
            marker={
                "color": color_of(source, synthetic),
                "pattern": hatching(pattern_of(source, synthetic)),
            },
            hovertemplate="%{y}: %{x:.3f}<extra>" + source_label(source) + "</extra>",
        )
    share = lookup(metric).style == "share"
    return styled(
        figure,
        height=110 + len(shown) * (16 + 14 * max(len(values), 1)),
        barmode="group",
        bargap=0.25,
        xaxis={"title": lookup(metric).label, "tickformat": ".0%" if share else ""},
        yaxis={"autorange": "reversed", "type": "category"},
    )


def person_explanation(columns: list[str], contributions: list[float], values: list[str]) -> go.Figure:
    """Draw what pushed one decision, and which way.

    Parameters
    ----------
    columns : list of str, length p
        Columns, strongest first.
    contributions : list of float, length p
        SHAP contributions in log-odds of the favorable outcome.
    values : list of str, length p
        The person's values, as text.
    """
    names = [f"{c} = {v} ({phi:+.2f})" for c, v, phi in zip(columns, values, contributions, strict=True)]
    figure = go.Figure(
        go.Bar(
            y=names,
            x=contributions,
            orientation="h",
            marker={
                "color": [
                    color_of("real", []) if c >= 0 else color_of("synthetic", []) for c in contributions
                ],
                "pattern": hatching(["" if c >= 0 else "/" for c in contributions]),
            },
            hovertemplate="%{y}<extra></extra>",
        )
    )
    return styled(
        figure,
        height=90 + 28 * len(names),
        legend=False,
        xaxis={"title": "push to the favorable decision (log-odds)"},
        yaxis={"autorange": "reversed", "type": "category"},
    )
