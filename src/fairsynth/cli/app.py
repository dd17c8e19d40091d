"""The application itself: its global options, and what becomes of errors."""

from __future__ import annotations

import functools
import os
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from fairsynth import __version__
from fairsynth.errors import FairsynthError, FairsynthWarning

P = ParamSpec("P")
R = TypeVar("R")

EXIT_ERROR = 2
EXIT_DEFECT = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

app = typer.Typer(
    name="fairsynth",
    help=(
        "Fair synthetic tables from biased, private ones, with the evidence.\n\n"
        "TABLE is a .csv, .csv.gz, .parquet, .xlsx, .sav, .dta or .jsonl file, or one of their kind, or "
        "duckdb:///file.db?query=SELECT…"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _State:
    """What the global options set."""

    debug: bool = False
    quiet: bool = False


state = _State()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fairsynth {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="FAIRSYNTH_DEBUG", help="Show where an error came from.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    state.quiet, state.debug = quiet, debug


def command(name: str, *, to: typer.Typer | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a command whose errors are told in one line, with the application or with one of its parts.

    What fairsynth raises on purpose, and what the operating system refuses, ends with exit status
    2 and a message; a defect with 1; Ctrl-C with 130. With ``--debug`` the traceback is shown.
    """
    full = name if to is None else f"{to.info.name} {name}"

    def register(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except KeyboardInterrupt:
                note("Interrupted. Nothing was left half written.", always=True)
                raise typer.Exit(EXIT_INTERRUPTED) from None
            except (FairsynthError, OSError, MemoryError) as error:
                if state.debug:
                    raise
                fail(_tell(error))
            except Exception as error:
                if state.debug or isinstance(error, typer.Exit | typer.BadParameter | typer.Abort):
                    raise
                first = (str(error).splitlines() or ["no message"])[0]
                fail(
                    f"{type(error).__name__}: {first}. This is a defect of fairsynth; "
                    f"`fairsynth --debug {full} …` shows where.",
                    EXIT_DEFECT,
                )

        (app if to is None else to).command(name)(guarded)
        return guarded

    return register


def _tell(error: Exception) -> str:
    if isinstance(error, FairsynthError):
        return str(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}. Check the path, its rights and the space left."
    return "not enough memory. Use fewer rows, or a machine with more memory."


def fail(message: str, status: int = EXIT_ERROR) -> NoReturn:
    """Print one red line on standard error and end with `status`."""
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("Error: ", "bold red"), (" ".join(message.split()), "red"))
    Console(stderr=True, soft_wrap=True).print(line)
    raise typer.Exit(status)


def note(message: str, *, always: bool = False) -> None:
    """Print a remark on standard error, unless ``--quiet`` was given."""
    if always or not state.quiet:
        typer.echo(message, err=True)


def show(renderable: Any) -> None:
    """Print a Rich table on standard output, as wide as it is where that is no terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(renderable)


def main() -> None:
    """Run the command line; the entry point ``fairsynth``."""
    for stream in (sys.stdout, sys.stderr):
        # "×" and "≥" stand in what is printed, and a terminal without them must not end the work.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, _terminate)
    shown = warnings.showwarning

    def in_one_line(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, FairsynthWarning):
            note(f"Note: {message}")
        else:
            shown(message, category, *where, **more)

    # A file and a line of ours tell whoever gave a command nothing.
    warnings.showwarning = in_one_line
    try:
        app()
    except BrokenPipeError:
        # `fairsynth models | head`: whoever read has enough. Nothing more is to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_DEFECT)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    # An exception instead of sudden death, so that temporary files are removed on the way out.
    sys.exit(EXIT_TERMINATED)
