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
COLOURS = {1.0: "#2a6f97", 2.0: "#c8553d"}


def draw(body: dict[str, Any]) -> None:
    """Draw AUROC against each panel's measure, a line a label weight, with the away weights beside the points."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "fairsynth"
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(11, 3.6), sharey=True, layout="constrained")
    points = [line for line in body["lines"] if "sensitive_weight" in line]
    for axis, (key, title) in zip(axes, PANELS, strict=True):
        for label_weight, colour in COLOURS.items():
            own = [p for p in points if p["label_weight"] == label_weight]
            own.sort(key=lambda p: p["sensitive_weight"])
            axis.plot(
                [p[key] for p in own], [p["auroc"] for p in own], "o-", color=colour, markersize=4,
                label=f"label weight {label_weight:g}",
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
    axes[-1].legend(fontsize=8, loc="lower right", title="numbers: away weight", title_fontsize=7)
    figure.suptitle(
        f"FADE in the row on {body['dataset']}, {', '.join(body['sensitive'])}: what the two weights buy",
        fontsize=10,
    )
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads((RESULTS / "fade-frontier-adult-sex-row.json").read_text()))
    print(f"wrote docs/images/{PICTURE.name}")
