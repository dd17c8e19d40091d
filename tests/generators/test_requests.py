"""What is asked for is read with the schema: groups by any of their names, shares that are shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsynth.data.table import JOINT, Table
from fairsynth.errors import CapabilityError, SettingsError
from fairsynth.generators.requests import label_rows, read_group_shares, read_label_shares, whole_rows

#: Levels that contain what joins levels, so that a joint name can be parted in more than one way.
FIRST = ("a", "a × b", "c")
SECOND = ("b × d", "d", "e")


@pytest.fixture(scope="module")
def crossed() -> Table:
    """Return a table of two attributes whose levels contain the joint's sign."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({
        "one": np.array(FIRST)[rng.integers(0, 3, 90)], "other": np.array(SECOND)[rng.integers(0, 3, 90)],
        "good": np.array(["no", "yes"])[rng.integers(0, 2, 90)], "x": rng.normal(size=90),
    })  # fmt: skip
    return Table(frame, target="good", favorable="yes", sensitive=["one", "other"])


def test_every_group_can_be_named_whatever_its_levels_contain(crossed: Table) -> None:
    for one in FIRST:
        for other in SECOND:
            assert read_group_shares({(one, other): 2.0}, crossed.schema) == {(one, other): 2.0}
            name = JOINT.join((one, other))
            if name == "a × b × d":
                with pytest.raises(SettingsError, match="more than one group"):
                    read_group_shares({name: 2.0}, crossed.schema)
            else:
                assert read_group_shares({name: 2.0}, crossed.schema) == {(one, other): 2.0}
    assert read_group_shares({("c", "e"): 1, "c × e": 2}, crossed.schema) == {("c", "e"): 3.0}


@pytest.mark.parametrize(
    ("mix", "told"),
    [
        ({"c": 1.0}, "one level of each of one, other"),
        ({("c", "e", "e"): 1.0}, "names 3 level"),
        ({"c × f": 1.0}, "'f' is not a group of 'other'"),
        ({("f", "e"): 1.0}, "'f' is not a group of 'one'"),
        ({"c × e": -1.0}, "from 0 up"),
        ({"c × e": np.inf}, "from 0 up"),
        ({"c × e": "much"}, "from 0 up"),
        ({"c × e": 0.0}, "not all be 0"),
        ({}, "not all be 0"),
        ("even", "neither"),
        (3, "neither"),
    ],
)
def test_what_is_no_mix_is_refused(crossed: Table, mix: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        read_group_shares(mix, crossed.schema)


def test_shares_of_labels_sum_to_one_and_leave_out_none(crossed: Table) -> None:
    schema = crossed.schema
    assert read_label_shares({"yes": 3, "no": 1}, {}, schema) == {"yes": 0.75, "no": 0.25}
    assert read_label_shares({"yes": 3, "no": 0}, {}, schema) == {"yes": 1.0}
    with pytest.raises(SettingsError, match="both say"):
        read_label_shares({"yes": 1}, {"good": "no"}, schema)
    number = Table(crossed.frame, target="x", sensitive=["one"])
    with pytest.raises(CapabilityError, match="no levels"):
        read_label_shares({"1": 1}, {}, number.schema)


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(0, 5000), parts=st.lists(st.floats(0.001, 1), min_size=1, max_size=9),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=6),
)  # fmt: skip
def test_whole_rows_are_exact_over_all_blocks(n: int, parts: list[float], sizes: list[int]) -> None:
    shares = np.array(parts) / sum(parts)
    rows = whole_rows(n, shares)
    assert rows.sum() == n
    assert (np.abs(rows - n * shares) < 1).all()
    blocks = label_rows(sizes, shares)
    assert (blocks >= 0).all()
    assert blocks.sum(1).tolist() == sizes
    assert blocks.sum(0).tolist() == whole_rows(sum(sizes), shares).tolist()
