"""What a person means by ``where={"age": 30}``: one value of one column, read with the schema."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from fairsynth.data.canonical import level_text
from fairsynth.data.encoding import TableEncoder
from fairsynth.data.level_states import MAX_LEVELS, LevelStates
from fairsynth.data.number_states import NumberStates
from fairsynth.data.schema import Column, Schema, grid_step
from fairsynth.data.zones import days_in_zone, of_clock
from fairsynth.errors import CapabilityError, DataError


def canonical_value(value: Any, schema: Schema, name: str, *, what: str = "where") -> Any:
    """Return the canonical value that `where` means for a column.

    Parameters
    ----------
    value : object
        A level or its text, a number or its text, a moment or its text in ISO 8601; None or the missing marker.
    schema : Schema
        What was learned.
    name : str
        The column.
    what : str
        Named by errors: the argument that the value came in.

    Returns
    -------
    str, float or None
        A level's text, a number (microseconds since 1970 for moments), or None for missing.

    Raises
    ------
    SchemaError
        If there is no such column.
    DataError
        If the column cannot take this value.
    """
    column = schema[name]
    if column.kind == "identifier":
        raise DataError(f"{what}: {name!r} is an identifier, which is never learned.")
    if _is_missing(value) or (isinstance(value, str) and value == column.missing_marker):
        if not column.has_missing:
            raise DataError(f"{what}: no value of {name!r} was missing, so missing cannot be asked for.")
        return None
    if column.kind in ("categorical", "boolean"):
        text = str(value) if isinstance(value, str | bool) else level_text(value)
        if column.kind == "boolean":
            text = text.capitalize()
        if text not in column.group_names():
            shown = ", ".join(column.group_names()[:20])
            raise DataError(f"{what}: {value!r} is not a level of {name!r}; its levels are {shown}.")
        return text
    try:
        number = _microseconds(value, column) if column.kind == "datetime" else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{what}: {value!r} is no value for {name!r}, which is {column.kind}.") from error
    low, high = column.bounds
    if not low <= number <= high:
        raise DataError(f"{what}: {name}={value} is outside the range that was learned ({column.summary()}).")
    if column.kind == "integer" and number != int(number):
        raise DataError(f"{what}: {name}={value}, and {name!r} holds integers.")
    if column.decimals is not None and number != round(number, column.decimals):
        raise DataError(f"{what}: {name}={value}, and {name!r} holds numbers of {column.decimals} decimals.")
    if column.kind == "datetime" and number % grid_step(column):
        raise DataError(f"{what}: {name}={value}, and {name!r} holds whole {column.unit}s.")
    return number


def _is_missing(value: Any) -> bool:
    # pandas' own missing values are neither None nor equal to anything, themselves included.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _microseconds(value: Any, column: Column) -> float:
    """Return a moment as microseconds since 1970, as its column has them.

    Text is ISO 8601. Without a zone it is what clocks of the column's zone say, which is UTC if there is none.
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if not isinstance(value, date):
        raise TypeError(f"{value!r} is no moment")
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    named = value.tzinfo is not None
    since = value if named else value.replace(tzinfo=UTC)
    moment = (since - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if named and column.day_zone is not None:
        return float(
            days_in_zone(pl.Series([moment]).cast(pl.Datetime("us")), column.day_zone).to_physical()[0]
        )
    return float(moment if named else of_clock(np.array([moment]), column.clock)[0])


def wanted_states(states: LevelStates | NumberStates, value: Any, column: Any) -> np.ndarray:
    """Return which states of a column a value may come from, bool ``(size,)``."""
    wanted = np.zeros(states.size, dtype=bool)
    if value is None:
        if not states.missing:
            raise CapabilityError(
                f"where: no value of {states.name!r} was missing, so missing cannot be asked for."
            )
        wanted[-1] = True
    elif isinstance(states, LevelStates):
        wanted[states._state_of_level[column.group_names().index(value)]] = True
    elif states.since is not None:
        raise CapabilityError(
            f"where: {states.name!r} is drawn as the time since {states.since!r}, so no moment of it can be asked for; "
            f"ask for one of {states.since!r}, or draw rows and keep those you want."
        )
    else:
        wanted[states.states_of(np.array([value]))[0]] = True
    return wanted


def shares_state(states: LevelStates | NumberStates, value: Any, column: Any) -> bool:
    """Whether a level shares its state with others."""
    if not isinstance(states, LevelStates) or not states.order or value is None:
        return False
    return int(states._state_of_level[column.group_names().index(value)]) >= MAX_LEVELS


def decoded(
    encoder: TableEncoder,
    lines: np.ndarray,
    rng: np.random.Generator,
    asked: Iterable[int],
    exact: Mapping[str, float | str],
) -> pl.DataFrame:
    """Return the rows of states that meet a request.

    Parameters
    ----------
    encoder : TableEncoder
        Of the columns.
    lines : np.ndarray
        States, integers ``(columns, n)``.
    rng : np.random.Generator
        Draws the numbers inside their intervals.
    asked : iterable of int
        Places of the columns of which something was asked: they are not computed from others.
    exact : mapping
        Column → the value asked for. What follows from it is computed with it.
    """
    return encoder.decode(lines, rng, {encoder.names[place] for place in asked}, exact)
