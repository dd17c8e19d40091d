"""Looking up scores: the one place of the report that knows how the flat list is searched."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fairsynth.evaluation.result import Score
from fairsynth.report.glossary import canonical

if TYPE_CHECKING:
    from fairsynth.evaluation.result import Evaluation

SYNTHETIC = "synthetic"
#: Order in which the sources stand beside each other, after the synthetic ones.
BASELINES: tuple[str, ...] = ("real", "holdout", "constant")
_ANY: Any = object()


def is_synthetic(source: str | None) -> bool:
    """Say whether a source is a synthetic table (``"synthetic"`` or ``"synthetic:NAME"``)."""
    return source is not None and (source == SYNTHETIC or source.startswith(SYNTHETIC + ":"))


def source_label(source: str | None) -> str:
    """Return a source in words a reader knows."""
    if source is None:
        return "Value"
    if source.startswith(SYNTHETIC + ":"):
        return source.split(":", 1)[1]
    return {
        SYNTHETIC: "Synthetic table",
        "real": "Real data",
        "holdout": "Real hold-out rows",
        "constant": "Constant predictor",
    }.get(source, source.replace("_", " ").capitalize())


class Findings:
    """An evaluation, indexed.

    Parameters
    ----------
    evaluation : Evaluation
        Anything with ``scores`` (list of `Score`) and ``meta`` (dict).
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self.scores: list[Score] = list(evaluation.scores)
        self.meta: Mapping[str, Any] = dict(evaluation.meta)
        self._by_metric: dict[str, list[Score]] = {}
        self._index(self.scores)

    def add(self, scores: Iterable[Score]) -> None:
        """Take further scores into account, such as those of an explanation."""
        new = list(scores)
        self.scores += new
        self._index(new)

    def _index(self, scores: Iterable[Score]) -> None:
        for score in scores:
            self._by_metric.setdefault(canonical(score.metric), []).append(score)

    # ------------------------------------------------------------------ what is there
    @property
    def synthetic_sources(self) -> list[str]:
        """Synthetic tables in the order of their first score."""
        return list(dict.fromkeys(s.source for s in self.scores if s.source and is_synthetic(s.source)))

    @property
    def sources(self) -> list[str]:
        """All sources: synthetic tables first, then the baselines, then whatever else was scored."""
        seen = list(dict.fromkeys(s.source for s in self.scores if s.source is not None))
        synthetic = [s for s in seen if is_synthetic(s)]
        rest = [s for s in seen if s not in synthetic and s not in BASELINES]
        return synthetic + [s for s in BASELINES if s in seen] + rest

    @property
    def attributes(self) -> list[str]:
        """Sensitive attributes that were measured, single ones first."""
        seen = dict.fromkeys(s.attribute for s in self.scores if s.attribute)
        for name in self._declared_sensitive():
            seen.setdefault(name, None)
        return sorted(seen, key=lambda name: " × " in name)

    @property
    def single_attributes(self) -> list[str]:
        """Sensitive attributes that are one column each."""
        return [a for a in self.attributes if " × " not in a]

    @property
    def main_attribute(self) -> str | None:
        """The first sensitive column that was named, or the first that was measured."""
        declared = [a for a in self._declared_sensitive() if a in self.attributes]
        return next(iter(declared or self.attributes), None)

    def _declared_sensitive(self) -> list[str]:
        given = self.meta.get("sensitive") or ()
        return [given] if isinstance(given, str) else [str(g) for g in given]

    @property
    def wanted(self) -> Mapping[str, Any]:
        """The fairness that was asked for, ``criterion`` and ``strength``, wherever meta says it."""
        generator = self.meta.get("generator")
        places = [self.meta.get("fairness"), self.meta, generator]
        if isinstance(generator, Mapping):
            places.append(generator.get("fairness"))
        for place in places:
            if isinstance(place, Mapping) and place.get("criterion"):
                return {"criterion": place["criterion"], "strength": place.get("strength")}
        return {}

    @property
    def models(self) -> list[str]:
        """Downstream models, ``mean`` first."""
        seen = list(dict.fromkeys(s.model for s in self.scores if s.model))
        return sorted(seen, key=lambda m: m != "mean")

    # ------------------------------------------------------------------ search
    def select(
        self,
        metric: str | None = None,
        *,
        section: Any = _ANY,
        source: Any = _ANY,
        model: Any = _ANY,
        attribute: Any = _ANY,
        group: Any = _ANY,
        column: Any = _ANY,
        label: Any = _ANY,
    ) -> list[Score]:
        """Return the scores that match; an argument left out matches everything, None matches None."""
        pool: Iterable[Score]
        pool = self.scores if metric is None else self._by_metric.get(canonical(metric), [])
        wanted = {
            "section": section,
            "source": source,
            "model": model,
            "attribute": attribute,
            "group": group,
            "column": column,
            "label": label,
        }
        given = {name: value for name, value in wanted.items() if value is not _ANY}
        return [s for s in pool if all(getattr(s, name) == value for name, value in given.items())]

    def get(
        self,
        metric: str,
        source: str | None,
        *,
        attribute: str | None = None,
        group: str | None = None,
        column: str | None = None,
        label: str | None = None,
    ) -> Score | None:
        """Return the headline score: the mean over models where there is one, else the only one.

        Returns
        -------
        Score or None
            None when nothing was measured, or when several models were and none is the mean.
        """
        found = self.select(
            metric, source=source, attribute=attribute, group=group, column=column, label=label
        )
        for model in ("mean", None):
            chosen = [s for s in found if s.model == model]
            if chosen:
                return chosen[0]
        return found[0] if len(found) == 1 else None

    def value(self, metric: str, source: str | None, **where: str | None) -> float | None:
        """Return the number of `get`, None when it is missing or not finite."""
        score = self.get(metric, source, **where)
        if score is None or score.value is None or not math.isfinite(score.value):
            return None
        return score.value
