"""Writing the page: one HTML file that holds everything and asks the network for nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairsynth.errors import SettingsError
from fairsynth.files import write_text
from fairsynth.report import page, pictures
from fairsynth.report.findings import SYNTHETIC, Findings, is_synthetic, source_label
from fairsynth.report.glossary import entries
from fairsynth.report.page import Block, Section
from fairsynth.report.pictures import Tables
from fairsynth.report.provenance import asked, repeat, shortfalls
from fairsynth.report.verdict import BANDS, OTHER_RULES, Verdict, verdict

if TYPE_CHECKING:
    from fairsynth.data.table import Table
    from fairsynth.evaluation.result import Evaluation
    from fairsynth.explain import Explanation

PROJECTIONS: tuple[str, ...] = ("pca", "tsne")
SHAP_MODEL = "lightgbm"


def write_html(
    evaluation: Evaluation,
    path: str | os.PathLike[str],
    train: Any = None,
    test: Any = None,
    synthetic: Any = None,
    *,
    projections: Iterable[str] = PROJECTIONS,
    title: str | None = None,
    seed: int = 0,
) -> Path:
    """Write the report of an evaluation as one HTML file.

    The file needs no network and asks for none (its content security policy forbids it), can be read
    before its pictures are drawn and without scripts at all, and holds no real row. It is written whole
    or not at all.

    Parameters
    ----------
    evaluation : Evaluation
        What was measured.
    path : str or path-like
        Where the page is to be.
    train, test : Table, frame or path, optional
        Real rows, for the pictures that need rows; by default those the evaluation still holds. Without
        them the page has the pictures that numbers alone give.
    synthetic : Table, frame, path, or mapping of name to one of these, optional
        Synthetic rows; a mapping for several tables, by name or by source ``"synthetic:NAME"``.
    projections : iterable of {"pca", "tsne", "umap"}, default=("pca", "tsne")
        Pictures of all columns at once.
    title : str, optional
        Heading of the page; ``meta["title"]`` by default.
    seed : int, default=0
        Of the rows sampled for pictures.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    OSError
        If the file cannot be written.
    SettingsError
        If a projection is not known, or rows are given without `train` as a `Table`.
    """
    text = render_html(evaluation, train, test, synthetic, projections=projections, title=title, seed=seed)
    write_text(path, text)
    return Path(path)


def render_html(
    evaluation: Evaluation,
    train: Any = None,
    test: Any = None,
    synthetic: Any = None,
    *,
    projections: Iterable[str] = PROJECTIONS,
    title: str | None = None,
    seed: int = 0,
) -> str:
    """Return the page that `write_html` writes, as text."""
    import jinja2

    methods = tuple(projections)
    for method in methods:
        if method not in pictures.METHODS:
            raise SettingsError(f"projections={method!r} is not known; choose pca, tsne or umap.")
    found = Findings(evaluation)
    judged = verdict(found)
    tables = _tables(evaluation, train, test, synthetic, seed)
    explanation = _explanation(found, tables)
    sections = _sections(found, judged, tables, methods, explanation)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groupby_run"] = _runs
    script, plotly = _resource("report.js"), plotly_source()
    drawn = any(b.pictures for s in sections for b in s.blocks)
    return environment.get_template("report.html.j2").render(
        title=title
        or str(found.meta.get("title") or "Is this synthetic table fair, useful, faithful, private?"),
        verdict=judged,
        glance=page.at_a_glance(found, judged.criterion),
        plane=pictures.plane(found, judged.criterion),
        asked=asked(found, judged),
        sections=sections,
        shortfalls=shortfalls(found, judged),
        repeat=repeat(found),
        bands=BANDS,
        other_rules=OTHER_RULES,
        glossary=_used(found),
        css=_resource("report.css"),
        script=script,
        plotly=_packed(plotly) if drawn else "",
        policy=_policy(script, plotly),
    )


# ---------------------------------------------------------------------- contents
def _sections(
    found: Findings,
    judged: Verdict,
    tables: Tables,
    methods: tuple[str, ...],
    explanation: Explanation | None,
) -> list[Section]:
    fair = page.fairness_section(found)
    for attribute in found.attributes:
        drawn = pictures.fairness(found, attribute)
        named = [b for b in fair.blocks if b.title == f"By {attribute}" and not b.folded]
        if named:
            named[0].pictures += drawn
    fair.blocks = [b for b in fair.blocks if b]
    honest = pictures.reliability(tables, found)
    if honest:
        fair.blocks.append(Block("Are the stated probabilities honest?", pictures=honest))
    useful = page.plain_section(
        found,
        "utility",
        "useful",
        "Usefulness",
        "How well models do on real test people when they learned from the synthetic rows, from the real "
        "rows, or from nothing (the constant predictor, which gives everybody the same answer).",
    )
    faithful = page.plain_section(
        found,
        "fidelity",
        "faithful",
        "Likeness to the real rows",
        "How far the synthetic rows look like real ones. Ideal values are not always 1 or 0, so real "
        "hold-out rows, put in the place of the synthetic ones, stand beside.",
    )
    faithful.blocks += page.giveaways(found, tables.cell)
    rows = f"Drawn from at most {pictures.PICTURE_ROWS:,} rows of each table."
    columns = pictures.marginals(tables, found)
    if columns:
        few = Block(
            "Every column, real and synthetic", f"The least faithful come first. {rows}", pictures=columns[:8]
        )
        rest = Block("The other columns", pictures=columns[8:], folded=True)
        faithful.blocks += [few, *([rest] if rest else [])]
    pairs = pictures.associations(tables)
    if pairs:
        faithful.blocks.append(Block("Pairs of columns", rows, pictures=pairs))
    for method in methods:
        drawn = pictures.planes(tables, method)
        if drawn:
            name = {
                "pca": "All columns at once",
                "tsne": "Neighborhoods (t-SNE)",
                "umap": "Neighborhoods (UMAP)",
            }
            n = pictures.plane_rows(method, len(tables.synthetic))
            sampled = f"Drawn from at most {n:,} rows of each table."
            faithful.blocks.append(Block(name[method], sampled, pictures=drawn, folded=method != "pca"))
    private = page.plain_section(
        found,
        "privacy",
        "private",
        "Privacy",
        "What the synthetic rows give away about the people whom the generator learned from. Rows that it "
        "never saw show what is chance.",
    )
    near = pictures.distances(tables)
    if near:
        private.blocks.append(Block("How near do synthetic rows come to real ones?", pictures=near))
    for section in (fair, useful, faithful, private):
        section.answers = [(t.name, t.answer(section.id)) for t in judged.tables]  # type: ignore[arg-type]
    sections = [fair, useful, faithful, private, _explained(found, explanation)]
    return [s for s in sections if s.blocks or s.answers]


def _explained(found: Findings, explanation: Explanation | None) -> Section:
    section = page.plain_section(
        found,
        "explanation",
        "explanation",
        "What drives decisions",
        "Does the sensitive attribute, or a column that stands in for it, still drive decisions?",
    )
    drawn = pictures.explained(found)
    if drawn:
        from fairsynth.report.rules import driven

        lines = [line for source in found.synthetic_sources for line in driven(found, source)]
        section.blocks.insert(0, Block(lines=lines, pictures=drawn))
    if explanation is not None:
        for source in found.synthetic_sources:
            near = _close_calls(explanation, source)
            if near:
                words = "Rows of the synthetic table, explained: real people are not shown. "
                words += "Both are close to the line between the two decisions."
                title = f"Single decisions, by a model trained on: {source_label(source)}"
                block = Block(title, words, pictures=pictures.persons(explanation, source, near))
                section.blocks.append(block)
    return section


def _close_calls(explanation: Explanation, source: str) -> dict[str, int]:
    """Find the row that narrowly got the favorable decision, and the one that narrowly did not."""
    score = explanation.base[source] + explanation.contributions[source].sum(axis=1)
    rows: dict[str, int] = {}
    above, below = np.flatnonzero(score > 0), np.flatnonzero(score <= 0)
    if len(above):
        rows["Narrowly favored"] = int(above[np.argmin(score[above])])
    if len(below):
        rows["Narrowly not favored"] = int(below[np.argmax(score[below])])
    return rows


def _explanation(found: Findings, tables: Tables) -> Explanation | None:
    """Explain synthetic rows, by the models that the evaluation trained; add scores when it has none.

    Models are looked up, not trained: a page is written in seconds.
    """
    if tables.train is None or tables.test is None or not tables.synthetic:
        return None
    models = {s: of[SHAP_MODEL] for s, of in tables.models.items() if SHAP_MODEL in of}
    if not {"real", *tables.synthetic} <= set(models):
        return None
    from fairsynth.evaluation.downstream import Task
    from fairsynth.explain import shap_importance

    if not found.select(section="explanation"):
        explained = shap_importance(
            tables.train, tables.test, tables.synthetic, models=models, seed=tables.seed, max_people=1000
        )
        found.add(explained.to_scores())
    if Task.of(tables.train.schema).kind != "binary":
        return None
    people = next(iter(tables.synthetic.values()))
    return shap_importance(
        tables.train, people, tables.synthetic, models=models, seed=tables.seed, max_people=300
    )


def _runs(columns: Iterable[page.Column]) -> list[dict[str, Any]]:
    """Join neighboring columns under the heading they share."""
    joined: list[dict[str, Any]] = []
    for column in columns:
        if joined and joined[-1]["over"] == column.over:
            joined[-1]["span"] += 1
        else:
            joined.append({"over": column.over, "span": 1})
    return joined


def _used(found: Findings) -> list[Any]:
    return [e for e in entries() if found.select(e.metric)]


# ---------------------------------------------------------------------- rows
def _tables(evaluation: Evaluation, train: Any, test: Any, synthetic: Any, seed: int) -> Tables:
    from fairsynth.data.table import Table

    held = evaluation.artifacts
    train = held.get("train") if train is None else train
    test = held.get("test") if test is None else test
    synthetic = held.get("synthetic") if synthetic is None else synthetic
    if train is None:
        if test is not None or synthetic is not None:
            raise SettingsError("Rows for pictures need train, the real table whose schema all others share.")
        return Tables(seed=seed)
    if not isinstance(train, Table):
        raise SettingsError(
            f"train is a {type(train).__name__}; give a fairsynth Table, which says what its columns mean."
        )

    def read(data: Any) -> Table:
        return data if isinstance(data, Table) else train.align(data)

    named: dict[str, Table] = {}
    if isinstance(synthetic, Mapping):
        for name, data in synthetic.items():
            source = name if is_synthetic(name) else f"{SYNTHETIC}:{name}"
            named[source] = read(data)
    elif synthetic is not None:
        sources = [s for s in dict.fromkeys(s.source for s in evaluation.scores) if is_synthetic(s)]
        named[sources[0] if len(sources) == 1 and sources[0] else SYNTHETIC] = read(synthetic)
    return Tables(
        train,
        None if test is None else read(test),
        named,
        held.get("predictions") or {},
        held.get("models") or {},
        seed,
    )


# ---------------------------------------------------------------------- the file
def _resource(name: str) -> str:
    return files("fairsynth.report").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


@cache
def plotly_source() -> str:
    """Return plotly.js as the installed Plotly package ships it."""
    from plotly.offline import get_plotlyjs

    text: str = get_plotlyjs()
    return text


@cache
def _packed(text: str) -> str:
    """Compress a script to a third, as text; the page unpacks it after its words are shown."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def _policy(*scripts: str) -> str:
    """Allow exactly these scripts, styles and pictures of the page itself, and no connection at all."""
    digests = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{d}'" for d in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
