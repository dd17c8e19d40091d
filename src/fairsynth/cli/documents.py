"""What goes beside a released table: the model card and the Croissant metadata."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairsynth.cli.app import note
from fairsynth.cli.options import pairs
from fairsynth.errors import SettingsError

if TYPE_CHECKING:
    from fairsynth.data.schema import Schema
    from fairsynth.evaluation.result import Evaluation

CroissantOption = Annotated[
    Path | None,
    typer.Option("--croissant", metavar="JSON", help="Write Croissant metadata of the table."),
]
AboutOption = Annotated[
    list[str] | None,
    typer.Option(
        "--about",
        metavar="KEY=TEXT",
        help="What only people know, for the model card and the metadata: name, description, license, "
        "creator, url, published, version, intended_use, out_of_scope, training_data, contact.",
    ),
]

_CARD = ("name", "license", "intended_use", "out_of_scope", "training_data", "contact")
_CROISSANT = ("name", "description", "license", "creator", "url", "published", "version")
_KNOWN = (*_CROISSANT, *(key for key in _CARD if key not in _CROISSANT))
NOT_STATED = "Not stated by the makers"


def read_about(given: list[str] | None) -> dict[str, str]:
    """Read ``--about KEY=TEXT``.

    Raises
    ------
    SettingsError
        If a key is not known, an answer is empty, or a date is none.
    """
    about = pairs(given, "--about")
    for key, text in about.items():
        if key not in _KNOWN:
            raise SettingsError(f"--about {key}=…: there is no such key; known are {', '.join(_KNOWN)}.")
        if not text.strip():
            raise SettingsError(f"--about {key}= is empty; say something, or leave it out.")
    if "published" in about:
        try:
            dt.date.fromisoformat(about["published"])
        except ValueError:
            raise SettingsError(
                f"--about published={about['published']}: no date; write it as YYYY-MM-DD."
            ) from None
    return about


def card_paths(report: Path) -> tuple[Path, Path]:
    """Return where the card of a report goes: ``report.card.md`` and ``report.card.json``."""
    return report.with_name(f"{report.stem}.card.md"), report.with_name(f"{report.stem}.card.json")


def write_model_card(evaluation: Evaluation, report: Path, about: Mapping[str, str]) -> None:
    """Write the model card beside the report, as Markdown and as JSON."""
    from fairsynth.report.card import write_card

    said: dict[str, Any] = {key: about[key] for key in _CARD if key in about}
    markdown, data = write_card(evaluation, card_paths(report)[0], **said)
    note(f"Wrote {markdown} and {data}, the model card.")


def write_metadata(
    schema: Schema,
    table: Path,
    output: Path,
    about: Mapping[str, str],
    evaluation: Evaluation | None = None,
) -> None:
    """Write Croissant metadata of a table file; what nobody said is named as such, never made up.

    The format wants an address. Where none was given it is the URN of the file's SHA-256, which is true of
    the file wherever it lies.
    """
    from fairsynth.report.croissant import write_croissant

    said: dict[str, Any] = {key: about[key] for key in _CROISSANT if key in about}
    open_questions = [key for key in ("license", "creator", "url") if key not in said]
    said.setdefault("name", table.name.split(".")[0])
    said.setdefault("description", f"Synthetic rows with the columns {', '.join(_names(schema))}.")
    said.setdefault("license", NOT_STATED)
    said.setdefault("creator", NOT_STATED)
    said.setdefault("published", dt.datetime.now(dt.UTC).date())
    if "url" not in said:
        with table.open("rb") as file:
            said["url"] = f"urn:sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    write_croissant(schema, table, output, evaluation=evaluation, **said)
    note(f"Wrote {output}, the metadata of {table.name}.")
    if open_questions:
        note(f"It does not say: {', '.join(open_questions)}. Add them with --about KEY=TEXT before release.")


def _names(schema: Schema) -> list[str]:
    return [column.name for column in schema.columns]


def released_file(table: str | dict[str, str]) -> Path:
    """Return the one file that metadata can describe.

    Raises
    ------
    SettingsError
        If there are several tables, or the one is no .parquet, .csv or .csv.gz file.
    """
    from fairsynth.report.croissant import ENCODINGS

    if isinstance(table, dict):
        if len(table) != 1:
            raise SettingsError("--croissant describes one released table; give one --synthetic.")
        table = next(iter(table.values()))
    path = Path(table)
    if not path.name.endswith(tuple(ENCODINGS)) or "://" in table:
        raise SettingsError(f"--croissant describes a {', '.join(ENCODINGS)} file, and {table} is none.")
    return path
