"""What was asked, where the result falls short, and how it can be had again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairsynth.report.findings import Findings, source_label
from fairsynth.report.glossary import lookup
from fairsynth.report.verdict import Verdict

CRITERIA = {
    "demographic_parity": "every group gets the favorable decision equally often",
    "equalized_odds": "people who deserve the same outcome get the same decision, in every group",
    "equal_opportunity": "people who deserve the favorable outcome get it equally often, in every group",
}
#: What no evaluation of this kind can show.
LIMITS = (
    "Fairness is measured against the outcomes that were recorded. If those were unjust, a model that "
    "predicts them well is unjust, too.",
    "Only the named sensitive attributes were looked at, and only people like those in the test rows.",
    "Other kinds of models than those trained here may behave otherwise.",
    "Whether a table may be released is also a matter of law and of purpose, which no number settles.",
)
#: Keys of meta that are shown in words under "What was asked".
_ASKED = (
    "fairness",
    "criterion",
    "strength",
    "generator",
    "model",
    "target",
    "favorable",
    "sensitive",
    "rows",
    "title",
    "models",
)


@dataclass(frozen=True)
class Fact:
    """A name and a value; `code` says that the value is to be written as it is."""

    name: str
    value: str
    code: bool = False


def asked(found: Findings, judged: Verdict) -> list[Fact]:
    """List what was asked for: criterion, strength, generator, outcome, groups, rows."""
    meta = found.meta
    criterion = judged.criterion.replace("_", " ")
    words = f"{criterion}: {CRITERIA[judged.criterion]}"
    if not judged.criterion_given:
        words += ". (The evaluation does not say what was asked for, so this is judged.)"
    facts = [Fact("Fairness wanted", words)]
    strength = found.wanted.get("strength")
    if strength is not None:
        scale = "0 is a faithful copy of the bias, 1 the fairest the method gets"
        facts.append(Fact("Strength", f"{strength:g} ({scale})"))
    generator = meta.get("generator")
    if isinstance(generator, Mapping):
        shown = {
            k: v
            for k, v in generator.items()
            if k not in ("model", "name", "criterion", "strength", "fairness", "promise")
        }
        facts += _promised(generator.get("promise"))
        generator = generator.get("model") or generator.get("name")
        if shown:
            generator = f"{generator or 'a generator'} ({_line(shown)})"
    if generator:
        facts.append(Fact("Made by", str(generator)))
    if meta.get("target"):
        facts.append(Fact("Outcome to predict", str(meta["target"])))
    if meta.get("favorable"):
        facts.append(Fact("Favorable outcome", _line(meta["favorable"])))
    if meta.get("sensitive"):
        facts.append(Fact("Sensitive attributes", _line(meta["sensitive"])))
    if meta.get("rows"):
        facts.append(Fact("Rows", _rows(meta["rows"])))
    models = [m for m in found.models if m != "mean"] or meta.get("models")
    if models:
        facts.append(Fact("Models trained", ", ".join(str(m).replace("_", " ") for m in models)))
    return facts


def _promised(promise: Any) -> list[Fact]:
    """Say what bounds were asked for, and what was found of them on people held out (`fairsynth.meet`)."""
    if not isinstance(promise, Mapping):
        return []
    values, real = promise["values"], promise["real"]
    told = "; ".join(f"{name}: {value:.3f} (real rows {real[name]:.3f})" for name, value in values.items())
    found = (
        f"{'met' if promise['met'] else 'not met'} when the generator was made, on {promise['people']:,} people held "
        f"out of its rows: {told}. It holds in {promise['confidence']:.0%} of resamplings of them; "
        f"{promise['asked_confidence']:.0%} were asked for"
    )
    return [Fact("Bound asked for", ", ".join(values)), Fact("The bound was", found)]


def _rows(rows: Any) -> str:
    if not isinstance(rows, Mapping):
        return _line(rows)
    names = {"train": "real, seen by the generator", "test": "real, never seen by it"}
    parts = []
    for key, value in rows.items():
        if isinstance(value, Mapping):
            parts += [f"{n:,} in {source_label(str(k))}" for k, n in value.items()]
        elif isinstance(value, int):
            label = names.get(str(key)) or (
                "synthetic" if key == "synthetic" else f"in {source_label(str(key))}"
            )
            parts.append(f"{value:,} {label}")
    return "; ".join(parts)


def _line(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} = {_line(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_line(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def shortfalls(found: Findings, judged: Verdict) -> list[tuple[str, list[str]]]:
    """List where each table falls short, what could not be measured, and what no number shows.

    Returns
    -------
    list of (str, list of str)
        Headings, and what stands under them.
    """
    parts: list[tuple[str, list[str]]] = []
    for table in judged.tables:
        seen = dict.fromkeys(
            f"{reason.word}: {reason.text}"
            for answer in table.answers
            for reason in answer.reasons
            if reason.level in ("poor", "caution")
        )
        words = list(seen) or ["Nothing that was measured fell short of the limits."]
        words += [f"Not measured: {a.asked}" for a in table.answers if a.level == "unknown"]
        parts.append((table.name if len(judged.tables) > 1 else "Against the limits", words))
    undefined: dict[str, None] = {}
    for score in found.scores:
        if score.value is None:
            of = ", ".join(w for w in (score.attribute, score.group, score.column, score.label) if w)
            where = f" ({of})" if of else ""
            why = score.note or "no reason was recorded"
            undefined[
                f"{lookup(score.metric).label}{where}, {source_label(score.source).lower()}: {why}."
            ] = None
    if undefined:
        listed = list(undefined)
        more = [f"And {len(listed) - 20} more, in the JSON file."] if len(listed) > 20 else []
        parts.append(("Not defined for these rows", listed[:20] + more))
    told = [*_told(found.meta.get("repairs")), *_told(found.meta.get("notes"))]
    if told:
        parts.append(("Repaired, sampled, or to be known", told))
    parts.append(("What no number here shows", list(LIMITS)))
    return parts


def _told(value: Any) -> list[str]:
    if not value:
        return []
    if isinstance(value, Mapping):
        return [f"{source_label(str(k))}: {line}" for k, v in value.items() for line in _told(v)]
    if isinstance(value, list | tuple):
        return [line for v in value for line in _told(v)]
    return [str(value)]


def repeat(found: Findings) -> list[Fact]:
    """List what is needed to repeat the evaluation: everything in meta that was not shown above."""
    names = {
        "sha256": "SHA-256 of the tables",
        "versions": "Versions",
        "seed": "Seed",
        "seeds": "Seeds",
        "command": "Command",
        "commands": "Commands",
        "seconds": "Seconds taken",
        "created": "Made on",
        "settings": "Settings",
    }
    facts = []
    first = [k for k in names if k in found.meta]
    rest = [k for k in found.meta if k not in names and k not in (*_ASKED, "repairs", "notes", "giveaways")]
    for key in first + rest:
        value = found.meta[key]
        if value is None or value == {} or value == []:
            continue
        name = names.get(key) or key.replace("_", " ").capitalize()
        if isinstance(value, Mapping) and all(not isinstance(v, Mapping) for v in value.values()):
            lines = "\n".join(f"{k}  {_line(v)}" for k, v in value.items())
            facts.append(Fact(name, lines, code=True))
        elif isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
            commands = key == "commands"
            text = "\n".join(str(v) for v in value) if commands else _line(value)
            facts.append(Fact(name, text, code=commands))
        elif key == "command":
            facts.append(Fact(name, str(value), code=True))
        elif isinstance(value, Mapping | list | tuple):
            facts.append(Fact(name, json.dumps(value, indent=1, ensure_ascii=False, default=str), code=True))
        else:
            facts.append(Fact(name, _line(value)))
    return facts
