"""A model card for the generator and its table, as JSON and as Markdown.

The headings are those of Mitchell et al. 2019, "Model Cards for Model Reporting", section 4. The card
holds what the evaluation knows; what only people know (intended use, contact) is given by them, and a
card that lacks it says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.files import write_text
from fairsynth.report.findings import Findings, is_synthetic, source_label
from fairsynth.report.glossary import format_value, lookup, order
from fairsynth.report.page import headline
from fairsynth.report.provenance import LIMITS, asked, repeat, shortfalls
from fairsynth.report.verdict import RATIO_OF, verdict

if TYPE_CHECKING:
    from fairsynth.evaluation.result import Evaluation

NOT_STATED = "Not stated by the makers."
#: Metrics of the card, besides the ratio of the criterion for every attribute.
METRICS = (
    "dpr_at_real_rate",
    "auroc",
    "r2",
    "accuracy",
    "balanced_accuracy",
    "coverage",
    "density",
    "c2st",
    "correlation_difference",
    "dcr_share",
    "exact_copies",
    "membership_inference_auc",
)


def model_card(
    evaluation: Evaluation,
    *,
    name: str | None = None,
    intended_use: str | None = None,
    out_of_scope: str | None = None,
    training_data: str | None = None,
    license: str | None = None,
    contact: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collect a model card.

    Parameters
    ----------
    evaluation : Evaluation
        What was measured.
    name : str, optional
        Of the generator; ``meta["model"]`` by default.
    intended_use, out_of_scope, training_data, license, contact : str, optional
        What the makers say; the card says where they did not.
    details : mapping, optional
        Further details of the model, such as its settings or the manifest of its file.

    Returns
    -------
    dict
        Plain JSON values: name, verdict, and one entry for each heading of the card.
    """
    found = Findings(evaluation)
    judged = verdict(found)
    generator = found.meta.get("generator")
    described = dict(generator) if isinstance(generator, Mapping) else {}
    described |= dict(details or {})
    title = name or found.meta.get("model") or described.get("model") or "fairsynth generator"
    return {
        "card_version": 1,
        "name": str(title),
        "verdict": [
            {
                "table": t.name,
                "overall": t.word,
                "in_a_sentence": t.headline,
                "answers": [
                    {
                        "question": a.asked,
                        "answer": a.word,
                        "because": [r.text for r in a.reasons if r.level == a.level],
                    }
                    for a in t.answers
                ],
            }
            for t in judged.tables
        ],
        "model_details": {"license": license or NOT_STATED, "contact": contact or NOT_STATED, **described},
        "intended_use": intended_use or NOT_STATED,
        "out_of_scope_use": out_of_scope or NOT_STATED,
        "asked": {fact.name: fact.value for fact in asked(found, judged)},
        "factors": {"sensitive_attributes": found.single_attributes, "groups": _groups(found)},
        "training_data": training_data or NOT_STATED,
        "measures": _measures(found, RATIO_OF[judged.criterion]),
        "shortcomings": {heading: lines for heading, lines in shortfalls(found, judged)},
        "limits": list(LIMITS),
        "repeat": {fact.name: fact.value for fact in repeat(found)},
    }


def _groups(found: Findings) -> dict[str, list[str]]:
    groups: dict[str, dict[str, None]] = {}
    for score in found.scores:
        if score.attribute and score.group:
            groups.setdefault(score.attribute, {})[score.group] = None
    return {attribute: list(names) for attribute, names in groups.items()}


def _measures(found: Findings, ratio: str) -> list[dict[str, Any]]:
    rows = []
    for metric in (ratio, *METRICS):
        for score in headline(found.select(metric, group=None, column=None)):
            rows.append(
                {
                    "metric": score.metric,
                    "name": lookup(score.metric).label,
                    "attribute": score.attribute,
                    "of": source_label(score.source),
                    "synthetic": is_synthetic(score.source),
                    "value": score.value,
                    "low": score.low,
                    "high": score.high,
                    "std": score.std,
                    "note": score.note,
                }
            )
    rows.sort(key=lambda r: (order(str(r["metric"])), str(r["attribute"] or "")))
    return [{k: v for k, v in row.items() if v is not None} for row in rows]


def card_markdown(card: Mapping[str, Any]) -> str:
    """Write a card of `model_card` as Markdown.

    Parameters
    ----------
    card : mapping
        As `model_card` gives it.

    Returns
    -------
    str
        Text with headings and one table; what comes from data is escaped.
    """
    lines = [f"# Model card: {_safe(card['name'])}", ""]
    for entry in card["verdict"]:
        lines += [f"**{_safe(entry['table'])}: {entry['overall']}.** {_safe(entry['in_a_sentence'])}", ""]
        for answer in entry["answers"]:
            lines.append(
                f"- {answer['question']} **{answer['answer']}.** {_safe(' '.join(answer['because']))}"
            )
        lines.append("")
    lines += ["## Model details", "", *_list(card["model_details"]), ""]
    lines += ["## Intended use", "", _safe(card["intended_use"]), ""]
    lines += ["## Out of scope", "", _safe(card["out_of_scope_use"]), ""]
    lines += ["## What was asked", "", *_list(card["asked"]), ""]
    lines += ["## Factors", "", *_list(card["factors"]["groups"]), ""]
    lines += ["## Training data", "", _safe(card["training_data"]), ""]
    lines += ["## Measures", "", "| Measure | Of | Value | 95 % interval |", "|---|---|---|---|"]
    for row in card["measures"]:
        style = lookup(row["metric"]).style
        by = f" by {row['attribute']}" if "attribute" in row else ""
        spread = (
            f"{format_value(row['low'], style)} to {format_value(row['high'], style)}" if "low" in row else ""
        )
        value = format_value(row.get("value"), style)
        lines.append(f"| {_safe(row['name'] + by)} | {_safe(row['of'])} | {value} | {spread} |")
    lines += ["", "## Where it falls short", ""]
    for heading, items in card["shortcomings"].items():
        lines += [f"### {_safe(heading)}", "", *(f"- {_safe(item)}" for item in items), ""]
    lines += ["## How to repeat it", "", *_list(card["repeat"], code=True), ""]
    return "\n".join(lines)


def write_card(evaluation: Evaluation, path: str | os.PathLike[str], **said: Any) -> tuple[Path, Path]:
    """Write the model card beside the report: ``PATH.md`` and ``PATH.json``.

    Parameters
    ----------
    evaluation : Evaluation
        What was measured.
    path : str or path-like
        With or without a suffix, which is replaced.
    **said
        As `model_card` takes it.

    Returns
    -------
    tuple of pathlib.Path
        The Markdown file and the JSON file.
    """
    card = model_card(evaluation, **said)
    markdown, data = Path(path).with_suffix(".md"), Path(path).with_suffix(".json")
    write_text(markdown, card_markdown(card))
    write_text(data, json.dumps(card, indent=1, ensure_ascii=False, default=str) + "\n")
    return markdown, data


def _list(value: Mapping[str, Any], *, code: bool = False) -> list[str]:
    """Write a list; with `code`, values of several lines as literal text, where markup means nothing."""
    lines = []
    for key, inner in value.items():
        text = inner if isinstance(inner, str) else json.dumps(inner, ensure_ascii=False, default=str)
        if isinstance(inner, Sequence) and not isinstance(inner, str):
            text = ", ".join(str(i) for i in inner)
        if code and "\n" in text:
            lines += [f"- **{_safe(key)}**:", "", *(f"      {line}" for line in text.splitlines()), ""]
        else:
            lines.append(f"- **{_safe(key)}**: {_safe(text)}")
    return lines


def _safe(text: Any) -> str:
    """Escape what Markdown would take for markup, so that no column's name can write into the page."""
    escaped = str(text).replace("\\", "\\\\")
    for mark in "`*_[]<>|":
        escaped = escaped.replace(mark, "\\" + mark)
    return " ".join(escaped.split())
