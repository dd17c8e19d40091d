"""What was measured, as Markdown tables."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.common import RESULTS

SHOWN = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "dpr": "DPR",
    "dpr_large_groups": "DPR, groups of 100+",
    "eor": "EOR",
    "eor_large_groups": "EOR, groups of 100+",
    "coverage": "coverage",
    "c2st": "C2ST",
    "dcr_share": "DCR share",
}


def all_tables() -> str:
    """Return every kept result as a table."""
    parts = []
    for path in sorted(RESULTS.glob("*.json")):
        body = json.loads(path.read_text())
        told = quality(body) if path.stem.startswith("quality") else plain(body)
        parts.append(f"### {path.stem}\n\n`{body['command']}`, {body['day']}\n\n{told}")
    return "\n\n".join(parts)


def quality(body: dict[str, Any]) -> str:
    """Return means and standard deviations over seeds, a column a source."""
    summary = body["summary"]
    sources = list(summary)
    lines = ["| | " + " | ".join(sources) + " |", "|---" * (len(sources) + 1) + "|"]
    for metric, name in SHOWN.items():
        cells = [summary[source].get(metric) for source in sources]
        if any(cells):
            told = ["" if cell is None else f"{cell[0]:.3f} ± {cell[1]:.3f}" for cell in cells]
            lines.append(f"| {name} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def plain(body: dict[str, Any]) -> str:
    """Return anything else as indented JSON."""
    kept = {key: value for key, value in body.items() if key not in ("command", "day", "machine")}
    return "```json\n" + json.dumps(kept, indent=1) + "\n```"
