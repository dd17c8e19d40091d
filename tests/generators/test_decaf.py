"""DECAF on a world whose structural equations are known: what is cut is independent, and what is left is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import chi2

from fairsynth import bundle, checkpoints
from fairsynth.causal import CausalGraph
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, SchemaError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import load_generator
from fairsynth.generators.decaf import DECAF, Cut, Equation
from fairsynth.progress import Step

#: sex → club (five clubs) → paid, sex → paid, skill → paid.
EDGES = [("sex", "club"), ("sex", "paid"), ("club", "paid"), ("skill", "paid")]
CLUB_OF = np.array([[0.5, 0.2, 0.1, 0.1, 0.1], [0.05, 0.1, 0.1, 0.25, 0.5]])
CLUB_EFFECT = np.array([-1.6, -0.6, 0.0, 0.7, 1.5])
SKILL_SHARE = np.array([0.3, 0.4, 0.3])


def chance_of_pay(sex: np.ndarray, club: np.ndarray, skill: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(1.2 * (skill - 1) + CLUB_EFFECT[club] + 1.4 * sex - 0.8)))


def world(n: int, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    sex = (rng.random(n) < 0.5).astype(int)
    club = (rng.random(n)[:, None] > CLUB_OF[sex].cumsum(1)).sum(1).clip(max=4)
    skill = rng.choice(3, n, p=SKILL_SHARE)
    paid = rng.random(n) < chance_of_pay(sex, club, skill)
    frame = pl.DataFrame(
        {
            "sex": np.where(sex == 1, "man", "woman"),
            "club": [f"club {i}" for i in club],
            "skill": [f"s{i}" for i in skill],
            "paid": np.where(paid, "yes", "no"),
        }
    )
    return Table(frame, target="paid", favorable="yes", sensitive="sex")


@pytest.fixture(scope="module")
def model() -> DECAF:
    """Fit once; every kind of fairness is then a matter of drawing."""
    return DECAF(graph=EDGES, epochs=8, weight_decay=0.0, batch_size=256, hidden=(32, 32)).fit(world(12_000))


def drawn(model: DECAF, debias: str | None, n: int = 60_000, **settings: Any) -> pl.DataFrame:
    return model.set_params(debias=debias, **settings).sample(n, seed=1)


def rates(frame: pl.DataFrame, *by: str) -> np.ndarray:
    """Return the share of paid people in every cell of some columns."""
    return frame.group_by(by).agg((pl.col("paid") == "yes").mean()).sort(by)["paid"].to_numpy()


def independence(frame: pl.DataFrame, column: str, *given: str) -> float:
    """Return the p-value of a G-test of paid ⫫ column given others."""
    statistic, freedom = 0.0, 0
    for part in frame.partition_by(given) if given else [frame]:
        counts = part.group_by("paid", column).len().pivot(on="paid", index=column, values="len")
        cells = counts.drop(column).fill_null(0).to_numpy()
        expected = np.outer(cells.sum(1), cells.sum(0)) / cells.sum()
        seen = cells > 0
        statistic += 2 * (cells[seen] * np.log(cells[seen] / expected[seen])).sum()
        freedom += (cells.shape[0] - 1) * (cells.shape[1] - 1)
    return float(chi2.sf(statistic, freedom))


# -------------------------------------------------------------------------- what is learned, and what is cut
def test_uncut_rows_follow_the_structural_equations(model: DECAF) -> None:
    rows = drawn(model, None)
    sex, club, skill = np.meshgrid([0, 1], range(5), range(3), indexing="ij")
    truth = chance_of_pay(sex, club, skill)[[1, 0]]  # by name, men come first; sex 1 is a man
    assert rates(rows, "sex", "club", "skill") == pytest.approx(truth.ravel(), abs=0.08)
    found = (
        rows.filter(pl.col("sex") == "woman")["club"].value_counts(normalize=True).sort("club")["proportion"]
    )
    assert found.to_numpy() == pytest.approx(CLUB_OF[0], abs=0.02)


def test_cutting_the_direct_edge_makes_the_outcome_unaware(model: DECAF) -> None:
    assert independence(drawn(model, None), "sex", "club", "skill") < 1e-6
    rows = drawn(model, "ftu")
    assert model.removed_ == (("sex", "paid"),)
    assert independence(rows, "sex", "club", "skill") > 1e-3
    assert independence(rows, "sex") < 1e-6, "through the club it still depends"
    # What is left is the equation with an independent draw of sex in it.
    club, skill = np.meshgrid(range(5), range(3), indexing="ij")
    truth = (chance_of_pay(np.array(0), club, skill) + chance_of_pay(np.array(1), club, skill)) / 2
    assert rates(rows, "club", "skill") == pytest.approx(truth.ravel(), abs=0.06)


def test_cutting_for_parity_leaves_what_does_not_depend_on_the_group(model: DECAF) -> None:
    rows = drawn(model, "dp")
    assert model.removed_ == (("sex", "paid"), ("club", "paid"))
    assert independence(rows, "sex") > 1e-3 and independence(rows, "club") > 1e-3
    assert independence(rows, "sex", "club", "skill") > 1e-3
    assert independence(rows, "skill") < 1e-6
    # The two causes are drawn together, from one other person: men are in men's clubs there, too.
    together = 0.5 * CLUB_OF
    sex, club = np.meshgrid([0, 1], range(5), indexing="ij")
    truth = [(together * chance_of_pay(sex, club, np.array(skill))).sum() for skill in range(3)]
    assert rates(rows, "skill") == pytest.approx(np.array(truth), abs=0.03)
    both = rows.group_by("sex").agg((pl.col("club") == "club 4").mean()).sort("sex")["club"].to_numpy()
    assert both == pytest.approx([0.5, 0.1], abs=0.02), "the columns themselves stay as they are"


def test_conditional_fairness_leaves_what_is_allowed(model: DECAF) -> None:
    rows = drawn(model, "cf", allowed=("club",))
    assert model.removed_ == (("sex", "paid"),)
    assert independence(rows, "sex", "club") > 1e-3 and independence(rows, "sex") < 1e-6
    assert drawn(model, "cf", allowed=()).equals(drawn(model, "dp"))


def test_fairness_that_is_off_cuts_nothing(model: DECAF) -> None:
    fair = model.fairness
    off = drawn(model, "dp", fairness=Fairness(strength=0.0))
    assert model.removed_ == () and off.equals(drawn(model, None, fairness=fair))


def test_an_outcome_without_causes_left_is_noise_of_the_right_share() -> None:
    with pytest.warns(UserWarning, match="cuts every edge into the target"):
        model = DECAF(epochs=5).fit(world(3000))
    assert model.graph_.order() == ("sex", "club", "skill", "paid")
    assert {cause for cause, _ in model.removed_} == {"sex", "club", "skill"}
    rows = model.sample(40_000, seed=0)
    assert all(independence(rows, column) > 1e-3 for column in ("sex", "club", "skill"))
    assert (rows["paid"] == "yes").mean() == pytest.approx(
        (world(3000).frame["paid"] == "yes").mean(), abs=0.03
    )


# -------------------------------------------------------------------- variables, not one-hot bits of their own
def test_every_column_is_one_variable(model: DECAF) -> None:
    net = model.net_
    assert len(net.columns) == 4 and net.width == 2 + 5 + 3 + 2
    generator = torch.Generator().manual_seed(0)
    vectors = net(4000, 0.5, generator).detach()
    for block in net.blocks:
        own = vectors[:, block.levels]
        assert torch.allclose(own.sum(1), torch.ones(4000), atol=1e-5)
        assert torch.allclose(own.max(1).values, torch.ones(4000), atol=1e-5), "one level, whole"
    states = torch.stack([vectors[:, block.levels].argmax(1) for block in net.blocks], dim=1)
    assert torch.allclose(net.vectors(states), vectors, atol=1e-5)


def test_training_and_drawing_are_the_same_law(model: DECAF) -> None:
    net = model.net_
    vectors = net(40_000, 0.5, torch.Generator().manual_seed(0)).detach().mean(0)
    lines = net.draw(40_000, Cut(model.graph_, (), net.names), torch.Generator().manual_seed(1))
    assert net.vectors(torch.from_numpy(lines.T.copy())).mean(0).numpy() == pytest.approx(
        vectors.numpy(), abs=0.015
    )


def test_states_and_blocks_of_the_causes_give_the_same_logits() -> None:
    equation = Equation([3, 2], (8, 8), 4)
    states = torch.tensor([[2, 1], [0, 0], [1, 1]])
    blocks = [torch.nn.functional.one_hot(states[:, i], size).float() for i, size in enumerate((3, 2))]
    assert torch.allclose(equation(states), equation.soft(blocks, 3), atol=1e-5)


def test_the_critic_reaches_the_causes_through_their_effects(model: DECAF) -> None:
    net = model.net_
    vectors = net(64, 0.5, torch.Generator().manual_seed(0))
    vectors[:, net.blocks[net.names.index("paid")].levels][:, 0].sum().backward()
    sex = net.columns[net.names.index("sex")].bias.grad
    assert sex is not None and sex.abs().sum() > 0
    net.zero_grad()


# --------------------------------------------------------------------------------------------- graphs given
def test_graphs_of_networkx_are_learned_saved_and_cut_anew(tmp_path: Path) -> None:
    model = DECAF(graph=nx.DiGraph(EDGES), epochs=1).fit(world(600))
    assert set(model.graph_.edges) == set(EDGES)
    path = tmp_path / "m.fairsynth"
    model.save(path)
    again = load_generator(path)
    assert isinstance(again, DECAF) and again.graph_ == model.graph_
    assert again.sample(200, seed=1).equals(model.sample(200, seed=1))
    cut = again.sample(200, seed=1)
    assert not again.set_params(debias=None).sample(200, seed=1).equals(cut), "without a new fit"
    same = DECAF(graph=CausalGraph.of(EDGES, model.schema_.names), epochs=1).fit(world(600))
    assert same.sample(50, seed=1).equals(model.sample(50, seed=1))


def test_a_proposed_graph_is_shown_and_used() -> None:
    pytest.importorskip("causallearn")
    with pytest.warns(UserWarning, match="nobody has reviewed") as told:
        model = DECAF(discover="pc", epochs=1).fit(world(3000))
    assert "→ paid" in str(told[0].message) and ("skill", "paid") in model.graph_.edges


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"graph": [("sex", "pay")]}, SchemaError, "'pay'"),
        ({"graph": [("sex", "paid"), ("paid", "sex")]}, SettingsError, "cycle"),
        ({"graph": EDGES, "discover": "pc"}, SettingsError, "keep one"),
        ({"discover": "luck"}, SettingsError, "discover"),
        ({"graph": EDGES, "debias": "eo"}, SettingsError, "debias"),
        ({"graph": EDGES, "debias": "cf", "allowed": ["sex"]}, SettingsError, "protected"),
        ({"graph": EDGES, "preset": "best"}, SettingsError, "preset"),
        ({"graph": EDGES, "tau": 0.0}, SettingsError, "tau"),
    ],
    ids=str,
)
def test_wishes_that_cannot_be_met_are_refused_before_the_work(
    given: dict[str, Any], error: type[Exception], says: str
) -> None:
    def never(step: Step) -> None:
        raise AssertionError("it has begun")

    with pytest.raises(error, match=says):
        DECAF(**given).fit(world(300), progress=never)


# ------------------------------------------------------------------------------------------ the play, resumed
@pytest.mark.parametrize("settings", [{"preset": "paper"}, {"epochs": 1, "play_epochs": 1}], ids=str)
def test_an_interrupted_play_goes_on_and_ends_the_same(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairsynth.generators import decaf

    monkeypatch.setitem(decaf.PAPER, "play_epochs", 1)
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1.0)
    table, kind = world(400), {"graph": EDGES, **settings}
    whole = DECAF(**kind).fit(table)

    def stop(step: Step) -> None:
        if step.stage == "play against the critic" and step.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DECAF(**kind).fit(table, checkpoint=tmp_path, progress=stop)
    heard: list[Step] = []
    again = DECAF(**kind).fit(table, checkpoint=tmp_path, progress=heard.append)
    assert {step.stage for step in heard} == {"play against the critic"} and heard[0].done == 4
    assert again.sample(200, seed=0).equals(whole.sample(200, seed=0))


def test_the_play_alone_learns_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """From shares that are right and columns that know nothing of each other."""
    from fairsynth.generators import decaf

    monkeypatch.setitem(decaf.PAPER, "play_epochs", 12)
    model = DECAF(graph=EDGES, preset="paper", debias=None).fit(world(2000))
    rows = model.sample(20_000, seed=0)
    skilled = rates(rows, "skill")
    assert skilled[2] > skilled[0] + 0.05


# ----------------------------------------------------------------------------------------------- hostile files
Change = Callable[[dict, dict, dict], None]


def _hostile() -> dict[str, Change]:
    def graph(change: Callable[[dict], None]) -> Change:
        return lambda m, d, t: change(d["graph"])

    return {
        "a graph in a circle": graph(lambda g: g["edges"].append(["paid", "sex"])),
        "a graph of other columns": graph(lambda g: g["names"].__setitem__(0, "nobody")),
        "an edge without weights": graph(lambda g: g["edges"].append(["club", "skill"])),
        "weights without an edge": graph(lambda g: g["edges"].pop()),
        "no graph": lambda m, d, t: d.pop("graph"),
        "no edges at all": graph(lambda g: g.__setitem__("edges", 3)),
        "huge layers": lambda m, d, t: m["settings"].__setitem__("hidden", [2**30, 2**30]),
        "cuts that are none": lambda m, d, t: m["settings"].__setitem__("debias", "luck"),
        "not a number": lambda m, d, t: t["net.columns.0.bias"].__setitem__(0, np.nan),
        "something that travels along": lambda m, d, t: t.__setitem__("rows", np.zeros(4)),
    }


@pytest.mark.parametrize("name", _hostile())
def test_damaged_and_hostile_files_are_refused(name: str, model: DECAF, tmp_path: Path) -> None:
    path = tmp_path / "m.fairsynth"
    model.set_params(debias="dp", allowed=()).save(path)
    content = bundle.read(path)
    manifest, documents = json.loads(json.dumps([content.manifest, content.documents]))
    tensors = {k: v.copy() for k, v in content.tensors.items()}
    _hostile()[name](manifest, documents, tensors)
    bundle.write(path, manifest, documents, tensors)
    with pytest.raises(BundleError):
        load_generator(path)
