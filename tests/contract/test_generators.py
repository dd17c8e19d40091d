"""One suite for every generator of the registry: what `generators.base` promises, each keeps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.base import clone
from toys import QUICK_TEACHER
from watched import Refit, Watched

from fairsynth.data.schema import MISSING_LEVEL
from fairsynth.data.table import JOINT, Table
from fairsynth.errors import (
    BundleError,
    CapabilityError,
    DataError,
    FairsynthError,
    NotFittedError,
    SchemaError,
    SettingsError,
)
from fairsynth.fairness import Fairness
from fairsynth.generators import base, decaf, fade, fairvae, rejection
from fairsynth.generators.base import Generator, load_generator
from fairsynth.generators.registry import get_generator_class, list_generators
from fairsynth.progress import Step

Fitted = Callable[[str], Generator]
Drawn = Callable[[str], Any]
Make = Callable[..., Generator]
TableOf = Callable[[str], Table]

N = 500


def shapes(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shape", names)


def promised(model: Generator) -> None:
    if model.capabilities.package:
        pytest.skip("other people's: how good it is after a blink of training is not our promise")


ALL = shapes(
    "mixed", "pandas", "polars", "pyarrow", "five groups", "several", "banded", "multiclass", "numeric target",
    "levels only", "numbers only", "crowded", "tiny",
)  # fmt: skip


# ------------------------------------------------------------------------------------------- what comes out
@ALL
def test_rows_are_of_the_tables_kind_dtypes_order_and_levels(
    shape: str, drawn: Drawn, table_of: TableOf
) -> None:
    real, made = table_of(shape).native(), drawn(shape)
    assert type(made) is type(real)
    if isinstance(real, pd.DataFrame):
        assert list(made.columns) == list(real.columns) and len(made) == N
        assert (made.dtypes == real.dtypes).all()
        for column in real.select_dtypes("category"):
            assert made[column].cat.categories.equals(real[column].cat.categories)
            assert made[column].cat.ordered == real[column].cat.ordered
    elif isinstance(real, pl.DataFrame):
        assert made.schema == real.schema and made.height == N
    else:
        assert isinstance(real, pa.Table) and made.schema.equals(real.schema) and made.num_rows == N


@ALL
def test_values_are_possible_ones(shape: str, drawn: Drawn, table_of: TableOf) -> None:
    """Read with the real schema nothing needs repair, and no number leaves its remembered range."""
    real = table_of(shape)
    aligned = real.align(drawn(shape), count_out_of_range=True)
    assert aligned.repairs == []
    for column in real.schema:
        made = aligned.frame[column.name]
        assert column.has_missing or not made.null_count(), column.name
        if column.kind == "continuous" and column.decimals is not None:
            assert (made.drop_nulls() == made.drop_nulls().round(column.decimals)).all()


@ALL
def test_there_is_variety(shape: str, fitted: Fitted, drawn: Drawn, table_of: TableOf) -> None:
    """Labels, groups and features all vary: no generator here answers with one row."""
    promised(fitted(shape))
    real = table_of(shape)
    schema, made = real.schema, real.align(drawn(shape))
    seen = [int(c) for c in np.unique(real.groups().codes) if (real.groups().codes == c).mean() > 0.05]
    assert set(seen) <= set(np.unique(made.groups().codes).tolist())
    assert made.frame[schema.target].n_unique() > 1
    for column in schema.features:
        assert made.frame[column].n_unique() > 1


def test_missing_values_come_at_about_the_real_share(
    make: Make, table_of: TableOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fairvae, "MIN_STEPS", 150)
    promised(make())
    known = make().get_params(deep=False)
    longer = {name: value for name, value in {"epochs": 20, "steps": 150}.items() if name in known}
    model, real = make(**longer).fit(table_of("mixed")), table_of("mixed").frame
    made = model.sample_table(4000, seed=3).frame
    for column in ("hours", "town"):
        share = real[column].null_count() / len(real)
        assert made[column].null_count() / 4000 == pytest.approx(share, abs=0.07), column


@shapes("five groups", "several", "banded")
def test_groups_come_in_their_real_shares(shape: str, fitted: Fitted, table_of: TableOf) -> None:
    promised(fitted(shape))
    real, made = table_of(shape).groups(), fitted(shape).sample_table(6000, seed=3).groups()
    assert real.names == made.names
    share = real.counts / real.counts.sum()
    assert made.counts / 6000 == pytest.approx(share, abs=0.04)


def test_a_thousand_levels_are_not_lost(fitted: Fitted) -> None:
    promised(fitted("crowded"))
    assert fitted("crowded").sample_table(5000, seed=0).frame["street"].n_unique() > 600


def test_one_row_and_more_than_a_block(fitted: Fitted) -> None:
    model = fitted("polars")
    assert model.sample(1, seed=0).height == 1
    assert model.sample(base.BLOCK_ROWS + 1000, seed=0).height == base.BLOCK_ROWS + 1000
    many = model.sample(2 * base.BLOCK_ROWS, seed=0)
    assert not many[: base.BLOCK_ROWS].equals(many[base.BLOCK_ROWS :]), "blocks have chance of their own"
    assert many[: base.BLOCK_ROWS].equals(model.sample(base.BLOCK_ROWS, seed=0)), (
        "a block's rows do not depend on others"
    )


def test_identifiers_are_fresh_and_unique_over_batches(fitted: Fitted, table_of: TableOf) -> None:
    model, real = fitted("mixed"), set(table_of("mixed").frame["person"])
    drawn = [
        v
        for batch in model.iter_batches(2 * base.BLOCK_ROWS + 77, seed=0)
        for v in batch["person"].to_pylist()
    ]
    assert len(drawn) == len(set(drawn)) == 2 * base.BLOCK_ROWS + 77
    assert not set(drawn) & real


@pytest.mark.parametrize("n", [0, -3, 1.5, True, "ten", None])
def test_numbers_of_rows_that_are_none(n: Any, fitted: Fitted) -> None:
    with pytest.raises(SettingsError, match=r"n="):
        fitted("polars").sample(n)


# ------------------------------------------------------------------------------------------------- chance
def test_the_seed_decides_everything(fitted: Fitted) -> None:
    model = fitted("polars")
    first = model.sample(N, seed=7)
    assert first.equals(model.sample(N, seed=7))
    assert not first.equals(model.sample(N, seed=8))
    assert model.sample(N).equals(model.sample(N, seed=model.seed))
    batches = pl.concat([pl.from_arrow(b) for b in model.iter_batches(N, seed=7)])
    assert batches.select(first.columns).cast(dict(first.schema)).equals(first)


def test_the_same_seed_learns_the_same_model(
    refit: Callable[[], Refit], make: Make, fitted: Fitted, table_of: TableOf
) -> None:
    """Whatever the global chance, with two threads or one, and whether anybody listens."""
    again = refit().model
    assert again.sample(N, seed=3).equals(fitted("polars").sample(N, seed=3))
    other = make(seed=5).fit(table_of("polars"))
    assert not other.sample(N, seed=3).equals(again.sample(N, seed=3))


@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_seeds_that_are_none(seed: Any, fitted: Fitted) -> None:
    with pytest.raises(SettingsError, match="seed"):
        fitted("polars").sample(3, seed=seed)


def test_global_chance_and_threads_are_left_alone(refit: Callable[[], Refit], tmp_path: Path) -> None:
    done = refit()
    assert done.left_alone, "by fitting"
    with Watched() as watched:
        done.model.sample(100, seed=0)
        if done.model.capabilities.saves:
            done.model.save(tmp_path / "m.fairsynth")
            load_generator(tmp_path / "m.fairsynth").sample(100)
        half = done.model.iter_batches(3 * base.BLOCK_ROWS, seed=0)
        next(half)
        half.close()
    assert watched.left_alone, "by drawing"


# ---------------------------------------------------------------------------------- scikit-learn's manners
def test_settings_are_kept_under_their_names_and_nothing_else_is_done(name: str) -> None:
    kind = get_generator_class(name)
    model = kind()
    settings = model.get_params(deep=False)
    assert vars(model) == settings, "__init__ stores its arguments and does nothing else"
    assert {"seed", "fairness"} <= set(settings)
    model.set_params(seed=41)
    assert model.seed == 41 and model.get_params()["seed"] == 41
    with pytest.raises(ValueError):
        model.set_params(no_such_setting=1)
    with pytest.raises(TypeError):
        kind(0)  # keyword-only


def test_clones_are_unfitted_and_equal(fitted: Fitted, make: Make) -> None:
    model = fitted("polars")
    copy = clone(model)
    assert copy.get_params() == model.get_params() and type(copy) is type(model)
    with pytest.raises(NotFittedError, match="fit"):
        copy.sample(3)
    with pytest.raises(NotFittedError):
        copy.save("nowhere")


def test_fit_returns_itself_and_changes_no_setting(
    refit: Callable[[], Refit], make: Make, table_of: TableOf
) -> None:
    done = refit()
    assert done.returned is done.model
    assert done.model.get_params(deep=False) == make().get_params(deep=False)
    assert done.model.n_rows_ == len(table_of("polars")) and done.model.schema_ == table_of("polars").schema


def test_the_registry_knows_it_by_its_name(name: str) -> None:
    kind = get_generator_class(name)
    assert kind.name == name and kind.capabilities.title and kind.capabilities.paper
    assert set(kind.capabilities.targets) <= {"binary", "multiclass", "numeric"}


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=", ".join(list_generators())):
        get_generator_class("gan of gans")


# -------------------------------------------------------------------------------------------- saving, loading
def saved(model: Generator) -> None:
    if not model.capabilities.saves:
        pytest.skip("says that it cannot")


def test_what_cannot_be_saved_says_so(fitted: Fitted, tmp_path: Path) -> None:
    model = fitted("polars")
    if model.capabilities.saves:
        return
    with pytest.raises(CapabilityError, match="cannot be saved.*sample_to"):
        model.save(tmp_path / "model.fairsynth")
    assert list(tmp_path.iterdir()) == []


@ALL
def test_a_saved_model_draws_the_same_rows(shape: str, fitted: Fitted, tmp_path: Path) -> None:
    model = fitted(shape)
    saved(model)
    path = tmp_path / "model.fairsynth"
    model.save(path)
    again = load_generator(path)
    assert type(again) is type(model) and again.n_rows_ == model.n_rows_ and again.schema_ == model.schema_
    assert again.sample_table(N, seed=5).frame.equals(model.sample_table(N, seed=5).frame)
    assert type(again.sample(5)) is type(model.sample(5))
    assert again.fairness == model.fairness
    again.save(tmp_path / "again.fairsynth")
    assert (tmp_path / "again.fairsynth").read_bytes() == path.read_bytes()


def test_a_file_says_what_in_it_came_from_the_data(fitted: Fitted, tmp_path: Path) -> None:
    from fairsynth import bundle

    path = tmp_path / "model.fairsynth"
    saved(fitted("mixed"))
    fitted("mixed").save(path)
    content = bundle.read(path)
    told = content.manifest["from_data"]
    places = [item["where"] for item in told]
    assert all(item["what"] for item in told)
    for document in content.documents:
        if document not in ("decoder",):  # sizes of layers, chosen by a person
            assert any(place.startswith(f"documents/{document}") for place in places), document
    for tensor in content.tensors:
        assert any(tensor.startswith(place.rstrip("*")) for place in places), tensor


def test_other_models_files_are_refused_by_the_class(name: str, fitted: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "model.fairsynth"
    saved(fitted("polars"))
    fitted("polars").save(path)
    assert isinstance(get_generator_class(name).load(path), get_generator_class(name))
    for other in list_generators():
        if other != name:
            with pytest.raises(BundleError, match="use load_generator"):
                get_generator_class(other).load(path)


# ----------------------------------------------------------------------------------------------- where
def conditional(model: Generator) -> None:
    if not model.capabilities.where:
        pytest.skip("says that it cannot")


@pytest.mark.parametrize(
    "where",
    [
        {"paid": "yes"},
        {"sex": "woman"},
        {"paid": "no", "sex": "man"},
        {"town": None},
        {"town": "east", "club": "golf", "member": True},
        {"hours": None},
        {"member": False},
        {"race": "e"},
    ],
    ids=str,
)
def test_where_is_exact_to_the_row(where: dict[str, Any], fitted: Fitted) -> None:
    model = fitted("mixed")
    conditional(model)
    rows = model.sample_table(300, seed=1, where=where).frame
    assert rows.height == 300
    for column, value in where.items():
        assert (
            (rows[column].cast(pl.String) if isinstance(value, str) else rows[column]).eq_missing(value).all()
        )
    assert rows["income"].n_unique() > 20, "the other columns still vary"


def test_where_takes_any_number_that_is_possible(fitted: Fitted, table_of: TableOf) -> None:
    model, real = fitted("mixed"), table_of("mixed").frame
    conditional(model)
    some = {
        "hours": int(real["hours"].drop_nulls().mode()[0]),
        "age": 33.0,
        "income": 31.37,
        "skill": 0.123456789,
        "since": real["since"][7],
    }
    for column, value in some.items():
        rows = model.sample_table(40, seed=1, where={column: value}).frame
        assert (rows[column] == value).all() and rows["job"].n_unique() > 3
        assert rows.schema == real.schema


def test_where_on_bands_agrees_with_groups(fitted: Fitted) -> None:
    model = fitted("banded")
    conditional(model)
    rows = model.sample_table(200, seed=1, where={"hours": 45})
    assert (rows.frame["hours"] == 45).all() and (rows.groups("hours").labels == "[30, 60)").all()
    rows = model.sample_table(200, seed=1, where={"hours": None, "sex": "woman"})
    assert set(rows.groups().labels) == {f"{MISSING_LEVEL}{JOINT}woman"}


def test_where_on_labels_keeps_the_groups_free(fitted: Fitted) -> None:
    model = fitted("several")
    conditional(model)
    rows = model.sample_table(2000, seed=1, where={"paid": "yes", "race": "b"})
    assert set(rows.frame["sex"]) == {"man", "woman"}
    assert set(rows.frame["race"]) == {"b"} and set(rows.frame["paid"]) == {"yes"}


def test_where_on_a_numeric_or_multiclass_target(fitted: Fitted) -> None:
    model = fitted("multiclass")
    conditional(model)
    assert set(model.sample_table(100, seed=0, where={"race": "d"}).frame["race"]) == {"d"}
    model = fitted("numeric target")
    value = float(model.sample_table(1, seed=3).frame["income"][0])
    assert set(model.sample_table(20, seed=0, where={"income": value}).frame["income"]) == {value}


def test_the_same_condition_in_batches_and_with_a_seed(fitted: Fitted) -> None:
    model = fitted("polars")
    conditional(model)
    where = {"town": "north", "sex": "man"}
    rows = model.sample(400, seed=3, where=where)
    assert rows.equals(model.sample(400, seed=3, where=where))
    assert not rows.equals(model.sample(400, seed=4, where=where))
    assert sum(b.num_rows for b in model.iter_batches(400, seed=3, where=where)) == 400


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ({"nothing": 1}, SchemaError, "nothing"),
        ({"person": "p-1"}, DataError, "identifier"),
        ({"sex": "other"}, DataError, "'other'.*levels are man, woman"),
        ({"sex": None}, FairsynthError, "missing"),
        ({"age": 33.5}, DataError, "integers"),
        ({"age": 400}, DataError, "outside"),
        ({"age": "old"}, DataError, "no value for 'age'"),
        ({"income": 31.375}, DataError, "decimals"),
        ({"income": float("nan")}, DataError, "missing"),
        ({"since": "yesterday"}, DataError, "since"),
        ({"member": "perhaps"}, DataError, "perhaps"),
        ({"town": "nowhere", "sex": ["man"]}, DataError, "sex"),
    ],
    ids=str,
)
def test_conditions_that_cannot_be_meant(
    where: dict[str, Any], error: type[Exception], says: str, fitted: Fitted
) -> None:
    model = fitted("mixed")
    if not model.capabilities.where:
        error, says = CapabilityError, "condition"
    with pytest.raises(error, match=says):
        model.sample(5, where=where)


def test_conditions_that_are_too_rare_are_given_up(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rejection, fade, decaf):
        monkeypatch.setattr(module, "MAX_TRIES", 4_000)
    model = fitted("mixed")
    conditional(model)
    nobody = {
        "income": 31.37,
        "skill": 1.5,
        "age": 77,
        "hours": 88,
        "job": "job 7",
        "race": "e",
        "town": None,
    }
    for n in (1, 50):
        with pytest.raises(CapabilityError, match=r"income=31\.37.*loosen"):
            model.sample(n, where=nobody)


# --------------------------------------------------------------------------------------------- shares of groups
def shares_of(model: Generator, **options: Any) -> dict[str, float]:
    promised(model)
    groups = model.sample_table(6000, seed=2, **options).groups()
    return {name: n / 6000 for name, n in zip(groups.names, groups.counts, strict=True) if n}


def test_uniform_groups(fitted: Fitted) -> None:
    got = shares_of(fitted("five groups"), sensitive="uniform")
    assert got == pytest.approx(dict.fromkeys("abcde", 0.2), abs=0.03)
    got = shares_of(fitted("several"), sensitive="uniform")
    assert len(got) == 10 and list(got.values()) == pytest.approx([0.1] * 10, abs=0.03)


def test_given_shares_of_groups(fitted: Fitted) -> None:
    got = shares_of(fitted("five groups"), sensitive={"a": 1, "e": 3})
    assert got == pytest.approx({"a": 0.25, "e": 0.75}, abs=0.03)
    got = shares_of(fitted("several"), sensitive={"woman × c": 0.5, "man × a": 0.5})
    assert got == pytest.approx({"woman × c": 0.5, "man × a": 0.5}, abs=0.03)
    got = shares_of(fitted("banded"), sensitive={"< 30 × man": 2, "(missing) × woman": 1, "≥ 60 × man": 1})
    assert got == pytest.approx({"< 30 × man": 0.5, "(missing) × woman": 0.25, "≥ 60 × man": 0.25}, abs=0.03)


def test_given_shares_and_a_condition_hold_together(fitted: Fitted) -> None:
    model = fitted("five groups")
    conditional(model)
    rows = model.sample_table(3000, seed=0, sensitive={"a": 1, "e": 3}, where={"paid": "yes"})
    assert set(rows.frame["paid"]) == {"yes"} and set(rows.frame["race"]) == {"a", "e"}


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ("equal", "neither"),
        ({"z": 1.0}, "'z' is not a group"),
        ({"a × b": 1.0}, "is not a group"),
        ({"a": -1.0}, "from 0 up"),
        ({"a": float("nan")}, "from 0 up"),
        ({"a": 0.0}, "all be 0"),
        ({}, "all be 0"),
        ({"a": "much"}, "share"),
    ],
    ids=str,
)
def test_shares_that_cannot_be_meant(mix: Any, says: str, fitted: Fitted) -> None:
    with pytest.raises(SettingsError, match=says):
        fitted("five groups").sample(5, sensitive=mix)


# ------------------------------------------------------------------------------------------------ to files
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_rows_stream_to_a_file(suffix: str, fitted: Fitted, tmp_path: Path) -> None:
    model = fitted("mixed")
    heard: list[Step] = []
    path = tmp_path / f"rows{suffix}"
    n = base.BLOCK_ROWS + 50
    model.sample_to(path, n, seed=4, progress=heard.append)
    assert [step.done for step in heard] == [base.BLOCK_ROWS, n] and {step.total for step in heard} == {n}
    rows = pl.read_parquet(path) if suffix == ".parquet" else pl.read_csv(path)
    assert rows.height == n and rows.columns == list(model.schema_.names)
    assert rows["person"].n_unique() == n
    assert (rows["age"] == model.sample_table(n, seed=4).frame["age"]).all()
    if suffix == ".parquet":
        assert pq.read_schema(path).names == list(model.schema_.names)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_an_interrupt_leaves_no_half_file(suffix: str, fitted: Fitted, tmp_path: Path) -> None:
    path = tmp_path / f"rows{suffix}"

    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted("polars").sample_to(path, 2 * base.BLOCK_ROWS, progress=stop)
    assert list(tmp_path.iterdir()) == []
    path.write_text("what was there")
    with pytest.raises(KeyboardInterrupt):
        fitted("polars").sample_to(path, 2 * base.BLOCK_ROWS, progress=stop)
    assert path.read_text() == "what was there" and list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_no_half_file(fitted: Fitted, tmp_path: Path) -> None:
    with pytest.raises(FairsynthError):
        fitted("polars").sample_to(tmp_path / "rows.parquet", 10, where={"sex": "other"})
    with pytest.raises(FairsynthError):
        fitted("polars").sample_to(tmp_path / "rows.doc", 10)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- fitting
def test_progress_goes_forward_and_arrives(refit: Callable[[], Refit]) -> None:
    heard = refit().heard
    stages = list(dict.fromkeys(step.stage for step in heard))
    assert stages and all(stages)
    for stage in stages:
        done = [step.done for step in heard if step.stage == stage]
        assert done == sorted(done) and done[-1] == next(s.total for s in heard if s.stage == stage)
    assert [step.stage for step in heard] == sorted((s.stage for s in heard), key=stages.index)


def test_an_interrupted_fit_leaves_the_old_model_as_it_was(make: Make, table_of: TableOf) -> None:
    def stop(step: Step) -> None:
        raise KeyboardInterrupt

    model = make()
    with pytest.raises(KeyboardInterrupt):
        model.fit(table_of("polars"), progress=stop)
    with pytest.raises(NotFittedError):
        model.sample(3)


#: What a person's script is: fit with a checkpoint. It stops dead in the last stage until it is killed.
SCRIPT = """
import sys, time
sys.path[:0] = {paths!r}
import fairsynth.generators.audit as audit
import fairsynth.generators.audited_trees as trees
import fairsynth.generators.fairvae as fairvae
import fairsynth.generators.latent_distillation as latent_distillation
import fairsynth.generators.probes as probes
import fairsynth.checkpoints as checkpoints
from toys import small_table
from fairsynth.generators.registry import get_generator_class
checkpoints.SAVE_EVERY = -1.0
fairvae.MIN_STEPS = latent_distillation.MIN_STEPS = 25
probes.BOOSTED_ROUNDS = 10
fairvae.FairVAE.__init__.__kwdefaults__.update({teacher!r})
audit.ROUNDS = trees.ROUNDS = trees.AuditedTrees.rounds = audit.SURE_DRAWS = 1

def progress(step):
    if step.stage == {stage!r} and step.done == {at}:
        print("there", flush=True)
        time.sleep(600)

model = get_generator_class({name!r})().set_params(**{settings!r})
model.fit(small_table(), progress=progress, checkpoint={folder!r})
"""


def test_a_fit_killed_in_the_middle_goes_on_and_ends_the_same(
    name: str, make: Make, table_of: TableOf, tmp_path: Path
) -> None:
    heard: list[Step] = []
    whole = make().fit(table_of("polars"), progress=heard.append)
    last = heard[-1].stage
    first = next(step for step in heard if step.stage == last)
    at = max(first.done, heard[-1].total // 2)
    root = Path(__file__).resolve().parents[2]
    import fairsynth

    settings = {
        k: v for k, v in make().get_params(deep=False).items() if isinstance(v, int | float | str | tuple)
    }
    folder = tmp_path / "checkpoint"
    script = SCRIPT.format(
        paths=[str(Path(fairsynth.__file__).parents[1]), str(root / "tests" / "helpers")],
        stage=last, at=at, name=name, settings=settings, folder=str(folder),
        teacher=QUICK_TEACHER,
    )  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        process.kill()  # SIGKILL: no cleaning up
        assert process.wait() == -9
    finally:
        process.kill()
        process.stdout.close()
    kept = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    resumed: list[Step] = []
    again = make().fit(table_of("polars"), progress=resumed.append, checkpoint=folder)
    if kept:
        assert len(resumed) < len(heard) and resumed[0].done > 1, "what was done is not done again"
    assert again.sample(N, seed=3).equals(whole.sample(N, seed=3))


def test_a_checkpoint_of_other_data_is_refused(make: Make, table_of: TableOf, tmp_path: Path) -> None:
    model = make().fit(table_of("polars"), checkpoint=tmp_path)
    if not any(tmp_path.rglob("*")):
        pytest.skip("keeps no checkpoint")
    other = table_of("polars").replace(table_of("polars").frame.reverse())
    with pytest.raises(SettingsError, match="another fit"):
        make().fit(other, checkpoint=tmp_path)
    with pytest.raises(SettingsError, match="another fit"):
        make(seed=9).fit(table_of("polars"), checkpoint=tmp_path)
    again = make().fit(table_of("polars"), checkpoint=tmp_path)
    assert again.sample(50, seed=0).equals(model.sample(50, seed=0))


# ---------------------------------------------------------------------------------------------- bad input
def test_only_tables_are_fitted(make: Make, table_of: TableOf) -> None:
    with pytest.raises(DataError, match=r"Table\(frame"):
        make().fit(table_of("polars").frame)


def test_a_target_and_a_sensitive_column_are_needed(make: Make, table_of: TableOf) -> None:
    frame = table_of("polars").frame
    with pytest.raises(DataError, match="sensitive"):
        make().fit(Table(frame, target="paid", favorable="yes"))
    with pytest.raises(DataError, match="target"):
        make().fit(Table(frame, sensitive="sex"))


def test_one_group_or_one_label_is_an_error_and_not_a_run(make: Make, table_of: TableOf) -> None:
    """Trap 6: a sensitive column of one level makes every penalty zero and every measure perfect."""
    table = table_of("polars")
    frame = table.frame
    with pytest.raises(DataError, match="one group"):
        make().fit(table.replace(frame.filter(pl.col("sex") == "man")))
    with pytest.raises(DataError, match=r"target.*one value"):
        make().fit(table.replace(frame.filter(pl.col("paid") == "yes")))
    with pytest.raises(DataError, match="one group"):
        Table(frame.filter(pl.col("sex") == "man"), target="paid", favorable="yes", sensitive="sex")


def test_a_band_that_nobody_is_remembered_in_is_an_error(make: Make, table_of: TableOf) -> None:
    """Three people above the edge do not make the range reach there, so all rows would be one group."""
    frame = table_of("polars").frame.with_columns(
        pl.when(pl.int_range(pl.len()) < 3)
        .then(61)
        .otherwise(30 + pl.int_range(pl.len()) % 20)
        .alias("hours")
    )
    table = Table(frame, target="paid", favorable="yes", sensitive={"hours": [60]})
    with pytest.raises(DataError, match="one group"):
        make().fit(table)


@pytest.mark.parametrize("given", ["demographic_parity", 1.0, None])
def test_what_is_no_fairness_is_refused_with_one_that_is(given: Any, make: Make, table_of: TableOf) -> None:
    model = make()
    if given is None and model.fairness_optional:
        pytest.skip("None may stand for it")
    model.fairness = given
    with pytest.raises(SettingsError, match=r"fs\.Fairness\('demographic_parity'\)"):
        model.fit(table_of("polars"))


def test_criteria_that_it_does_not_know(make: Make, name: str, table_of: TableOf) -> None:
    can = get_generator_class(name).capabilities
    unknown = {"demographic_parity", "equalized_odds", "equal_opportunity"} - set(can.criteria)
    for criterion in unknown if can.criteria else ():
        with pytest.raises(CapabilityError, match=criterion):
            make(fairness=Fairness(criterion)).fit(table_of("polars"))  # type: ignore[arg-type]
    if "equalized_odds" in can.criteria:
        table = Table(table_of("polars").frame, target="paid", sensitive="sex")
        with pytest.raises(CapabilityError, match="favorable"):
            make(fairness=Fairness("equalized_odds")).fit(table)


@pytest.mark.parametrize("criterion", ["equalized_odds", "equal_opportunity"])
def test_every_criterion_it_knows_can_be_asked_for(
    criterion: str, make: Make, name: str, table_of: TableOf
) -> None:
    if criterion not in get_generator_class(name).capabilities.criteria:
        pytest.skip("says that it cannot")
    model = make(fairness=Fairness(criterion, 0.7)).fit(table_of("tiny"))  # type: ignore[arg-type]
    assert model.sample(30, seed=0).height == 30


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("batch_size", 0),
        ("epochs", 0),
        ("epochs", float("nan")),
        ("steps", 0),
        ("learning_rate", -1.0),
        ("hidden", ()),
        ("hidden", (0,)),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_named(
    setting: str, value: Any, make: Make, name: str, table_of: TableOf
) -> None:
    if setting not in get_generator_class(name)().get_params():
        pytest.skip("has no such setting")
    with pytest.raises(SettingsError, match=setting):
        make(**{setting: value}).fit(table_of("polars"))


def test_a_table_without_features_is_an_error(make: Make, table_of: TableOf) -> None:
    frame = table_of("polars").frame.select("sex", "paid")
    with pytest.raises(DataError, match="no other column"):
        make().fit(Table(frame, target="paid", favorable="yes", sensitive="sex"))


def test_rows_are_drawn_as_they_are_asked_for(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    """An iterator over a billion rows holds few of them, and closing it ends the work."""
    model, drawn = fitted("polars"), []
    draw = type(model)._draw

    def counted(self: Generator, n: int, *rest: Any) -> Any:
        drawn.append(n)
        return draw(self, n, *rest)

    monkeypatch.setattr(type(model), "_draw", counted)
    batches = model.iter_batches(30_000 * base.BLOCK_ROWS, seed=0)
    next(batches)
    batches.close()
    assert len(drawn) <= 3 * (os.cpu_count() or 1) + 2


# ---------------------------------------------------------------------------------------- the mix of labels
@shapes("polars", "multiclass")
def test_the_target_mix_is_exact_to_the_row(shape: str, fitted: Fitted, table_of: TableOf) -> None:
    model, schema = fitted(shape), table_of(shape).schema
    if not model.capabilities.where:
        pytest.skip("it takes no conditions")
    target = str(schema.target)
    first, second = schema[target].group_names()[:2]
    made = model.sample_table(101, seed=5, target_mix={first: 3, second: 1}).frame[target].cast(str)
    counts = dict(made.value_counts().iter_rows())
    assert counts == {first: 76, second: 25}
    assert made.to_list() != sorted(made.to_list()), "labels come mixed, not one after the other"
    again = model.sample_table(101, seed=5, target_mix={first: 3, second: 1}).frame[target].cast(str)
    assert again.equals(made)


def test_a_target_mix_that_means_nothing_is_refused(fitted: Fitted) -> None:
    model = fitted("polars")
    if not model.capabilities.where:
        pytest.skip("it takes no conditions")
    for wrong in ({"yes": -1.0}, {"yes": 0.0}, {"yes": "half"}, {"yes": 0.5}):
        with pytest.raises(SettingsError, match="target_mix"):
            model.sample(10, target_mix=wrong)
    with pytest.raises(SettingsError, match=r"sensitive: the shares sum to 0\.4, and some groups have none"):
        model.sample(10, sensitive={"woman": 0.4})
    with pytest.raises(DataError, match="perhaps"):
        model.sample(10, target_mix={"perhaps": 1.0})
    with pytest.raises(SettingsError, match="both"):
        model.sample(10, target_mix={"yes": 1.0}, where={"paid": "no"})
