"""What every generator is tried on: tables of many shapes, each fitted once and quickly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from toys import QUICK_TEACHER, mixed_frame, mixed_table, small_table
from watched import Refit, Watched

from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError
from fairsynth.generators import audit, audited_trees, base, fairvae, latent_distillation, probes
from fairsynth.generators.base import Generator
from fairsynth.generators.registry import get_generator_class, list_generators

#: Rows that are looked at.
ROWS = 500
#: Settings by which a generator is made quick, where it has them.
QUICK = {
    "epochs": 0.2,
    "steps": 25,
    "batch_size": 128,
    "width": 32,
    "depth": 1,
    "classifier_width": 32,
    "classifier_depth": 1,
    "solver_steps": 10,
    # The noise of a private method would drown tables of 400 rows, and is never the same twice unless it is seeded.
    "epsilon": 100.0,
    "secure_noise": False,
    # Other people's: the critic's rows have to divide the batch; rare levels are left out unless one says so.
    "pac": 8,
    "value_protection": False,
}


def _levels_only() -> Table:
    frame = mixed_frame(400).select("club", "job", "town", "race", "sex", "paid")
    return Table(frame, target="paid", favorable="yes", sensitive="sex")


def _numbers_only() -> Table:
    frame = mixed_frame(400).select(
        "skill", "income", "hours", "age", (pl.col("paid") == "yes").cast(pl.Int64).alias("paid")
    )
    return Table(frame, target="paid", favorable=1, sensitive={"age": [40, 60]})


def _crowded() -> Table:
    rng = np.random.default_rng(0)
    frame = mixed_frame(1500).select("income", "sex", "paid")
    streets = [f"street {int(i)}" for i in np.concatenate([np.arange(1000), rng.integers(0, 1000, 500)])]
    return Table(
        frame.with_columns(pl.Series("street", streets)),
        target="paid", favorable="yes", sensitive="sex", kinds={"street": "categorical"},
    )  # fmt: skip


#: Every shape of table that the contract names.
TABLES: dict[str, Callable[[], Table]] = {
    "mixed": mixed_table,
    "pandas": lambda: small_table(kind="pandas"),
    "polars": small_table,
    "pyarrow": lambda: small_table(kind="pyarrow"),
    "five groups": lambda: mixed_table(500, sensitive="race"),
    "several": lambda: mixed_table(600, sensitive=["sex", "race"]),
    "banded": lambda: mixed_table(500, sensitive={"hours": [30, 60], "sex": None}),
    "multiclass": lambda: mixed_table(500, target="race", favorable=["a", "b"]),
    "numeric target": lambda: mixed_table(500, target="income", favorable=None),
    "levels only": _levels_only,
    "numbers only": _numbers_only,
    "crowded": _crowded,
    "tiny": lambda: small_table(60),
}
_tables: dict[str, Table] = {}
_models: dict[tuple[str, str], Generator | CapabilityError] = {}
_drawn: dict[tuple[str, str], Any] = {}
_refits: dict[str, Refit] = {}
#: One generator of each kind.
KINDS = ("fairvae", "fade", "fairgan", "prefair", "audited-trees")
#: Shapes that are a matter of the base class or of encoding: the others are asked of them by `make test-all` only.
SHAPES = ("pandas", "pyarrow", "five groups", "levels only", "crowded")
#: What takes long is asked of these kinds, and of the others by `make test-all` only.
QUICK_KINDS = ("fairvae", "prefair", "audited-trees")
LONG = (
    "test_a_fit_killed_in_the_middle_goes_on_and_ends_the_same",
    "test_missing_values_come_at_about_the_real_share",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make test-all` what one generator of each kind answers for all."""
    for item in items:
        asked = item.callspec.params if hasattr(item, "callspec") else {}
        long, general = getattr(item, "originalname", "") in LONG, asked.get("shape") in SHAPES
        if (long or general) and asked.get("name", KINDS[0]) not in (QUICK_KINDS if long else KINDS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def _quick_defaults() -> Iterator[None]:
    """Let what a generator trains on its way (a teacher with default settings, models of an audit) be quick, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fairvae, "MIN_STEPS", 25)
        patch.setattr(latent_distillation, "MIN_STEPS", 25)
        patch.setattr(probes, "BOOSTED_ROUNDS", 10)
        for setting, quick in QUICK_TEACHER.items():
            patch.setitem(fairvae.FairVAE.__init__.__kwdefaults__, setting, quick)
        for place, name in (
            (audit, "ROUNDS"),
            (audited_trees, "ROUNDS"),
            (audited_trees.AuditedTrees, "rounds"),
        ):
            patch.setattr(place, name, 1)
        patch.setattr(audit, "SURE_DRAWS", 1)
        patch.setattr(base, "BLOCK_ROWS", 2_048)
        yield


@pytest.fixture(params=list_generators())
def name(request: pytest.FixtureRequest) -> str:
    """Run a test once for every generator of the registry."""
    return str(request.param)


@pytest.fixture(scope="session")
def table_of() -> Callable[[str], Table]:
    """Return the function that gives a table by its shape."""

    def get(shape: str) -> Table:
        if shape not in _tables:
            _tables[shape] = TABLES[shape]()
        return _tables[shape]

    return get


@pytest.fixture
def make(name: str) -> Callable[..., Generator]:
    """Return the function that makes a quick, unfitted generator; skip one whose package is not there."""
    if not get_generator_class(name).capabilities.installed:
        pytest.skip("needs a package of the extra peers")

    def made(**settings: Any) -> Generator:
        model = get_generator_class(name)()
        known = model.get_params(deep=False)
        quick = {k: v for k, v in QUICK.items() if k in known}
        if model.capabilities.package:
            quick["epochs"] = 15  # without a floor on steps they would not have seen every group
        return model.set_params(**(quick | settings))

    return made


@pytest.fixture
def fitted(
    name: str, make: Callable[..., Generator], table_of: Callable[[str], Table]
) -> Callable[[str], Generator]:
    """Return the function that gives the generator fitted to a shape of table; skip what it says it cannot do."""

    def get(shape: str) -> Generator:
        key = (name, shape)
        if key not in _models:
            try:
                model = make()
                if (name, shape) == ("tabfairgan", "banded"):
                    # Groups that are read off a number which the network draws need some steps to come out right.
                    model.set_params(epochs=20)
                _models[key] = model.fit(table_of(shape))
            except CapabilityError as error:
                _models[key] = error
        found = _models[key]
        if isinstance(found, CapabilityError):
            pytest.skip(str(found))
        return found

    return get


@pytest.fixture
def refit(name: str, make: Callable[..., Generator], table_of: Callable[[str], Table]) -> Callable[[], Refit]:
    """Return the function that gives the generator fitted once more to one table, with somebody listening."""

    def get() -> Refit:
        if name not in _refits:
            done = Refit(make())
            with Watched() as watched:
                done.returned = done.model.fit(table_of("polars"), progress=done.heard.append)
            done.left_alone = watched.left_alone
            _refits[name] = done
        return _refits[name]

    return get


@pytest.fixture
def drawn(name: str, fitted: Callable[[str], Generator]) -> Callable[[str], Any]:
    """Return the function that gives rows of the generator fitted to a shape of table, of the table's kind."""

    def get(shape: str) -> Any:
        model = fitted(shape)
        if (name, shape) not in _drawn:
            _drawn[name, shape] = model.sample(ROWS, seed=2)
        return _drawn[name, shape]

    return get
