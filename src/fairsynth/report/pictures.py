"""Which pictures the page shows, with their titles and captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fairsynth.report import figures
from fairsynth.report.findings import Findings, is_synthetic, source_label
from fairsynth.report.glossary import lookup
from fairsynth.report.row_figures import project
from fairsynth.report.rows import (
    PICTURE_ROWS,
    SMALL_CELL,
    association_arrays,
    picture_columns,
    picture_points,
    sample_frame,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go
    import polars as pl

    from fairsynth.data.table import Table
    from fairsynth.explain import Explanation

#: Columns with a picture of their own; the least faithful come first.
MOST_COLUMNS = 40
#: Columns in a matrix of associations.
MOST_PAIRS = 30
#: Rows of each table in the plane; t-SNE takes seconds for a few thousand.
PLANE_ROWS = {"pca": 2500, "tsne": 700, "umap": 1500}
METHODS = {
    "pca": "Principal components: the plane in which real rows differ most.",
    "tsne": "t-SNE: rows that are alike stay neighbors; distances between clumps mean nothing.",
    "umap": "UMAP: rows that are alike stay neighbors; distances between clumps mean little.",
}
_PLANE = (
    f"Shaded: where real rows lie (places of fewer than {SMALL_CELL} are left blank, for their privacy). "
    "Dots: synthetic rows. Dots should fill the shade and stay within it."
)


@dataclass(frozen=True)
class Picture:
    """A figure with its title and what to see in it."""

    title: str
    caption: str
    figure: go.Figure
    wide: bool = False

    @property
    def json(self) -> str:
        """The figure as JSON that can stand inside a script element."""
        # Plotly escapes these itself today; a page that could be broken out of would be worth a belt, too.
        text: str = self.figure.to_json()
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

    @property
    def height(self) -> int:
        """Height in pixels, kept free before the figure is drawn."""
        return int(self.figure.layout.height or 320)


@dataclass
class Tables:
    """The rows that pictures are drawn from, when they are at hand.

    Attributes
    ----------
    train, test : Table or None
        Real rows.
    synthetic : dict of str to Table
        Synthetic tables by source.
    predictions, models : dict
        As `Evaluation.artifacts` holds them: source → model name → array or fitted model.
    """

    train: Table | None = None
    test: Table | None = None
    synthetic: dict[str, Table] = field(default_factory=dict)
    predictions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seed: int = 0

    def cell(self, source: str, row: int, column: str) -> str | None:
        """Return one value of a synthetic table as text; None when the table is not at hand."""
        table = self.synthetic.get(source)
        if table is None or column not in table.frame.columns or not 0 <= row < len(table):
            return None
        return plain(table.frame[row, column])

    def frames(self, n: int) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
        """Return at most `n` rows of the real train table and of every synthetic one."""
        assert self.train is not None
        real = sample_frame(self.train.frame, n, self.seed)
        return real, {s: sample_frame(t.frame, n, self.seed) for s, t in self.synthetic.items()}


def plane(found: Findings, criterion: str) -> list[Picture]:
    """Show how fair and how useful every model of every source is."""
    picked = found.main_attribute
    figure = figures.fairness_utility_plane(found, picked, criterion)
    if not _drawn(figure):
        return []
    caption = (
        f"Each mark is one kind of model; the star is their mean. Fairness is by {picked}. Up and to the "
        "right is better; the constant predictor shows that fairness alone is easily had."
    )
    return [Picture("Fair and useful at once?", caption, figure, wide=True)]


def fairness(found: Findings, attribute: str) -> list[Picture]:
    """Show the rates of every group, and of joint groups as a heat map."""
    pictures = []
    for metric in ("selection_rate", "tpr", "fpr"):
        figure = figures.group_rates(found, attribute, metric)
        if _drawn(figure):
            caption = f"{lookup(metric).meaning} Bars are 95 % intervals. The closer the groups, the fairer."
            pictures.append(Picture(f"{lookup(metric).label} by {attribute}", caption, figure))
    if " × " in attribute:
        for source in ("real", *found.synthetic_sources):
            if found.select("selection_rate", source=source, attribute=attribute):
                figure = figures.intersectional_heatmap(found, attribute, source)
                title = f"Favorable decisions: {_trained(source)}"
                pictures.append(Picture(title, f"Share favored in every joint group of {attribute}.", figure))
    return pictures


def reliability(tables: Tables, found: Findings, model: str = "lightgbm") -> list[Picture]:
    """Show, by group of the main attribute, whether stated probabilities are honest."""
    attribute = found.main_attribute
    if tables.test is None or tables.train is None or attribute is None or " × " in attribute:
        return []
    from fairsynth.evaluation.downstream import Task

    task = Task.of(tables.train.schema)
    if task.kind == "regression":
        return []
    groups = tables.test.groups([attribute])
    truth = task.values(tables.test.frame, tables.train.schema)
    known = ~np.isnan(truth)
    pictures = []
    for source in ("real", *found.synthetic_sources):
        prediction = tables.predictions.get(source, {}).get(model)
        if prediction is None or len(prediction) != len(truth):
            continue
        probability = np.asarray(prediction, dtype=np.float64)
        probability = task.probability(probability) if probability.ndim == 2 else probability
        figure = figures.reliability_curves(
            task.is_favorable(truth)[known], probability[known], groups.codes[known], groups.names
        )
        caption = (
            "Of the people to whom the model gave a probability, how many had the favorable outcome. On the "
            "dotted line it is honest; above, it thinks too little of the group."
        )
        pictures.append(Picture(f"Honest probabilities? {_trained(source)}", caption, figure))
    return pictures


def marginals(tables: Tables, found: Findings) -> list[Picture]:
    """Show every column, real and synthetic, the least faithful first."""
    if tables.train is None or not tables.synthetic:
        return []
    first = next(iter(tables.synthetic))
    distance = {
        s.column: s.value
        for m in ("ks", "total_variation")
        for s in found.select(m, source=first)
        if s.column and s.value is not None
    }
    columns = sorted(picture_columns(tables.train), key=lambda c: -distance.get(c, 0.0))[:MOST_COLUMNS]
    real, synthetic = tables.frames(PICTURE_ROWS)
    pictures = []
    for name in columns:
        figure = figures.marginal(real[name], {s: f[name] for s, f in synthetic.items()})
        caption = f"Distance {distance[name]:.2f} of at most 1." if name in distance else ""
        pictures.append(Picture(name, caption, figure))
    return pictures


def associations(tables: Tables) -> list[Picture]:
    """Show the strength of association of all pairs: real, synthetic, and their difference."""
    if tables.train is None or not tables.synthetic:
        return []
    from fairsynth.metrics.marginals import association_matrix

    columns = picture_columns(tables.train)
    kept = columns[: MOST_PAIRS - 1] + columns[-1:] if len(columns) > MOST_PAIRS else columns
    place = [columns.index(c) for c in kept]
    real, synthetic = tables.frames(PICTURE_ROWS)

    def matrix(frame: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
        arrays, numeric = association_arrays(tables.train, frame)  # type: ignore[arg-type]
        return association_matrix([arrays[i] for i in place], [numeric[i] for i in place])

    base = matrix(real)
    scale = "0 is none, 1 the strongest (Pearson's |r|, Cramér's V, or the correlation ratio)."
    pictures = [Picture("Associations: real rows", scale, figures.association_heatmap(base, kept))]
    for source, frame in synthetic.items():
        other = matrix(frame)
        name = source_label(source)
        pictures.append(Picture(f"Associations: {name}", scale, figures.association_heatmap(other, kept)))
        figure = figures.association_difference(base, other, kept)
        pictures.append(
            Picture(f"{name} minus real", "Blue: stronger than in the real rows. Orange: weaker.", figure)
        )
    return pictures


def plane_rows(method: str, tables: int) -> int:
    """Return the rows of each table that are placed; several tables share the place of one."""
    return max(2 * PLANE_ROWS[method] // (1 + tables), 200)


def planes(tables: Tables, method: str = "pca") -> list[Picture]:
    """Show all columns at once, in two dimensions: everybody, then the largest groups."""
    if tables.train is None or not tables.synthetic:
        return []
    real, synthetic = tables.frames(plane_rows(method, len(tables.synthetic)))
    points = picture_points(tables.train, [real, *synthetic.values()])
    if points[0].shape[1] < 2:
        return []
    flat, others = project(points[0], points[1:], method=method, seed=tables.seed)  # type: ignore[arg-type]
    pool = np.concatenate([flat, *others])
    low, high = np.quantile(pool, [0.002, 0.998], axis=0)
    margin = (high - low) * 0.05
    extent = (low - margin, high + margin)
    pictures = [
        Picture(
            "Everybody",
            f"{METHODS[method]} {_PLANE}",
            figures.projection(flat, dict(zip(synthetic, others, strict=True)), extent=extent),
        )
    ]
    if not tables.train.schema.sensitive:
        return pictures
    main = list(tables.train.schema.sensitive[:1])
    of_real = tables.train.replace(real).groups(main)
    of_others = {s: tables.train.replace(f).groups(main) for s, f in synthetic.items()}
    sizes = {name: int((of_real.codes == i).sum()) for i, name in enumerate(of_real.names)}
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]:
        member = of_real.codes == of_real.names.index(name)
        if member.sum() < SMALL_CELL:
            continue
        mine = {
            s: points_of[_member(of_others[s], name)]
            for (s, points_of) in zip(synthetic, others, strict=True)
        }
        figure = figures.projection(flat[member], mine, extent=extent)
        pictures.append(Picture(f"{main[0]}: {name}", _PLANE, figure))
    return pictures


def _member(groups: Any, name: str) -> Any:
    if name not in groups.names:
        return np.zeros(len(groups.codes), dtype=bool)
    return groups.codes == groups.names.index(name)


def distances(tables: Tables, n: int = 2000) -> list[Picture]:
    """Show how near synthetic rows come to training rows, beside rows never seen."""
    if tables.train is None or tables.test is None or not tables.synthetic:
        return []
    from fairsynth.metrics.manifold import nearest

    n = min(n, len(tables.train), len(tables.test))
    train, test = (sample_frame(t.frame, n, tables.seed) for t in (tables.train, tables.test))
    pictures = []
    for source, table in tables.synthetic.items():
        rows = sample_frame(table.frame, n, tables.seed)
        a, b, c = picture_points(tables.train, [train, test, rows], reach=100.0)
        figure = figures.distance_distributions(nearest(c, a)[0][:, 0], nearest(c, b)[0][:, 0])
        caption = (
            f"Each curve: the share of synthetic rows within a distance of the nearest of {n:,} real rows. "
            "The two should lie on each other; where the training curve is higher, synthetic rows hug people "
            "whom the generator has seen."
        )
        pictures.append(Picture(f"Nearest real rows: {source_label(source)}", caption, figure))
    return pictures


def explained(found: Findings) -> list[Picture]:
    """Show what drives decisions, trained on real and on synthetic rows."""
    pictures = []
    figure = figures.shap_comparison(found, "shap_share")
    if _drawn(figure):
        pictures.append(Picture("What drives decisions", lookup("shap_share").meaning, figure))
    for attribute in found.single_attributes:
        figure = figures.shap_comparison(found, "shap_group_gap", attribute)
        if _drawn(figure):
            title = f"What drives the groups of {attribute} apart"
            pictures.append(Picture(title, lookup("shap_group_gap").meaning, figure))
    return pictures


def persons(explanation: Explanation, source: str, rows: Mapping[str, int], top: int = 8) -> list[Picture]:
    """Show single decisions, column by column.

    Parameters
    ----------
    explanation : Explanation
        Of people who may be shown.
    source : str
        Whose model.
    rows : mapping of str to int
        Titles and row numbers.
    top : int, default=8
        Columns shown, the strongest first.
    """
    pictures = []
    for title, row in rows.items():
        steps = explanation.person(row, source)[:top]
        figure = figures.person_explanation(
            [c for c, _, _ in steps],
            [phi for _, _, phi in steps],
            [plain(v) for _, v, _ in steps],
        )
        caption = f"The {len(steps)} columns that weigh most. To the right: towards the favorable decision."
        pictures.append(Picture(title, caption, figure))
    return pictures


def plain(value: Any) -> str:
    """Write one cell of a table for a reader."""
    if value is None:
        return "missing"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _drawn(figure: go.Figure) -> bool:
    return any(getattr(t, "x", None) is not None and len(t.x) for t in figure.data)


def _trained(source: str) -> str:
    return "trained on " + ("real rows" if source == "real" else _named(source))


def _named(source: str) -> str:
    return (
        "synthetic rows"
        if source == "synthetic"
        else source_label(source)
        if is_synthetic(source)
        else source
    )
