"""The model file: one zip of JSON and safetensors, read as if an enemy had written it.

Layout, in this order, every member stored without compression and with the same date::

    manifest.json            {"format", "version", "made_by", "members": {name: {bytes, sha256}}, "content"}
    documents/<name>.json    schema, settings and whatever else is text
    tensors.safetensors      weights

and as the archive's comment the SHA-256 of ``manifest.json``. The same content always gives the
same bytes, so a reader can write down what the file must look like and compare: whatever is not
exactly a model file of this format is refused, before anything in it is used. There is no pickle,
nothing is unpacked to disk, and no number that the file states is believed before it has been
held against the true size of the file.

A checksum guards against accidents and tampering in part, not against somebody who makes a whole
new file: the content of a model file is data, and what reads it (`Bundle.guard`) treats it so.
"""

from __future__ import annotations

from fairsynth.bundle.limits import FORMAT, VERSION
from fairsynth.bundle.model_file import Bundle, Member, expect, read, write

__all__ = ["FORMAT", "VERSION", "Bundle", "Member", "expect", "read", "write"]
