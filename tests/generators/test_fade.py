"""FADE: what its two gradients do, what its label mix means, and what it says about domains."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from toys import mixed_table

from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, DataError, FairsynthWarning, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import fade as fades
from fairsynth.generators.base import load_generator
from fairsynth.generators.fade import FADE
from fairsynth.generators.fade_guidance import Guidance
from fairsynth.generators.fade_space import LatentSpace
from fairsynth.generators.fairvae import FairVAE, Training
from fairsynth.generators.layout import Groups

SMALL: dict[str, Any] = {
    "space": "row",
    "width": 64,
    "depth": 1,
    "classifier_width": 32,
    "classifier_depth": 1,
}


def structural(n: int, seed: int, *, bias: float = 1.5, shift: float = 0.0) -> pl.DataFrame:
    """Draw people of a known world: skill is fair, the proxy carries s, and the label is biased through it.

    The fair answer is the sign of the skill alone; `bias` is how much the proxy counts, `shift` moves the proxy's law.
    """
    rng = np.random.default_rng(seed)
    s = rng.random(n) < 0.5
    skill = rng.normal(size=n)
    proxy = (2 * s - 1) * 1.2 + rng.normal(size=n) + shift
    label = rng.random(n) < 1 / (1 + np.exp(-(2 * skill + bias * (proxy - shift))))
    return pl.DataFrame(
        {"skill": skill, "proxy": proxy, "s": np.where(s, "a", "b"), "y": np.where(label, "yes", "no")}
    )


def world(n: int = 3000, seed: int = 0, **dials: float) -> Table:
    return Table(structural(n, seed, **dials), target="y", favorable="yes", sensitive="s")


@pytest.fixture(scope="module")
def guided() -> FADE:
    """Return a FADE of the structural world that learned enough to be steered."""
    return FADE(**SMALL, steps=700, batch_size=256, epochs=1000).fit(world())


def certainty(table: Table) -> float:
    """Return how sure a model of the real rows, which guided nothing, is of the group of drawn rows: mean |p - 1/2|."""
    real = world(seed=7)
    model = LogisticRegression(max_iter=500).fit(
        real.frame.select("skill", "proxy").to_numpy(), real.groups().codes
    )
    return float(
        np.abs(model.predict_proba(table.frame.select("skill", "proxy").to_numpy())[:, 1] - 0.5).mean()
    )


# ------------------------------------------------------------------------------------------ the two gradients
def test_the_label_and_the_group_asked_for_have_their_own_rows(guided: FADE) -> None:
    """Guidance by Bayes' rule: the means of the drawn cells are those of the real ones."""
    real, made = world().frame, guided.sample_table(4000, seed=1).frame
    for label in ("yes", "no"):
        for group in ("a", "b"):
            for column in ("skill", "proxy"):
                own = [
                    f.filter((pl.col("y") == label) & (pl.col("s") == group))[column].mean()
                    for f in (real, made)
                ]
                assert own[1] == pytest.approx(own[0], abs=0.25), (label, group, column)


def test_the_away_gradient_hides_the_group_more_the_stronger_it_is(guided: FADE) -> None:
    before = guided.get_params()
    found = []
    try:
        for weight in (0.0, 3.0, 16.0):
            guided.set_params(sensitive_weight=weight)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FairsynthWarning)
                found.append(certainty(guided.sample_table(2000, seed=2)))
    finally:
        guided.set_params(**before)
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.85 * found[0]


@pytest.mark.parametrize("form", ["entropy", "kl-uniform", "kl-shares"])
def test_every_form_of_the_away_gradient_is_the_slope_of_what_it_says(guided: FADE, form: str) -> None:
    """Against finite differences of the quantity itself."""
    labels, groups = torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    shares = torch.from_numpy(guided.group_shares_)

    def steered(away: float) -> Any:
        guidance = Guidance(label=0.0, group=0.0, away=away, form=form, shares=shares.float())
        return guidance.steer(guided.score_.average, guided.classifiers_.average, labels, groups)

    x, t = (
        torch.randn(3, guided.space_.width, generator=torch.Generator().manual_seed(0)),
        torch.full((3,), 0.4),
    )
    from fairsynth.nn.diffusion import alpha_sigma

    alpha, sigma = alpha_sigma(t)
    got = (steered(2.0)(x, t) - steered(0.0)(x, t)) * (alpha / sigma**2)[:, None]
    classifiers = guided.classifiers_.average.double()

    def quantity(point: torch.Tensor) -> torch.Tensor:
        known = torch.nn.functional.one_hot(labels, 2).double()
        p = classifiers.sensitive(point, t.double(), known).exp()
        if form == "entropy":
            return -(p * p.log()).sum(1)
        law = torch.full_like(p, 1 / p.shape[1]) if form == "kl-uniform" else shares.expand_as(p)
        return -(law * (law / p).log()).sum(1)

    with torch.no_grad():
        for column in range(x.shape[1]):
            step = torch.zeros_like(x, dtype=torch.float64)
            step[:, column] = 1e-4
            slope = (quantity(x.double() + step) - quantity(x.double() - step)) / 2e-4
            assert got[:, column].tolist() == pytest.approx((2.0 * slope).tolist(), abs=2e-3)
    guided.classifiers_.average.float()


def test_samples_are_drawn_with_the_averaged_weights(guided: FADE) -> None:
    first = guided.sample(50, seed=3)
    kept = {name: p.detach().clone() for name, p in guided.score_.live.named_parameters()}
    with torch.no_grad():
        for p in guided.score_.live.parameters():
            p.fill_(7.0)
    assert guided.sample(50, seed=3).equals(first), "weights as trained play no part"
    with torch.no_grad():
        for name, p in guided.score_.live.named_parameters():
            p.copy_(kept[name])


# ------------------------------------------------------------------------------------------ the fair answer
@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_decisions_come_nearer_to_the_fair_answer_with_strength_and_shift_does_not_undo_it(
    shift: float,
) -> None:
    """Parity of decisions on real people of a world whose proxy has moved."""
    people = structural(6000, 9, shift=shift)
    x = people.select("skill", "proxy").to_numpy()
    gaps = []
    for strength in (0.0, 0.5, 1.0):
        model = FADE(
            **SMALL, fairness=Fairness(strength=strength), steps=700, batch_size=256, epochs=1000
        ).fit(world())
        rows = model.sample_table(4000, seed=0).frame
        judge = LogisticRegression().fit(
            rows.select("skill", "proxy").to_numpy(), (rows["y"] == "yes").to_numpy()
        )
        decided = judge.predict(x)
        women = (people["s"] == "a").to_numpy()
        gaps.append(abs(decided[women].mean() - decided[~women].mean()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.6 * gaps[0]


# ------------------------------------------------------------------------------------------ labels and domains
def test_the_label_mix_is_the_users_and_any_condition_is_met(guided: FADE) -> None:
    made = guided.sample(333, seed=4, target_mix={"yes": 2, "no": 1}, where={"s": "b"})
    assert made["y"].value_counts().sort("y")["count"].to_list() == [111, 222]
    assert (made["s"] == "b").all()


def with_domain(n: int = 600, **changes: Any) -> Table:
    frame = structural(n, 1).with_columns(place=pl.Series(["north", "south", "west"] * (n // 3)))
    for where, column, value in changes.get("set", []):
        frame = frame.with_columns(pl.when(where).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))
    return Table(frame, target="y", favorable="yes", sensitive="s", domain="place")


QUICK: dict[str, Any] = {
    **SMALL,
    "steps": 8,
    "batch_size": 64,
    "calibrate": False,
    "solver_steps": 4,
    "meta": "first-order",
}


@pytest.mark.parametrize("order", ["first-order", "second-order"])
def test_meta_learning_is_done_over_the_domain_column_and_said(order: str) -> None:
    model = FADE(**{**QUICK, "meta": order}).fit(with_domain())
    assert model.meta_ == f"{order} meta-learning over 3 domains of 'place'"
    plain = FADE(**{**QUICK, "meta": "none"}).fit(with_domain())
    assert "not asked for" in plain.meta_
    weights = [dict(m.score_.live.named_parameters())["net.first.weight"] for m in (model, plain)]
    assert not torch.equal(*weights)


def test_without_a_domain_it_trains_plainly_and_says_so() -> None:
    assert "no domain column" in FADE(**QUICK).fit(world(300)).meta_


def test_one_domain_only_trains_plainly_with_a_warning() -> None:
    one = with_domain(set=[(pl.lit(True), "place", "north")])
    with pytest.warns(FairsynthWarning, match="one domain only"):
        assert "one domain only" in FADE(**QUICK).fit(one).meta_


def test_a_domain_that_lacks_a_label_or_group_is_named() -> None:
    west = pl.col("place") == "west"
    with pytest.warns(FairsynthWarning, match="'west' has no row of target 'yes', no row of group 'a'"):
        FADE(**QUICK).fit(with_domain(set=[(west, "y", "no"), (west, "s", "b")]))


def test_an_unseen_domain_is_refused_at_sampling() -> None:
    model = FADE(**QUICK).fit(with_domain())
    with pytest.raises(DataError, match="'east' is not a level of 'place'"):
        model.sample(5, where={"place": "east"})


# ------------------------------------------------------------------------------------------ too strong, and wrong
def test_guidance_out_of_the_range_of_the_data_is_told(guided: FADE) -> None:
    before = guided.get_params()
    try:
        guided.set_params(label_weight=300.0)
        with pytest.warns(FairsynthWarning, match=r"rows drawn lie outside .* sensitive_weight"):
            guided.sample(500, seed=0)
        guided.set_params(label_weight=1e30)
        with pytest.raises(CapabilityError, match="so strong that samples became infinite"):
            guided.sample(50, seed=0)
    finally:
        guided.set_params(**before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"solver": "euler"}, {"averaging": 1.0}, {"sensitive_weight": -1.0}, {"meta": "both"}, {"device": "tpu9"},
        {"solver_steps": 0}, {"sensitive_form": "mutual"}, {"space": "pixels"},
    ],
)  # fmt: skip
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        FADE(**wrong).fit(world(100))


# ------------------------------------------------------------------------------------------ spaces, file, parts
def test_numeric_groups_and_their_values_agree() -> None:
    table = mixed_table(500, sensitive={"age": [40, 60]})
    made = FADE(**QUICK).fit(table).sample_table(400, seed=1)
    assert len(np.unique(made.groups().codes)) == 3


def test_the_latent_of_a_teacher_serves_as_well(tmp_path: Any, few_steps: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(fades, "MIN_STEPS", 30)
    model = FADE(**{**QUICK, "space": "latent"}).fit(mixed_table(600, sensitive=["sex", "race"]))
    model.save(tmp_path / "m.fairsynth")
    again = load_generator(tmp_path / "m.fairsynth")
    assert again.sample(300, seed=1).equals(model.sample(300, seed=1))


def test_a_teacher_that_stands_can_be_given(tmp_path: Any, few_steps: None, monkeypatch: Any) -> None:
    monkeypatch.setattr(fades, "MIN_STEPS", 30)
    table = mixed_table(500)
    teacher = FairVAE(hidden=(24,), latent_dim=3, calibrate=False, seed=5).fit(table)
    model = FADE(**{**QUICK, "space": "latent", "teacher": teacher}).fit(table)
    model.save(tmp_path / "m.fairsynth")
    assert load_generator(tmp_path / "m.fairsynth").sample(99, seed=1).equals(model.sample(99, seed=1))
    assert torch.equal(model.space_.net.encoder.first.weight, teacher.net_.encoder.first.weight)
    with pytest.raises(DataError, match="another schema"):
        FADE(**{**QUICK, "space": "latent", "teacher": teacher}).fit(world(100))


def test_a_latent_dimension_that_the_teacher_does_not_use_is_no_wider_than_the_others(
    few_steps: None,
) -> None:
    table = mixed_table(500)
    teacher = FairVAE(hidden=(24,), latent_dim=3, calibrate=False, seed=5).fit(table)
    with torch.no_grad():  # a collapsed posterior: no mean of its own, and the prior's spread
        last = teacher.net_.encoder.rest[-1][-1]
        assert isinstance(last, torch.nn.Linear)
        last.weight[[0, 3]] = 0.0
        last.bias[3] = 0.0
    data = Training(table, teacher.net_.layout.encoder)
    space = LatentSpace.learn(teacher, data)
    vectors = space.vectors(torch.arange(500), torch.Generator().manual_seed(0))
    assert vectors.std(0).tolist() == pytest.approx([1.0] * 3, abs=0.15)
    assert not space.outside(vectors).any()


def test_the_file_holds_score_classifiers_and_averages_and_their_calibration(
    guided: FADE, tmp_path: Any
) -> None:
    guided.save(tmp_path / "m.fairsynth")
    again = load_generator(tmp_path / "m.fairsynth")
    assert isinstance(again, FADE) and again.calibration_ == guided.calibration_
    assert json.dumps(guided.calibration_) and {line["classifier"] for line in guided.calibration_} == {
        "target",
        "sensitive",
    }
    for line in guided.calibration_:
        assert line["ece_after"] < 0.25 and line["cross_entropy_after"] <= line["cross_entropy_before"] + 0.05
    for own, other in ((guided.score_, again.score_), (guided.classifiers_, again.classifiers_)):
        for (name, p), (_, q) in zip(own.named_parameters(), other.named_parameters(), strict=True):
            assert torch.equal(p, q), name


def test_the_table_can_be_set_anew_for_other_weights(guided: FADE, tmp_path: Any) -> None:
    guided.save(tmp_path / "m.fairsynth")
    again = load_generator(tmp_path / "m.fairsynth")
    assert isinstance(again, FADE)
    before = again.groups_.table.copy()
    again.recalibrate(world())
    assert np.array_equal(again.groups_.table, before)  # the same weights and rows: the same table
    weights = [p.clone() for p in again.score_.parameters()]
    again.set_params(label_weight=2.5, sensitive_weight=3.0)
    again.recalibrate(world())
    assert not np.array_equal(again.groups_.table, before)
    assert np.array_equal(again.label_law_, again.groups_.table)
    assert all(torch.equal(p, q) for p, q in zip(weights, again.score_.parameters(), strict=True))
    with pytest.raises(DataError, match="another schema"):
        again.recalibrate(mixed_table(200))
    again.groups_ = Groups(again.groups_.levels[:1], again.groups_.table[:, :1])
    with pytest.raises(DataError, match="other groups"):
        again.recalibrate(world())
