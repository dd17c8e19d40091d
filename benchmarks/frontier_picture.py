"""What fairness costs, a picture for each table: ``python -m benchmarks.frontier_picture``.

Generators are the cells of the field (`benchmarks.field`): means of three plain models that learned from synthetic
rows, then over seeds. Mitigators are those of `benchmarks.mitigators`: one LightGBM on the real rows, which
some of them need to be told the group of, again for every decision. Nothing is measured here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS
from benchmarks.field import TABLES

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "images"
MITIGATORS = ("threshold-optimizer", "exponentiated-gradient")
#: Axes from below: what is read off, and its name.
PANELS = (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy"), ("auroc", "AUROC"))
#: DPR from which on the lower row shows methods.
NEAR = 0.6
OURS, OTHERS, REAL, MITIGATED = "#c8553d", "#2a6f97", "#222222", "#588157"


def points(table: str) -> list[dict[str, Any]]:
    """Return what is in the picture of one table: name, family, and for each measure its mean and deviation."""
    found: dict[str, list[dict[str, float]]] = {}
    for path in sorted((RESULTS / "field" / table).glob("*.json")):
        cell = json.loads(path.read_text())
        if "scores" in cell:
            found.setdefault(cell["model"], []).append(_read(cell["scores"]))
        if "dpr" in cell.get("constant", ()):
            found.setdefault("constant predictor", []).append(_read(cell["constant"]))
    lines = [
        {
            "name": {"real": "real rows"}.get(name, name),
            "family": _family(name),
            **{
                key: (
                    float(np.mean([run[key] for run in runs])),
                    float(np.std([run[key] for run in runs], ddof=1)) if len(runs) > 1 else 0.0,
                )
                for key in ("dpr", *(key for key, _ in PANELS))
            },
        }
        for name, runs in found.items()
    ]
    body = json.loads((RESULTS / f"mitigators-{table}.json").read_text())
    for run in body["runs"]:
        if run["method"] in MITIGATORS and run["criterion"] == "demographic_parity" and "scores" in run:
            scores = _read(run["scores"])
            lines.append(
                {
                    "name": f"{run['method']}, real rows",
                    "family": "mitigator",
                    **{key: (scores[key], 0.0) for key in scores},
                }
            )
    order = {"real": 0, "mitigator": 1, "ours": 2, "other": 3}
    return sorted(lines, key=lambda line: (order[line["family"]], -line["accuracy"][0]))


def _family(name: str) -> str:
    if name in ("real", "constant predictor"):
        return "real"
    return "ours" if name == "audited-trees" else "other"


def _read(scores: dict[str, float | None]) -> dict[str, float]:
    """Return the measures, DPR over large groups where the table has small ones; what a method lacks is NaN."""
    large = scores.get("dpr_large_groups")
    wanted = {
        "dpr": large if large is not None else scores["dpr"],
        **{key: scores.get(key) for key, _ in PANELS},
    }
    return {key: float("nan") if value is None else float(value) for key, value in wanted.items()}


def _useful(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those near parity that keep half of what real rows gain over the constant predictor."""
    real = next(line["balanced_accuracy"][0] for line in lines if line["name"] == "real rows")
    least = 0.5 + (real - 0.5) / 2
    return [line for line in lines if line["dpr"][0] >= NEAR and line["balanced_accuracy"][0] >= least]


def _zoom(axis: Any, across: list[float], up: list[float]) -> None:
    for values, set_limits in ((across, axis.set_xlim), (up, axis.set_ylim)):
        if values:
            room = 0.12 * max(max(values) - min(values), 0.01)
            set_limits(min(values) - room, max(values) + room)


def draw(table: str) -> Path:
    """Draw one table's picture."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "fairsynth"
    lines = points(table)
    colours = {"real": REAL, "mitigator": MITIGATED, "ours": OURS, "other": OTHERS}
    figure, axes = pyplot.subplots(2, len(PANELS), figsize=(13, 8.2), layout="constrained")
    useful = _useful(lines)
    for column, (key, name) in enumerate(PANELS):
        for axis, shown in ((axes[0, column], lines), (axes[1, column], useful)):
            for number, line in enumerate(lines, start=1):
                if line not in shown:
                    continue
                (x, dx), (y, dy) = line["dpr"], line[key]
                colour, above = colours[line["family"]], 5 if line["family"] == "ours" else 3
                axis.errorbar(x, y, xerr=dx, yerr=dy, color=colour, alpha=0.3, linewidth=1, zorder=2)
                axis.plot(x, y, "o", color=colour, markersize=11, alpha=0.85, zorder=above)
                axis.annotate(
                    str(number), (x, y), color="white", fontsize=6.5, ha="center", va="center",
                    weight="bold", zorder=above + 1,
                )  # fmt: skip
            axis.grid(alpha=0.25)
            axis.tick_params(labelsize=8)
        axes[0, column].set_xlim(-0.03, 1.05)
        axes[0, column].set_title(name, fontsize=10)
        axes[1, column].set_xlabel("demographic parity ratio on real people", fontsize=9)
        _zoom(axes[1, column], [line["dpr"][0] for line in useful], [line[key][0] for line in useful])
    axes[0, 0].set_ylabel("all", fontsize=9)
    axes[1, 0].set_ylabel(f"those of DPR ≥ {NEAR:g} that tell people apart", fontsize=9)
    handles = [
        pyplot.Line2D([], [], marker="o", linestyle="", color=colours[line["family"]], markersize=7)
        for line in lines
    ]
    figure.legend(
        handles, [f"{number}  {line['name']}" for number, line in enumerate(lines, start=1)],
        loc="outside right center", fontsize=7.5, frameon=False,
    )  # fmt: skip
    dataset, _, sensitive = table.partition("-")
    groups = ", groups of 100 people and more" if table == "compas-race" else ""
    figure.suptitle(
        f"{dataset}, {sensitive}{groups}: what parity costs. Right is fairer, up is more useful", fontsize=10
    )
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"frontier_{table}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    for dataset, sensitive in TABLES.items():
        print(f"wrote docs/images/{draw(f'{dataset}-{sensitive}').name}")
