"""Metrics of other packages: one function each, found by its entry point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from fairsynth.errors import SettingsError

if TYPE_CHECKING:
    from fairsynth.data.table import Table
    from fairsynth.evaluation.result import Evaluation, Score

#: Other packages add metrics under this entry point group.
ENTRY_POINTS = "fairsynth.metrics"


@dataclass(frozen=True)
class Judged:
    """What a metric is given.

    Attributes
    ----------
    train, test : Table
        Real rows that were learned from, and rows that nothing has seen.
    synthetic : Table or None
        The synthetic rows; None for a mitigator, which makes none. For the row of real data they are the train rows.
    evaluation : Evaluation
        All other scores. ``evaluation.artifacts["predictions"][source][model]`` holds predicted class probabilities of
        the test people.
    source : str
        The source that is judged, such as ``"synthetic"`` or ``"mitigator:reweighing"``.
    """

    train: Table
    test: Table
    synthetic: Table | None
    evaluation: Evaluation
    source: str


#: Takes a `Judged`; gives one number, None where it is undefined, or numbers by sensitive attribute.
Metric = Callable[[Judged], "float | Mapping[str, float | None] | None"]


def list_metrics() -> tuple[str, ...]:
    """Return the names of the metrics that other installed packages bring."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINTS)}))


def get_metric(name: str) -> Metric:
    """Return a metric of another package.

    Raises
    ------
    SettingsError
        If there is none of that name, or it cannot be imported.
    """
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            try:
                found: Metric = point.load()
            except Exception as error:  # anything at all may be wrong with another package
                raise SettingsError(
                    f"the metric {name!r} cannot be imported: {type(error).__name__}: {error}"
                ) from error
            if not callable(found):
                raise SettingsError(f"the entry point {name!r} of {ENTRY_POINTS} is no function")
            return found
    told = ", ".join(list_metrics()) or "none"
    raise SettingsError(
        f"there is no metric {name!r} of another package; installed are {told} (those of fairsynth are measured anyway)"
    )


def higher_is_better(name: str) -> bool:
    """Say what the function's attribute ``higher_is_better`` says; true if it has none."""
    return bool(getattr(get_metric(name), "higher_is_better", True))


def measure(name: str, judged: Judged) -> list[Score]:
    """Return the scores that a metric gives.

    Raises
    ------
    SettingsError
        If it gives anything but numbers.
    """
    from fairsynth.evaluation.result import Score

    metric = get_metric(name)
    given = metric(judged)
    section: Any = getattr(metric, "section", "utility")
    found = given if isinstance(given, Mapping) else {None: given}
    scores = []
    for attribute, value in found.items():
        if value is not None and (isinstance(value, bool | str) or not _is_number(value)):
            raise SettingsError(f"the metric {name!r} gave {value!r}; a number, or None, is needed.")
        number = None if value is None or not math.isfinite(value) else float(value)
        note = "not defined for these rows" if number is None else None
        scores.append(
            Score(
                section=section,
                metric=name,
                value=number,
                source=judged.source,
                attribute=attribute,
                note=note,
            )
        )
    return scores


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
