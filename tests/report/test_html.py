from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from html.parser import HTMLParser

import polars as pl
import pytest

from fairsynth.data.table import Table
from fairsynth.errors import SettingsError
from fairsynth.evaluation.evaluate import evaluate
from fairsynth.evaluation.result import Evaluation, Score
from fairsynth.report import html as module
from fairsynth.report import render_html, write_html

RARE = "lighthouse keeper"
SECRET = "98765"


class Reader(HTMLParser):
    """Collects what a test asks of a page: open tags, attributes, text outside scripts."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(single) -> str:
    return render_html(single)


@pytest.fixture(scope="module")
def read(page) -> Reader:
    return Reader(page)


def test_page_is_well_formed_and_ids_are_unique(read):
    assert read.wrong == [] and read.open == []
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for link in read.all("a"):
        assert link["href"].startswith("#") and link["href"][1:] in ids


def test_nothing_refers_to_the_network(read, page):
    for tag, attrs in read.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, attrs)
    style = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
    assert "url(" not in style and "@import" not in style


def test_policy_allows_exactly_the_scripts_of_the_page(page):
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1))
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy
    assert (
        "script-src 'sha256-" in policy
        and "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    )

    def digest(text):
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    packed = re.search(
        r'<script type="application/octet-stream" id="plotly">(.*?)</script>', page, re.S
    ).group(1)
    plotly = gzip.decompress(base64.b64decode(packed)).decode()
    assert len(scripts) == 1
    assert set(re.findall(r"sha256-([^']*)", policy)) == {digest(scripts[0]), digest(plotly)}


def test_size_is_reasonable(page):
    assert len(page.encode()) < 8_000_000


def test_verdict_comes_first_and_every_section_is_there(read):
    heads = [a.get("id") for a in read.all("section")]
    wanted = ["verdict", "asked", "reached", "fair", "useful", "faithful", "private", "explanation", "short"]
    assert heads == [*wanted, "repeat", "rules"]
    text = read.text
    assert text.index("Not fit for release") < text.index("What was asked")
    assert "0.5 (0 is a faithful copy of the bias, 1 the fairest the method gets)" in text
    assert "Four-fifths rule" in text


def test_every_number_has_its_meaning_beside_it(read):
    assert (
        "Chance that the model ranks a random favorable person above a random unfavorable one." in read.text
    )
    assert "at most 0.03 below the model trained on real rows is good" in read.text


def test_tables_can_be_read_aloud(read, page):
    tables = len(read.all("table"))
    assert tables > 5
    assert page.count("<caption>") == tables
    assert all("scope" in a for a in read.all("th"))
    assert all(a.get("aria-label") for a in read.all("div") if a.get("class") == "plot")


def test_no_real_row_leaves_the_house(real, page):
    train, _ = real
    assert RARE in train.frame["job"].to_list() and 98765.4321 in train.frame["income"].to_list()
    assert RARE not in page
    assert SECRET not in page


def test_repetition_is_possible(single, read):
    for digest in single.meta["sha256"].values():
        assert digest in read.text
    assert single.meta["versions"]["lightgbm"] in read.text


def test_scores_alone_make_a_page(single):
    read = Reader(render_html(Evaluation.from_json(single.to_json())))
    assert "Fairness by group" in read.text and "Favorable decisions by sex" in read.text
    assert read.wrong == []


def test_an_empty_evaluation_makes_a_page():
    read = Reader(render_html(Evaluation()))
    assert "No synthetic table was evaluated." in read.text
    assert not any(a.get("id") == "plotly" for a in read.all("script"))


def test_metrics_nobody_has_heard_of_are_shown():
    scores = [
        Score(section=s, metric=f"odd_{s}", value=0.125, source="synthetic") for s in ("utility", "privacy")
    ]
    scores.append(
        Score(section="fairness", metric="odd_fair", value=None, source="synthetic", note="a note of it")
    )
    text = Reader(render_html(Evaluation(scores=scores))).text
    assert "Odd utility" in text and "Odd privacy" in text and "0.125" in text
    assert "a note of it" in text and "not defined" in text


def test_comparison_names_every_table(compared):
    read = Reader(render_html(compared, projections=("pca",)))
    for name in ("fresh", "copy", "constant", "shuffled", "repeated", "swapped", "cents", "no women"):
        assert re.search(rf"\b{name}\b", read.text)
    assert "8 synthetic tables compared" in read.text
    assert len([a for a in read.all("article")]) == 8


EVIL = "</script><script>alert(1)</script>"


def test_names_from_data_cannot_write_into_the_page():
    frame = pl.DataFrame(
        {
            EVIL: [f"{EVIL}{i % 3}" for i in range(400)],
            "x&<b>": list(range(400)),
            "sex": [f"<i>{'mf'[i % 2]}</i>" for i in range(400)],
            "y": ["<u>yes</u>" if (i * 7) % 11 < 5 else "no" for i in range(400)],
        }
    )
    table = Table(frame, target="y", favorable=["<u>yes</u>"], sensitive=["sex"])
    train, test = table.split(0.5, seed=0)
    found = evaluate(train, test, {EVIL: train}, models=("lightgbm",), depth="quick")
    text = render_html(found, title=EVIL)
    read = Reader(text)
    assert read.wrong == []
    assert not {"i", "u"} & {t for t, _ in read.tags}
    assert "alert(1)</script>" not in text
    assert len([a for a in read.all("script") if "type" not in a]) == 1


def test_rows_can_be_given_by_hand(single, real, altered):
    bare = Evaluation.from_json(single.to_json())
    text = render_html(bare, *real, altered["fresh"].native(), projections=())
    assert "Every column, real and synthetic" in text
    with pytest.raises(SettingsError, match="need train"):
        render_html(bare, synthetic=altered["fresh"])
    with pytest.raises(SettingsError, match="give a fairsynth Table"):
        render_html(bare, real[0].native())
    with pytest.raises(SettingsError, match="choose pca, tsne or umap"):
        render_html(bare, projections=["magic"])


def test_the_same_evaluation_gives_the_same_page(single):
    assert render_html(single, projections=("pca",)) == render_html(single, projections=("pca",))


def test_file_is_whole_or_not_there(single, tmp_path, monkeypatch):
    target = tmp_path / "deep" / "report.html"
    assert write_html(single, target, projections=()) == target
    before = target.read_bytes()
    monkeypatch.setattr(module, "render_html", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_html(single, target)
    assert target.read_bytes() == before
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]
