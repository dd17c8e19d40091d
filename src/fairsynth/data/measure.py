"""What is read off the values of one column: numbers and dates in text, precision, range to remember."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from fairsynth.data.canonical import EXACT_INTEGERS, mask_missing
from fairsynth.data.moments import DATETIME_FORMATS, WRITTEN_DATES, ZONED_FORMATS, parse_datetime
from fairsynth.data.schema import MICROSECONDS
from fairsynth.data.spans import is_span, microseconds
from fairsynth.data.zones import OFFSET

#: How many rows must stand behind a remembered extreme.
EXTREME_ROWS = 5
MAX_DECIMALS = 12
#: More decimals than these count only if they are far coarser than what a float can hold of the largest number.
SURE_DECIMALS = 6
COARSER = 1e4
#: Part of a number below which a difference is one of rounding in binary: four units in the last place.
LAST_BITS = 4 * 2.0**-53


def private_range(
    values: pl.Series, *, step: float | None = 1, persons: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the range to remember of a column of numbers, without revealing one person's value.

    At each end it is the mean of the five most extreme values; or the extreme itself where at least five
    rows share it. Both are rounded inward to a multiple of `step`, so the range never exceeds the seen one.

    Parameters
    ----------
    values : pl.Series
        Numbers, with nulls; Int64 or Float64.
    step : float, optional
        Smallest difference between values; None for floats of full precision.
    persons : np.ndarray, optional
        Whom each row is of, int64 ``(n,)``, where there are several rows of a person: of each only the most extreme
        value counts.

    Returns
    -------
    low, high : float or int
        int when the values are integers.
    """
    ends = []
    lows = highs = values.drop_nulls()
    if persons is not None:
        rows = pl.DataFrame({"value": values, "person": persons}).drop_nulls("value")
        of_each = rows.group_by("person").agg(low=pl.col("value").min(), high=pl.col("value").max())
        lows, highs = of_each["low"], of_each["high"]
    for extreme in (lows.bottom_k(EXTREME_ROWS), highs.top_k(EXTREME_ROWS)):
        ordered = extreme.to_list()
        if len(ordered) == EXTREME_ROWS and len(set(ordered)) == 1:
            ends.append(ordered[0])
        elif values.dtype.is_integer():
            # Integers of datetimes are beyond what a float holds exactly.
            whole = int(step or 1)
            floor = sum(ordered) // len(ordered) // whole * whole
            exact = floor * len(ordered) == sum(ordered)
            ends.append(floor if ends or exact else floor + whole)
        else:
            # Divided first: the sum of five large numbers may be no float any more.
            mean = math.fsum(value / len(ordered) for value in ordered)
            if step is not None and abs(mean) < EXACT_INTEGERS * step:
                places = round(-math.log10(step))
                mean = round(
                    math.floor(mean / step) * step if ends else math.ceil(mean / step) * step, places
                )
            ends.append(min(max(mean, min(ordered)), max(ordered)))
    # Rounding inward can cross where the values are few and close.
    return min(ends), max(ends)


def unit_of(moments: pl.Series) -> str:
    """Return the coarsest unit of time of which every moment, or time span, is a multiple."""
    ticks = microseconds(moments) if is_span(moments.dtype) else moments.cast(pl.Int64)
    ticks = ticks.drop_nulls()
    return next(unit for unit, length in MICROSECONDS.items() if (ticks % length == 0).all())


def decimals_of(values: pl.Series) -> int | None:
    """Return how many decimal places the values have, None if more than twelve, or than floats as large can tell.

    What adding up decimals leaves in the last bits (41.300000000000004) is no further place.
    """
    present = values.drop_nulls()
    parts = (present.head(1000), present)
    largest = float(present.abs().max() or 0.0)  # type: ignore[arg-type]
    more = (p for p in range(MAX_DECIMALS + 1) if 10.0**-p > COARSER * LAST_BITS * largest)
    most = max(SURE_DECIMALS, max(more, default=0))
    for places in range(most + 1):
        if all((part.round(places) == part).all() for part in parts):
            return places
    for places in range(most + 1):
        # Of numbers so large that their last bits are decimals themselves, nothing is taken for noise.
        noise = 0.01 * 10.0**-places
        if all(
            ((part.round(places) - part).abs() <= (part.abs() * LAST_BITS).clip(upper_bound=noise)).all()
            for part in parts
        ):
            return places
    return None


def parse_numbers(values: pl.Series, tokens: Sequence[str]) -> tuple[pl.Series | None, str | None]:
    """Read texts as Int64 or Float64; also return the token that was read as missing.

    None instead of the numbers if the texts are not all numbers, or would not come back: leading zeros,
    integers beyond 64 bits.
    """
    head = values.head(1000).drop_nulls().str.strip_chars()
    if not head.is_in([*tokens]).any() and head.cast(pl.Float64, strict=False).null_count():
        return None, None
    texts = values.str.strip_chars()
    token = None
    if tokens:
        texts, token = mask_missing(texts, tokens)
    present = texts.null_count()
    if present == len(texts) or texts.str.contains(r"^[+-]?0\d|^\+").any():
        return None, None
    whole = texts.cast(pl.Int64, strict=False)
    if whole.null_count() == present:
        return whole, token
    numbers = texts.cast(pl.Float64, strict=False)
    if numbers.null_count() != present or texts.str.contains(r"^[+-]?\d{19,}$").any():
        return None, None
    return numbers.fill_nan(None), token


def parse_datetimes(values: pl.Series) -> tuple[pl.Series | None, str | None]:
    """Read texts as moments if all have the same format, of ISO 8601 or as people write dates, and come back unchanged.

    A date is not read where two formats fit all. Moments with offsets from UTC are read as what they are in UTC.
    """
    present = values.drop_nulls()
    if not len(present) or not present.head(100).str.contains(r"^\d{2,4}[-./]\d{2}[-./]\d{2}").all():
        return None, None
    for forms in (DATETIME_FORMATS, WRITTEN_DATES):
        found = []
        for form in forms:
            some = present.head(100)
            if (some != parse_datetime(some, form).dt.to_string(form)).fill_null(True).any():
                continue
            moments = parse_datetime(values, form)
            if moments.null_count() == values.null_count() and (moments.dt.to_string(form) == values).all():
                found.append((moments, form))
                if forms is DATETIME_FORMATS:
                    break
        if len(found) == 1:
            return found[0]
    if not present.head(100).str.contains(OFFSET).all():
        return None, None
    colon = present.head(100).str.contains(r":\d\d$").all()
    for form in (one for one in ZONED_FORMATS if one.endswith("+00:00") == colon):
        if not parse_datetime(present.head(100), form).null_count():
            moments = parse_datetime(values, form)
            return (moments, form) if moments.null_count() == values.null_count() else (None, None)
    return None, None
