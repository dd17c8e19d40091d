"""Trees of a stream: those of a table in memory where the sample is everybody, and all rows counted where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from toys import mixed_frame
from typer.testing import CliRunner

from fairsynth import bundle
from fairsynth.data.streams import StreamedTable
from fairsynth.data.table import Table
from fairsynth.errors import CapabilityError
from fairsynth.fairness import Fairness
from fairsynth.generators import tree_streaming
from fairsynth.generators.audited_trees import AuditedTrees
from fairsynth.generators.base import load_generator
from fairsynth.generators.fair_trees import FairTrees
from fairsynth.generators.plain_vae import PlainVAE

ROLES: dict[str, Any] = {"target": "paid", "favorable": "yes", "sensitive": ["sex", "race"]}
PLAIN = Fairness(strength=0.0)


def written(path: Path, frame: pl.DataFrame) -> Path:
    frame.write_parquet(path, row_group_size=500)
    return path


@pytest.mark.parametrize("kind", [FairTrees, AuditedTrees])
@pytest.mark.parametrize("target", ["paid", "hours_kept"])
def test_of_a_sample_of_everybody_the_laws_are_those_in_memory(
    tmp_path: Path, target: str, kind: type[FairTrees]
) -> None:
    frame = mixed_frame(1500).with_columns(hours_kept=pl.col("hours").fill_null(3))
    roles = {**ROLES, "target": target} | ({} if target == "paid" else {"favorable": None})
    stream = StreamedTable(written(tmp_path / "rows.parquet", frame), **roles, sample_rows=1500)
    # Directions are tried in folds, which go by the order of rows: a sample has one of its own.
    whole = kind(fairness=PLAIN).fit(Table(frame, **roles) if kind is FairTrees else stream.sample)
    parts = kind(fairness=PLAIN).fit(stream)
    assert parts.schema_ == whole.schema_ and parts.n_rows_ == 1500
    for column, own in whole.trees_.items():
        np.testing.assert_array_equal(parts.trees_[column].law.shares, own.law.shares)
        assert (parts.trees_[column].directions is None) == (own.directions is None)
    assert parts.group_names_ == whole.group_names_ and parts.rare_groups_ == whole.rare_groups_
    if target == "paid":
        assert parts.label_law_ == pytest.approx(whole.label_law_, abs=0.02)
    else:  # the label's own tree is counted as well
        assert whole.label_.tree is not None and parts.label_.tree is not None
        np.testing.assert_array_equal(parts.label_.tree.law.shares, whole.label_.tree.law.shares)
        np.testing.assert_array_equal(parts.label_law_, whole.label_law_)


def test_what_the_sample_lacks_is_counted(tmp_path: Path) -> None:
    row = pl.int_range(pl.len())
    rare = (row % 1000) == 777  # six of them in 6,000, in a sample of 1,000 perhaps one
    frame = mixed_frame(6000).with_columns(
        pl.when(row == 777).then(pl.lit("z")).otherwise("race").alias("race"),
        pl.when(rare).then(pl.lit("rare")).otherwise("job").alias("job"),
    )
    seeds = range(20)
    path = written(tmp_path / "rows.parquet", frame)
    streams = (StreamedTable(path, **ROLES, sample_rows=1000, seed=seed) for seed in seeds)
    stream = next(s for s in streams if not {"z"} & set(s.sample.frame["race"]))
    for kind in (FairTrees, AuditedTrees):
        model = kind().fit(stream)
        assert any(name.endswith("z") for name in model.group_names_)
        assert any(name.endswith("z") for name in model.rare_groups_)
        assert model.n_rows_ == 6000
        drawn = model.sample(300, seed=0, where={"race": "z"})
        assert set(drawn["race"]) == {"z"}
        share = float((model.sample(60_000, seed=1)["job"] == "rare").mean())
        assert share == pytest.approx(6 / 6000, rel=0.5)
        model.save(tmp_path / "model.fairsynth")
        again = load_generator(tmp_path / "model.fairsynth")
        assert again.sample(50, seed=2).equals(model.sample(50, seed=2))
        assert bundle.read(tmp_path / "model.fairsynth").manifest["n_rows"] == 6000


def test_shares_are_those_of_all_rows_and_cells_may_be_sparse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The groups' shares are exact although the sample has others, whichever way labels and groups are counted."""
    frame = mixed_frame(5000)
    stream = StreamedTable(written(tmp_path / "rows.parquet", frame), **ROLES, sample_rows=1000)
    real = Table(frame, **ROLES)
    wanted = real.groups().counts / 5000
    models = []
    for most in (tree_streaming.MOST_CELLS, 1):
        monkeypatch.setattr(tree_streaming, "MOST_CELLS", most)
        models.append(FairTrees(fairness=PLAIN).fit(stream))
        got = dict(zip(models[-1].group_names_, models[-1].label_law_.sum(0), strict=True))
        assert [got[name] for name in real.groups().names] == pytest.approx(wanted, abs=1e-9)
    np.testing.assert_array_equal(models[0].label_law_, models[1].label_law_)


def test_methods_that_need_all_rows_say_so(tmp_path: Path) -> None:
    stream = StreamedTable(written(tmp_path / "rows.parquet", mixed_frame(1500)), **ROLES, sample_rows=1000)
    with pytest.raises(CapabilityError, match="needs all rows in memory"):
        PlainVAE().fit(stream)


def test_the_command_line_reads_parts_in_batches_and_hears_requirements(tmp_path: Path) -> None:
    from fairsynth.cli.app import app

    folder = tmp_path / "parts"
    folder.mkdir()
    frame = mixed_frame(2400).drop("race")
    written(folder / "a.parquet", frame[:1900])
    written(folder / "b.parquet", frame[1900:])
    roles = ["--target", "paid", "--favorable", "yes", "--sensitive", "sex"]
    out = tmp_path / "model.fairsynth"

    def run(*args: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, [str(arg) for arg in args])
        return done.exit_code, done.output

    status, told = run("fit", folder, *roles, "--sample-rows", 1000, "-o", out)
    assert status == 0, told
    assert "learned from 2,400 rows" in told and load_generator(out).n_rows_ == 2400
    status, told = run(
        "fit", folder / "b.parquet", *roles, "--require", "dpr>=0.2", "--confidence", 0.6, "-o", out
    )
    assert status == 0, told
    assert "The requirement is" in told and load_generator(out).promise_["requirements"] == ["dpr>=0.2"]
    assert load_generator(out).promise_["asked_confidence"] == 0.6
    status, told = run("fit", folder / "b.parquet", *roles, "--confidence", 0.6, "-o", out)
    assert status == 2 and "--require" in told
    status, told = run("fit", folder, *roles, "--model", "fairvae", "--sample-rows", 1000, "-o", out)
    assert status == 2 and "needs all rows in memory" in told
