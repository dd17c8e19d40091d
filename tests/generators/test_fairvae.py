"""The teacher: what goes into its latent, what comes out, and what its file may hold."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from toys import mixed_table, small_table

from fairsynth import bundle
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, DataError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators import fairvae
from fairsynth.generators.base import load_generator
from fairsynth.generators.fairvae import (
    PAPER,
    FairVAE,
    _posterior,
    label_shares_for,
)
from fairsynth.generators.group_law import joint_counts
from fairsynth.generators.layout import Groups
from fairsynth.nn.dependence import energy_distance_covariance

Dial = Callable[[float], FairVAE]


def rates(table: Table) -> dict[str, float]:
    """Return the share of favorable labels in each group."""
    groups, good = table.groups(), table.favorable()
    return {name: float(good[groups.codes == i].mean()) for i, name in enumerate(groups.names)}


# ------------------------------------------------------------------------------ trap 5: s and the label
def test_the_label_head_is_blind_to_the_group(quick_teacher: FairVAE) -> None:
    """The same codes with other groups give the same labels, and other columns."""
    rows, groups = quick_teacher.net_.rows, quick_teacher.groups_
    prepared = rows.prepare(_request(), groups)
    swapped = Groups(groups.levels[::-1].copy(), groups.table)
    other = rows.prepare(_request(), swapped)

    def drawn(held: Groups, request: Any) -> pl.DataFrame:
        return rows.draw(2000, quick_teacher._codes, held, request, np.random.SeedSequence(3))

    first, second = drawn(groups, prepared), drawn(swapped, other)
    assert (first["paid"] == second["paid"]).all()
    assert (first["sex"] != second["sex"]).any() and (first["race"] != second["race"]).any()
    head = rows.head
    assert head[0].in_features == quick_teacher.latent_dim, "the head reads the code and nothing else"


def test_the_decoder_does_see_the_group(quick_teacher: FairVAE) -> None:
    rows = quick_teacher.net_.rows
    levels = torch.from_numpy(quick_teacher.groups_.levels)
    codes = torch.zeros(len(levels), quick_teacher.latent_dim)
    states = torch.zeros(len(levels), len(rows.layout.features), dtype=torch.int64)
    losses, label = rows.losses(codes, states, torch.zeros(len(levels), dtype=torch.int64), levels)
    assert losses.unique().numel() == len(levels)
    assert label.ndim == 0


def test_labels_are_independent_of_the_group_at_full_strength(small: Table, few_steps: None) -> None:
    """However little was learned: the label comes from the code, and the group from P(s | y) = P(s)."""
    model = FairVAE(calibrate=False).fit(small)
    assert np.ptp(list(rates(small).values())) > 0.2
    made = model.sample_table(40_000, seed=0)
    assert np.ptp(list(rates(made).values())) < 5 * np.sqrt(0.25 / 20_000)
    joint = model.label_law_
    assert joint == pytest.approx(np.outer(joint.sum(1), joint.sum(0)), abs=1e-12)


def _request() -> Any:
    from fairsynth.generators.base import Request

    return Request({}, None)


# ------------------------------------------------------------------------------- what the latent holds
def dependence(model: FairVAE, train: Table) -> float:
    """Return the energy distance between the groups' latent codes, drawn as the decoder sees them."""
    states = torch.from_numpy(model.net_.layout.encoder.encode(train).astype(np.int64))
    codes = _posterior(model.net_.encoder, states, torch.Generator().manual_seed(0)).detach()
    return float(energy_distance_covariance(codes, torch.from_numpy(train.groups().codes), max_rows=1500))


def test_the_penalty_takes_the_group_out_of_the_latent(
    proxies: tuple[Table, Table], at_strength: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = proxies[0]
    none, mild = dependence(at_strength(0.0), train), dependence(at_strength(1.0), train)
    assert none > 0.2 and mild < 0.6 * none
    monkeypatch.setattr(fairvae, "MIN_STEPS", 150)
    strong = FairVAE(penalty_weight=200, epochs=10, calibrate=False).fit(train)
    assert dependence(strong, train) < 0.02


@pytest.mark.slow
def test_the_published_penalty_takes_it_out_too(proxies: tuple[Table, Table], monkeypatch: Any) -> None:
    monkeypatch.setattr(fairvae, "MIN_STEPS", 150)
    chosen = {"penalty": "density", "decoder": "independent", "epochs": 10, "calibrate": False}
    without = FairVAE(penalty_weight=0.0, **chosen).fit(proxies[0])
    model = FairVAE(penalty_weight=1e5, **chosen).fit(proxies[0])
    assert dependence(model, proxies[0]) < 0.02 < 0.2 < dependence(without, proxies[0])


def test_equalized_odds_leaves_the_group_that_the_label_tells(small: Table) -> None:
    """Within one label the penalty acts, between labels it does not: the classes say so."""
    model = FairVAE(fairness=Fairness("equalized_odds"))
    data = fairvae.Training(small, fairvae.TableEncoder.learn(small))
    good = torch.from_numpy(small.favorable())
    assert torch.equal(model._classes(data), good.long())
    model.fairness = Fairness("equal_opportunity")
    assert torch.equal(model._classes(data) == 1, good) and set(model._classes(data).tolist()) == {1, -1}
    codes, classes = torch.randn(len(small), 2), model._classes(data)
    mean, log_var = codes, torch.zeros_like(codes)
    assert torch.equal(
        model._penalty(mean, log_var, codes, data.groups, classes),
        good.float().mean() * energy_distance_covariance(codes[good], data.groups[good], max_rows=512),
    )


def test_representations_of_real_rows(quick_teacher: FairVAE) -> None:
    table = mixed_table(800, sensitive=["sex", "race"])
    codes = quick_teacher.transform(table)
    assert codes.shape == (800, 2) and codes.dtype == np.float32 and np.isfinite(codes).all()
    assert (codes == quick_teacher.transform(table)).all()


# ---------------------------------------------------------------------------------- P(y, s) in the rows
def test_at_strength_zero_labels_and_groups_come_as_they_are(
    proxies: tuple[Table, Table], at_strength: Dial
) -> None:
    train, model = proxies[0], at_strength(0.0)
    made = model.sample_table(30_000, seed=0)
    wanted = joint_counts(train.target_codes(), train.groups().codes, 2, 2) / len(train)
    got = joint_counts(made.target_codes(), made.groups().codes, 2, 2) / len(made)
    assert model.label_law_ == pytest.approx(wanted, abs=1e-12)
    assert got == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("mix", ["uniform", {"man": 0.1, "woman": 0.9}], ids=str)
def test_other_shares_of_groups_keep_each_groups_label_law(mix: Any, at_strength: Dial) -> None:
    """Where the label law differs by group, other groups mean other labels as well."""
    model = at_strength(0.0)
    usual, made = model.sample_table(30_000, seed=0), model.sample_table(30_000, seed=0, sensitive=mix)
    wanted = {"man": 0.5, "woman": 0.5} if mix == "uniform" else mix
    share = dict(zip(made.groups().names, made.groups().counts / 30_000, strict=True))
    assert share == pytest.approx(wanted, abs=0.03)
    assert rates(made) == pytest.approx(rates(usual), abs=0.03)


def test_pairs_of_columns_stay_together(proxies: tuple[Table, Table], at_strength: Dial) -> None:
    train, made = proxies[0].frame, at_strength(0.0).sample_table(20_000, seed=0).frame

    def joint(frame: pl.DataFrame, a: str, b: str) -> float:
        return float(((frame[a] == "man") & (frame[b] == "golf")).mean())

    assert joint(made, "sex", "club") == pytest.approx(joint(train, "sex", "club"), abs=0.04)
    by_label = [
        frame.group_by("paid").agg(pl.col("skill").mean()).sort("paid")["skill"] for frame in (train, made)
    ]
    assert (by_label[0] - by_label[1]).abs().max() < 0.2


def test_small_groups_are_named(few_steps: None) -> None:
    table = mixed_table(400, sensitive=["sex", "race"])
    counts = dict(zip(table.groups().names, table.groups().counts, strict=True))
    model = FairVAE(calibrate=False).fit(table)
    assert set(model.group_names_) == {name for name, count in counts.items() if count}
    assert set(model.rare_groups_) == {name for name, count in counts.items() if 0 < count < 30}
    assert model.rare_groups_


def test_label_shares_follow_the_table_only_where_the_law_knows_labels(
    quick_teacher: FairVAE, few_steps: None
) -> None:
    shares = label_shares_for(quick_teacher.law_, quick_teacher.groups_)
    assert shares == pytest.approx(quick_teacher.label_law_.sum(1))
    numeric = FairVAE().fit(mixed_table(400, target="income", favorable=None))
    assert label_shares_for(numeric.law_, numeric.groups_) is None
    assert np.isfinite(numeric.sample_table(50, seed=0).frame["income"].to_numpy()).all()


# ------------------------------------------------------------------------------------- many levels
def crowded(n_levels: int = 2600, n: int = 3000) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    frame = small_table(n).frame
    streets = np.concatenate([np.arange(n_levels), rng.integers(0, 900, n - n_levels)])
    return frame.with_columns(pl.Series("street", [f"street {i}" for i in streets]))


def test_a_level_that_shares_its_state_can_still_be_asked_for(few_steps: None) -> None:
    table = Table(crowded(), target="paid", favorable="yes", sensitive="sex", kinds={"street": "categorical"})
    model = FairVAE(calibrate=False).fit(table)
    part = model.net_.layout.encoder.states[model.net_.layout.encoder.index("street")]
    shared = table.schema["street"].levels[int(np.flatnonzero(part._state_of_level >= 2000)[0])]  # type: ignore[union-attr]
    rows = model.sample_table(30, seed=0, where={"street": shared}).frame
    assert set(rows["street"]) == {shared}
    assert rows.schema == table.frame.schema
    assert model.sample_table(3000, seed=0).frame["street"].n_unique() > 1000


@pytest.mark.parametrize("role", ["target", "sensitive"])
def test_thousands_of_labels_or_groups_are_refused(role: str) -> None:
    roles = {"target": "paid", "sensitive": "sex", role: "street"}
    table = Table(crowded(), **roles, kinds={"street": "categorical"})
    with pytest.raises(DataError, match=r"'street' has 2,600 levels.*2,000"):
        FairVAE().fit(table)


# ---------------------------------------------------------------------------------------- settings
def test_the_paper_preset_is_the_published_network(small: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairvae, "MIN_STEPS", 5)
    monkeypatch.setitem(PAPER, "epochs", 2)
    model = FairVAE(preset="paper").fit(small)
    shapes = {name: tuple(p.shape) for name, p in model.net_.named_parameters()}
    n_states = sum(model.net_.layout.encoder.sizes)
    assert shapes["encoder.first.weight"] == (n_states, 64)
    assert shapes["encoder.rest.1.0.weight"] == (2 * 8, 64)
    assert shapes["rows.decoder.body.0.weight"] == (64, 8 + 2)
    assert shapes["rows.decoder.body.2.weight"] == (sum(model.net_.layout.sizes), 64)
    assert model.sample(20, seed=0).height == 20


@pytest.mark.parametrize(
    ("setting", "value"),
    [("preset", "old"), ("decoder", "tree"), ("penalty", "mmd"), ("latent_dim", 0), ("latent_dim", 2.0),
     ("max_intervals", True), ("penalty_weight", -1), ("beta", float("inf")), ("beta", "1"),
     ("learning_rate", 0), ("hidden", "192"), ("hidden", (1.5,)), ("hidden", (8,) * 33),
     ("decoder_hidden", [0])],
)  # fmt: skip
def test_settings_out_of_range_are_named(setting: str, value: Any, small: Table) -> None:
    with pytest.raises(SettingsError, match=setting):
        FairVAE(**{setting: value}).fit(small)


# ------------------------------------------------------------------------------------- hostile files
def _resaved(path: Path, to: Path, change: Callable[[dict, dict, dict], None]) -> Path:
    """Write a sound file with other content: checksums are right, what it says is not."""
    content = bundle.read(path)
    manifest, documents, tensors = (json.loads(json.dumps(content.manifest)), dict(content.documents),
                                    {k: v.copy() for k, v in content.tensors.items()})  # fmt: skip
    change(manifest, documents, tensors)
    bundle.write(to, manifest, documents, tensors)
    return to


def _hostile() -> dict[str, Callable[[dict, dict, dict], None]]:
    def setting(name: str, value: Any) -> Callable[[dict, dict, dict], None]:
        return lambda m, d, t: m["settings"].__setitem__(name, value)

    def tensor(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict, dict, dict], None]:
        return lambda m, d, t: t.__setitem__(name, value(t[name]))

    return {
        "huge layers": setting("hidden", [2**30, 2**30]),
        "layers of gigabytes": setting("hidden", [20_000, 20_000]),
        "huge latent": setting("latent_dim", 10**9),
        "huge width": setting("decoder_width", 10**9),
        "ten thousand layers": setting("hidden", [8] * 10_000),
        "other layers": setting("hidden", [191, 192]),
        "text as number": setting("latent_dim", "2"),
        "unknown setting": setting("command", "rm"),
        "unknown method": lambda m, d, t: m.__setitem__("generator", "os.system"),
        "no settings": lambda m, d, t: m.pop("settings"),
        "settings that are a list": lambda m, d, t: m.__setitem__("settings", []),
        "negative rows": lambda m, d, t: m.__setitem__("n_rows", -1),
        "unknown criterion": lambda m, d, t: m["fairness"].__setitem__("criterion", "luck"),
        "no checkpoint is a model": lambda m, d, t: m.__setitem__("kind", "checkpoint"),
        "no schema": lambda m, d, t: d.pop("schema"),
        "no columns": lambda m, d, t: d.pop("columns"),
        "columns of another table": lambda m, d, t: d["columns"].reverse(),
        "a column of a billion levels": lambda m, d, t: d["columns"][3].__setitem__("n_levels", 10**9),
        "a schema without target": lambda m, d, t: d["schema"].__setitem__("target", ""),
        "a schema without sensitive columns": lambda m, d, t: d["schema"].__setitem__("sensitive", []),
        "a schema that is text": lambda m, d, t: d.__setitem__("schema", "x"),
        "fewer names than groups": lambda m, d, t: d["groups"]["names"].pop(),
        "groups that do not exist": tensor("groups.levels", lambda a: a + 7),
        "groups below zero": tensor("groups.levels", lambda a: a - 9),
        "no groups": tensor("groups.levels", lambda a: a[:0]),
        "another number of groups": tensor("groups.table", lambda a: a[:, 1:]),
        "negative shares": tensor("groups.table", lambda a: -a),
        "nothing in the table": tensor("groups.table", lambda a: a * 0),
        "shares that are no numbers": tensor("groups.table", lambda a: a * np.nan),
        "weights that are no numbers": tensor("net.encoder.first.weight", lambda a: a * np.inf),
        "weights of another shape": tensor("net.encoder.first.weight", lambda a: a[1:]),
        "integers for weights": tensor("net.rows.decoder.out.bias", lambda a: a.astype(np.int32)),
        "a law of three dimensions": lambda m, d, t: t.update(
            {"law.means": np.zeros((2, 1, 3)), "law.weights": np.ones((2, 1)),
             "law.scales": np.tile(np.eye(3), (2, 1, 1, 1))}),
        "no law": lambda m, d, t: t.pop("law.means"),
        "something besides": lambda m, d, t: t.__setitem__("rows", np.zeros((100, 13))),
        "something in the net besides": lambda m, d, t: t.__setitem__("net.rows.hidden", np.zeros(100)),
    }  # fmt: skip


@pytest.fixture(scope="module")
def teacher_file(quick_teacher: FairVAE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.fairsynth"
    quick_teacher.save(path)
    return path


@pytest.mark.parametrize("name", _hostile())
def test_hostile_files_are_refused_before_they_cost_memory(
    name: str, teacher_file: Path, tmp_path: Path
) -> None:
    path = _resaved(teacher_file, tmp_path / "hostile.fairsynth", _hostile()[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match="hostile"):
        load_generator(path)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 200_000, "kilobytes"


def test_a_resaved_file_is_sound(teacher_file: Path, tmp_path: Path) -> None:
    again = _resaved(teacher_file, tmp_path / "same.fairsynth", lambda m, d, t: None)
    assert load_generator(again).sample(5, seed=0).height == 5
