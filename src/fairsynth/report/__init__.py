"""The report: one self-contained HTML page, and the documents that go beside a released table."""

from __future__ import annotations

from fairsynth.report.html import render_html, write_html
from fairsynth.report.verdict import Verdict, verdict

__all__ = ["Verdict", "render_html", "verdict", "write_html"]
