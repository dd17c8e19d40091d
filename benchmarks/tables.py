"""What was measured, as Markdown tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS

PAGES = Path(__file__).resolve().parents[1] / "docs" / "research"
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
MITIGATORS = "mitigators"


def all_tables() -> str:
    """Return every kept result as a table."""
    parts = []
    for path in sorted(RESULTS.glob("*.json")):
        body = json.loads(path.read_text())
        kind = path.stem.partition("-")[0]
        told = {"quality": quality, MITIGATORS: mitigators}.get(kind, plain)(body)
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


def mitigators(body: dict[str, Any]) -> str:
    """Return a line for every mitigator, criterion and base model, the ratios with their 95 % intervals."""
    large = any("dpr_large_groups" in run.get("scores", {}) for run in body["runs"])
    ratios = ("dpr_large_groups", "eor_large_groups") if large else ("dpr", "eor")
    heads = ["method", "asked for", "accuracy", "balanced accuracy", "AUROC", "favored"]
    lines = [
        "| " + " | ".join([*heads, *(SHOWN[ratio] for ratio in ratios), "s"]) + " |",
        "|---" * (len(heads) + 3) + "|",
    ]
    refused = []
    for run in body["runs"]:
        base = f" ({run['base'].replace('_', ' ')})" if run.get("base") else ""
        named = ("rows of " if run.get("told", {}).get("generator") else "") + f"`{run['method']}`{base}"
        asked = (run["criterion"] or "").replace("_", " ")
        if "refused" in run:
            refused.append(f"{named}, {asked}: {run['refused']}")
            continue
        scores, intervals = run["scores"], run["intervals"]
        cells = [f"{scores[m]:.3f}" for m in ("accuracy", "balanced_accuracy", "auroc", "selection_rate")]
        for ratio in ratios:
            low, high = intervals.get(ratio, (None, None))
            span = "" if low is None else f" ({low:.2f} to {high:.2f})"
            cells.append("" if scores[ratio] is None else f"{scores[ratio]:.2f}{span}")
        lines.append("| " + " | ".join([named, asked, *cells, f"{run['seconds']:.1f}"]) + " |")
    if refused:
        lines += ["", "Refused: " + "; ".join(refused)]
    return "\n".join(lines)


def mitigators_page() -> None:
    """Put the tables of all data sets between the marks of their page."""
    parts = []
    for path in sorted(RESULTS.glob(f"{MITIGATORS}-*.json")):
        body = json.loads(path.read_text())
        people = f"{body['dataset']}, {' × '.join(body['sensitive'])}"
        parts.append(f"### {people}\n\n{mitigators(body)}")
    put(PAGES / "mitigators.md", "mitigators --table", "\n\n".join(parts))


def put(page: Path, command: str, made: str) -> None:
    """Put what was made between the marks of a page; what is written by hand around them stays.

    Raises
    ------
    ValueError
        If the page lacks a mark.
    """
    start, end = f"<!-- made by: python -m benchmarks {command} -->", "<!-- end of what was made -->"
    text = page.read_text()
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{page} lacks the marks {start} and {end}.")
    page.write_text(f"{before}{start}\n\n{made}\n\n{end}{after}")
    print(f"wrote docs/research/{page.name}", flush=True)


def plain(body: dict[str, Any]) -> str:
    """Return anything else as indented JSON."""
    kept = {key: value for key, value in body.items() if key not in ("command", "day", "machine")}
    return "```json\n" + json.dumps(kept, indent=1) + "\n```"
