"""What every mitigator keeps, whichever it is."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.base import clone

from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError, DataError, NotFittedError, SettingsError
from fairsynth.fairness import CRITERIA, Fairness
from fairsynth.mitigators.base import Mitigator
from fairsynth.mitigators.registry import get_mitigator_class, list_mitigators
from fairsynth.progress import Step

NAMES = list_mitigators()
Make = Callable[..., Mitigator]
pytestmark = [
    pytest.mark.usefixtures("few_steps"),
    # What was trained in a blink has learned nothing, and says so.
    pytest.mark.filterwarnings("ignore::fairsynth.errors.FairsynthWarning"),
]


def scrambled(table: Table, *names: str) -> Table:
    """Return the rows with some columns permuted."""
    order = np.random.default_rng(5).permutation(len(table))
    return table.replace(table.frame.with_columns(table.frame[name][order] for name in names))


@pytest.fixture(scope="module")
def fitted(quick: Make, biased: tuple[Table, Table]) -> Callable[[str], Mitigator]:
    kept: dict[str, Mitigator] = {}

    def fit(name: str) -> Mitigator:
        if name not in kept:
            kept[name] = quick(name).fit(biased[0])
        return kept[name]

    return fit


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides_and_global_chance_is_left_alone(
    quick: Make, biased: tuple[Table, Table], name: str
) -> None:
    train, test = biased
    few = train.replace(train.frame.head(300))
    found = []
    for global_seed in (1, 2):
        random.seed(global_seed)
        np.random.seed(global_seed)
        torch.manual_seed(global_seed)
        before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
        mitigator = quick(name, seed=7).fit(few)
        found.append((mitigator.predict_class_proba(test), mitigator.predict(test)))
        assert random.getstate() == before[0]
        assert np.array_equal(np.random.get_state()[1], before[1])
        assert torch.equal(torch.get_rng_state(), before[2])
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("name", NAMES)
def test_no_one_reads_the_label_of_those_it_decides_for(
    fitted: Callable[[str], Mitigator], biased: tuple[Table, Table], name: str
) -> None:
    test = biased[1]
    mitigator = fitted(name)
    assert np.array_equal(
        mitigator.predict_class_proba(test), mitigator.predict_class_proba(scrambled(test, "paid"))
    )


@pytest.mark.parametrize("name", NAMES)
def test_who_says_that_it_reads_no_sensitive_column_reads_none(
    quick: Make, biased: tuple[Table, Table], name: str
) -> None:
    train, test = biased
    mitigator = quick(name)
    if "use_sensitive" in mitigator.get_params():
        mitigator.set_params(use_sensitive=False)
    mitigator.fit(train.replace(train.frame.head(300)))
    same = np.array_equal(mitigator.predict_proba(test), mitigator.predict_proba(scrambled(test, "sex")))
    assert same is not mitigator.reads_sensitive


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_and_decisions_fit_together(
    fitted: Callable[[str], Mitigator], biased: tuple[Table, Table], name: str
) -> None:
    test, mitigator = biased[1], fitted(name)
    classes, favored = mitigator.predict_class_proba(test), mitigator.predict(test)
    assert classes.shape == (len(test), 2) and classes.dtype == np.float64
    assert classes.min() >= 0 and np.allclose(classes.sum(axis=1), 1)
    assert favored.dtype == bool and np.array_equal(mitigator.predict_class(test) == "yes", favored)
    chance = mitigator.predict_proba(test)
    if mitigator.capabilities.randomized:
        assert favored[chance == 1].all() and not favored[chance == 0].any()
        assert favored.mean() == pytest.approx(chance.mean(), abs=0.05)
    else:
        assert np.array_equal(favored, chance >= 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_every_shape(quick: Make, shaped: Table, name: str) -> None:
    joint = len(shaped.schema.sensitive) > 1
    # A grid needs two to the power of its free constraints: five places of groups leave four.
    settings = {"minimum_group": 50, "grid_size": 16} if name == "grid-search" and joint else {}
    mitigator = quick(name, **settings).fit(shaped)
    chance = mitigator.predict_proba(shaped)
    assert np.isfinite(chance).all() and chance.min() >= 0 and chance.max() <= 1
    assert mitigator.n_rows_ == len(shaped)


@pytest.mark.parametrize(
    "name", ["none", "exponentiated-gradient", "threshold-optimizer", "adversarial", "reweighing"]
)
def test_favorable_is_favorable_whatever_its_code(quick: Make, name: str) -> None:
    from toys import proxy_frame

    settings = {"epochs": 5} if name == "adversarial" else {}
    rates = {}
    for label in ("yes", "no"):
        table = Table(proxy_frame(1500, 0), target="paid", favorable=label, sensitive="sex")
        mitigator = quick(name, **settings).fit(table)
        truth = table.favorable()
        rates[label] = mitigator.predict(table)[truth].mean() - mitigator.predict(table)[~truth].mean()
    assert min(rates.values()) > 0.15, rates


@pytest.mark.parametrize("name", NAMES)
def test_several_classes_or_a_clear_no(quick: Make, classes: Table, name: str) -> None:
    mitigator = quick(name)
    if "multiclass" not in mitigator.capabilities.targets:
        with pytest.raises(CapabilityError, match="does not take a multiclass target"):
            mitigator.fit(classes)
        return
    mitigator.fit(classes)
    found = mitigator.predict_class_proba(classes)
    levels = list(classes.schema["paid"].levels)
    assert found.shape == (len(classes), 3) and np.allclose(found.sum(axis=1), 1)
    best = np.array(levels)[found.argmax(axis=1)]
    assert np.array_equal(mitigator.predict_class(classes), best)
    assert np.array_equal(mitigator.predict(classes), np.isin(best, ["middle", "high"]))
    chance = mitigator.predict_proba(classes)
    assert np.allclose(chance, found[:, [levels.index("middle"), levels.index("high")]].sum(axis=1))


@pytest.mark.parametrize("name", NAMES)
def test_what_it_cannot_do_is_refused(quick: Make, small: Table, name: str) -> None:
    mitigator = quick(name)
    numeric = Table(small.native(), target="income", sensitive="sex")
    with pytest.raises(CapabilityError, match="does not take a regression target"):
        mitigator.fit(numeric)
    if mitigator.fairness is not None:
        for criterion in set(CRITERIA) - set(mitigator.capabilities.criteria):
            with pytest.raises(CapabilityError, match=f"cannot be asked for {criterion}"):
                clone(mitigator).set_params(fairness=Fairness(criterion)).fit(small)
    with pytest.raises(DataError, match="fit needs a Table"):
        mitigator.fit(small.native())
    with pytest.raises(DataError, match="needs a sensitive column"):
        mitigator.fit(Table(small.native(), target="paid", favorable="yes"))
    with pytest.raises(DataError, match="all of one group"):
        mitigator.fit(small.replace(small.frame.filter(pl.col("sex") == "man")))
    with pytest.raises(DataError, match="one value only"):
        mitigator.fit(small.replace(small.frame.filter(pl.col("paid") == "yes")))
    with pytest.raises(NotFittedError, match="call fit"):
        mitigator.predict(small)
    with pytest.raises(SettingsError, match="seed=-1"):
        clone(mitigator).set_params(seed=-1).fit(small)


@pytest.mark.parametrize("name", NAMES)
def test_scikit_learn_can_clone_it_and_progress_is_told(quick: Make, small: Table, name: str) -> None:
    mitigator = quick(name, seed=3)
    copy = clone(mitigator)
    assert copy.get_params() == mitigator.get_params()
    assert (
        vars(get_mitigator_class(name)()).keys() == get_mitigator_class(name)().get_params(deep=False).keys()
    )
    heard: list[Step] = []
    copy.fit(small, progress=heard.append)
    assert heard[-1].done == heard[-1].total and all(0 <= s.done <= s.total for s in heard)


@pytest.mark.parametrize("name", NAMES)
def test_people_of_a_group_that_nobody_was_learned_of_are_decided(
    quick: Make, joint: Table, name: str
) -> None:
    if name == "grid-search":
        pytest.skip("ten groups need a grid of a thousand models; other tests fit it")
    known = joint.replace(joint.frame.filter(pl.col("race") != "e"))
    strangers = joint.replace(joint.frame.filter(pl.col("race") == "e"))
    chance = quick(name).fit(known).predict_proba(strangers)
    assert np.isfinite(chance).all() and chance.max() > 0, "unseen groups must not be denied by default"


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(SettingsError, match="there is no mitigator 'magic'; there are none, constant"):
        get_mitigator_class("magic")


def test_capabilities_are_plain_values() -> None:
    for name in NAMES:
        told = get_mitigator_class(name).capabilities.to_dict()
        assert told["title"] and set(told["criteria"]) <= set(CRITERIA)
        assert get_mitigator_class(name).name == name


def test_an_unknown_base_is_refused(quick: Make, small: Table) -> None:
    with pytest.raises(SettingsError, match="base='forest' is not one of lightgbm"):
        quick("none", base="forest").fit(small)
