"""The report: one self-contained HTML page, and the documents that go beside a released table."""

from __future__ import annotations
