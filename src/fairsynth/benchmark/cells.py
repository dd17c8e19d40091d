"""Cells: one data set, one method with its settings, one seed; known by what decides their numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from fairsynth.benchmark.methods import Method, code_version, method_class, space_of
from fairsynth.benchmark.plan import BASELINE, Limits, Model, Plan

#: Part of every key: raise it when the meaning of a cell's file changes.
FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One thing to be measured.

    Attributes
    ----------
    dataset, label : str
        How the plan calls the data set and the method; no part of the key.
    data : str
        Digest of train rows, test rows and schema.
    model, kind : str
        Name of the method, and ``"generator"``, ``"mitigator"`` or ``"baseline"``.
    settings : dict
        Hyper-parameters as of the plan.
    criterion, strength
        What is asked for; None where the method has no such notion.
    seed, depth, downstream, metrics
        As of the plan.
    search : dict or None
        Space, trials, objective and share of validation rows, if hyper-parameters are searched.
    code : str
        As of `fairsynth.benchmark.methods.code_version`.
    limits : dict
        Of the plan; no part of the key.
    """

    dataset: str
    label: str
    data: str
    model: str
    kind: str
    settings: dict[str, Any]
    criterion: str | None
    strength: float | None
    seed: int
    depth: str
    downstream: tuple[str, ...]
    metrics: tuple[str, ...]
    search: dict[str, Any] | None
    code: str
    limits: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """SHA-256 of all that decides the numbers, 64 hexadecimal digits."""
        named = ("dataset", "label", "limits")
        body = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in named} | {
            "format": FORMAT
        }
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Cell:
        """Read what `to_dict` gave."""
        return cls(**{**given, "downstream": tuple(given["downstream"]), "metrics": tuple(given["metrics"])})

    @property
    def title(self) -> str:
        """What a person calls it."""
        asked = "" if self.criterion is None else f" {self.criterion} {self.strength:g}"
        return f"{self.dataset} · {self.label}{asked} · seed {self.seed}"


def expand(
    plan: Plan, methods: Mapping[str, Method], data: Mapping[str, str]
) -> tuple[list[Cell], list[str]]:
    """Lay out the cells of a plan.

    Parameters
    ----------
    plan : Plan
        What is wanted.
    methods : mapping
        Name → what is known of the method.
    data : mapping
        Name of the data set → digest.

    Returns
    -------
    cells : list of Cell
        Seed by seed, so that a run that is ended early has whole seeds; the baseline first.
    remarks : list of str
        What was left out, and why.
    """
    cells: list[Cell] = []
    remarks: list[str] = []
    asked = [(model, _asked(plan, model, methods[model.name], remarks)) for model in plan.models]
    for seed in plan.seeds:
        for dataset in plan.datasets:
            shared: dict[str, Any] = {
                "dataset": dataset.name,
                "data": data[dataset.name],
                "seed": seed,
                "depth": plan.depth,
                "downstream": tuple(plan.downstream),
                "metrics": tuple(plan.metrics),
            }
            base = plan.limits.model_dump()
            code = code_version(tuple(plan.metrics))
            cells.append(
                Cell(
                    label="real data", model=BASELINE, kind="baseline", settings={}, criterion=None, strength=None,
                    search=None, code=code, limits=base, **shared,
                )
            )  # fmt: skip
            for model, wishes in asked:
                search = _search(plan, model)
                code = code_version((model.name, *plan.metrics))
                limits = model.limits.over(plan.limits).model_dump()
                for criterion, strength in wishes:
                    cells.append(
                        Cell(
                            label=model.title, model=model.name, kind=methods[model.name].kind,
                            settings=model.settings, criterion=criterion, strength=strength, search=search,
                            code=code, limits=limits, **shared,
                        )
                    )  # fmt: skip
    return cells, list(dict.fromkeys(remarks))


def _asked(
    plan: Plan, model: Model, method: Method, remarks: list[str]
) -> list[tuple[str | None, float | None]]:
    if not method.criteria:
        return [(None, None)]
    criteria = [c for c in model.criteria or plan.criteria if c in method.criteria]
    left = [c for c in plan.criteria if c not in method.criteria] if model.criteria is None else []
    for criterion in left:
        remarks.append(f"{model.title} cannot be asked for {criterion}, so those cells are left out.")
    strengths = model.strengths or plan.strengths
    if not method.dial:
        # On or off: what lies between would be the same cell under another name.
        if between := [s for s in strengths if 0 < s < 1]:
            told = ", ".join(f"{s:g}" for s in between)
            remarks.append(f"{model.title} is on or off and has no dial; strength {told} is left out.")
        strengths = [s for s in strengths if s in (0, 1)]
    return [(criterion, float(strength)) for criterion in criteria for strength in strengths]


def _search(plan: Plan, model: Model) -> dict[str, Any] | None:
    if model.search is False:
        return None
    _, found = method_class(model.name)
    return {"space": space_of(model, found), **plan.search.model_dump()}


def exceeds(limits: Limits, recorded: Mapping[str, Any], reason: str) -> bool:
    """Say whether a cell that was ended for `reason` under recorded limits is allowed more now.

    Parameters
    ----------
    limits : Limits
        Of now.
    recorded : mapping
        Limits that it ran under.
    reason : {"time", "memory"}
        Which of them ended it.
    """
    name = "seconds" if reason == "time" else "memory_gb"
    now, then = getattr(limits, name), recorded.get(name)
    return then is not None and (now is None or now > then)
