"""Croissant metadata (JSON-LD) for a released table.

Croissant 1.0 (Akhtar et al. 2024, "Croissant: A Metadata Format for ML-Ready Datasets", and the format's
specification of MLCommons), with the vocabulary for responsible AI (RAI 1.0) for what concerns people.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.errors import SettingsError
from fairsynth.files import write_text

if TYPE_CHECKING:
    from fairsynth.data.schema import Column, Schema
    from fairsynth.evaluation.result import Evaluation

CONFORMS = "http://mlcommons.org/croissant/1.0"
RAI = "http://mlcommons.org/croissant/RAI/1.0"
ENCODINGS = {".parquet": "application/x-parquet", ".csv": "text/csv", ".csv.gz": "text/csv"}
_TYPES = {
    "continuous": "sc:Float",
    "integer": "sc:Integer",
    "boolean": "sc:Boolean",
    "datetime": "sc:DateTime",
    "categorical": "sc:Text",
    "identifier": "sc:Text",
}
#: The context that the specification prescribes, with the RAI vocabulary.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(
    schema: Schema,
    table: str | os.PathLike[str],
    *,
    name: str,
    description: str,
    license: str,
    creator: str,
    url: str,
    published: dt.date | str,
    version: str = "1.0.0",
    keywords: Sequence[str] = ("synthetic data", "fairness"),
    cite_as: str | None = None,
    evaluation: Evaluation | None = None,
) -> dict[str, Any]:
    """Describe a released table.

    Parameters
    ----------
    schema : Schema
        Of the table.
    table : str or path-like
        The released file: ``.parquet``, ``.csv`` or ``.csv.gz``; it is read for its size and SHA-256.
    name, description, license, creator, url : str
        What the format requires; `license` as an SPDX name or a URL, `url` the page of the data set.
    published : datetime.date or str
        Day of release, ``YYYY-MM-DD``.
    version : str, default="1.0.0"
        Of the table, semantic.
    keywords : sequence of str
        To be found by.
    cite_as : str, optional
        How the table is to be cited; BibTeX is usual.
    evaluation : Evaluation, optional
        Its verdict goes into the fields on bias and on personal information.

    Returns
    -------
    dict
        JSON-LD.

    Raises
    ------
    SettingsError
        If the file's kind is not known, a required text is empty, or the date is none.
    OSError
        If the file cannot be read.
    """
    path = Path(table)
    suffix = next((s for s in sorted(ENCODINGS, key=len, reverse=True) if path.name.endswith(s)), None)
    if suffix is None:
        raise SettingsError(
            f"table={path.name!r} is of no known kind; release a .parquet, .csv or .csv.gz file."
        )
    required = {"name": name, "description": description, "license": license, "creator": creator, "url": url}
    for key, text in required.items():
        if not text.strip():
            raise SettingsError(f"{key} is empty; Croissant requires it.")
    try:
        day = published if isinstance(published, dt.date) else dt.date.fromisoformat(published)
    except ValueError as error:
        raise SettingsError(f"published={published!r} is no date; write it as YYYY-MM-DD.") from error
    size, digest = _read(path)
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [CONFORMS, RAI],
        "name": name,
        "description": description,
        "license": license,
        "url": url,
        "creator": {"@type": "sc:Organization", "name": creator},
        "datePublished": day.isoformat(),
        "version": version,
        "keywords": list(keywords),
        "isLiveDataset": False,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "table",
                "name": path.name,
                "contentUrl": path.name,
                "contentSize": f"{size} B",
                "encodingFormat": ENCODINGS[suffix],
                "sha256": digest,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "rows",
                "name": "rows",
                "field": [_field(column, schema) for column in schema.columns],
            }
        ],
        "rai:dataCollection": "Synthetic: every row was drawn from a generative model; none was collected.",
        "rai:dataCollectionType": ["Others"],
        "rai:personalSensitiveInformation": _sensitive(schema),
    }
    if cite_as:
        document["citeAs"] = cite_as
    if evaluation is not None:
        document |= _verdict(evaluation)
    return document


def write_croissant(
    schema: Schema, table: str | os.PathLike[str], path: str | os.PathLike[str], **said: Any
) -> Path:
    """Write the metadata of `croissant` to `path`, whole or not at all.

    Parameters
    ----------
    schema, table, **said
        As `croissant` takes them.
    path : str or path-like
        Where the JSON-LD is to be; ``croissant.json`` beside the table is usual.
    """
    document = croissant(schema, table, **said)
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return Path(path)


def _field(column: Column, schema: Schema) -> dict[str, Any]:
    roles = []
    if column.name == schema.target:
        favorable = ", ".join(schema.favorable)
        roles.append(f"outcome to predict; favorable: {favorable}" if favorable else "outcome to predict")
    if column.name in schema.sensitive:
        roles.append("sensitive attribute")
    if column.name == schema.domain:
        roles.append("domain")
    if column.name in schema.identifiers:
        roles.append("holds nothing" if column.empty else "identifier, drawn fresh")
    described = f"{column.kind} column" + (f" ({'; '.join(roles)})" if roles else "")
    return {
        "@type": "cr:Field",
        "@id": f"rows/{_identifier(column.name)}",
        "name": column.name,
        "description": described,
        "dataType": _TYPES.get(column.kind, "sc:Text"),
        "source": {"fileObject": {"@id": "table"}, "extract": {"column": column.name}},
    }


def _identifier(name: str) -> str:
    """Return a name that can stand in an ``@id``; others are kept apart by their digest."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _sensitive(schema: Schema) -> list[str]:
    if not schema.sensitive:
        return ["The rows are synthetic and speak of no real person."]
    names = ", ".join(schema.sensitive)
    return [f"The rows are synthetic and speak of no real person. Sensitive attributes in them: {names}."]


def _verdict(evaluation: Evaluation) -> dict[str, Any]:
    from fairsynth.report.verdict import verdict

    judged = verdict(evaluation)
    said: dict[str, list[str]] = {}
    for table in judged.tables:
        name = f"{table.name}: " if len(judged.tables) > 1 else ""
        for answer in table.answers:
            because = " ".join(r.text for r in answer.reasons if r.level in ("poor", "caution", "good"))
            key = "rai:dataBiases" if answer.question == "fair" else "rai:dataLimitations"
            said.setdefault(key, []).append(f"{name}{answer.asked} {answer.word}. {because}".strip())
    return dict(said)


def _read(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()
