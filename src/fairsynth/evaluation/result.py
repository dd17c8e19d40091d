"""What an evaluation found: a flat list of scores, and where they come from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
        predictor), ``"holdout"`` (real rows in the place of the synthetic ones).
    model : str or None
        Downstream model (``lightgbm``, ``logistic_regression``, ``random_forest``) or ``mean``
        over them.
    attribute : str or None
        Sensitive attribute, joint ones as ``"race × sex"``.
    group : str or None
        Level of the attribute, for numbers by group.
    column : str or None
        Column, for numbers by column; ``"a × b"`` for pairs.
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
    low: float | None = None
    high: float | None = None
    std: float | None = None
    n: int | None = None
    note: str | None = None
