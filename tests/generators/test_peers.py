"""Other people's generators: the adapters, tried on stand-ins for the packages, and on these where they are."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from toys import mixed_table, small_table

from fairsynth import bundle
from fairsynth.data.table import Table
from fairsynth.errors import BundleError, CapabilityError, MissingDependencyError, SettingsError
from fairsynth.fairness import Fairness
from fairsynth.generators.base import Capabilities, load_generator
from fairsynth.generators.peers import CTGAN, TVAE, Peer, TabularARGN, borrowed_chance, from_plain, to_plain
from fairsynth.generators.registry import get_generator_class

NAMES = ("tabularargn", "ctgan", "tvae")


class StandIn:
    """Draws the learned rows again, from the global random state, as these packages do."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.asked: dict[str, Any] = {}

    def fit(self, frame: Any, levels: Any = ()) -> None:
        random.random(), np.random.rand(), torch.rand(1)
        self.frame, self.levels = frame, list(levels)

    def sample(self, n: int, **asked: Any) -> Any:
        self.asked = asked
        return self.frame.iloc[np.random.randint(0, len(self.frame), n)].reset_index(drop=True)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put stand-ins in the place of both packages."""
    engine = types.ModuleType("mostlyai.engine")
    engine.TabularARGN = StandIn  # type: ignore[attr-defined]
    ctgan = types.ModuleType("ctgan")
    ctgan.CTGAN = ctgan.TVAE = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mostlyai", types.ModuleType("mostlyai"))
    monkeypatch.setitem(sys.modules, "mostlyai.engine", engine)
    monkeypatch.setitem(sys.modules, "ctgan", ctgan)
    yield


# -------------------------------------------------------------------------------------------- there and back
@pytest.mark.parametrize("indicators", [True, False])
def test_rows_go_in_and_come_back_as_they_were(indicators: bool) -> None:
    """Levels, missing values, moments, decimals: all but what lies outside of the remembered range."""
    table = mixed_table(500, sensitive=["sex", "race"])
    plain = to_plain(table, indicators=indicators)
    assert not any("person" in str(v) for v in plain.row(0)), "identifiers stay at home"
    again = from_plain(pl.from_pandas(plain.to_pandas()), table.schema, np.random.default_rng(0))
    for column in table.schema:
        if column.kind == "identifier":
            continue
        real, made = table.frame[column.name], again[column.name]
        assert made.dtype == real.dtype, column.name
        if column.kind in ("categorical", "boolean"):
            assert made.equals(real), column.name
            continue
        assert made.is_null().equals(real.is_null())
        low, high = (v if column.kind != "datetime" else int(v) for v in column.bounds)
        inside = ((real.to_physical() >= low) & (real.to_physical() <= high)).fill_null(True)
        assert inside.mean() > 0.9
        assert made.filter(inside).equals(real.filter(inside)), column.name
        assert made.drop_nulls().to_physical().is_between(low, high).all()
    if indicators:
        assert all(dtype in (pl.String, pl.Float64) for dtype in plain.dtypes)
        assert not any(s.null_count() for s in plain)


def test_what_a_package_invents_is_put_right() -> None:
    table = small_table(300)
    plain = to_plain(table, indicators=False).with_columns(
        c0=pl.Series(np.full(300, 1e9)), c2=pl.lit("_RARE_"), c5=pl.Series(["7"] * 150 + ["0"] * 150)
    )
    made = from_plain(plain, table.schema, np.random.default_rng(0))
    assert (made["income"] <= table.schema["income"].bounds[1]).all()
    assert set(made["club"]) == {"golf", "chess"}, "any level, where there is none to take"
    assert set(made["paid"]) == {table.schema["paid"].levels[0]}, "that of others, where there is one"
    nothing = plain.with_columns(c0=pl.lit(None, dtype=pl.Float64))
    assert from_plain(nothing, table.schema, np.random.default_rng(0))["income"].null_count() == 0


# ------------------------------------------------------------------------------------------------ borrowed chance
def test_global_chance_is_lent_and_given_back() -> None:
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    wanted = random.random(), np.random.rand(), float(torch.rand(1))
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    drawn = []
    for _ in range(2):
        with pytest.raises(RuntimeError), borrowed_chance(11):
            drawn.append((random.random(), np.random.rand(), float(torch.rand(1))))
            torch.set_num_threads(torch.get_num_threads() + 1)
            raise RuntimeError
    assert drawn[0] == drawn[1] != wanted
    assert (random.random(), np.random.rand(), float(torch.rand(1))) == wanted


# ------------------------------------------------------------------------------------------------------ adapters
@pytest.mark.parametrize("name", NAMES)
def test_the_adapter_keeps_the_contract(name: str, packages: None, tmp_path: Path) -> None:
    table = mixed_table(600, sensitive=["sex", "race"])
    model = get_generator_class(name)().fit(table)
    first = model.sample(3000, seed=1)
    assert first.equals(model.sample(3000, seed=1)) and not first.equals(model.sample(3000, seed=2))
    assert first.schema == table.native().schema
    assert table.align(first, count_out_of_range=True).repairs == []
    even = model.sample_table(1000, seed=0, sensitive="uniform").groups()
    assert set(even.counts[even.counts > 0]) == {100}, "exact to the row"
    some = model.sample_table(400, seed=0, sensitive={"woman × c": 1, "man × a": 3}).groups()
    assert {n: int(c) for n, c in zip(some.names, some.counts, strict=True) if c} == {
        "woman × c": 100, "man × a": 300,
    }  # fmt: skip
    with pytest.raises(CapabilityError, match="condition"):
        model.sample(5, where={"sex": "man"})
    with pytest.raises(CapabilityError, match="cannot be saved"):
        model.save(tmp_path / "m.fairsynth")
    assert list(tmp_path.iterdir()) == []


def test_what_is_handed_to_the_packages(packages: None) -> None:
    table = mixed_table(300, sensitive=["sex", "race"])
    columns = [c.name for c in table.schema if c.kind != "identifier"]
    argn: Any = TabularARGN(seed=5).fit(table)
    argn.sample(10)
    assert argn.model_.settings["random_state"] == 5 and argn.model_.settings["model"] == "MOSTLY_AI/Medium"
    told = argn.model_.asked["fairness"]
    assert told["target_column"] == f"c{columns.index('paid')}"
    assert told["sensitive_columns"] == [f"c{columns.index('sex')}", f"c{columns.index('race')}"]
    encodings = argn.model_.settings["tgt_encoding_types"]
    assert encodings[f"c{columns.index('member')}"] == "TABULAR_CATEGORICAL"
    assert f"c{columns.index('age')}" not in encodings
    for off in (None, Fairness(strength=0.0)):
        model: Any = TabularARGN(fairness=off).fit(table)
        model.sample(5)
        assert model.model_.asked["fairness"] is None
    gan: Any = CTGAN(epochs=2.5, batch_size=40, pac=4).fit(table)
    assert gan.model_.settings == {
        "epochs": 3, "enable_gpu": False, "batch_size": 40, "pac": 4, "embedding_dim": 128,
        "discriminator_steps": 1,
    }  # fmt: skip
    assert f"m{columns.index('hours')}" in gan.model_.levels, "whether a number is missing is a level"
    assert not gan.model_.frame.isna().any().any()


@pytest.mark.parametrize(
    ("model", "error", "says"),
    [
        (TabularARGN(fairness=Fairness(strength=0.5)), CapabilityError, "on or off"),
        (TabularARGN(fairness=Fairness("equalized_odds")), CapabilityError, "equalized_odds"),
        (TabularARGN(model_size="huge"), SettingsError, "model_size"),  # type: ignore[arg-type]
        (CTGAN(fairness=Fairness()), CapabilityError, "ctgan knows no fairness"),  # type: ignore[arg-type]
        (CTGAN(batch_size=128), SettingsError, "multiple of pac=10"),
        (CTGAN(batch_size=15, pac=5), SettingsError, "even"),
        (TVAE(fairness=Fairness()), CapabilityError, "tvae knows no fairness"),  # type: ignore[arg-type]
        (TVAE(epochs=0), SettingsError, "epochs"),
    ],
    ids=str,
)
def test_what_they_cannot_is_refused(
    model: Peer, error: type[Exception], says: str, packages: None, small: Table
) -> None:
    with pytest.raises(error, match=says):
        model.fit(small)


def test_fairness_between_bands_of_a_number_is_refused(packages: None) -> None:
    table = mixed_table(400, sensitive={"hours": [30, 60], "sex": None})
    with pytest.raises(CapabilityError, match=r"'hours' is integer.*strength=0"):
        TabularARGN().fit(table)
    assert TabularARGN(fairness=None).fit(table).sample(20).height == 20


def test_a_group_that_never_comes_is_given_up(
    packages: None, small: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = TVAE().fit(small)
    frame = model.model_.frame
    place = [c.name for c in small.schema].index("sex")
    model.model_.frame = frame[frame[f"c{place}"] == "0"]
    with pytest.raises(CapabilityError, match="hardly ever"):
        model.sample(10, sensitive="uniform")
    with pytest.raises(SettingsError, match="not a group"):
        model.sample(10, sensitive={"other": 1})


# ------------------------------------------------------------------------------------------------- not installed
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_names_the_extra(name: str, small: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    package = get_generator_class(name).capabilities.package
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=r'pip install "fairsynth\[peers\]"') as caught:
        get_generator_class(name)().fit(small)
    if package == "ctgan":
        assert "Business Source License" in str(caught.value)


def test_the_command_line_says_what_is_not_there_and_does_not_train_what_it_cannot_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from fairsynth.cli import app

    monkeypatch.setattr(Capabilities, "installed", property(lambda self: self.package != "ctgan"))
    shown = CliRunner().invoke(app, ["models", "tvae"]).output
    assert 'not installed: pip install "fairsynth[peers]"' in shown and "saves = no" in shown
    assert "not installed" not in CliRunner().invoke(app, ["models", "tabularargn"]).output
    whole = " ".join(CliRunner().invoke(app, ["models"]).output.split())
    assert whole.count("not installed") == 2
    small_table(100).frame.write_csv(tmp_path / "t.csv")
    options = ["--target", "paid", "--favorable", "yes", "--sensitive", "sex", "--model", "tvae"]
    told = CliRunner().invoke(
        app, ["fit", str(tmp_path / "t.csv"), *options, "-o", str(tmp_path / "m.fairsynth")]
    )
    assert told.exit_code == 2 and "cannot be saved" in told.output + (told.stderr or "")
    assert not (tmp_path / "m.fairsynth").exists()


def test_files_that_say_they_hold_one_are_refused(few_steps: None, small: Table, tmp_path: Path) -> None:
    path = tmp_path / "hostile.fairsynth"
    get_generator_class("plain-vae")(epochs=0.5).fit(small).save(path)  # type: ignore[call-arg]
    content = bundle.read(path)
    for name in NAMES:
        manifest = {**content.manifest, "generator": name, "settings": {"seed": 0}}
        bundle.write(path, manifest, content.documents, content.tensors)
        with pytest.raises(BundleError, match="never in a file"):
            load_generator(path)


# ------------------------------------------------------------------------------------------------------- the real ones
def there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not there("mostlyai.engine"), reason="needs mostlyai-engine")
def test_the_real_tabularargn_makes_labels_fair(proxies: tuple[Table, Table]) -> None:
    """Its statistical parity, off and on: the gap between the groups' labels goes."""
    gaps = []
    for strength in (0.0, 1.0):
        model = TabularARGN(fairness=Fairness(strength=strength), epochs=20).fit(proxies[0])
        made = model.sample_table(4000, seed=0)
        codes, paid = made.groups().codes, made.favorable()
        gaps.append(abs(paid[codes == 0].mean() - paid[codes == 1].mean()))
    assert gaps[0] > 0.25 and gaps[1] < 0.5 * gaps[0]


@pytest.mark.slow
@pytest.mark.skipif(not there("ctgan"), reason="needs ctgan")
def test_the_real_tvae_learns_a_table(proxies: tuple[Table, Table]) -> None:
    made = TVAE(epochs=60).fit(proxies[0]).sample_table(4000, seed=0)
    real = proxies[0].frame
    assert made.frame["skill"].mean() == pytest.approx(real["skill"].mean(), abs=0.25)
    assert (made.frame["club"] == "golf").mean() == pytest.approx((real["club"] == "golf").mean(), abs=0.15)
