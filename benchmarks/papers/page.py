"""The tables of ``docs/research/papers.md``, from what was measured: ``python -m benchmarks.papers.page``.

Only what stands between the two marks of a table is written; the text around it is a person's.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.common import RESULTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "research" / "papers.md"
#: Where the cells of the field are.
FIELD_CELLS = [RESULTS / "field"]
#: Methods of the field that stand beside a paper's, by table.
FIELD: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {
    "fldgm": (("adult", "sex"), ("fldgm", "fldgm-wgan-gp", "fldgm-lsgan", "fairvae", "plain-vae")),
    "fair4free-adult": (("adult", "sex"), ("fair4free", "latent-distillation", "fairvae", "tabfairgan")),
    "fair4free-compas": (("compas", "race"), ("fair4free", "latent-distillation", "fairvae", "tabfairgan")),
    "tabfairgan": (("adult", "sex"), ("tabfairgan", "fairgan", "plain-vae")),
    "decaf": (("adult", "sex"), ("decaf",)),
}
SCORES = {
    "dpr": "DPR", "eor": "EOR", "auroc": "AUROC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
    "coverage": "coverage", "density": "density", "c2st": "C2ST",
}  # fmt: skip
#: Columns of a paper's own way: heading, part of a line, number in it.
OWN: dict[str, list[tuple[str, str, str]]] = {
    "fldgm": [
        ("precision", "other", "precision"), ("recall", "other", "recall"), ("AUROC", "people", "auroc"),
        ("AUROC of decisions", "other", "auroc"), ("gap of decisions", "people", "decision_gap"),
    ],
    "fair4free": [
        ("DPR", "other", "dpr"), ("EOR", "other", "eor"), ("recall", "other", "recall"), ("F1", "other", "f1"),
        ("accuracy", "other", "accuracy"), ("DPR in drawn rows", "drawn", "dpr"), ("EOR in drawn rows", "drawn", "eor"),
        ("DPR, favorable", "people", "dpr"), ("EOR, favorable", "people", "eor"),
    ],
    "fair_tabddpm": [
        ("AUROC", "people", "auroc"), ("DPR", "people", "dpr"), ("EOR", "people", "eor"),
        ("DPR in drawn rows", "drawn", "dpr"),
    ],
    "tabfairgan": [
        ("gap of labels", "", "label_gap"), ("accuracy", "people", "accuracy"),
        ("gap of decisions", "people", "decision_gap"), ("gap in drawn rows", "drawn", "decision_gap"),
    ],
    "decaf": [
        ("precision", "other", "precision"), ("recall", "other", "recall"), ("AUROC", "people", "auroc"),
        ("AUROC of decisions", "other", "auroc"), ("FTU gap", "", "ftu_gap"),
        ("gap of decisions", "people", "decision_gap"),
    ],
}  # fmt: skip


def shown(values: list[float | None]) -> str:
    """Return a mean over seeds, with the deviation where there are several."""
    there = [v for v in values if v is not None]
    if not there:
        return "–"
    text = f"{mean(there):.3f}"
    return text + (f" ± {stdev(there):.3f}" if len(there) > 1 else "")


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def own(paper: str, dataset: str) -> str:
    """Return what was measured in a paper's own way."""
    path = RESULTS / "papers" / f"{paper}.json"
    lines = json.loads(path.read_text())["lines"] if path.exists() else []
    lines = [line for line in lines if line["dataset"] == dataset]
    if not lines:
        return "Not run."
    rows = []
    for method in dict.fromkeys(line["method"] for line in lines):
        mine = [line for line in lines if line["method"] == method]
        cells = [shown([_number(line, part, name) for line in mine]) for _, part, name in OWN[paper]]
        rows.append([method, str(len(mine)), *cells])
    return table(["", "seeds", *(head for head, _, _ in OWN[paper])], rows)


def _number(line: dict[str, Any], part: str, name: str) -> float | None:
    found = line.get(name) if not part else line.get(part, {}).get(name)
    return None if found is None else float(found)


def field(which: str) -> str:
    """Return the field's cells of some methods: ours, for the same table."""
    (dataset, attribute), methods = FIELD[which]
    rows = []
    for method in ("real", *methods):
        found = [scores(path) for path in cells(dataset, attribute, method)]
        found = [one for one in found if one]
        if found:
            label = "real rows" if method == "real" else f"`{method}`"
            rows.append([label, str(len(found)), *(shown([one.get(key) for one in found]) for key in SCORES)])
    return table(["", "seeds", *SCORES.values()], rows) if rows else "Not run."


def cells(dataset: str, attribute: str, method: str) -> list[Path]:
    """Return the files of a method in the field."""
    return sorted((FIELD_CELLS[0] / f"{dataset}-{attribute}").glob(f"{method}-[0-9]*.json"))


def scores(path: Path) -> dict[str, float]:
    """Return the scores of a cell; ratios between groups of 100 people and more where there are smaller ones."""
    given = json.loads(path.read_text()).get("scores") or {}
    return {key: given.get(f"{key}_large_groups", given.get(key)) for key in SCORES}


def three_tables(methods: tuple[str, ...] = ("fair-tabddpm", "tabfairgan")) -> str:
    """Return means over Adult, Bank and COMPAS of methods that have a cell of each."""
    places = (("adult", "sex"), ("bank", "age_group"), ("compas", "race"))
    rows = []
    for method in ("real", *methods):
        by_table = [[s for s in map(scores, cells(*place, method)) if s] for place in places]
        if not all(by_table):
            continue
        seeds = "/".join(str(len(some)) for some in by_table)
        values = []
        for key in SCORES:
            means = [mean([one[key] for one in some if one[key] is not None]) for some in by_table]
            values.append(f"{mean(means):.3f}")
        rows.append(["real rows" if method == "real" else f"`{method}`", seeds, *values])
    return table(["", "seeds", *SCORES.values()], rows) if rows else "Not run."


def unseen() -> str:
    """Return means over the five boroughs, each unseen in turn."""
    rows = []
    for path in sorted(RESULTS.glob("fade-shift-sqf-*.json")):
        for generator, line in json.loads(path.read_text())["mean"].items():
            numbers = [
                line.get("accuracy"), line.get("auroc"), line.get("dpr_large_groups", line.get("dpr")),
                line.get("eor_large_groups", line.get("eor")),
            ]  # fmt: skip
            row = [generator, *(shown([n]) for n in numbers)]
            if row not in rows:
                rows.append(row)
    return table(["", "accuracy", "AUROC", "DPR", "EOR"], rows) if rows else "Not run."


def main() -> None:
    """Write every table in its place."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.papers.page", description=__doc__)
    parser.add_argument("--field", type=Path, default=FIELD_CELLS[0], help="folder of the field's cells")
    FIELD_CELLS[0] = parser.parse_args().field
    made = {
        **{f"own {paper} {dataset}": own(paper, dataset) for paper, dataset in (
            ("fldgm", "adult"), ("fair4free", "adult"), ("fair4free", "compas"), ("fair_tabddpm", "compas"),
            ("tabfairgan", "adult"), ("decaf", "adult"),
        )},
        **{f"field {which}": field(which) for which in FIELD},
        "field three tables": three_tables(),
        "unseen": unseen(),
    }  # fmt: skip
    text = PAGE.read_text(encoding="utf-8")
    for name, body in made.items():
        marks = f"<!-- table: {name} -->", "<!-- end -->"
        pattern = re.escape(marks[0]) + r".*?" + re.escape(marks[1])
        text, count = re.subn(
            pattern, lambda _, b=body, m=marks: f"{m[0]}\n{b}\n{m[1]}", text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"{PAGE}: the marks of {name!r} stand there {count} times.")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
