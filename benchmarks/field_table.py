"""The cells of `field` as one page: a table for every data set, with published numbers beside."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS
from benchmarks.field import TABLES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "research" / "field.md"
START, END = "<!-- made by: python -m benchmarks field --table -->", "<!-- end of what was made -->"
#: (what is shown, key, digits); the ratios are over groups of 100 people and more where smaller ones exist.
SCORES = (
    ("DPR", "dpr", 2), ("EOR", "eor", 2), ("AUROC", "auroc", 3), ("accuracy", "accuracy", 3),
    ("balanced accuracy", "balanced_accuracy", 3), ("coverage", "coverage", 2), ("C2ST", "c2st", 2),
    ("nearer to train", "dcr_share", 3),
)  # fmt: skip
#: What the papers report, each under its own protocol; see the notes for what that is.
PUBLISHED: dict[tuple[str, str], str] = {
    ("adult", "fair4free"): "DPR .99, EOR .99, recall .98, F1 .88 (a)",
    ("compas", "fair4free"): "coverage .97, accuracy .52 (a)",
    ("adult", "fldgm"): "AUROC .795, DP gap .001, density 1.26, coverage .89 (b)",
    ("adult", "decaf"): "AUROC .672, DP gap .001; replicated at .502 (c)",
    ("adult", "tabfairgan"): "accuracy .773, DP gap .082 (d)",
    ("adult", "fairgan"): "risk difference down 75 % (d)",
    ("adult", "fair-tabddpm"): "mean of three tables: AUROC .847, DPR .658, EOR .664 (e)",
    ("bank", "fair-tabddpm"): "as above (e)",
    ("compas", "fair-tabddpm"): "as above (e)",
    ("adult", "fair-trees"): "C2ST .51, coverage .974, DPR .63, AUROC .896 (f)",
    ("adult", "tabularargn"): "DPR .753, EOR .721, AUROC .889, C2ST .579 (g)",
}


def made() -> str:
    """Return the tables of all cells that are there."""
    return "\n\n".join(part for name in TABLES if (part := one(name)))


def one(name: str) -> str:
    """Return the table of one data set, or nothing if it has no cells yet."""
    cells: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((RESULTS / "field" / f"{name}-{TABLES[name]}").glob("*.json")):
        cell = json.loads(path.read_text())
        cells[cell["model"]].append(cell)
    if not cells:
        return ""
    heads = [
        "method",
        "seeds",
        *(head for head, _, _ in SCORES),
        "fit (CPU s)",
        "rows per CPU s",
        "MB",
        "published",
    ]
    lines = [f"### {name}, {TABLES[name]}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    failed = []
    order = sorted(cells, key=lambda m: (m != "real", -_mean(cells[m], "auroc")))
    for model in order:
        good = [cell for cell in cells[model] if "scores" in cell]
        failed += [
            f"`{model}`, seed {cell['seed']}: {cell['failed']}" for cell in cells[model] if "failed" in cell
        ]
        if not good:
            continue
        row = [f"`{model}`" + _setting(good[0]) if model != "real" else "real rows", str(len(good))]
        row += [_told(good, key, digits) for _, key, digits in SCORES]
        row += _costs(good) if model != "real" else ["", "", ""]
        lines.append("| " + " | ".join([*row, PUBLISHED.get((name, model), "")]) + " |")
        if model == "real":
            constant = [cell["constant"] for cell in good if cell.get("constant")]
            told = {key: np.mean([c[key] for c in constant]) for key in constant[0]} if constant else {}
            row = ["constant predictor", str(len(constant)), "1", "1"]
            row += [
                f"{told[key]:.3f}" if key in told else ""
                for key in ("auroc", "accuracy", "balanced_accuracy")
            ]
            lines.append("| " + " | ".join([*row, *[""] * (len(heads) - len(row))]) + " |")
    if failed:
        lines += ["", "Not finished: " + "; ".join(failed) + "."]
    return "\n".join(lines)


def _setting(cell: dict[str, Any]) -> str:
    kept = {k: v for k, v in cell.get("settings", {}).items() if k != "kind"}
    return f" ({', '.join(f'{k}={v}' for k, v in kept.items())})" if kept else ""


def _value(cell: dict[str, Any], key: str) -> float | None:
    scores = cell.get("scores", {})
    value = scores.get(f"{key}_large_groups", scores.get(key))
    return None if value is None else float(value)


def _mean(cells: list[dict[str, Any]], key: str) -> float:
    values = [v for cell in cells if (v := _value(cell, key)) is not None]
    return float(np.mean(values)) if values else -1.0


def _told(cells: list[dict[str, Any]], key: str, digits: int) -> str:
    values = [v for cell in cells if (v := _value(cell, key)) is not None]
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def _costs(cells: list[dict[str, Any]]) -> list[str]:
    fit = [cell["fit"]["cpu_seconds"] for cell in cells]
    teacher = [cell["teacher"]["cpu_seconds"] for cell in cells if "teacher" in cell]
    told = f"{np.mean(fit):.0f}" + (f" + {np.mean(teacher):.0f}" if teacher else "")
    memory = [cell["memory_mb"] - cell["memory_before_mb"] for cell in cells]
    rate = np.mean([cell["rows_a_cpu_second"] for cell in cells])
    return [told, f"{rate:,.0f}", f"{np.mean(memory):.0f}"]


def write() -> None:
    """Put the tables between the marks of the page; what is written by hand stays."""
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}\n\n{made()}\n\n{END}{after}")
    print(f"wrote {PAGE.name}")
