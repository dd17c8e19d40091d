from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA

from fairsynth.errors import SettingsError
from fairsynth.evaluation.result import Evaluation, Score
from fairsynth.report import figures
from fairsynth.report.row_figures import project
from fairsynth.report.rows import SMALL_CELL


def rate(source, group, value, n, **more):
    where = {"section": "fairness", "metric": "selection_rate", "attribute": "race × sex", "model": "mean"}
    return Score(source=source, group=group, value=value, n=n, **where, **more)


@pytest.fixture
def rates() -> Evaluation:
    return Evaluation(
        scores=[
            rate("synthetic", "a × f", 0.5, 50, low=0.4, high=0.7),
            rate("synthetic", "a × m", 0.6, 60),
            rate("synthetic", "b × m", 1.0, SMALL_CELL - 1),
            rate("real", "a × f", 0.2, 50),
        ]
    )


def test_group_rates_draw_value_and_interval_and_hide_tiny_groups(rates):
    figure = figures.group_rates(rates, "race × sex")
    synthetic = next(t for t in figure.data if t.name == "Synthetic table")
    assert list(synthetic.y) == ["a × f", "a × m"]
    assert list(synthetic.x) == [0.5, 0.6]
    assert synthetic.error_x.array[0] == pytest.approx(0.2)
    assert synthetic.error_x.arrayminus[0] == pytest.approx(0.1)
    assert len({t.marker.symbol for t in figure.data}) == len(figure.data) == 2


def test_heat_map_puts_joint_groups_in_their_place(rates):
    heat = figures.intersectional_heatmap(rates, "race × sex", "synthetic").data[0]
    assert list(heat.y) == ["a", "b"]
    assert list(heat.x) == ["f", "m"]
    assert heat.z[0][0] == 0.5 and heat.z[0][1] == 0.6
    assert heat.z[1][0] is None and heat.z[1][1] is None
    assert heat.text[1][1] == f"n<{SMALL_CELL}"


def test_plane_holds_every_model_of_every_source(single):
    figure = figures.fairness_utility_plane(single)
    drawn = {t.name: set(t.text) for t in figure.data if t.name}
    models = {"mean", "lightgbm", "logistic regression"}
    assert drawn["Synthetic table"] == drawn["Real data"] == models
    constant = next(t for t in figure.data if t.name == "Constant predictor")
    assert (constant.x[0], constant.y[0]) == (0.5, 1.0)
    star = next(t for t in figure.data if t.name == "Real data")
    at = list(star.text).index("mean")
    assert star.x[at] == single.value("auroc", "real") and star.y[at] == single.value("dpr", "real")


def test_bars_count_every_row_once_and_pool_rare_levels():
    real = pl.Series("job", ["a"] * 50 + ["b"] * 46 + ["rare"] * (SMALL_CELL - 1) + [None] * 10)
    synthetic = pl.Series("job", ["a"] * 5 + ["new"] * 5)
    figure = figures.marginal(real, {"synthetic": synthetic})
    for trace in figure.data:
        assert sum(trace.x) == pytest.approx(1)
    assert list(figure.data[0].y) == ["a", "b", "(others)", "(missing)"]
    np.testing.assert_allclose(figure.data[0].x, np.array([50, 46, 4, 10]) / 110)
    np.testing.assert_allclose(figure.data[1].x, [0.5, 0, 0.5, 0])
    assert "rare" not in figure.to_json()


def test_histogram_hides_small_counts_of_real_rows_and_keeps_all_synthetic_ones():
    rng = np.random.default_rng(0)
    real = pl.Series("x", np.concatenate([rng.normal(size=500), [7.123456]]))
    synthetic = pl.Series("x", rng.normal(size=400))
    first, second = figures.marginal(real, {"synthetic": synthetic}).data
    shown = np.asarray(first.y)[::2] * 501
    assert shown[shown > 0].min() >= SMALL_CELL - 1e-9
    assert sum(np.asarray(second.y)[::2]) == pytest.approx(1)
    assert "7.123456" not in figures.marginal(real, {"synthetic": synthetic}).to_json()


def test_integers_of_few_values_stand_in_order():
    real = pl.Series("n", [10, 9, 2, 1] * 20)
    figure = figures.marginal(real, {"synthetic": real})
    assert list(figure.data[0].y) == ["1", "2", "9", "10"]


@pytest.mark.parametrize(
    "series",
    [
        pl.Series("x", [None, None], dtype=pl.Float64),
        pl.Series("x", [1.5] * 30),
        pl.Series("x", [True, False, None] * 9),
        pl.Series("x", pl.datetime_range(pl.date(2020, 1, 1), pl.date(2021, 1, 1), "1d", eager=True)),
        pl.Series("x", [f"level {i}" for i in range(1000)]),
        pl.Series("x", list(range(5000))),
    ],
)
def test_any_column_can_be_drawn(series):
    figure = figures.marginal(series, {"synthetic": series.head(3), "synthetic:b": series})
    json.loads(figure.to_json())


def test_pca_is_that_of_the_real_rows():
    rng = np.random.default_rng(0)
    real, other = rng.normal(size=(200, 6)) * np.arange(1, 7), rng.normal(size=(50, 6))
    flat, (moved,) = project(real, [other])
    own = PCA(2, random_state=0).fit(real)
    np.testing.assert_allclose(np.abs(flat), np.abs(own.transform(real)), atol=1e-8)
    np.testing.assert_allclose(np.abs(moved), np.abs(own.transform(other)), atol=1e-8)


def test_tsne_keeps_clusters_and_is_repeatable():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(size=(40, 5)), rng.normal(size=(40, 5)) + 30])
    flat, _ = project(real, [real[:10]], method="tsne")
    again, _ = project(real, [real[:10]], method="tsne")
    np.testing.assert_array_equal(flat, again)
    within = np.linalg.norm(flat[:40] - flat[:40].mean(axis=0), axis=1).mean()
    assert np.linalg.norm(flat[:40].mean(axis=0) - flat[40:].mean(axis=0)) > 2 * within


def test_unknown_projection_is_an_error():
    with pytest.raises(SettingsError, match="choose pca, tsne or umap"):
        project(np.eye(9), [np.eye(9)], method="magic")


def test_projection_draws_no_real_row_and_no_small_place():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(size=(600, 2)), [[8.0, 8.0]]])
    figure = figures.projection(real, {"synthetic": rng.normal(size=(30, 2))})
    shade = np.array(figure.data[0].z, dtype=float)
    assert np.nanmin(shade) ** 2 >= SMALL_CELL - 0.1
    assert np.isnan(shade[-1, -1])
    points = [t for t in figure.data if t.type == "scatter" and t.x[0] is not None]
    assert [len(t.x) for t in points] == [30]


def test_difference_of_the_same_matrix_is_nothing():
    matrix = np.array([[1, 0.4, -0.2], [0.4, 1, 0.1], [-0.2, 0.1, 1]])
    same = np.array(figures.association_difference(matrix, matrix, ["a", "b", "c"]).data[0].z, dtype=float)
    assert np.nanmax(np.abs(same)) == 0
    shown = np.array(figures.association_heatmap(matrix, ["a", "b", "c"]).data[0].z, dtype=float)
    assert np.isnan(np.diag(shown)).all()
    assert shown[0, 2] == 0.2


def test_distance_curves_are_empirical_distributions():
    near, far = np.linspace(0, 1, 1001), np.linspace(1, 2, 1001)
    first, second = figures.distance_distributions(near, far).data
    at = list(first.y).index(0.5)
    assert (first.x[at], second.x[at]) == (0.5, 1.5)


def test_honest_probabilities_lie_on_the_diagonal_and_small_groups_are_left_out():
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    happened = rng.random(40_000) < p
    groups = (np.arange(40_000) >= 39_990).astype(np.int64)
    figure = figures.reliability_curves(happened, p, groups, ["many", "few"])
    assert [t.name for t in figure.data] == ["perfectly honest", "many"]
    np.testing.assert_allclose(figure.data[1].y, figure.data[1].x, atol=0.03)
    lying = figures.reliability_curves(happened, np.sqrt(p), groups, ["many", "few"])
    assert np.mean(np.array(lying.data[1].x) - np.array(lying.data[1].y)) > 0.1


def test_explanations_stand_side_by_side_strongest_first():
    where = {"section": "explanation", "metric": "shap_share", "model": "lightgbm"}
    scores = [
        Score(source=s, column=c, value=v, **where)
        for s, c, v in [
            ("real", "a", 0.1),
            ("real", "b", 0.9),
            ("synthetic", "a", 0.7),
            ("synthetic", "b", 0.3),
        ]
    ]
    real, synthetic = figures.shap_comparison(Evaluation(scores=scores)).data
    assert list(real.y) == ["b", "a"]
    assert (list(real.x), list(synthetic.x)) == ([0.9, 0.1], [0.3, 0.7])
