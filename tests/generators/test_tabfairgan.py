"""TabFairGAN: the gap that phase two closes, the errors of the published one, and what a file may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import mixed_table, small_table

from fairsynth import bundle
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import Table
from fairsynth.data.vectors import VectorEncoder
from fairsynth.errors import BundleError, CapabilityError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import rejection, tabfairgan
from fairsynth.generators.base import load_generator
from fairsynth.generators.fairvae import Training
from fairsynth.generators.tabfairgan import Gap, TabFairGAN, parity_gap
from fairsynth.progress import Step

QUICK: dict[str, Any] = {"hidden": (32,), "critic_hidden": (32,), "batch_size": 128, "epochs": 0.5}


def drawn_batch(seed: int, n: int, groups: int, outcomes: int) -> tuple[Tensor, Tensor]:
    """Return hard members and outcomes of a batch in which every group has someone."""
    rng = np.random.default_rng(seed)
    member = np.concatenate([np.arange(groups), rng.integers(0, groups, n - groups)])
    members = torch.nn.functional.one_hot(torch.from_numpy(member), groups).double()
    if outcomes == 1:
        return members, torch.from_numpy(rng.random((n, 1)) < 0.4).double()
    return members, torch.nn.functional.one_hot(
        torch.from_numpy(rng.integers(0, outcomes, n)), outcomes
    ).double()


# ------------------------------------------------------------------------------------------ the gap itself
def test_for_two_groups_it_is_the_distance_of_their_rates() -> None:
    """The published gap without its sign, by hand: 3 of 4 against 1 of 6."""
    members = torch.zeros(10, 2)
    members[:4, 0] = members[4:, 1] = 1
    good = torch.tensor([1, 1, 1, 0, 1, 0, 0, 0, 0, 0.0])[:, None]
    assert float(parity_gap(members, good)) == pytest.approx(3 / 4 - 1 / 6)


@given(st.integers(0, 10_000), st.integers(2, 5), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_what_a_gap_must_be(seed: int, groups: int, outcomes: int) -> None:
    members, good = drawn_batch(seed, 40, groups, outcomes)
    gap = float(parity_gap(members, good))
    assert 0 <= gap <= 1
    # Trap: the published term is divided by the batch, so the same people twice count half.
    assert float(parity_gap(members.repeat(2, 1), good.repeat(2, 1))) == pytest.approx(gap)
    # Trap: the published term is signed; names of groups must not matter.
    order = torch.from_numpy(np.random.default_rng(seed).permutation(groups))
    assert float(parity_gap(members[:, order], good)) == pytest.approx(gap)
    if outcomes == 1:
        assert float(parity_gap(members, 1 - good)) == pytest.approx(gap)
        both = torch.cat([good, 1 - good], dim=1)
        assert float(parity_gap(members, both)) == pytest.approx(gap), "one favorable label or two labels"


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=30, deadline=None)
def test_it_agrees_with_counting(seed: int, groups: int) -> None:
    members, good = drawn_batch(seed, 50, groups, 1)
    member, hit = members.numpy().argmax(1), good.numpy()[:, 0]
    apart = sum(
        (member == g).mean() * abs(hit[member == g].mean() - hit[member != g].mean()) for g in range(groups)
    )
    assert float(parity_gap(members, good)) == pytest.approx(apart)


def test_it_is_zero_at_parity_and_only_there() -> None:
    members = torch.eye(3).repeat(4, 1)
    good = torch.tensor([1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0.0])[:, None]
    assert float(parity_gap(members, good)) == 0
    good[0] = 0
    assert float(parity_gap(members, good)) > 0.1


def test_one_group_or_an_empty_one_is_no_gap_and_no_nan() -> None:
    members = torch.zeros(6, 3)
    members[:, 0] = 1
    good = torch.tensor([1, 0, 1, 0, 1, 0.0])[:, None].requires_grad_(True)
    gap = parity_gap(members, good)
    gap.backward()
    assert float(gap.detach()) >= 0 and good.grad is not None and good.grad.isfinite().all()
    members[0] = torch.tensor([0.0, 1.0, 0.0])
    assert float(parity_gap(members, good.detach())) == pytest.approx(abs(1 - 2 / 5))


def test_a_step_down_its_gradient_helps_the_group_that_is_behind() -> None:
    members = torch.zeros(8, 2)
    members[:4, 0] = members[4:, 1] = 1
    for behind in (0, 1):
        good = torch.full((8, 1), 0.7)
        good[members[:, behind] == 1] = 0.2
        good.requires_grad_(True)
        parity_gap(members, good).backward()
        assert good.grad is not None
        slope = good.grad[:, 0]
        assert (slope[members[:, behind] == 1] < 0).all() and (slope[members[:, 1 - behind] == 1] > 0).all()


# ------------------------------------------------------------------------------------- read from real rows
TABLES: dict[str, Callable[[], Table]] = {
    "two groups": small_table,
    "several": lambda: mixed_table(600, sensitive=["sex", "race"]),
    "bands, some missing": lambda: mixed_table(500, sensitive={"hours": [30, 60], "sex": None}),
    "bands": lambda: mixed_table(500, sensitive={"age": [40, 60]}),
    "classes": lambda: mixed_table(500, target="race", favorable=["a", "b"]),
    "no favorable": lambda: mixed_table(500, target="race", favorable=None),
}


@pytest.mark.parametrize("one_hot_up_to", [0, 200])
@pytest.mark.parametrize("shape", TABLES)
def test_the_gap_of_vectors_is_that_of_the_rows(shape: str, one_hot_up_to: int) -> None:
    """Groups and labels found in vectors are those that `Table` finds in the rows."""
    table = TABLES[shape]()
    data = Training(table, TableEncoder.learn(table))
    encoder = data.layout.encoder
    vectors = VectorEncoder.learn(encoder, data.states, range(len(encoder.names)), one_hot_up_to)
    rows = torch.from_numpy(vectors.encode(data.states, np.random.default_rng(0)))
    codes = table.groups().codes
    labels = table.favorable()[:, None] if table.schema.favorable else np.eye(5)[table.target_codes()]
    apart = 0.0
    for code in np.unique(codes):
        own = codes == code
        between = np.abs(labels[own].mean(0) - labels[~own].mean(0)).sum()
        apart += own.mean() * between / (1 if labels.shape[1] == 1 else 2)
    assert float(Gap(data.layout, vectors, data.group_levels)(rows)) == pytest.approx(apart, abs=1e-4)


# -------------------------------------------------------------------------------------------- phase two
def biased_world() -> Table:
    """Draw people of whom 70 % of the men and 25 % of the women are paid."""
    rng = np.random.default_rng(0)
    man = rng.random(1500) < 0.5
    paid = rng.random(1500) < np.where(man, 0.7, 0.25)
    frame = {
        "skill": rng.normal(size=1500) + paid,
        "sex": np.where(man, "man", "woman"),
        "paid": np.where(paid, "yes", "no"),
    }
    return Table(pl.DataFrame(frame), target="paid", favorable="yes", sensitive="sex")


def rate_gap(table: Table) -> float:
    """Return the favorable rate of men minus that of women."""
    groups, good = table.groups(), table.favorable()
    rates = {name: good[groups.codes == i].mean() for i, name in enumerate(groups.names)}
    return float(rates["man"] - rates["woman"])


def trained(strength: float) -> TabFairGAN:
    return TabFairGAN(
        fairness=Fairness(strength=strength), hidden=(32,), critic_hidden=(32,), batch_size=128, epochs=70,
        learning_rate=1e-2, gap_weight=30.0, fair_share=0.4, average=0.95,
    ).fit(biased_world())  # fmt: skip


@pytest.mark.slow
def test_phase_two_closes_the_gap_and_does_not_run_past_parity() -> None:
    """With a weight far above the default."""
    biased = rate_gap(trained(0.0).sample_table(8000, seed=0))
    fair = rate_gap(trained(1.0).sample_table(8000, seed=0))
    assert biased > 0.3
    assert -0.05 < fair < 0.12


@pytest.mark.slow
def test_the_published_signed_term_runs_past_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    def signed(members: Tensor, outcomes: Tensor) -> Tensor:
        rates = (members.T @ outcomes)[:, 0] / members.sum(0)
        return rates[0] - rates[1]  # men, women

    monkeypatch.setattr(tabfairgan, "parity_gap", signed)
    assert rate_gap(trained(1.0).sample_table(8000, seed=0)) < -0.2


def test_the_strength_scales_the_gap_and_zero_leaves_phase_two_out() -> None:
    def phases(strength: float) -> list[tuple[str, int, float]]:
        return TabFairGAN(fairness=Fairness(strength=strength), gap_weight=8.0)._phases(
            10_000, 8.0 * strength
        )

    assert [phase[2] for phase in phases(0.25)] == [0.0, 2.0] and phases(1.0)[1][2] == 8.0
    assert len(phases(0.0)) == 1
    assert sum(phase[1] for phase in phases(1.0)) == phases(0.0)[0][1], "as many steps in all"
    for strength, stages in ((0.0, 1), (1.0, 2)):
        heard: list[Step] = []
        TabFairGAN(fairness=Fairness(strength=strength), **QUICK).fit(small_table(), progress=heard.append)
        assert len({step.stage for step in heard}) == stages
        assert ("gap" in heard[-1].info) == (stages == 2)


# ---------------------------------------------------------------------------------------- rows and groups
@pytest.fixture(scope="module")
def model() -> TabFairGAN:
    return TabFairGAN(**QUICK).fit(mixed_table(600, sensitive=["sex", "race"]))


def test_it_begins_at_the_shares_of_levels() -> None:
    """Before training every column has about its own law; numbers are standard normal."""
    table = mixed_table(600)
    data = Training(table, TableEncoder.learn(table))
    encoder = data.layout.encoder
    vectors = VectorEncoder.learn(encoder, data.states, range(len(encoder.names)))
    net = TabFairGAN()._network(vectors)
    net.start(vectors, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        made = net(20_000, torch.Generator().manual_seed(1)).numpy()
    real = vectors.encode(data.states, np.random.default_rng(0))
    for block in vectors.blocks:
        if block.levels.stop > block.levels.start:
            shares = [
                np.bincount(rows[:, block.levels].argmax(1), minlength=2) / len(rows) for rows in (made, real)
            ]
            assert shares[0] == pytest.approx(shares[1], abs=0.02)
        if block.number is not None:
            assert made[:, block.number].mean() == pytest.approx(0, abs=0.1)
            assert made[:, block.number].std() == pytest.approx(1, abs=0.1)


def test_groups_are_thinned_to_their_shares_and_keep_their_labels(model: TabFairGAN) -> None:
    raw = model._rows(40_000, torch.Generator().manual_seed(5))
    own = rejection.group_of(model.layout_, model.groups_, raw)
    kept = model._propose(rejection.Cells(40_000), np.random.default_rng(5))
    after = rejection.group_of(model.layout_, model.groups_, kept)
    assert (after >= 0).all(), "no group that nobody belonged to"
    wanted = model.groups_.table.sum(0)
    shares = np.bincount(after, minlength=len(wanted)) / len(after)
    before = np.bincount(own[own >= 0], minlength=len(wanted)) / (own >= 0).sum()
    assert np.abs(shares - wanted).max() < 0.01 < np.abs(before - wanted).max()
    label = model.layout_.target
    for group in np.flatnonzero(wanted > 0.08):
        rates = [lines[label, places == group].mean() for lines, places in ((raw, own), (kept, after))]
        assert rates[0] == pytest.approx(rates[1], abs=0.06)


def test_a_network_that_draws_no_learned_group_is_given_up(
    model: TabFairGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabfairgan, "max_tries", lambda: 2000)
    monkeypatch.setattr(rejection, "group_of", lambda layout, groups, lines: np.full(lines.shape[1], -1))
    with pytest.raises(CapabilityError, match="more epochs"):
        model.sample(5)


def test_numeric_targets_are_refused() -> None:
    with pytest.raises(CapabilityError, match="numeric target"):
        TabFairGAN(**QUICK).fit(mixed_table(300, target="income", favorable=None))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fair_share", 1.0),
        ("fair_share", 0),
        ("average", 1.0),
        ("tau", 0),
        ("critic_steps", 0),
        ("gap_weight", -1),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        TabFairGAN(**{**QUICK, name: value}).fit(small_table())


# ------------------------------------------------------------------------------------------ hostile files
def _resaved(path: Path, to: Path, change: Callable[[dict, dict, dict], None]) -> Path:
    content = bundle.read(path)
    manifest, documents = (json.loads(json.dumps(part)) for part in (content.manifest, content.documents))
    tensors = {name: value.copy() for name, value in content.tensors.items()}
    change(manifest, documents, tensors)
    bundle.write(to, manifest, documents, tensors)
    return to


def _tensor(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict, dict, dict], None]:
    return lambda m, d, t: t.__setitem__(name, value(t[name]))


def _setting(name: str, value: Any) -> Callable[[dict, dict, dict], None]:
    return lambda m, d, t: m["settings"].__setitem__(name, value)


HOSTILE: dict[str, Callable[[dict, dict, dict], None]] = {
    "huge layers": _setting("hidden", [2**30, 2**30]),
    "huge noise": _setting("noise_dim", 10**9),
    "other blocks": _setting("one_hot_up_to", 10_000),
    "words for numbers": _setting("tau", "low"),
    "too few shares": _tensor("vectors.shares", lambda a: a[:-1]),
    "shares below zero": _tensor("vectors.shares", lambda a: -a),
    "nothing is ever kept": _tensor("keep.parts", np.zeros_like),
    "parts of other groups": _tensor("keep.parts", lambda a: a[:-1]),
    "parts that are no number": _tensor("keep.parts", lambda a: a * np.nan),
    "groups that are none": _tensor("groups.levels", lambda a: a + 99),
    "weights that are no number": _tensor("net.body.0.weight", lambda a: a * np.nan),
    "a tensor along with it": lambda m, d, t: t.__setitem__("rows", np.ones((5, 5))),
    "a part less": lambda m, d, t: t.pop("keep.parts"),
    "names of other groups": lambda m, d, t: d["groups"]["names"].pop(),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_damaged_files_are_refused(what: str, model: TabFairGAN, tmp_path: Path) -> None:
    path = tmp_path / "model.fairsynth"
    model.save(path)
    with pytest.raises(BundleError):
        load_generator(_resaved(path, tmp_path / "other.fairsynth", HOSTILE[what]))
    same = _resaved(path, tmp_path / "same.fairsynth", lambda m, d, t: None)
    assert load_generator(same).sample(5, seed=0).equals(model.sample(5, seed=0))


def test_a_file_holds_neither_critic_nor_rows(model: TabFairGAN, tmp_path: Path) -> None:
    path = tmp_path / "model.fairsynth"
    model.save(path)
    names = set(bundle.read(path).tensors)
    assert {n for n in names if not n.startswith("net.body.")} == {
        "vectors.shares", "keep.parts", "groups.levels", "groups.table",
    }  # fmt: skip
