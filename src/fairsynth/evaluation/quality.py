"""SDMetrics' quality score, if the optional library is installed."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
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
    if find_spec("sdmetrics") is None:
        context.note("SDMetrics' quality score was left out: install fairsynth[metrics] for it.")
        return
    metadata = {
        "columns": {name: {"sdtype": _SDTYPES[context.schema[name].kind]} for name in context.columns}
    }
    real = _pandas(context, context.train.frame, "real")
    for source, table in ({"holdout": context.test} | context.synthetic).items():
        context.tick(f"quality of {source}")
        with warnings.catch_warnings():
            # SciPy's remarks on SDMetrics' way of calling it are not about these tables.
            warnings.simplefilter("ignore", RuntimeWarning)
            report = _report(real, _pandas(context, table.frame, source), metadata)
        note = f"SDMetrics, at most {_ROWS:,} rows on either side"
        context.add("fidelity", "quality_score", report.get_score(), source=source, note=note)
        for _, row in report.get_properties().iterrows():
            if row["Property"] in _PROPERTIES:
                metric = _PROPERTIES[row["Property"]]
                context.add("fidelity", metric, row["Score"], source=source, note=note)


def _report(real: Any, synthetic: Any, metadata: dict[str, Any]) -> Any:
    """Run the quality report under its name of today, or under that of SDMetrics before 0.32."""
    try:
        from sdmetrics.reports import QualityReport

        report = QualityReport()
        whole = {"tables": {"rows": metadata}, "relationships": []}
        report.generate({"rows": real}, {"rows": synthetic}, whole, verbose=False)
    except ImportError:
        from sdmetrics.reports.single_table import QualityReport as Older

        report = Older()
        report.generate(real, synthetic, metadata, verbose=False)
    return report


def _pandas(context: Context, frame: pl.DataFrame, source: str) -> Any:
    """Return some rows as pandas objects that SDMetrics knows: texts, numbers, times."""
    some = context.sample(frame, _ROWS, f"quality {source}").select(context.columns)
    return some.with_columns(pl.selectors.enum().cast(pl.String)).to_pandas()
