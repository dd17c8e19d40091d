"""Commands about a model file: ``sample`` from it, ``inspect`` it; and ``models``, the methods there are."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairsynth.cli.app import command, note
from fairsynth.cli.options import SeedOption, pairs, progress_bar, writable
from fairsynth.errors import DataError, SettingsError

if TYPE_CHECKING:
    from fairsynth.data.schema import Schema

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")]
SUFFIXES = (".parquet", ".csv", ".csv.gz")


@command("sample")
def sample(
    model: ModelArgument,
    n: Annotated[int, typer.Option("-n", "--rows", metavar="N", min=1, help="How many rows.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="A .parquet, .csv or .csv.gz file.")
    ],
    seed: SeedOption = 0,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="COL=VALUE", help="Only rows with this value (several: all hold)."),
    ] = None,
    mix: Annotated[
        str,
        typer.Option(
            "--sensitive-mix",
            metavar="MIX",
            help="Groups as they were seen (“empirical”), in equal numbers (“uniform”), or with given "
            'shares: \'{"Female": 0.5, "Male": 0.5}\'.',
        ),
    ] = "empirical",
) -> None:
    """Write synthetic rows to a file, as many as wanted: memory does not grow with their number."""
    if not output.name.endswith(SUFFIXES):
        raise SettingsError(
            f"-o {output}: the name must end in {', '.join(SUFFIXES)}, which says the format."
        )
    writable(output)
    from fairsynth.generators.base import load_generator

    generator = load_generator(model)
    began = time.monotonic()
    with progress_bar() as progress:
        generator.sample_to(
            output,
            n,
            seed=seed,
            where=condition(where, generator.schema_) or None,
            sensitive=_mix(mix),
            progress=progress,
        )
    took = time.monotonic() - began
    note(f"Wrote {output}: {n:,} rows in {took:.1f} s.")


def condition(given: list[str] | None, schema: Schema) -> dict[str, Any]:
    """Read ``--where COL=VALUE`` in the kind of each column.

    Raises
    ------
    DataError
        If a column does not exist or the value is not of its kind.
    """
    found: dict[str, Any] = {}
    for name, text in pairs(given, "--where").items():
        if name not in schema:
            raise DataError(
                f"--where {name}={text}: there is no column {name!r}; there are {_names(schema)}."
            )
        kind = schema[name].kind
        try:
            found[name] = _read(text, kind)
        except ValueError:
            raise DataError(
                f"--where {name}={text}: column {name!r} is {kind}, and {text!r} is not."
            ) from None
    return found


def _names(schema: Schema) -> str:
    return ", ".join(schema.names)


def _read(text: str, kind: str) -> Any:
    if kind == "integer":
        return int(text)
    if kind == "continuous":
        return float(text)
    if kind == "boolean":
        return (
            {"true": True, "false": False}[text.lower()]
            if text.lower() in ("true", "false")
            else int(text) == 1
        )
    if kind == "datetime":
        from datetime import datetime

        return datetime.fromisoformat(text)
    return text


def _mix(text: str) -> str | dict[str, float]:
    if text in ("empirical", "uniform"):
        return text
    try:
        shares = json.loads(text)
    except json.JSONDecodeError:
        shares = None
    if not isinstance(shares, dict) or not all(
        isinstance(share, int | float) and not isinstance(share, bool) for share in shares.values()
    ):
        raise SettingsError(
            f"--sensitive-mix {text!r} is neither empirical, uniform, nor shares by group as JSON, such as "
            '\'{"Female": 0.5, "Male": 0.5}\'.'
        )
    return {group: float(share) for group, share in shares.items()}
