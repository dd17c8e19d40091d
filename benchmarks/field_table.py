"""The cells of `field` as one page: a table for every data set, with published numbers beside."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np

from benchmarks.common import RESULTS
from benchmarks.field import OF_TEACHER, TABLES
from benchmarks.tables import PAGES, put

COMMAND = "field --table"
NAMES = {"real": "real rows", "fldgm": "`fldgm` (diffusion)"}
GANS = ("real", "plain-vae", "fairgan", "tabfairgan")
#: (what is shown, key, digits); the ratios are over groups of 100 people and more where smaller ones exist.
SCORES = (
    ("DPR", "dpr", 2), ("EOR", "eor", 2), ("AUROC", "auroc", 3), ("accuracy", "accuracy", 3),
    ("balanced accuracy", "balanced_accuracy", 3), ("coverage", "coverage", 2), ("C2ST", "c2st", 2),
    ("nearer to train", "dcr_share", 3),
)  # fmt: skip
#: What was published, as `shared/reference/methods.md` states it; the letters lead to its protocol, in the page.
PUBLISHED: dict[tuple[str, str], str] = {
    ("adult", "fair4free"): "DPR .99, EOR .99, recall .98, F1 .88 (a)",
    ("compas", "fair4free"): "coverage .97, accuracy .52 (a)",
    (
        "adult",
        "fldgm",
    ): "precision .791, recall .912, AUROC .795, DP gap .001, density 1.26, coverage .89 (b)",
    ("adult", "decaf"): "precision .781, recall .881, AUROC .672, DP gap .001; replicated: AUROC .502 (c)",
    ("adult", "tabfairgan"): "label gap .195 → .009, accuracy .773, classifier gap .082 (d)",
    ("compas", "tabfairgan"): "accuracy .68 (a)",
    ("adult", "fairgan"): "risk difference down 75 % (d)",
    ("adult", "fair-tabddpm"): "three tables: AUROC .847, DPR .658, EOR .664 (e)",
    ("bank", "fair-tabddpm"): "three tables, as on adult (e)",
    ("compas", "fair-tabddpm"): "three tables, as on adult (e)",
    ("adult", "fair-trees"): "C2ST .51, coverage .974, DPR .63, AUROC .896; fit 8 s, 8,000 rows/s (f)",
    ("adult", "tabularargn"): "accuracy .847, AUROC .889, DPR .753, EOR .721, coverage .957, C2ST .579 (g)",
}


def made(models: tuple[str, ...] = ()) -> str:
    """Return the tables of all cells that are there, or of some methods."""
    return "\n\n".join(part for name in TABLES if (part := one(name, models)))


def one(name: str, models: tuple[str, ...] = ()) -> str:
    """Return the table of one data set, or nothing if it has no cells yet."""
    cells: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((RESULTS / "field" / f"{name}-{TABLES[name]}").glob("*.json")):
        cell = json.loads(path.read_text())
        if not models or cell["model"] in models:
            cells[cell["model"]].append(cell)
    if not set(cells) - {"real", "plain-vae"}:
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
        failed += [_reason(cell) for cell in cells[model] if "failed" in cell]
        if not good:
            continue
        row = [NAMES.get(model, f"`{model}`") + _setting(good[0]), str(len(good))]
        row += [_told(good, key, digits) for _, key, digits in SCORES]
        row += _costs(good) if model != "real" else ["", "", ""]
        lines.append("| " + " | ".join([*row, PUBLISHED.get((name, model), "")]) + " |")
        if model == "real":
            lines.append("| " + " | ".join(_constant(good)) + " |")
    if failed:
        lines += ["", "Not finished: " + "; ".join(dict.fromkeys(failed)) + "."]
    return "\n".join(lines)


def _reason(cell: dict[str, Any]) -> str:
    if cell["failed"].startswith("not installed"):
        return f"`{cell['model']}` (not installed there; it comes with the extra `peers`)"
    return f"`{cell['model']}`, seed {cell['seed']}: {cell['failed'].rstrip('.')}"


def _constant(cells: list[dict[str, Any]]) -> list[str]:
    """Return the line of the constant predictor; its accuracy is the share of the commoner label."""
    found = [cell["constant"] for cell in cells if cell.get("constant")]
    row = ["constant predictor", str(len(found))]
    for _, key, digits in SCORES:
        values = [constant[key] for constant in found if constant.get(key) is not None]
        row.append(f"{np.mean(values):.{digits}f}" if values else "")
    return [*row, "", "", "", ""]


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
    # Cells of the first runs shared a process with those before them, whose memory is in the highest.
    alone = all(cell["model"] not in OF_TEACHER or cell.get("memory_of") == "this fit" for cell in cells)
    bound = "" if alone else "≤ "
    memory = f"{bound}{np.mean([cell['memory_mb'] for cell in cells]):.0f}"
    return [told, f"{np.mean([cell['rows_a_cpu_second'] for cell in cells]):,.0f}", memory]


def write() -> None:
    """Put the tables between the marks of their pages; what is written by hand stays."""
    put(PAGES / "field.md", COMMAND, made())
    put(PAGES / "gans.md", COMMAND, made(GANS))
