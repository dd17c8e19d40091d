from __future__ import annotations

import pytest

from fairsynth.report import glossary


def test_every_metric_of_an_evaluation_is_explained(single, compared):
    metrics = {s.metric for s in single.scores} | {s.metric for s in compared.scores}
    assert not sorted(m for m in metrics if not glossary.lookup(m).known)


def test_every_entry_says_what_it_means_and_what_would_be_good():
    assert len(glossary.entries()) > 70
    for entry in glossary.entries():
        assert entry.label and entry.meaning.endswith(".") and entry.good.endswith("."), entry.metric


def test_an_unknown_metric_says_so():
    entry = glossary.lookup("new_fancy_metric")
    assert not entry.known
    assert entry.label == "New fancy metric"
    assert "No explanation" in entry.meaning
    assert glossary.order("new_fancy_metric") > glossary.order("shap_rank_agreement")


def test_relative_numbers_are_explained_by_what_they_are_relative_to():
    assert glossary.lookup("relative_auroc").label == "AUROC, relative to real"
    assert not glossary.lookup("relative_nonsense").known


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (0.8734, "ratio", "0.873"),
        (-0.0001, "ratio", "0.000"),
        (0.8734, "share", "87.3 %"),
        (12345.6, "count", "12,346"),
        (1234.5, "number", "1,234"),
        (0.00012, "number", "0.00012"),
        (None, "ratio", "not defined"),
        (float("nan"), "share", "not defined"),
    ],
)
def test_numbers_are_written_as_they_are_read(value, style, text):
    assert glossary.format_value(value, style) == text
