"""FairGAN: rows that are given their group, two critics with their own business, and what a file may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from toys import mixed_table, small_table

from fairsynth import bundle
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import load_generator
from fairsynth.generators.fairgan import FairGAN, Game, confusion
from fairsynth.generators.fairvae import Training
from fairsynth.generators.gan_rows import GivenGroup
from fairsynth.progress import Step

SIZES: dict[str, Any] = {"hidden": (32,), "critic_hidden": (32,), "decoder_hidden": (32,), "code_dim": 16}
QUICK: dict[str, Any] = {**SIZES, "batch_size": 128, "epochs": 0.5}

TABLES: dict[str, Callable[[], Table]] = {
    "two groups": small_table,
    "several": lambda: mixed_table(600, sensitive=["sex", "race"]),
    "bands, some missing": lambda: mixed_table(500, sensitive={"hours": [30, 60], "sex": None}),
    "two columns of bands": lambda: mixed_table(500, sensitive={"age": [40, 60], "income": [20]}),
    "classes": lambda: mixed_table(500, target="race", favorable=["a", "b"]),
}


def parts(table: Table, one_hot_up_to: int = 0) -> tuple[Training, GivenGroup]:
    data = Training(table, TableEncoder.learn(table))
    return data, GivenGroup.learn(data.layout, data.states, one_hot_up_to)


# ---------------------------------------------------------------------------------- rows given their group
@pytest.mark.parametrize("one_hot_up_to", [0, 200])
@pytest.mark.parametrize("shape", TABLES)
def test_states_come_back_from_vectors(shape: str, one_hot_up_to: int) -> None:
    data, rows = parts(TABLES[shape](), one_hot_up_to)
    levels = data.levels.numpy()
    vectors = rows.encode(data.states, levels, np.random.default_rng(0))
    assert vectors.shape == (len(data.states), rows.width) and vectors.dtype == np.float32
    back = rows.decode(vectors, levels)
    assert sorted(rows.columns) == sorted([*data.layout.features, data.layout.target])
    assert (back[rows.columns] == data.states[:, rows.columns].T).mean() > 0.9999


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_whatever_a_network_says_the_value_lies_in_its_band(seed: int) -> None:
    data, rows = BANDED
    rng = np.random.default_rng(seed)
    levels = data.group_levels[rng.integers(0, len(data.group_levels), 300)]
    vectors = (rng.normal(size=(300, rows.width)) * 10 ** rng.uniform(-2, 6)).astype(np.float32)
    lines = rows.decode(vectors, levels)
    for column, bands in data.layout.bands.items():
        assert (bands[lines[column]] == levels[:, data.layout.sensitive.index(column)]).all()


BANDED = parts(TABLES["bands, some missing"]())


def test_the_place_inside_a_band_says_nothing_of_the_group() -> None:
    """Standard normal in every band, a missing one included; the plain quantile would give the band away."""
    data, rows = parts(mixed_table(3000, sensitive={"hours": [30, 60], "sex": None}))
    levels = data.levels.numpy()
    vectors = rows.encode(data.states, levels, np.random.default_rng(0))
    (place,) = rows.places.values()
    for level in np.unique(levels[:, 0]):
        own = vectors[levels[:, 0] == level, place]
        assert own.mean() == pytest.approx(0, abs=0.15) and own.std() == pytest.approx(1, abs=0.12)


def test_the_group_has_no_dimension() -> None:
    """Critic 2 is shown (x, y): a sensitive column among them would tell it everything."""
    table = small_table()
    data, rows = parts(table)
    assert data.layout.encoder.index("sex") not in rows.columns
    net = FairGAN(**QUICK)._network(data.layout, rows)
    real = torch.zeros(len(table), rows.width)
    game = Game(net, rows, data, real, (8,), 10.0, 0)
    assert game.critics["group"][0].in_features == rows.width
    assert game.critics["group"][-1].out_features == 2
    assert game.critics["realism"][0].in_features == rows.width + 2


# ------------------------------------------------------------------------------------------ the two critics
def test_confusion_by_hand() -> None:
    shares = torch.tensor([0.25, 0.75])
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    wanted = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert float(confusion(logits, shares)) == pytest.approx(wanted)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_confusion_is_least_where_the_reader_knows_the_shares_only(told: list[float], seed: int) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(3)) + 1e-3
    shares = torch.tensor(weights / weights.sum())
    best = shares.log()[None]
    assert float(confusion(best, shares)) == pytest.approx(0, abs=1e-9)
    assert float(confusion(best + 3.0, shares)) == pytest.approx(0, abs=1e-9)
    assert float(confusion(torch.tensor([told], dtype=torch.float64), shares)) >= -1e-9
    # Being taken for another group is no way out: that can be read as well.
    assert float(confusion(torch.eye(3, dtype=torch.float64) * 4, shares)) > 0.1


def test_each_loss_trains_whom_it_should() -> None:
    data, rows = parts(TABLES["several"]())
    model = FairGAN(**QUICK)
    net = model._network(data.layout, rows)
    real = torch.from_numpy(rows.encode(data.states, data.levels.numpy(), np.random.default_rng(0)))
    game = Game(net, rows, data, real, (8,), 10.0, 0)
    places, chance = torch.arange(64), torch.Generator().manual_seed(0)
    assert game.critics["group"][-1].out_features == 10, "joint groups"

    def reached(loss: Any) -> dict[str, bool]:
        modules = {"net": net, **dict(game.critics.items())}
        for module in modules.values():
            module.zero_grad()
        loss(places, chance)[0].backward()
        return {
            name: any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())
            for name, module in modules.items()
        }

    assert reached(game.critic_loss) == {"net": False, "realism": True, "group": False}
    game.weight = 1.0
    assert reached(game.critic_loss) == {"net": False, "realism": True, "group": True}
    assert reached(game.generator_loss)["net"]
    value, shown = game.generator_loss(places, torch.Generator().manual_seed(1))
    game.weight = 3.0
    more, _ = game.generator_loss(places, torch.Generator().manual_seed(1))
    assert float((more - value).detach()) == pytest.approx(2 * shown["confusion"], rel=1e-3)


def reader(table: Table) -> float:
    """Return the AUC at which a plain classifier reads the group from the other columns and the label."""
    frame = table.frame.select("skill", "hours", golf=table.frame["club"].cast(str) == "golf",
                               paid=table.frame["paid"].cast(str) == "yes")  # fmt: skip
    x = frame.cast(dict.fromkeys(frame.columns, float)).to_numpy()
    man = (table.frame["sex"].cast(str) == "man").to_numpy()
    half = len(man) // 2
    model = LogisticRegression(max_iter=500).fit(x[:half], man[:half])
    return float(roc_auc_score(man[half:], model.decision_function(x[half:])))


@pytest.mark.slow
def test_a_reader_that_had_no_part_in_it_reads_less(proxies: tuple[Table, Table]) -> None:
    """Without the second critic the proxy comes as it is; with it the proxy says little more than chance."""
    train = proxies[0]
    told = {}
    for strength in (0.0, 1.0):
        model = FairGAN(
            fairness=Fairness(strength=strength), fair_weight=5.0, epochs=50, learning_rate=5e-3, batch_size=128,
            average=0.95, **SIZES,
        ).fit(train)  # fmt: skip
        told[strength] = reader(model.sample_table(6000, seed=0))
    assert reader(train) > 0.9 and told[0.0] > 0.8
    assert told[1.0] < 0.7


def test_the_strength_scales_the_second_critic_and_zero_leaves_it_out() -> None:
    for strength, stages in ((0.0, 2), (1.0, 3)):
        heard: list[Step] = []
        FairGAN(fairness=Fairness(strength=strength), **QUICK).fit(small_table(), progress=heard.append)
        assert len({step.stage for step in heard}) == stages
        assert ("reading" in heard[-1].info) == (stages == 3)
    model = FairGAN(fair_share=0.25)
    assert sum(p[1] for p in model._phases(10_000, 1.0)) == model._phases(10_000, 0.0)[0][1]
    assert [p[2] for p in model._phases(10_000, 0.7)] == [0.0, 0.7]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fair_share", 1.0),
        ("average", 1.0),
        ("tau", 0),
        ("code_dim", 0),
        ("fair_weight", -1),
        ("decoder_hidden", ()),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        FairGAN(**{**QUICK, name: value}).fit(small_table())


# ------------------------------------------------------------------------------------------ hostile files
@pytest.fixture(scope="module")
def model() -> FairGAN:
    return FairGAN(**QUICK).fit(TABLES["bands, some missing"]())


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
    "huge layers": _setting("decoder_hidden", [2**30, 2**30]),
    "huge code": _setting("code_dim", 10**9),
    "other blocks": _setting("one_hot_up_to", 10_000),
    "too few shares": _tensor("vectors.shares", lambda a: a[:-1]),
    "shares that are no number": _tensor("vectors.shares", lambda a: a * np.nan),
    "groups that are none": _tensor("groups.levels", lambda a: a + 99),
    "weights that are no number": _tensor("net.decoder.0.weight", lambda a: a * np.inf),
    "a tensor along with it": lambda m, d, t: t.__setitem__("rows", np.ones((5, 5))),
    "a part less": lambda m, d, t: t.pop("vectors.shares"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_damaged_files_are_refused(what: str, model: FairGAN, tmp_path: Path) -> None:
    path = tmp_path / "model.fairsynth"
    model.save(path)
    with pytest.raises(BundleError):
        load_generator(_resaved(path, tmp_path / "other.fairsynth", HOSTILE[what]))
    same = _resaved(path, tmp_path / "same.fairsynth", lambda m, d, t: None)
    assert load_generator(same).sample(5, seed=0).equals(model.sample(5, seed=0))


def test_bands_without_values_are_no_groups() -> None:
    data, rows = BANDED
    rows.check(data.group_levels)
    empty = {column: [(part[:0], total[:1]) for part, total in own] for column, own in rows.inside.items()}
    other = GivenGroup(data.layout, rows.to_tensor(), 0)
    other.inside = empty
    with pytest.raises(ValueError, match="band"):
        other.check(data.group_levels)


def test_a_file_holds_neither_critics_nor_encoder(model: FairGAN, tmp_path: Path) -> None:
    path = tmp_path / "model.fairsynth"
    model.save(path)
    names = set(bundle.read(path).tensors)
    assert {n for n in names if not n.startswith(("net.body.", "net.decoder."))} == {
        "vectors.shares", "groups.levels", "groups.table",
    }  # fmt: skip
