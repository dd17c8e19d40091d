"""What the user brings: tables, their schemas, and where they are read from and written to."""

from fairsynth.data.canonical import conform
from fairsynth.data.catalog import list_datasets, load_dataset
from fairsynth.data.frames import arrow_schema, file_schema, to_arrow, to_native
from fairsynth.data.infer import infer_schema
from fairsynth.data.io import TableWriter, read_any
from fairsynth.data.schema import Column, Schema
from fairsynth.data.table import Groups, Table, fresh_identifiers

__all__ = [
    "Column",
    "Groups",
    "Schema",
    "Table",
    "TableWriter",
    "arrow_schema",
    "conform",
    "file_schema",
    "fresh_identifiers",
    "infer_schema",
    "list_datasets",
    "load_dataset",
    "read_any",
    "to_arrow",
    "to_native",
]
