from __future__ import annotations

import json
import re

from fairsynth.evaluation.result import Evaluation, Score
from fairsynth.report.card import NOT_STATED, card_markdown, model_card, write_card


def test_card_says_what_was_measured_and_what_nobody_said(single):
    card = model_card(single, intended_use="Teaching.", license="Apache-2.0")
    json.dumps(card)
    assert card["name"] == "toy"
    assert card["intended_use"] == "Teaching."
    assert card["training_data"] == card["out_of_scope_use"] == NOT_STATED
    assert card["verdict"][0]["overall"] == "Not fit for release"
    assert card["verdict"][0]["answers"][0]["question"].startswith("Do models trained on this table")
    shown = {(m["metric"], m["of"]): m["value"] for m in card["measures"]}
    assert shown["dpr", "Synthetic table"] == single.value("dpr")
    assert shown["auroc", "Real data"] == single.value("auroc", "real")
    assert card["factors"]["groups"]["sex"] == ["man", "woman"]


def test_markdown_has_the_headings_of_mitchell_et_al(single):
    text = card_markdown(model_card(single))
    heads = re.findall(r"^## (.*)$", text, re.M)
    assert heads == [
        "Model details",
        "Intended use",
        "Out of scope",
        "What was asked",
        "Factors",
        "Training data",
        "Measures",
        "Where it falls short",
        "How to repeat it",
    ]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count(" | ") for line in rows}) == 1
    assert single.meta["sha256"]["train"] in text


def test_names_from_data_are_no_markup():
    evil = "a|b <img src=x> `c` [d](e)\n# f"
    scores = [Score(section="fairness", metric="dpr", value=0.5, source=f"synthetic:{evil}", attribute=evil)]
    text = card_markdown(model_card(Evaluation(scores=scores, meta={"sensitive": [evil]})))
    assert "<img" not in text.replace("\\<img", "").split("## How to repeat it")[0]
    assert "\n# f" not in text
    assert "a\\|b" in text and "\\[d\\]" in text


def test_both_files_are_written(single, tmp_path):
    markdown, data = write_card(single, tmp_path / "card.html", name="mine")
    assert (markdown.name, data.name) == ("card.md", "card.json")
    assert json.loads(data.read_text())["name"] == "mine"
    assert markdown.read_text().startswith("# Model card: mine")
