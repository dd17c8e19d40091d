"""Numbers that never cross in the table do not in drawn rows."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth import FairTrees, PlainVAE, Table
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.number_states import NumberStates
from fairsynth.data.ordered import crossing, find_ordered, in_order, pairs_of
from fairsynth.errors import DataError
from fairsynth.generators.tree_rows import draw_rows

ROLES: dict[str, Any] = {"target": "good", "favorable": "yes", "sensitive": "sex"}


def offers(n: int = 1_500, seed: int = 0, missing: bool = False) -> pl.DataFrame:
    """The least and the most that is offered, what is owed below a limit, and an age above all of them by itself."""
    rng = np.random.default_rng(seed)
    least = rng.lognormal(10.3, 0.4, n) // 1_000 * 1_000
    limit = rng.lognormal(8, 0.8, n) // 100 * 100 + 500
    frame = pl.DataFrame(
        {
            "sex": rng.choice(["f", "m"], n),
            "most": (least + rng.gamma(2, 4_000, n) // 1_000 * 1_000).astype(int),
            "least": least.astype(int),
            "owed": np.round(limit * rng.beta(0.6, 1.2, n), 2),
            "limit": limit.astype(int),
            "children": rng.poisson(1.0, n),
            "good": np.where(least + rng.normal(0, 9_000, n) > 30_000, "yes", "no"),
        }
    )
    if missing:
        gone = pl.Series(rng.random(n) < 0.1)
        frame = frame.with_columns(limit=pl.when(gone).then(None).otherwise(pl.col("limit")))
    return frame


def test_pairs_that_never_cross_and_would_by_chance_are_found() -> None:
    table = Table(offers(missing=True), **ROLES)
    # Children never outnumber what is owed by chance either: nothing is to be kept there.
    assert find_ordered(table, ()) == {"most": ("least",), "limit": ("owed",)}
    assert find_ordered(table, ["least"]) == {"limit": ("owed",)}
    crossed = offers().with_columns(
        most=pl.when(pl.int_range(pl.len()) % 400 == 0)
        .then(pl.col("least") - 1_000)
        .otherwise(pl.col("most"))
    )
    assert "most" not in find_ordered(Table(crossed, **ROLES), ())
    assert find_ordered(Table(offers(60), **ROLES), ()) == {}  # of so few rows it says nothing


@pytest.mark.parametrize("missing", [False, True])
def test_drawn_rows_keep_the_order_and_look_as_they_did(missing: bool) -> None:
    real = offers(missing=missing)
    teacher = FairTrees(calibrate=False, seed=0).fit(Table(real, **ROLES))
    rows = teacher.sample(20_000, seed=0)
    for low, high in (("least", "most"), ("owed", "limit")):
        assert len(crossing(rows[low], rows[high])) == 0
        same, own = ((frame[low] == frame[high]).mean() for frame in (rows, real))
        assert same == pytest.approx(own, abs=0.02)  # nothing piles up where they meet
    assert (rows["least"] % 1_000 == 0).mean() > 0.99  # type: ignore[operator]
    assert rows["limit"].is_null().mean() == pytest.approx(real["limit"].is_null().mean(), abs=0.02)
    batch = pl.from_arrow(
        teacher.lines_.layout.encoder.decode_batch(drawn_states(teacher), np.random.default_rng(0))
    )
    assert isinstance(batch, pl.DataFrame)
    assert len(crossing(batch["least"], batch["most"])) == 0


def drawn_states(teacher: FairTrees) -> np.ndarray:
    table = teacher.sample_table(2_000, seed=1)
    return np.ascontiguousarray(teacher.lines_.layout.encoder.encode(table).T)


def test_states_that_must_cross_are_drawn_again() -> None:
    teacher = FairTrees(calibrate=False, seed=0).fit(Table(offers(), **ROLES))
    lines, states = teacher.lines_, drawn_states(teacher)
    encoder = lines.layout.encoder
    assert [
        [(encoder.names[low], encoder.names[high]) for low, high in found] for found in lines.ordered.values()
    ]
    levels = states[[encoder.index("sex")]].T.astype(np.int64)
    drawn = draw_rows(
        lines,
        teacher.trees_,
        levels,
        np.random.default_rng(0),
        lambda known, part, rng: np.zeros(len(known[0]), int),
    )
    crossed = 0
    for low, high in encoder.ordered:
        part, other = encoder.states[encoder.index(low)], encoder.states[encoder.index(high)]
        assert isinstance(part, NumberStates)
        assert isinstance(other, NumberStates)
        lowest, highest = part.ends()[0], other.ends()[1]
        crossed += (lowest[drawn[encoder.index(low)]] > highest[drawn[encoder.index(high)]]).sum()
    assert crossed <= 5  # of 4,000; without it, some hundred


def test_few_that_would_cross_by_chance_make_no_order() -> None:
    rng = np.random.default_rng(0)
    frame = offers(3_000).with_columns(
        small=np.where(rng.random(3_000) < 0.1, 5, 0), large=np.where(rng.random(3_000) < 0.1, 5, 9)
    )
    # None of them cross; by chance one in a hundred would, which says little.
    frame = frame.with_columns(
        small=pl.when(pl.col("large") == 5).then(0).otherwise(pl.col("small") * 7 // 5)
    )
    table = Table(frame, **ROLES, kinds={"small": "integer", "large": "integer"})
    assert "large" not in find_ordered(table, ())


def test_columns_that_are_next_to_always_the_same_make_no_circle() -> None:
    frame = offers()
    rng = np.random.default_rng(0)
    off = pl.Series(np.where(np.arange(len(frame)) == 700, 1_000, 0))
    noise = pl.Series(rng.integers(0, 2, len(frame)) * 1_000)
    frame = frame.with_columns(
        one=pl.col("least") + off, other=pl.col("least"), above=pl.col("least") + noise
    )
    table = Table(frame, **ROLES)
    pairs = pairs_of(find_ordered(table, ()), table.schema, ())
    assert ("one", "other") in pairs or ("other", "one") in pairs
    assert {("least", "most"), ("owed", "limit")} <= set(pairs)
    rows = FairTrees(calibrate=False, seed=0).fit(table).sample(2_000, seed=0)
    assert all(
        len(crossing(rows[low], rows[high])) == 0 for low, high in pairs if {low, high} <= set(rows.columns)
    )


def test_what_follows_from_others_is_not_said_again() -> None:
    rng = np.random.default_rng(0)
    steps = rng.integers(0, 9, (2_000, 12)).cumsum(1)
    frame = offers(2_000).select("sex", "good").with_columns(**{f"c{i}": steps[:, i] for i in range(12)})
    table = Table(frame, **ROLES)
    assert find_ordered(table, ()) == {f"c{i}": (f"c{i - 1}",) for i in range(1, 12)}
    rows = FairTrees(calibrate=False, seed=0).fit(table).sample(2_000, seed=0)
    for low in range(12):
        for high in range(low + 1, 12):
            assert len(crossing(rows[f"c{low}"], rows[f"c{high}"])) == 0
    gone = table.frame.with_columns(
        c5=pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise(pl.col("c5"))
    )
    assert set(find_ordered(Table(gone, **ROLES), ())["c6"]) == {"c4", "c5"}


def test_two_that_cross_change_places() -> None:
    values = {"low": pl.Series([5, 3]), "high": pl.Series([2, 4])}
    made = in_order(
        values, [("low", "high")], (), lambda name, rows: values[name].gather(rows),
        lambda name, own: pl.Series(name, own).cast(pl.Int64),
    )  # fmt: skip
    assert {name: own.to_list() for name, own in made.items()} == {"low": [2, 3], "high": [5, 4]}


def test_networks_keep_it_as_well() -> None:
    rows = PlainVAE(epochs=1, seed=0).fit(Table(offers(400), **ROLES)).sample(2_000, seed=0)
    assert len(crossing(rows["least"], rows["most"])) == len(crossing(rows["owed"], rows["limit"])) == 0


def test_what_was_asked_for_and_sensitive_numbers_stay() -> None:
    table = Table(offers(), **{**ROLES, "sensitive": {"limit": [2_000, 5_000]}})
    teacher = FairTrees(calibrate=False, seed=0).fit(table)
    rows = teacher.sample(400, seed=0, where={"most": 40_000})
    assert set(rows["most"]) == {40_000}
    assert rows["least"].max() <= 40_000
    rows = teacher.sample(5_000, seed=0)
    assert len(crossing(rows["owed"], rows["limit"])) == 0
    shares = [
        np.histogram(frame["limit"], [0, 2_000, 5_000, 1e9])[0] / len(frame) for frame in (rows, table.frame)
    ]
    assert np.abs(shares[0] - shares[1]).max() < 0.02


numbers = st.lists(st.one_of(st.none(), st.integers(-50, 50)), min_size=4, max_size=4)


@settings(max_examples=60)
@given(st.lists(numbers, min_size=1, max_size=30), st.sets(st.sampled_from("abcd")))
def test_whatever_comes_is_put_in_order(rows: list[list[int | None]], fixed: set[str]) -> None:
    frame = pl.DataFrame(rows, schema=dict.fromkeys("abcd", pl.Int64), orient="row")
    plain = pl.DataFrame(dict.fromkeys("abcd", [-50, 50] * 15))
    people = plain.with_columns(sex=pl.Series(["f", "m"] * 15), good=pl.Series(["no", "yes", "yes"] * 10))
    schema = Table(people, **ROLES, kinds=dict.fromkeys("abcd", "integer")).schema
    pairs = pairs_of({"d": ["c", "a"], "c": ["b"], "b": ["a"]}, schema, ())
    made = in_order(
        {name: frame[name] for name in "abcd"}, pairs, fixed, lambda name, rows: frame[name].gather(rows),
        lambda name, values: pl.Series(name, np.clip(values, -50, 50)).cast(pl.Int64),
    )  # fmt: skip
    for low, high in pairs:
        if not fixed:
            assert len(crossing(made[low], made[high])) == 0
    for name in "abcd":
        assert made[name].is_null().equals(frame[name].is_null())
        if name in fixed:
            assert made[name].equals(frame[name])


def test_what_is_no_order_is_refused() -> None:
    table = Table(offers(), **ROLES)
    encoder = TableEncoder.learn(table)

    def told(**below: tuple[str, ...]) -> list[Any]:
        return [
            part.model_copy(update={"never_below": below.get(part.name, ())})
            if isinstance(part, NumberStates)
            else part
            for part in encoder.states
        ]

    assert TableEncoder(table.schema, told(most=("least",))).ordered == [("least", "most")]
    for below in (
        {"most": ("least",), "least": ("most",)},
        {"most": ("sex",)},
        {"most": ("nobody",)},
        {"most": ("good",)},
    ):
        with pytest.raises(DataError, match="in order"):
            TableEncoder(table.schema, told(**below))
