"""The frontier of FADE's two weights as a picture for the documentation: ``python -m benchmarks.fade_picture``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "fade_frontier.svg"
PANELS = (
    ("audit_auc", "audit: AUC of s read from the other columns"),
    ("dpr", "DPR of later models"),
    ("coverage", "coverage"),
)
#: Label weight, group weight, table set anew → colour and name.
SERIES = {
    (1.0, 1.0, True): ("#2a6f97", "label 1, group 1"),
    (1.0, 1.0, False): ("#89c2d9", "the same, table of away weight 1"),
    (2.0, 1.0, True): ("#c8553d", "label 2, group 1"),
    (1.0, 0.0, False): ("#588157", "label 1, no group gradient"),
}


def draw(body: dict[str, Any]) -> None:
    """Draw AUROC against each panel's measure, with the away weights beside the points."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "fairsynth"
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(11, 4.0), sharey=True, layout="constrained")
    points = [line for line in body["lines"] if "sensitive_weight" in line]
    for axis, (key, title) in zip(axes, PANELS, strict=True):
        for kind, (colour, name) in SERIES.items():
            own = [p for p in points if (p["label_weight"], p["group_weight"], p["recalibrated"]) == kind]
            own.sort(key=lambda p: p["sensitive_weight"])
            axis.plot(
                [p[key] for p in own], [p["auroc"] for p in own], "o-", color=colour, markersize=4, label=name
            )  # fmt: skip
            for p in own:
                axis.annotate(
                    f"{p['sensitive_weight']:g}", (p[key], p["auroc"]), color=colour, fontsize=7,
                    xytext=(3, 4), textcoords="offset points",
                )  # fmt: skip
        axis.set_xlabel(title, fontsize=9)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=8)
    axes[0].set_ylabel("AUROC of later models", fontsize=9)
    axes[0].invert_xaxis()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)
    figure.suptitle(
        f"FADE in the row on {body['dataset']}, {', '.join(body['sensitive'])}: what the weights buy "
        "(numbers: away weight)",
        fontsize=10,
    )
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads((RESULTS / "fade-frontier-adult-sex-row.json").read_text()))
    print(f"wrote docs/images/{PICTURE.name}")
