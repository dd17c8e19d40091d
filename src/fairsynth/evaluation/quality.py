"""SDMetrics' quality score, if the optional library is installed."""

from __future__ import annotations

from typing import Any

import polars as pl

from fairsynth.evaluation.context import Context

_SDTYPES = {
    "continuous": "numerical",
    "integer": "numerical",
    "categorical": "categorical",
    "boolean": "boolean",
    "datetime": "datetime",
}
_PROPERTIES = {"Column Shapes": "column_shapes", "Column Pair Trends": "column_pair_trends"}
_ROWS = 10_000


def score_quality(context: Context) -> None:
    """Score SDMetrics' quality report (column shapes and pair trends), beside hold-out rows."""
    if not context.depth.quality:
        return
    try:
        from sdmetrics.reports.single_table import QualityReport
    except ImportError:
        context.note("SDMetrics' quality score was left out: install fairsynth[metrics] for it.")
        return
    metadata = {
        "columns": {name: {"sdtype": _SDTYPES[context.schema[name].kind]} for name in context.columns}
    }
    real = _pandas(context, context.train.frame, "real")
    for source, table in ({"holdout": context.test} | context.synthetic).items():
        context.tick(f"quality of {source}")
        report = QualityReport()
        report.generate(real, _pandas(context, table.frame, source), metadata, verbose=False)
        note = f"SDMetrics, at most {_ROWS:,} rows on either side"
        context.add("fidelity", "quality_score", report.get_score(), source=source, note=note)
        for _, row in report.get_properties().iterrows():
            if row["Property"] in _PROPERTIES:
                metric = _PROPERTIES[row["Property"]]
                context.add("fidelity", metric, row["Score"], source=source, note=note)


def _pandas(context: Context, frame: pl.DataFrame, source: str) -> Any:
    """Return some rows as pandas objects that SDMetrics knows: texts, numbers, times."""
    some = context.sample(frame, _ROWS, f"quality {source}").select(context.columns)
    return some.with_columns(pl.selectors.enum().cast(pl.String)).to_pandas()
