"""Image evaluation on sets whose answer is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from image_toys import bars, relabelled

from fairsynth.data.images import ImageSet
from fairsynth.errors import DataError, MissingDependencyError, SettingsError
from fairsynth.evaluation import image_models
from fairsynth.evaluation.image_models import balancing_weights, choose_reader, probabilities_of
from fairsynth.evaluation.image_scores import class_counts
from fairsynth.evaluation.images import ImageEvaluation, evaluate_images
from fairsynth.metrics.fairness import confusion_by_group
from fairsynth.metrics.marginals import cramers_v

STEPS = 60
FEW = {"steps": STEPS, "threads": 1}


@pytest.fixture(scope="module")
def real():
    return {
        "train": bars(400, 1.0, seed=1),
        "test": bars(200, 1.0, seed=2),
        "others": {"decorrelated": bars(200, 0.5, seed=3), "reversed": bars(200, 0.0, seed=4)},
    }


@pytest.fixture(scope="module")
def evaluation(real):
    fair, copied = bars(400, 0.5, seed=5), real["train"]
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    found = evaluate_images(
        real["train"], real["test"], {"fair": fair, "copy": copied}, others=real["others"], **FEW
    )
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    return found


def value(evaluation, metric, source, column=None, **where):
    found = evaluation.scores_for(
        metric=metric, source=source, column=column, **{"group": None, "label": None, **where}
    )
    assert len(found) == 1, (metric, source, column, len(found))
    return found[0].value


def test_a_shortcut_of_the_real_images_is_seen_on_the_other_sets_and_a_fair_set_has_none(evaluation):
    assert value(evaluation, "accuracy", "real") > 0.95
    assert value(evaluation, "accuracy", "real", "reversed") < 0.4
    assert value(evaluation, "accuracy", "synthetic:fair", "reversed") > 0.85
    assert value(evaluation, "accuracy_gain", "synthetic:fair", "reversed") == pytest.approx(
        value(evaluation, "accuracy", "synthetic:fair", "reversed")
        - value(evaluation, "accuracy", "real", "reversed")
    )
    assert value(evaluation, "accuracy", "constant") < 0.65


def test_one_number_is_had_by_its_name(evaluation):
    accuracy = evaluation.value("accuracy", "synthetic:fair", column="reversed")
    assert accuracy == value(evaluation, "accuracy", "synthetic:fair", "reversed")
    assert evaluation.value("accuracy", "constant") == value(evaluation, "accuracy", "constant")
    assert evaluation.value("eod", "real") == value(evaluation, "eod", "real")


def test_colour_decides_after_real_images_and_shape_after_fair_ones(evaluation):
    assert value(evaluation, "colour_flip_rate", "real") > 0.6
    assert value(evaluation, "colour_flip_rate", "synthetic:fair") < 0.15
    assert value(evaluation, "shape_flip_rate", "synthetic:fair") > 0.85
    assert (
        value(evaluation, "colour_reliance", "synthetic:fair")
        < 0.2
        < value(evaluation, "colour_reliance", "real")
    )


def test_a_copy_of_the_training_images_is_found(evaluation):
    assert value(evaluation, "exact_copies", "synthetic:copy") == 1.0
    assert value(evaluation, "near_copies", "synthetic:copy") == 1.0
    assert value(evaluation, "exact_copies", "synthetic:fair") == 0.0
    assert value(evaluation, "exact_copies", "holdout") == 0.0
    assert value(evaluation, "dcr_share", "synthetic:copy") > 0.6
    assert 0.4 < value(evaluation, "dcr_share", "synthetic:fair") < 0.6
    assert value(evaluation, "dcr", "synthetic:copy") == 0.0 < value(evaluation, "dcr", "holdout")


def test_composition_and_dependence_are_those_of_the_sets(evaluation, real):
    train, other = real["train"], real["others"]["decorrelated"]
    assert value(evaluation, "label_dependence", "real") == pytest.approx(
        cramers_v(train.labels, train.groups)
    )
    assert value(evaluation, "label_dependence", "synthetic:fair") < 0.15
    assert value(evaluation, "composition_distance", "synthetic:copy") == 0.0
    # All of one diagonal against all of the other: every image would have to move.
    counts = real["others"]["reversed"].counts() / 200 - train.counts() / 400
    distance = evaluation.scores_for(
        metric="composition_distance", source="synthetic:copy", column="reversed"
    )[0]
    assert distance.value == pytest.approx(0.5 * np.abs(counts).sum())
    assert other.counts().sum() == distance.n or distance.n == 400
    shares = {s.group: s.value for s in evaluation.scores_for(metric="group_share", source="real")}
    assert shares == pytest.approx(
        {"red": float((train.groups == 0).mean()), "blue": float((train.groups == 1).mean())}
    )


def test_likeness_is_seen_against_the_set_of_like_composition(evaluation):
    near = value(evaluation, "coverage", "synthetic:fair", "decorrelated")
    assert near > 0.8
    assert near > value(evaluation, "coverage", "synthetic:fair", "reversed")
    assert value(evaluation, "coverage", "synthetic:copy") > 0.9
    assert value(evaluation, "fid", "synthetic:copy", "decorrelated") > 2 * value(
        evaluation, "fid", "synthetic:fair", "decorrelated"
    )
    assert value(evaluation, "kid", "synthetic:copy", "decorrelated") > value(
        evaluation, "kid", "synthetic:fair", "decorrelated"
    )
    groups = {s.group for s in evaluation.scores_for(metric="fid", source="synthetic:fair", attribute="ink")}
    assert groups == {"red", "blue"}


def test_distances_are_had_for_each_group():
    train, test, made = (bars(n, 0.5, seed=s) for s, n in ((6, 300), (7, 200), (8, 300)))
    pixels, red = made.read(np.arange(len(made))), made.groups == 0
    pixels[red] = (
        np.random.default_rng(0).permuted(pixels[red].reshape(red.sum(), -1), axis=1).reshape(-1, 10, 10, 3)
    )
    spoiled = ImageSet.of_arrays(
        pixels, made.labels, made.groups, classes=made.classes, levels=made.levels, label=made.label,
        sensitive=made.sensitive,
    )  # fmt: skip
    found = evaluate_images(train, test, spoiled, **FEW)
    for metric in ("fid", "kid"):
        bad, good = (value(found, metric, "synthetic", group=level) for level in ("red", "blue"))
        usual = value(found, metric, "holdout", group="red")
        assert bad > 3 * max(good, usual), metric


def test_the_reader_says_how_good_it_is(evaluation):
    reader = evaluation.meta["reader"]
    assert reader["shape: right on test"] > 0.9 and reader["ink: right on test"] > 0.9
    assert 0 <= reader["shape: right on reversed"] <= 1
    assert evaluation.meta["features"] == "trained"


def test_meta_tells_how_it_can_be_repeated(evaluation, real):
    assert evaluation.meta["sha256"]["train"] == real["train"].fingerprint()
    assert evaluation.meta["rows"] == {
        "train": 400, "test": 200, "decorrelated": 200, "reversed": 200, "synthetic:fair": 400, "synthetic:copy": 400,
    }  # fmt: skip
    assert evaluation.meta["kind"] == "images" and evaluation.meta["others"] == ["decorrelated", "reversed"]
    again = ImageEvaluation.from_json(evaluation.to_json())
    assert again.scores == evaluation.scores


def test_summary_names_every_set(evaluation):
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(evaluation.summary())
    text = console.export_text()
    assert "Accuracy, reversed" in text and "real hold-out" in text and "color alone" in text


def test_the_same_seed_gives_the_same_scores_and_steps_are_told():
    train, test, made = bars(120, 0.9, seed=1), bars(80, 0.9, seed=2), bars(120, 0.5, seed=3)
    heard = []
    one = evaluate_images(train, test, made, seed=4, steps=5, threads=1, progress=heard.append)
    two = evaluate_images(train, test, made, seed=4, steps=5, threads=2)
    assert one.scores == two.scores
    done = [s.done / s.total for s in heard]
    assert done == sorted(done) and done[-1] == 1 and len(done) > 5
    other = evaluate_images(train, test, made, seed=5, steps=5, threads=1)
    assert other.scores != one.scores


def test_repeats_give_a_spread():
    found = evaluate_images(bars(80), bars(60, seed=2), bars(80, seed=3), steps=5, repeats=2, threads=1)
    score = found.scores_for(metric="accuracy", source="real", group=None)[0]
    assert score.std is not None and found.meta["seeds"] == [0, 1]


def test_gray_images_have_no_colour_to_look_at():
    sets = [bars(120, 0.9, seed=s, gray=True) for s in (1, 2, 3)]
    found = evaluate_images(*sets, **FEW)
    score = found.scores_for(metric="colour_flip_rate", source="real")[0]
    assert score.value is None and "gray" in score.note
    assert value(found, "accuracy", "synthetic") > 0.8


def test_favorable_classes_are_judged_as_one_decision():
    sets = [bars(150, c, seed=s, favorable=("standing",)) for s, c in ((1, 0.9), (2, 0.9), (3, 0.5))]
    found = evaluate_images(*sets, **FEW)
    score = found.scores_for(metric="dpr", source="real", label=None)[0]
    test, decided = sets[1], found.artifacts["predictions"]["real"][None]
    rates = [(decided[test.groups == g] == 1).mean() for g in (0, 1)]
    assert score.value == pytest.approx(min(rates) / max(rates))
    truth = [(test.labels[test.groups == g] == 1).mean() for g in (0, 1)]
    assert f"always right has {min(truth) / max(truth):.3f}" in score.note
    assert not found.scores_for(metric="dpr_class_mean")
    headings = [heading for heading, _ in found._summary_rows(["synthetic", "real"])]
    assert {"DPR", "EOR"} <= set(headings)


def test_without_favorable_classes_the_worst_class_is_named(evaluation):
    score = evaluation.scores_for(metric="eod", source="real", column="decorrelated", label=None)[0]
    by_class = {
        s.label: s.value
        for s in evaluation.scores_for(metric="eod", source="real", column="decorrelated")
        if s.label is not None
    }
    assert score.value == pytest.approx(max(by_class.values()))
    assert repr(max(by_class, key=by_class.get)) in score.note
    mean = evaluation.scores_for(metric="eod_class_mean", source="real", column="decorrelated")[0]
    assert mean.value == pytest.approx(np.mean(list(by_class.values())))


def test_class_counts_are_the_confusion_of_each_class_against_the_rest():
    rng = np.random.default_rng(0)
    images = ImageSet.of_arrays(
        np.zeros((90, 4, 4, 1), np.uint8), rng.integers(3, size=90), rng.integers(2, size=90),
        classes=("a", "b", "c"), levels=("x", "y"),
    )  # fmt: skip
    decisions = rng.integers(3, size=90)
    counts = class_counts(images, decisions)
    for c in range(3):
        np.testing.assert_array_equal(
            counts[c], confusion_by_group(images.labels == c, decisions == c, images.groups, 2)
        )


def test_wrong_labels_are_read_in_the_images(real):
    train = bars(300, 0.5, seed=1)
    rng = np.random.default_rng(0)
    wrong = relabelled(train, np.where(rng.random(300) < 0.5, train.labels, 1 - train.labels))
    found = evaluate_images(
        train, bars(150, 0.5, seed=2), {"wrong": wrong, "right": bars(300, 0.5, seed=6)}, **FEW
    )
    assert value(found, "label_read", "synthetic:wrong") < 0.7
    assert value(found, "label_read", "synthetic:right") > 0.85
    assert value(found, "sensitive_read", "synthetic:wrong") > 0.9


@pytest.mark.slow
def test_images_that_show_what_the_set_denies_are_seen():
    train = bars(400, 0.8, seed=1)
    made = bars(300, 1.0, seed=2)
    denied = relabelled(made, made.labels, np.random.default_rng(0).integers(2, size=300))
    found = evaluate_images(train, bars(150, 0.8, seed=3), denied, steps=150, threads=1)
    assert value(found, "label_dependence", "synthetic") < 0.2
    assert value(found, "label_dependence_seen", "synthetic") > 0.6


def test_balancing_weights_make_every_combination_equally_likely():
    labels, groups = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 0, 0, 1])
    weights = balancing_weights(labels, groups)
    assert weights.sum() == pytest.approx(1)
    for cell in {(0, 0), (0, 1), (1, 0), (2, 1)}:
        assert weights[(labels == cell[0]) & (groups == cell[1])].sum() == pytest.approx(0.25)


@pytest.mark.slow
def test_the_reader_finds_out_whether_the_attribute_is_a_colour():
    coloured = bars(600, 0.97, seed=1)
    reader, how = choose_reader(coloured, steps=300)
    assert how["exchange"] and how["follows"] >= 0.7
    reversed_ = bars(300, 0.03, seed=2)
    assert (probabilities_of(reader, reversed_).argmax(axis=1) == reversed_.labels).mean() > 0.85
    # The attribute is now where the bar is, and the label is its colour: exchanging colours would be wrong.
    place = coloured.read(np.arange(600)).max(axis=3)
    half = (place[:, :, :5].sum(axis=(1, 2)) > place[:, :, 5:].sum(axis=(1, 2))).astype(np.int64)
    placed = relabelled(coloured, coloured.groups, half)
    reader, how = choose_reader(placed, steps=300)
    assert not how["exchange"] and how["follows"] < 0.5


def test_switched_latents_of_a_generator_are_counted():
    train, test, made = bars(150, 1.0, seed=1), bars(100, 1.0, seed=2), bars(150, 0.5, seed=3)
    ink = bars(20, 1.0, seed=4).read(np.arange(20)).max(axis=3)[..., None].astype(float)
    switched = np.stack(
        [np.rint(ink / 255 * shade).astype(np.uint8) for shade in ((230, 40, 40), (50, 90, 240))]
    )
    found = evaluate_images(train, test, {"ours": made}, pictures={"ours": {"switched": switched}}, **FEW)
    real = value(found, "switched_flip_rate", "real", "ours")
    assert real > value(found, "switched_flip_rate", "synthetic:ours", "ours")
    with pytest.raises(SettingsError, match="'theirs'"):
        evaluate_images(train, test, {"ours": made}, pictures={"theirs": {}}, **FEW)


def test_features_may_be_a_function_and_are_checked(monkeypatch):
    sets = [bars(80, 0.9, seed=s) for s in (1, 2, 3)]

    def mean_colour(pixels):
        return pixels.reshape(len(pixels), -1, 3).mean(axis=1)

    found = evaluate_images(*sets, features=mean_colour, steps=5, threads=1)
    assert found.meta["features"] == "given by the caller"
    x, y = (mean_colour(s.read(np.arange(80))) for s in (sets[0], sets[2]))
    from fairsynth.metrics.images import kid

    assert value(found, "kid", "synthetic") == pytest.approx(kid(x, y), rel=1e-9)
    with pytest.raises(DataError, match="one row for each"):
        evaluate_images(*sets, features=lambda pixels: np.zeros(3), steps=5, threads=1)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingDependencyError, match="torch-fidelity"):
        evaluate_images(*sets, features="inception", steps=5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"synthetic": bars(100, side=12)}, r"synthetic has images of shape \(12, 12, 3\)"),
        ({"test": bars(100, classes=("a", "b"))}, r"test has the classes \(a, b\)"),
        ({"synthetic": bars(40)}, "synthetic has 40 images; at least 50"),
        ({"synthetic": {}}, "no set of synthetic"),
        ({"others": {"far": bars(20)}}, "far has 20 images"),
        ({"synthetic": np.zeros((80, 10, 10, 3), np.uint8)}, "give an ImageSet"),
    ],
)
def test_sets_that_do_not_fit_are_named(change, said):
    given = {"train": bars(100), "test": bars(100, seed=1), "synthetic": bars(100, seed=2), **change}
    with pytest.raises(DataError, match=said):
        evaluate_images(**given)


def test_one_class_or_one_group_is_named():
    train, test = bars(100), bars(100, seed=1)
    one_class = relabelled(test, np.zeros(100, dtype=np.int64))
    with pytest.raises(DataError, match="All images of test have shape = 'lying'"):
        evaluate_images(train, one_class, train)
    one_group = relabelled(train, train.labels, np.ones(100, dtype=np.int64))
    with pytest.raises(DataError, match="All images of train have ink = 'blue'"):
        evaluate_images(one_group, test, train)


@pytest.mark.parametrize("wrong", [{"features": "pixels"}, {"repeats": 0}, {"steps": 0}, {"max_images": 10}])
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        evaluate_images(bars(100), bars(100), bars(100), **wrong)


@pytest.mark.parametrize("shape", [(4, 4, 1), (28, 28, 3), (64, 48, 3), (7, 30, 4)])
def test_networks_fit_images_of_any_size(shape):
    network = image_models.ImageNetwork(shape, {"label": 3})
    found = network(torch.zeros(2, shape[2], *shape[:2]))["label"]
    assert found.shape == (2, 3)


def test_large_images_are_looked_at_a_few_at_a_time_with_the_same_result(monkeypatch):
    images = bars(100, 0.5, seed=1)
    network = image_models.new_network(images, {"label": 2}, seed=0).eval()
    whole = probabilities_of(network, images)
    sizes = []
    read = ImageSet.read
    monkeypatch.setattr(ImageSet, "read", lambda self, rows: sizes.append(len(rows)) or read(self, rows))
    monkeypatch.setattr(image_models, "READ_VALUES", 9 * 300)
    np.testing.assert_allclose(probabilities_of(network, images), whole, rtol=1e-6)
    assert max(sizes) == 9 and sum(sizes) == 100
    index = np.arange(99, -1, -1)
    joined = image_models.over_images(images, index, lambda pixels: pixels.mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(joined, images.read(index).mean(axis=(1, 2, 3)))
