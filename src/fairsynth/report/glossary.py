"""What every number means, and what would be good, in words for people who do not do this for a living.

The texts are in ``glossary.toml`` beside this file, so that they can be edited without programming.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

Style = Literal["ratio", "share", "number", "count", "difference"]


@dataclass(frozen=True)
class Entry:
    """How one metric is explained.

    Attributes
    ----------
    metric : str
        Name in snake case, as in `Score.metric`.
    label : str
        Name in the page.
    meaning : str
        One or two sentences: what the number says.
    good : str
        What would be good, with the value a perfect table would have.
    style : {"ratio", "share", "number", "count", "difference"}
        How it is written: a share as a percentage, a count without decimals.
    also : tuple of str
        Other names of the same metric.
    known : bool
        False when the glossary has no entry and this one stands in.
    """

    metric: str
    label: str
    meaning: str
    good: str
    style: Style = "ratio"
    also: tuple[str, ...] = ()
    known: bool = True


@cache
def _glossary() -> tuple[dict[str, Entry], dict[str, str]]:
    raw = tomllib.loads(files(__package__).joinpath("glossary.toml").read_text(encoding="utf-8"))
    entries = {
        name: Entry(name, **{**body, "also": tuple(body.get("also", ()))}) for name, body in raw.items()
    }
    for entry in entries.values():
        if entry.style not in get_args(Style):
            raise ValueError(f"glossary.toml: [{entry.metric}] has style {entry.style!r}.")
    aliases = {other: entry.metric for entry in entries.values() for other in entry.also}
    return entries, aliases


def entries() -> tuple[Entry, ...]:
    """Return the whole glossary, in the order of the page."""
    return tuple(_glossary()[0].values())


def order(metric: str) -> int:
    """Return the place of a metric in the glossary; relative and unknown ones come last."""
    names = list(_glossary()[0])
    name = canonical(metric).removeprefix("relative_")
    place = names.index(name) if name in names else len(names)
    return place + (len(names) if metric.startswith("relative_") else 0)


def canonical(metric: str) -> str:
    """Return the glossary's name of a metric, or the name itself when the glossary has none."""
    return _glossary()[1].get(metric, metric)


def lookup(metric: str) -> Entry:
    """Return the entry of a metric, or one that says that there is none.

    Parameters
    ----------
    metric : str
        Name in snake case.

    Returns
    -------
    Entry
        With ``known=False`` and the metric's own name when there is no explanation on file.
    """
    name = canonical(metric)
    found = _glossary()[0].get(name)
    if found is not None:
        return found
    base = _glossary()[0].get(name.removeprefix("relative_"))
    if base is not None:
        return Entry(
            name,
            f"{base.label}, relative to real",
            f"{base.label} divided by that of the model trained on real rows.",
            "1: nothing is lost.",
        )
    label = name.replace("_", " ")
    return Entry(
        name,
        label[:1].upper() + label[1:],
        "No explanation is on file for this number.",
        "Compare it with the same number of real rows.",
        "number",
        known=False,
    )


def format_value(value: float | None, style: Style = "ratio") -> str:
    """Write a number the way its metric is read: ``0.873``, ``87.3 %``, ``1,204``."""
    if value is None or value != value:
        return "not defined"
    if style == "share":
        return f"{100 * value:.1f} %"
    if style == "count":
        return f"{value:,.0f}"
    if style == "number" and (abs(value) >= 100 or 0 < abs(value) < 0.0005):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text
