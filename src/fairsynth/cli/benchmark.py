"""Commands that compare methods: ``benchmark`` and ``leaderboard``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairsynth.cli.app import command, note, show, state

if TYPE_CHECKING:
    from fairsynth.benchmark.leaderboard import Leaderboard
    from fairsynth.benchmark.runner import Summary

#: Reasons of failures that are printed; the others are in the files.
SHOWN_FAILURES = 10


@command("benchmark")
def benchmark(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="What is to be compared, a TOML file.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder of the results.")],
    engine: Annotated[
        str, typer.Option("--engine", metavar="ENGINE", help="What runs the cells: local or ray.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Of the Ray cluster.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", metavar="N", min=1, help="Cells at a time. [default: one for each core]"),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run the cells again that failed.")] = False,
    mlflow: Annotated[
        bool | None,
        typer.Option("--mlflow/--no-mlflow", help="Log cells to MLflow. [default: if it is installed]"),
    ] = None,
) -> None:
    """Run every method of a plan on every data set of it, and compare them.

    Killed in the middle, the same command goes on from there; cells that have a result are never run again.
    """
    from fairsynth.benchmark.runner import run_plan
    from fairsynth.benchmark.tracking import tracker
    from fairsynth.benchmark.watch import board

    with tracker(output, mlflow) as log, board(quiet=state.quiet) as watcher:
        done = run_plan(
            plan,
            output,
            engine=engine,
            address=address,
            jobs=jobs,
            retry=retry,
            watcher=watcher,
            on_result=log,
        )
    _tell(done)
    page = output / "leaderboard.html"
    if done.ran or not page.exists():
        from fairsynth.benchmark.leaderboard import read_leaderboard
        from fairsynth.benchmark.render import write

        board_ = read_leaderboard(output)
        _show(board_)
        write(board_, page)
    note(f"{page} has it all; `fairsynth leaderboard {output}` prints it again.")


def _tell(done: Summary) -> None:
    from fairsynth.benchmark.watch import clock

    for remark in done.remarks:
        note(remark)
    for title, reason in done.failures[:SHOWN_FAILURES]:
        note(f"Failed: {title}: {' '.join(reason.split())[:300]}")
    if len(done.failures) > SHOWN_FAILURES:
        note(
            f"… and {len(done.failures) - SHOWN_FAILURES} more; their reasons are in {done.folder / 'cells'}."
        )
    failed = f", {len(done.failures)} failed" if done.failures else ""
    note(
        f"{done.total} cells{failed}: {done.ran} were run now, {done.reused} were there, "
        f"in {clock(done.seconds)}."
    )


def _show(board: Leaderboard) -> None:
    from fairsynth.benchmark.render import terminal

    for table in terminal(board):
        show(table)


@command("leaderboard")
def leaderboard(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that `benchmark` wrote.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write .html, .md, .tex or .csv; may be given again."
        ),
    ] = None,
    fairness: Annotated[
        str, typer.Option("--fairness", metavar="METRIC", help="The measure of fairness.")
    ] = "dpr",
    utility: Annotated[str, typer.Option("--utility", metavar="METRIC", help="Of usefulness.")] = "auroc",
    fidelity: Annotated[
        str, typer.Option("--fidelity", metavar="METRIC", help="Of likeness to the real rows.")
    ] = "coverage",
    attribute: Annotated[
        str | None,
        typer.Option("--attribute", metavar="COL", help="Sensitive column. [default: the worst of them]"),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Cells of all plans run in the folder, not only the last.")
    ] = False,
) -> None:
    """Compare the methods of a benchmark: means over seeds, ranks, and who is not beaten on any count."""
    from fairsynth.benchmark.leaderboard import read_leaderboard
    from fairsynth.benchmark.render import write

    board = read_leaderboard(
        folder,
        fairness=fairness,
        utility=utility,
        fidelity=fidelity,
        attribute=attribute,
        everything=everything,
    )
    if not output:
        _show(board)
    for path in output or [folder / "leaderboard.html"]:
        write(board, path)
        note(f"Wrote {path}.")
