"""What an evaluation found: a flat list of scores, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from fairsynth.errors import DataError, SettingsError

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table as RichTable

Section = Literal["fairness", "table_fairness", "utility", "fidelity", "privacy", "explanation"]


class Score(BaseModel):
    """One measured number, with everything needed to read it.

    Attributes
    ----------
    section : str
        Which question it answers.
    metric : str
        The field's name in snake case: ``dpr``, ``eor``, ``auroc``, ``coverage``, ``c2st``.
    value : float or None
        The number; None when it is not defined for these rows (`note` then says why).
    source : str or None
        Which rows it speaks of: ``"synthetic"`` (trained on synthetic rows, or the synthetic
        rows themselves), ``"real"`` (trained on real rows), ``"constant"`` (the constant
        predictor), ``"holdout"`` (real rows in the place of the synthetic ones). Where several
        synthetic tables are compared, ``"synthetic:NAME"``; ``"mitigator:NAME"`` is a fair predictor
        trained on real rows.
    model : str or None
        Downstream model (``lightgbm``, ``logistic_regression``, ``random_forest``) or ``mean``
        over them.
    attribute : str or None
        Sensitive attribute, joint ones as ``"race × sex"``.
    group : str or None
        Level of the attribute, for numbers by group.
    column : str or None
        Column, for numbers by column; ``"a × b"`` for pairs.
    label : str or None
        Class of the target, for numbers by favorable class.
    low, high : float or None
        95 % interval over bootstrap samples of the people measured.
    std : float or None
        Standard deviation over seeds.
    n : int or None
        How many rows the number rests on.
    note : str or None
        What a careful reader has to know (tiny group, undefined ratio, sampled rows).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    section: Section
    metric: str
    value: float | None
    source: str | None = None
    model: str | None = None
    attribute: str | None = None
    group: str | None = None
    column: str | None = None
    label: str | None = None
    low: float | None = None
    high: float | None = None
    std: float | None = None
    n: int | None = None
    note: str | None = None


#: Metrics of the summary: name, heading, whether it speaks of an attribute, decimals.
HEADLINES: tuple[tuple[str, str, bool], ...] = (
    ("auroc", "AUROC", False),
    ("r2", "R²", False),
    ("accuracy", "Accuracy", False),
    ("balanced_accuracy", "Balanced accuracy", False),
    ("dpr", "DPR", True),
    ("eor", "EOR", True),
    ("distribution_gap", "Gap of distributions", True),
    ("coverage", "Coverage", False),
    ("c2st", "C2ST AUC", False),
    ("dcr_share", "DCR share", False),
    ("exact_copies", "Exact copies", False),
)


class Evaluation(BaseModel):
    """Everything that was measured, and how it can be measured again.

    Attributes
    ----------
    scores : list of Score
        One entry for each number; flat, so that it is a frame, a JSON file and a report alike.
    meta : dict
        Versions, seeds, SHA-256 of every table, row counts, settings, seconds, repairs, notes.
    """

    model_config = ConfigDict(extra="forbid")

    scores: list[Score] = Field(default_factory=list)
    meta: dict[str, Any] = Field(default_factory=dict)

    # The tables, predictions and models, for pictures; they are people's rows and never written.
    _artifacts: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def artifacts(self) -> dict[str, Any]:
        """What the pictures need and the JSON file must not hold.

        Returns
        -------
        dict
            ``train``, ``test`` (Table), ``synthetic`` (dict of source to Table), ``predictions`` (source →
            model → array over test people), ``models`` (source → model → FittedModel). Empty after
            :meth:`from_json`.
        """
        return self._artifacts

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources in the order in which they were scored."""
        return tuple(dict.fromkeys(s.source for s in self.scores if s.source is not None))

    def scores_for(self, **filters: Any) -> list[Score]:
        """Return the scores whose fields equal the given values.

        Parameters
        ----------
        **filters
            Fields of :class:`Score`, such as ``metric="tpr", attribute="sex"``; None matches scores that
            leave the field out.

        Raises
        ------
        SettingsError
            If a filter is not a field of a score.
        """
        unknown = sorted(set(filters) - set(Score.model_fields))
        if unknown:
            raise SettingsError(
                f"{unknown[0]!r} is not a field of a score; filter by {', '.join(Score.model_fields)}."
            )
        return [s for s in self.scores if all(getattr(s, k) == v for k, v in filters.items())]

    def score(
        self,
        metric: str,
        source: str = "synthetic",
        model: str | None = "mean",
        attribute: str | None = None,
        **filters: Any,
    ) -> Score:
        """Return one headline score.

        Parameters
        ----------
        metric : str
            Name, such as ``"dpr"``.
        source : str, default="synthetic"
            Whose number; with one named synthetic table ``"synthetic"`` means that one.
        model : str or None, default="mean"
            Downstream model; ignored for numbers that no model has part in.
        attribute : str, optional
            Sensitive attribute; by default the first one named in the schema, where the metric has one.
        **filters
            Further fields, such as ``group``, ``column`` or ``label``; left out they have to be None.

        Raises
        ------
        SettingsError
            If nothing, or more than one thing, was measured under that name.
        """
        fields = {"group": None, "column": None, "label": None, **filters}
        found = self.scores_for(metric=metric, **fields)
        if not found:
            names = sorted({s.metric for s in self.scores})
            raise SettingsError(
                f"{metric!r} was not measured with {filters}; measured were {', '.join(names)}."
            )
        named = [s for s in self.sources if s.startswith("synthetic:")]
        if source == "synthetic" and "synthetic" not in self.sources and len(named) == 1:
            source = named[0]
        found = [s for s in found if s.source == source]
        if any(s.model is not None for s in found):
            found = [s for s in found if s.model == model]
        if attribute is None and not any(s.attribute is None for s in found):
            first = list(self.meta.get("sensitive", ())) or [s.attribute for s in found]
            attribute = first[0] if first else None
        found = [s for s in found if s.attribute == attribute]
        if len(found) != 1:
            raise SettingsError(
                f"{len(found)} scores match metric={metric!r}, source={source!r}, model={model!r}, "
                f"attribute={attribute!r}; sources are {', '.join(self.sources)}."
            )
        return found[0]

    def value(
        self,
        metric: str,
        source: str = "synthetic",
        model: str | None = "mean",
        attribute: str | None = None,
        **filters: Any,
    ) -> float | None:
        """Return the number of :meth:`score`; None where it is not defined (the score's note says why)."""
        return self.score(metric, source, model, attribute, **filters).value

    def to_frame(self) -> pl.DataFrame:
        """Return all scores as a Polars frame, one row each, columns as in :class:`Score`."""
        import polars as pl

        schema = {
            name: pl.Float64
            if name in ("value", "low", "high", "std")
            else pl.Int64
            if name == "n"
            else pl.String
            for name in Score.model_fields
        }
        return pl.DataFrame([s.model_dump() for s in self.scores], schema=schema)

    def to_json(self, path: str | Path | None = None, *, indent: int | None = 1) -> str:
        """Return the evaluation as JSON text, and write it to `path` if one is given.

        Fields of a score that are None are left out, except its value.
        """
        scores = [{"value": s.value, **s.model_dump(mode="json", exclude_none=True)} for s in self.scores]
        text = json.dumps(
            {"scores": scores, "meta": self.model_dump(mode="json")["meta"]},
            indent=indent,
            ensure_ascii=False,
            allow_nan=False,
        )
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | Path) -> Evaluation:
        """Read JSON text, or a file of it when a `Path` is given.

        Raises
        ------
        DataError
            If it is not an evaluation.
        """
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the text"
            raise DataError(
                f"This is not the JSON of an evaluation: {place}: {first['msg']}. "
                "Give what Evaluation.to_json() wrote."
            ) from error

    def to_html(self, path: str | Path) -> Path:
        """Write the report, one HTML file that needs no network.

        Parameters
        ----------
        path : str or Path
            File to write.
        """
        from fairsynth.report import write_html

        tables = self._artifacts
        write_html(self, path, tables.get("train"), tables.get("test"), tables.get("synthetic"))
        return Path(path)

    def summary(self) -> RichTable:
        """Return the headline numbers as a Rich table: synthetic beside real, hold-out and constant."""
        from rich.table import Table as RichTable

        table = RichTable(title=str(self.meta.get("title", "Evaluation on real test people")))
        table.add_column("")
        synthetic = [s for s in self.sources if s.startswith(("synthetic", "mitigator:"))]
        sources = synthetic + [s for s in ("real", "holdout", "constant") if s in self.sources]
        heads = {"real": "real train", "holdout": "real hold-out", "constant": "constant"}
        for source in sources:
            name = source.removeprefix("synthetic:").removeprefix("mitigator:")
            table.add_column(heads.get(source, name), justify="right")
        for heading, scores in self._summary_rows(sources):
            table.add_row(heading, *(_shown(s) for s in scores))
        return table

    def _summary_rows(self, sources: list[str]) -> Iterator[tuple[str, list[Score | None]]]:
        sensitive = list(self.meta.get("sensitive", ()))
        joint = [" × ".join(sensitive)] if len(sensitive) > 1 else []
        for metric, heading, by_attribute in HEADLINES:
            for attribute in (sensitive + joint) if by_attribute else [None]:
                row = [self._find(metric, source, attribute) for source in sources]
                if any(s is not None for s in row):
                    yield (f"{heading}, {attribute}" if attribute else heading), row

    def _find(self, metric: str, source: str, attribute: str | None) -> Score | None:
        try:
            return self.score(metric, source, attribute=attribute)
        except SettingsError:
            return None


def _shown(score: Score | None) -> str:
    if score is None:
        return ""
    if score.value is None:
        return "undefined"
    text = f"{score.value:.3f}"
    return f"{text} ± {score.std:.3f}" if score.std is not None else text
