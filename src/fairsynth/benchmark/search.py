"""Searching hyper-parameters for one cell, on rows held back from the train rows; no test row is ever at hand."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsynth.benchmark.cells import Cell
from fairsynth.benchmark.plan import Objective
from fairsynth.errors import FairsynthError, MissingDependencyError, SettingsError

if TYPE_CHECKING:
    from fairsynth.data.table import Table

#: Trials drawn at random before the sampler learns from them.
RANDOM_TRIALS = 8


def search(cell: Cell, train: Table, *, threads: int = 1, journal: str | None = None) -> dict[str, Any]:
    """Find settings by Optuna's tree-structured Parzen estimator.

    Every trial fits the method on a part of the train rows and judges it on the rest, which are split off once, with
    the seed of the cell. Of the trials that keep to the bounds the one with the best objective wins; if none does, the
    one that breaks them least.

    Parameters
    ----------
    cell : Cell
        With `search`: space, trials, objective, validation.
    train : Table
        Its train rows.
    threads : int, default=1
        Of the evaluation.
    journal : str, optional
        File in which trials are kept: after a crash the same call goes on after the last of them, and finds the same as
        a search that was never ended.

    Returns
    -------
    dict
        ``settings`` (the best), ``value`` (its objective), ``bounds`` (its bounded metrics), ``feasible``, ``trials``,
        ``failed``.

    Raises
    ------
    MissingDependencyError
        If Optuna is not installed.
    SettingsError
        If every trial failed, or a metric of the objective does not exist.
    """
    optuna = _optuna()
    assert cell.search is not None
    objective = Objective.parse(cell.search["objective"])
    distributions = {name: _distribution(optuna, values) for name, values in cell.search["space"].items()}
    inner, validation = train.split(cell.search["validation"], seed=cell.seed)
    kept = Journal(Path(journal) if journal is not None else None)
    study = optuna.create_study(direction="maximize")
    best: tuple[float, dict[str, Any]] | None = None
    failed, last = 0, ""
    for number in range(cell.search["trials"]):
        # A sampler of its own for every trial: what it proposes depends on the trials before, not on interruptions.
        study.sampler = optuna.samplers.TPESampler(
            seed=zlib.crc32(f"{cell.key} {number}".encode()), n_startup_trials=RANDOM_TRIALS
        )
        trial = study.ask(distributions)
        settings = {name: _value(value, cell.search["space"][name]) for name, value in trial.params.items()}
        told = kept.find(number, settings)
        if told is None:
            told = _try(cell, settings, inner, validation, objective, threads)
            kept.add(number, settings, told)
        if told.get("error"):
            failed, last = failed + 1, told["error"]
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        score = standing(objective, told["values"])
        study.tell(trial, score)
        if best is None or score > best[0]:
            best = (score, {"settings": settings, **told})
    if best is None:
        raise SettingsError(f"all {failed} trials of the search failed, the last with: {last}")
    found = best[1]
    values = found["values"]
    return {
        "settings": found["settings"],
        "value": values[objective.metric],
        "bounds": {metric: values[metric] for metric, _, _ in objective.bounds},
        "feasible": violation(objective, values) == 0,
        "trials": cell.search["trials"],
        "failed": failed,
    }


def violation(objective: Objective, values: Mapping[str, float | None]) -> float:
    """Return by how much the bounds are broken, summed; 0 if they are kept, infinite if a metric is not defined."""
    total = 0.0
    for metric, sign, bound in objective.bounds:
        value = values[metric]
        if value is None:
            return float("inf")
        total += max(0.0, bound - value if sign == ">=" else value - bound)
    return total


def standing(objective: Objective, values: Mapping[str, float | None]) -> float:
    """Return one number by which trials are ordered: any that keeps to the bounds stands above any that does not.

    The objective enters through x / (1 + |x|), which keeps its order and lies between -1 and 1.
    """
    value = values[objective.metric]
    broken = violation(objective, values)
    if value is None or broken == float("inf"):
        return -1e9
    if broken > 0:
        return -2.0 - broken
    signed = value if objective.maximize else -value
    return signed / (1 + abs(signed))


def _try(
    cell: Cell, settings: dict[str, Any], inner: Table, validation: Table, objective: Objective, threads: int
) -> dict[str, Any]:
    from fairsynth.benchmark.methods import build

    try:
        model = build(cell.model, cell.settings | settings, cell.criterion, cell.strength, cell.seed)
        model.fit(inner)
        if cell.kind == "mitigator":
            from fairsynth.evaluation.mitigation import PREFIX, evaluate_mitigator

            source = PREFIX + "trial"
            evaluation = evaluate_mitigator(
                inner, validation, model, name="trial", seed=cell.seed, depth="quick"
            )
        else:
            from fairsynth.evaluation.evaluate import evaluate

            source = "synthetic"
            evaluation = evaluate(
                inner, validation, model.sample_table(len(inner), seed=cell.seed), models=cell.downstream,
                seed=cell.seed, depth="quick", threads=threads,
            )  # fmt: skip
    except FairsynthError as error:
        # Settings that do not work together are no end of a search; a defect of the method is.
        return {"error": f"{type(error).__name__}: {error}"}
    wanted = [objective.metric, *(metric for metric, _, _ in objective.bounds)]
    return {"values": {metric: _worst(evaluation, metric, source) for metric in wanted}}


def _worst(evaluation: Any, metric: str, source: str) -> float | None:
    """Return a metric of the whole table; of several sensitive columns the worst."""
    from fairsynth.benchmark.board import LOWER

    found = [
        s
        for s in evaluation.scores
        if s.metric == metric
        and s.source == source
        and s.model in (None, "mean")
        and s.group is None
        and s.column is None
        and s.label is None
        and (s.attribute is None or " × " not in s.attribute)
    ]
    if not found:
        names = sorted({s.metric for s in evaluation.scores if s.source == source and s.group is None})
        # Not a FairsynthError of one trial: no trial can do better.
        raise ValueError(f"the objective's {metric!r} was not measured; measured were {', '.join(names)}")
    values = [s.value for s in found]
    if any(value is None for value in values):
        return None
    return float(max(values) if metric in LOWER else min(values))


class Journal:
    """Trials that are done, one JSON line each; a last line that was cut off is as if it were not there.

    Parameters
    ----------
    path : Path or None
        None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[int, dict[str, Any]] = {}
        if path is None or not path.exists():
            return
        whole = []
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                body = json.loads(line)
                self._known[int(body["number"])] = body
            except (ValueError, KeyError, TypeError):
                break  # what follows a damaged line was made from it
            whole.append(line)
        # So that the next line does not stand behind half a one.
        path.write_text("".join(line + "\n" for line in whole), encoding="utf-8")

    def find(self, number: int, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what a trial gave, if it was made with these settings."""
        body = self._known.get(number)
        if body is None or body.get("settings") != json.loads(json.dumps(settings)):
            return None
        told: dict[str, Any] = body["told"]
        return told

    def add(self, number: int, settings: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        """Keep a trial."""
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"number": number, "settings": settings, "told": told}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError("a search needs Optuna: pip install fairsynth[search]") from error
    return optuna


def _distribution(optuna: Any, values: Any) -> Any:
    if isinstance(values, list):
        # As text, because Optuna's categories cannot be lists, such as the widths of layers.
        return optuna.distributions.CategoricalDistribution([json.dumps(value) for value in values])
    low, high, log = values["low"], values["high"], values["log"]
    if isinstance(low, int) and isinstance(high, int):
        return optuna.distributions.IntDistribution(low, high, log=log)
    return optuna.distributions.FloatDistribution(low, high, log=log)


def _value(given: Any, values: Any) -> Any:
    return json.loads(given) if isinstance(values, list) else given
