"""Moments by the calendar: their year, month or weekday, the time between two of them, and the same months later.

Moments are microseconds since 1970, int64, as `data.canonical` has them. NumPy's `datetime64` knows the calendar.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

#: What a moment tells by itself, as the calendar counts: weeks by ISO 8601, Monday is weekday 1. From coarse to fine.
Part = Literal["year", "quarter", "month", "week", "day of the year", "day", "weekday", "hour", "minute"]
#: What the time between two moments tells: years and months are full ones of the calendar, nights midnights in between.
Span = Literal[
    "years",
    "years of 365.25 days",
    "years of 365 days",
    "months",
    "weeks",
    "days",
    "nights",
    "hours",
    "minutes",
]
PARTS: tuple[str, ...] = get_args(Part)
SPANS: tuple[str, ...] = get_args(Span)
#: The first value, and the number of values, of parts that come round again.
ROUNDS = {"quarter": (1, 4), "month": (1, 12), "weekday": (1, 7), "hour": (0, 24)}
DAY = 86_400_000_000
LENGTHS = {
    "years of 365.25 days": DAY * 1461 // 4,
    "years of 365 days": DAY * 365,
    "weeks": DAY * 7,
    "days": DAY,
    "hours": DAY // 24,
    "minutes": DAY // 1440,
}
#: Months in what the calendar counts.
MONTHS = {"year": 12, "years": 12, "quarter": 3, "month": 1, "months": 1}


def part_of(moments: np.ndarray, part: str) -> np.ndarray:
    """Return a part of moments ``(n,)``, microseconds since 1970, int64."""
    day = moments // DAY
    if part in ("hour", "minute"):
        return moments % DAY // (DAY // 24) if part == "hour" else moments % (DAY // 24) // (DAY // 1440)
    weekday = (day + 3) % 7 + 1
    if part == "weekday":
        return np.asarray(weekday)
    date = (day - weekday + 4 if part == "week" else day).astype("M8[D]")
    year, month = date.astype("M8[Y]"), date.astype("M8[M]")
    if part == "year":
        return np.asarray(year.astype(np.int64) + 1970)
    if part in ("month", "quarter"):
        months = month.astype(np.int64) % 12
        return np.asarray(months + 1 if part == "month" else months // 3 + 1)
    since = month if part == "day" else year
    days = (date - since.astype("M8[D]")).astype(np.int64)
    return np.asarray(days // 7 + 1 if part == "week" else days + 1)


def span_of(start: np.ndarray, end: np.ndarray, span: str, step: float, *, nearest: bool) -> np.ndarray:
    """Return the time between moments, microseconds ``(n,)``, in whole steps, float64."""
    if span in MONTHS:
        between = end.astype("M8[us]").astype("M8[M]").astype(np.int64) - start.astype("M8[us]").astype(
            "M8[M]"
        ).astype(np.int64)
        full = between - (_in_month(end) < _in_month(start))
        return np.asarray(full // MONTHS[span], dtype=np.float64)
    if span == "nights":
        return np.asarray(end // DAY - start // DAY, dtype=np.float64)
    steps = (end - start) / (LENGTHS[span] * step)
    whole = np.round(steps) if nearest else np.floor(steps + 1e-9)
    return np.asarray(whole * step)


def _in_month(moments: np.ndarray) -> np.ndarray:
    return np.asarray(moments - moments.astype("M8[us]").astype("M8[M]").astype("M8[us]").astype(np.int64))


def in_months(moments: np.ndarray, months: np.ndarray) -> np.ndarray:
    """Return moments, microseconds ``(n,)``, so many months later: on the last day where the month has no such day."""
    month = moments.astype("M8[us]").astype("M8[M]")
    there = month + months
    last = (there + 1).astype("M8[us]").astype(np.int64) - DAY
    inside = _in_month(moments)
    found = there.astype("M8[us]").astype(np.int64) + inside
    return np.where(found >= last + DAY, last + inside % DAY, found)


def days_in_month(moments: np.ndarray, lacking: np.ndarray) -> np.ndarray:
    """Return by how many days to move for another weekday: as few as may be, in the same month where there are such."""
    near = (lacking + 3) % 7 - 3
    month = moments // DAY
    month = month.astype("M8[D]").astype("M8[M]")
    best, found = near, np.zeros(len(near), dtype=bool)
    for days in (near, near - 7 * np.sign(near)):
        inside = (moments // DAY + days).astype("M8[D]").astype("M8[M]") == month
        best = np.where(inside & ~found, days, best)
        found |= inside
    return np.asarray(best)
