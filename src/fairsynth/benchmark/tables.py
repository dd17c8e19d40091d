"""Train and test rows as Arrow files, for machines that do not have the data set's own files."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from fairsynth.data.schema import Schema
from fairsynth.data.table import Table

_PARTS = ("train", "test")


def pack(train: Table, test: Table) -> dict[str, bytes]:
    """Return the contents of the files that `unpack` reads, by their names."""
    from io import BytesIO

    files = {"schema.json": train.schema.to_json().encode()}
    for name, table in zip(_PARTS, (train, test), strict=True):
        buffer = BytesIO()
        table.frame.write_ipc(buffer, compression="zstd")
        files[f"{name}.arrow"] = buffer.getvalue()
    return files


def unpack(folder: Path) -> tuple[Table, Table]:
    """Read train and test rows from a folder of these files."""
    schema = Schema.from_json((folder / "schema.json").read_text(encoding="utf-8"))
    train, test = (Table._of(pl.read_ipc(folder / f"{name}.arrow"), schema) for name in _PARTS)
    return train, test
