"""Columns that name people of whom there are several rows: never learned, and never on both sides of a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth import AuditedTrees, Fairness, Table
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.number_states import NumberStates
from fairsynth.data.persons import names_people, people_of, rows_of_one

ROLES: dict[str, Any] = {"target": "again", "favorable": "no", "sensitive": "sex"}


def visits(people: int = 400, seed: int = 0, spread: int = 6) -> pl.DataFrame:
    """Return one to five visits of each person, in any order, with a ward that has no sex and a number of the row."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), rng.integers(1, spread, people))
    person = rng.permutation(person)
    n = len(person)
    sex = rng.choice(["f", "m"], people)[person]
    return pl.DataFrame(
        {
            "patient": [f"P{100_000 + 7 * one}" for one in person],
            "number": 100_000 + 7 * person,
            "ward": rng.integers(0, 150, n),
            "sex": sex,
            "bp": rng.normal(120, 15, n).round(),
            "again": np.where(rng.normal(0, 1, n) + (sex == "f") > 0.5, "yes", "no"),
        }
    )


def test_people_who_come_back_are_no_levels_and_no_quantity() -> None:
    table = Table(visits(), **ROLES)
    assert table.schema.identifiers == ("patient", "number")
    assert table.schema["ward"].kind == "integer"
    notes = [note for note in table.schema.notes if "seems to name people" in note]
    assert [name in note for name, note in zip(("'patient'", "'number'"), notes, strict=True)] == [True, True]
    assert "400 values" in notes[0]


def test_whoever_says_otherwise_is_believed() -> None:
    frame = visits()
    table = Table(frame, **ROLES, kinds={"patient": "categorical", "number": "integer"})
    assert table.schema.identifiers == ()
    again = Table(frame[:500], schema=table.schema)
    assert again.schema.identifiers == ()
    aside = Table(frame.with_columns(patient=pl.col("patient").shuffle(seed=1)), **ROLES)
    assert aside.schema["patient"].kind == "categorical"


def test_a_model_file_holds_no_name(tmp_path: Any) -> None:
    table = Table(visits(), **ROLES)
    AuditedTrees(fairness=Fairness(strength=0.0), seed=0).fit(table).save(tmp_path / "m.fairsynth")
    assert "P100007" not in table.schema.to_json()
    assert b"P100007" not in (tmp_path / "m.fairsynth").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"sex": pl.lit("f")},  # one group: every column is of it
        {"sex": pl.int_range(pl.len()).cast(pl.String)},  # too many groups to be told apart
        {"patient": pl.int_range(pl.len()).cast(pl.String)},  # one row each
        {"patient": pl.col("patient").str.slice(0, 4)},  # a handful of values
        {"sex": pl.when(pl.int_range(pl.len()) % 50 == 0).then(pl.lit("f")).otherwise("sex")},
    ],
)
def test_what_does_not_name_people(change: dict[str, pl.Expr]) -> None:
    frame = visits()
    assert names_people(frame["patient"], [frame["sex"]])
    other = frame.with_columns(**change)
    assert not names_people(other["patient"], [other["sex"]])


def test_numbers_that_only_one_group_has_name_nobody() -> None:
    """All who are in their first term have earned nothing, and nobody else has."""
    rng = np.random.default_rng(0)
    first = rng.random(900) < 0.15
    hours = pl.Series("hours", np.where(first, 0, rng.integers(1, 120, 900)))
    assert not names_people(hours, [pl.Series(first)])
    # Nine people of another group are too few to tell, a dozen are not.
    for others, found in ((9, False), (12, True)):
        person = np.repeat(np.arange(200), 3)
        assert names_people(pl.Series(person), [pl.Series(person < others)]) is found


def test_every_sensitive_column_has_to_agree() -> None:
    frame = visits()
    ward = frame["ward"] % 3
    assert not names_people(frame["patient"], [frame["sex"], ward])
    assert names_people(frame["patient"], [frame["sex"], frame["bp"]])  # a number is no group
    assert not names_people(frame["patient"], [frame["bp"]])
    assert not names_people(frame["patient"], [])


@settings(max_examples=30, deadline=None)
@given(st.integers(150, 400), st.floats(0.1, 0.9), st.integers(0, 100), st.booleans())
def test_nobody_is_on_both_sides_of_a_split(people: int, share: float, seed: int, unknown: bool) -> None:
    frame = visits(people, seed)
    if unknown:
        frame = frame.with_columns(number=pl.when(pl.int_range(pl.len()) % 9 > 0).then("number"))
        frame = frame.drop("patient")
    table = Table(frame, **ROLES, identifiers="number")
    train, test = table.split(share, seed=seed)
    one, other = (set(side.frame["number"].drop_nulls()) for side in (train, test))
    assert not one & other
    assert len(train) + len(test) == len(frame)
    if not unknown:
        assert len(other) == round(share * people)
        assert abs(len(test) / len(frame) - share) < 0.1


def test_rows_with_a_number_each_are_split_as_before() -> None:
    frame = visits().with_columns(row=pl.int_range(pl.len()) * 3 + 1).drop("patient", "number")
    table = Table(frame, **ROLES, identifiers="row")
    plain = Table(frame.drop("row"), **ROLES)
    for found, expected in zip(table.split(seed=4), plain.split(seed=4), strict=True):
        assert found.frame.drop("row").equals(expected.frame)


def panel(people: int = 300, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Return four to nine rows of each person, who keeps a weight and nearly an income; one is very rich."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), rng.integers(4, 10, people))
    weight = rng.integers(45, 120, people)
    weight[0] = 190
    income = np.round(rng.lognormal(10, 0.5, people), 2)
    income[0] = 5e6
    n = len(person)
    sex = rng.choice(["f", "m"], people)[person]
    frame = pl.DataFrame(
        {
            "patient": [f"P{one}" for one in person],
            "weight": weight[person],
            "income": np.round(income[person] * (1 + rng.integers(0, 2, n) / 100), 2),
            "sex": sex,
            "bp": rng.normal(120, 15, n).round(),
            "again": np.where(rng.normal(0, 1, n) + (sex == "f") > 0.5, "yes", "no"),
        }
    )
    return frame, person


def test_five_rows_of_one_person_are_one_person() -> None:
    """What is remembered of numbers is shared by five people, however many rows each of them has."""
    frame, _ = panel()
    table = Table(frame, **ROLES)
    persons = table.persons()
    assert persons is not None and table.schema.identifiers == ("patient",)
    encoder = TableEncoder.learn(table)
    for name in ("weight", "income", "bp"):
        part = encoder.states[encoder.index(name)]
        assert isinstance(part, NumberStates)
        values = frame[name].to_numpy()
        for atom in part.atoms:
            assert len(np.unique(persons[np.isclose(values, atom * part.step)])) >= 5
        # Of the richest person only one value counts among the five that the range ends with.
        highest = frame.group_by("patient").agg(pl.col(name).max())[name].top_k(5).mean()
        assert table.schema[name].maximum <= highest + 1e-6
    assert table.schema["weight"].maximum < 150 and table.schema["income"].maximum < 2e6
    alone = Table(frame.drop("patient"), **ROLES)
    assert alone.schema["weight"].maximum == 190  # nobody can know, then


def test_leaves_are_of_people_and_not_of_their_rows() -> None:
    frame, _ = panel()
    table = Table(frame, **ROLES)
    model = AuditedTrees(fairness=Fairness(strength=0.0), seed=0, min_leaf=20, evidence=0.0).fit(table)
    each = rows_of_one(table.persons())
    assert 6 < each < 8
    lines, states = model.lines_, model.lines_.layout.encoder.encode(table).T.astype(np.int64)
    of_rows = lines.of_states(np.ascontiguousarray(states.T))
    most = 0
    for tree in model.trees_.values():
        leaves = tree.tree.leaves(tree.asked([of_rows[k] for k in tree.parents]), len(frame))
        assert np.bincount(leaves, minlength=tree.tree.n_leaves).min() >= 20 * each
        most = max(most, tree.tree.n_leaves)
    assert most > 5


def test_part_of_the_people_is_still_of_people() -> None:
    """A hundred names tell that a column names people; of a part of them it is known."""
    train, test = Table(panel()[0], **ROLES).split(0.8, seed=0)
    assert train.persons() is not None and train.frame["patient"].n_unique() == 60
    first, second = train.split(0.4, seed=1)
    assert not set(first.frame["patient"]) & set(second.frame["patient"])
    assert not set(train.frame["patient"]) & set(test.frame["patient"])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
def test_people_of_a_value_are_counted_once(rows: list[tuple[int, int]]) -> None:
    values, persons = (np.array(own) for own in zip(*rows, strict=True))
    distinct = np.unique(values)
    asked = [len({who for value, who in rows if value == one}) for one in distinct.tolist()]
    assert people_of(values, distinct, persons).tolist() == asked
