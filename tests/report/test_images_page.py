"""The page of an image evaluation: what stands on it, what must not, and its verdict."""

from __future__ import annotations

import base64
import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from image_toys import bars, relabelled

from fairsynth.evaluation.images import ImageEvaluation, evaluate_images
from fairsynth.evaluation.result import Score
from fairsynth.report.findings import Findings
from fairsynth.report.glossary import lookup
from fairsynth.report.images import render_images_html, write_images_html
from fairsynth.report.images_pictures import Shown, as_rgba, grids, latents, png, strip, worst
from fairsynth.report.images_verdict import image_verdict, likest

HOSTILE = "</script><b>standing"


class Reader(HTMLParser):
    """Collects tags, and what of the page is text."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open, self.wrong = [], [], [], []
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
def evaluation():
    train, test = (
        bars(200, 1.0, seed=1, classes=("lying", HOSTILE)),
        bars(150, 1.0, seed=2, classes=("lying", HOSTILE)),
    )
    other = bars(150, 0.0, seed=3, classes=("lying", HOSTILE))
    fair = bars(200, 0.5, seed=4, classes=("lying", HOSTILE))
    grid = fair.read(np.arange(40))
    pictures = {
        "switched": grid[:20].reshape(2, 10, *fair.shape),
        "interpolated": grid[20:].reshape(2, 10, *fair.shape),
    }
    return evaluate_images(
        train, test, {"fair": fair, "copy": train}, others={"reversed": other}, pictures={"fair": pictures},
        steps=60, threads=1, generator_info={"model": "Toy", "criterion": "demographic_parity", "strength": 1.0},
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(evaluation):
    return render_images_html(evaluation)


@pytest.fixture(scope="module")
def read(page):
    return Reader(page)


def test_page_is_well_formed_and_links_lead_somewhere(read):
    assert read.wrong == [] and read.open == []
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for link in read.all("a"):
        assert link["href"].startswith("#") and link["href"][1:] in ids


def test_nothing_refers_to_the_network_and_the_policy_forbids_it(read, page):
    for tag, attrs in read.tags:
        for name in ("src", "href", "action", "data", "srcset"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name)
    assert "url(" not in re.search(r"<style>(.*?)</style>", page, re.S).group(1)
    policy = next(a["content"] for a in read.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "img-src data:" in policy


def test_names_from_data_cannot_break_out(page, read):
    assert "<b>standing" not in page
    assert HOSTILE in read.text


def test_every_picture_that_was_asked_for_is_there(read):
    for title in (
        "Real training images",
        "Synthetic images: fair",
        "Same latent, ink switched: fair",
        "Between two latents: fair",
        "The worst images: fair",
        "Nearest to training images: copy",
        "Where classifiers look",
        "In another color",
        "Right on real images",
    ):
        assert title in read.text, title
    images = read.all("img")
    assert len(images) > 20 and all(a["alt"] for a in images)


def test_numbers_stand_beside_the_pictures(evaluation):
    found = Findings(evaluation)
    shown = Shown(evaluation.artifacts)
    by_title = {s.title: dict(s.numbers) for s in [*grids(shown, found), *latents(shown, found)]}
    fair = by_title["Synthetic images: fair"]
    right = evaluation.value("accuracy", "synthetic:fair", column="reversed")
    assert fair["right on reversed, trained on these"] == f"{right:.1%}"
    like = likest(found, "synthetic:fair")
    assert fair["coverage"].startswith(
        f"{found.value('coverage', 'synthetic:fair', column=like):.2f}, of real"
    )
    assert "coverage" not in by_title["Real training images"]
    switched = next(v for k, v in by_title.items() if "switched" in k)
    own = found.value("switched_flip_rate", "synthetic:fair", column="fair")
    assert switched["a classifier trained on these images changes its mind"] == f"{own:.1%} of latents"
    between = next(v for k, v in by_title.items() if k.startswith("Between"))
    assert len(between) == 2 and all(v.endswith("%") for v in between.values())
    said = [words[0] for sheet in worst(shown) for words in sheet.strips[0].words]
    assert said[:3] == ["said to be", "seen as", "distance"]


def test_every_number_is_explained(evaluation):
    assert not sorted({s.metric for s in evaluation.scores if not lookup(s.metric).known})


def decoded(uri):
    pil = pytest.importorskip("PIL.Image")
    return np.asarray(pil.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def images_of(page):
    for uri in re.findall(r'src="(data:image/png[^"]*)"', page):
        sheet = decoded(uri)
        side = sheet.shape[0]
        for left in range(0, sheet.shape[1], side + max(1, side // 12)):
            yield sheet[:, left : left + side].tobytes()


def test_without_real_images_none_is_on_the_page(evaluation, page):
    real = {
        x.tobytes()
        for name in ("train", "test")
        for x in as_rgba(evaluation.artifacts[name].read(np.arange(150)))
    }
    assert real & set(images_of(page))
    assert "This page shows real images" in page
    # The set "copy" repeats training images, which no page of its own images can hide.
    synthetic = evaluation.artifacts["synthetic"]
    evaluation.artifacts["synthetic"] = {"synthetic:fair": synthetic["synthetic:fair"]}
    nearest, worst = evaluation.artifacts["nearest"], evaluation.artifacts["worst"]
    evaluation.artifacts["nearest"] = {"synthetic:fair": nearest["synthetic:fair"]}
    evaluation.artifacts["worst"] = {"synthetic:fair": worst["synthetic:fair"]}
    try:
        without = render_images_html(evaluation, real_images=False)
    finally:
        evaluation.artifacts.update(synthetic=synthetic, nearest=nearest, worst=worst)
    assert not real & set(images_of(without))
    assert "This page shows real images" not in without and "No real image was put into it" in without
    assert "Where classifiers look" in without


def test_the_page_can_be_written_from_json_alone(evaluation, tmp_path):
    again = ImageEvaluation.from_json(evaluation.to_json())
    path = again.to_html(tmp_path / "page.html")
    text = Reader(path.read_text(encoding="utf-8"))
    assert text.wrong == [] and not text.all("img")
    assert "Right on real images" in text.text and "Not fit for release" in text.text


def test_page_is_written_whole_or_not_at_all(evaluation, tmp_path):
    target = tmp_path / "there.html"
    target.mkdir()
    with pytest.raises(OSError):
        write_images_html(evaluation, target)
    assert list(tmp_path.iterdir()) == [target]


def test_verdict_tells_the_fair_set_from_the_copy(evaluation):
    judged = image_verdict(Findings(evaluation))
    fair, copied = judged.table("synthetic:fair"), judged.table("synthetic:copy")
    assert copied.answer("fair").level == "poor" and copied.answer("private").level == "poor"
    assert "training images, pixel for pixel" in copied.headline
    assert fair.answer("private").level == "good"
    assert {r.metric: r.level for r in fair.answer("fair").reasons}["label_dependence"] in ("good", "caution")
    assert {r.metric: r.level for r in copied.answer("fair").reasons}["colour_flip_rate"] == "poor"
    assert fair.answer("fair").asked.startswith("Does a classifier trained on these images look at")


def scores(**values):
    return [
        Score(section="utility", metric=metric, value=v, source=source)
        for metric, of in values.items()
        for source, v in of.items()
    ]


def judged(found, **meta):
    evaluation = ImageEvaluation(
        scores=found, meta={"kind": "images", "target": "digit", "sensitive": ["ink"], **meta}
    )
    return image_verdict(Findings(evaluation)).tables[0]


def test_a_classifier_that_learns_nothing_makes_nothing_fair():
    found = scores(
        accuracy={"synthetic": 0.11, "real": 0.98, "constant": 0.10},
        colour_flip_rate={"synthetic": 0.0, "real": 0.3},
    )
    verdict = judged(found)
    assert verdict.answer("fair").level == "poor" and "learns next to nothing" in verdict.headline
    assert verdict.answer("useful").level == "poor"
    better = scores(
        accuracy={"synthetic": 0.9, "real": 0.98, "constant": 0.10}, colour_flip_rate={"synthetic": 0.0}
    )
    assert judged(better).answer("fair").level == "good"


def test_a_missing_class_is_neither_fair_nor_faithful():
    found = [
        Score(section="table_fairness", metric="class_share", value=v, source=source, label="7")
        for source, v in (("synthetic", 0.0), ("real", 0.1))
    ]
    verdict = judged(found)
    assert verdict.answer("fair").level == verdict.answer("faithful").level == "poor"
    assert "no image at all of: digit 7" in verdict.headline


def test_favorable_classes_are_judged_by_the_criterion_that_was_asked_for():
    found = [
        Score(section="fairness", metric=m, value=v, source="synthetic", attribute="ink")
        for m, v in (("dpr", 0.9), ("eor", 0.4))
    ]
    by_parity = judged(found, favorable=["yes"], criterion="demographic_parity")
    by_odds = judged(found, favorable=["yes"], criterion="equalized_odds")
    assert by_parity.answer("fair").level == "good" and by_odds.answer("fair").level == "poor"


def test_likeness_is_judged_against_the_set_of_nearest_composition(evaluation):
    found = Findings(evaluation)
    assert likest(found, "synthetic:copy") is None
    rows = {
        s.column: s.value
        for s in evaluation.scores_for(metric="composition_distance", source="synthetic:fair")
    }
    assert likest(found, "synthetic:fair") == min(rows, key=rows.get)


def test_good_labels_are_needed_to_be_faithful():
    train = bars(200, 0.5, seed=1)
    wrong = relabelled(train, 1 - train.labels)
    found = evaluate_images(train, bars(120, 0.5, seed=2), wrong, steps=60, threads=1)
    verdict = image_verdict(Findings(found)).tables[0]
    reasons = {r.metric: r.level for r in verdict.answer("faithful").reasons}
    assert reasons["label_read"] == "poor"
    assert verdict.answer("fair").level == "poor"  # it learns the opposite


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_is_read_by_others_as_it_was_written(channels):
    pil = pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, size=(5, 9, channels)).astype(np.uint8)
    back = np.asarray(pil.open(io.BytesIO(png(image))))
    np.testing.assert_array_equal(back.reshape(image.shape), image)


def test_strips_have_clear_gaps_and_large_images_are_averaged():
    images = np.full((3, 6, 6, 3), 200, np.uint8)
    sheet = decoded(strip("", images, 4).uri)
    assert sheet.shape == (6, 4 * 7 - 1, 4)
    assert sheet[0, 6, 3] == 0 and sheet[0, 7, 3] == 255 and (sheet[:, 21:, 3] == 0).all()
    large = np.zeros((1, 300, 200, 3), np.uint8)
    large[:, ::3] = 90  # each block of three rows has mean 30
    assert as_rgba(large).shape == (1, 100, 66, 4)
    assert (as_rgba(large)[..., :3] == 30).all()
