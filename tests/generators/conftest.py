"""Toy worlds, and models of them that several tests look at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))
from toys import mixed_table, proxy_frame, small_table

from fairsynth.data.table import Table
from fairsynth.fairness import Fairness
from fairsynth.generators import fairvae
from fairsynth.generators.fairvae import FairVAE


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small tables be fitted in a blink, where it does not matter how well."""
    monkeypatch.setattr(fairvae, "MIN_STEPS", 30)
    monkeypatch.setitem(FairVAE.__init__.__kwdefaults__, "epochs", 0.5)


@pytest.fixture(scope="session")
def quick_teacher() -> FairVAE:
    """Return a teacher of a table of every kind of column that learned little."""
    # Undone at once: this fixture lives as long as the session, and other tests' fits are to be whole ones.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fairvae, "MIN_STEPS", 30)
        return FairVAE(epochs=0.5, calibrate=False).fit(mixed_table(800, sensitive=["sex", "race"]))


@pytest.fixture(scope="session")
def small() -> Table:
    """Return 400 people."""
    return small_table()


@pytest.fixture(scope="session")
def proxies() -> tuple[Table, Table]:
    """Return real train and test people whose labels are biased through a proxy of sex."""
    train = Table(proxy_frame(3000, 0), target="paid", favorable="yes", sensitive="sex")
    return train, train.align(proxy_frame(8000, 1))


@pytest.fixture(scope="session")
def at_strength(proxies: tuple[Table, Table]) -> Callable[[float], FairVAE]:
    """Return the function that gives a teacher of these people by its strength, fitted once."""
    models: dict[float, FairVAE] = {}

    def get(strength: float) -> FairVAE:
        if strength not in models:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fairvae, "MIN_STEPS", 400)
                models[strength] = FairVAE(fairness=Fairness(strength=strength)).fit(proxies[0])
        return models[strength]

    return get
