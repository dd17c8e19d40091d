"""The command ``datasets``: what is listed, what is said of one, and what is fetched."""

from __future__ import annotations

import http.server
import threading
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from fairsynth.cli import app

runner = CliRunner()


def run(*args: object, status: int = 0) -> Result:
    done = runner.invoke(app, ["datasets", *(str(arg) for arg in args)])
    assert done.exit_code == status, done.output
    return done


def told(*args: object) -> str:
    done = run(*args, status=2)
    assert done.stderr.startswith("Error: ")
    return done.stderr


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRSYNTH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAIRSYNTH_OFFLINE", "1")
    monkeypatch.delenv("FAIRSYNTH_DATA", raising=False)


@pytest.fixture
def loans(tmp_path: Path) -> Path:
    folder = tmp_path / "sets"
    folder.mkdir()
    rows = "".join(f"{'FM'[i % 2]},{i % 9},{'yes' if i % 3 == 0 else 'no'}\n" for i in range(60))
    (folder / "loans.csv").write_text("sex,n,ok\n" + rows)
    (folder / "loans.toml").write_text(
        'title = "Loans"\npath = "loans.csv"\ntarget = "ok"\nfavorable = "yes"\nsensitive = "sex"\nrows = 60\n'
    )
    return folder


def test_all_are_listed_with_what_a_person_chooses_by(loans: Path) -> None:
    lines = run("--folder", loans).stdout.splitlines()
    named = {line.split()[0]: line for line in lines if line.strip()}
    assert {"loanapp", "adult", "compas", "german", "bank", "law_school", "acs_income", "loans"} <= set(named)
    assert "48,842" in named["adult"]
    assert "income = >50K" in named["adult"]
    assert "sex, race" in named["adult"]
    assert "CC BY 4.0" in named["adult"]
    assert "download" in named["adult"]
    assert "by hand" in named["sqf"]
    assert "here, folder" in named["loans"]
    assert "bundled" in named["loanapp"]


def test_one_that_is_not_here_is_described_without_fetching_it() -> None:
    said = run("adult").stdout
    for part in (
        "48,842",
        "https://archive.ics.uci.edu/dataset/2/adult",
        "CC BY 4.0",
        "5b002646",
        "--download",
        "adult.test",
    ):
        assert part in said
    assert "first used" in run("german").stdout
    assert "as its publisher says" in run("student").stdout
    message = told("adult", "--download")
    assert "FAIRSYNTH_OFFLINE" in message
    assert "adult.zip" in message
    assert "law_school" in told("law_schol")


def test_one_that_is_here_shows_its_schema_and_is_written(loans: Path, tmp_path: Path) -> None:
    said = run(loans / "loans.toml", "-o", tmp_path / "out").stdout
    assert "42 + 18 rows" in said
    assert "favorable: ok = yes" in said
    assert len(pl.read_csv(tmp_path / "out" / "train.csv")) == 42
    assert len(pl.read_csv(tmp_path / "out" / "test.csv")) == 18
    assert "42 + 18 rows" in run("loans", "--folder", loans).stdout


def test_download_fetches_and_says_whom_it_trusts(
    loans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FAIRSYNTH_OFFLINE")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(loans))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "theirs.toml").write_text(
        'target = "ok"\nfavorable = "yes"\nsensitive = "sex"\n[[files]]\nname = "them.csv"\n'
        f'url = "http://127.0.0.1:{server.server_address[1]}/loans.csv"\n'
    )
    try:
        done = run(tmp_path / "theirs.toml", "--download")
        assert "trusted on first use" in done.stderr
        assert "42 + 18 rows" in done.stdout
        assert "since its first use here" in done.stdout
        assert "trusted" not in run(tmp_path / "theirs.toml", "--download", "--again").stderr
    finally:
        server.shutdown()
        server.server_close()
    assert "42 + 18 rows" in run(tmp_path / "theirs.toml").stdout


def test_options_that_need_a_name_say_so() -> None:
    assert "-o needs the NAME" in told("-o", "x")
    assert "--download needs the NAME" in told("--download")
    assert "--again goes with --download" in told("loanapp", "--again")
