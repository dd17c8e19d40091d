"""Time zones: what clocks of a place say at a moment, which is what people mean by an hour, a day or a month.

Canonical moments are in UTC. Polars knows the rules of zones; Arrow and pandas have more names for them, of which those
that Polars does not know count as UTC. Ours.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import polars as pl

#: How moments end in a format of texts that have offsets from UTC, with a colon or without. Drawn ones are written by
#: the clocks of the column's zone if it has one, and else in UTC.
OFFSET_FORMATS = {"+00:00": "%:z", "+0000": "%z"}
#: Offsets at the end of a text.
OFFSET = r"([+-]\d{2}:?\d{2})$"
#: One zone of each set of rules that many people live by. Texts with offsets are held against these.
ZONES = (
    "Europe/Berlin", "Europe/London", "Europe/Athens", "Europe/Istanbul", "Europe/Moscow", "America/New_York",
    "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Anchorage", "America/Halifax",
    "America/St_Johns", "America/Sao_Paulo", "America/Santiago", "America/Mexico_City", "Australia/Sydney",
    "Australia/Adelaide", "Pacific/Auckland", "Asia/Jerusalem", "Asia/Beirut", "Asia/Tehran", "Africa/Cairo",
    "Africa/Casablanca", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Yangon", "Asia/Kabul", "Australia/Darwin",
)  # fmt: skip
_OF_DTYPE = re.compile(r"^(?:datetime64|Datetime|timestamp)\[\w+, (?:tz=)?(.+)\]$")
HOUR = 3_600_000_000


def zone_of_dtype(dtype: str) -> str | None:
    """Return the time zone that a dtype of a schema names; None for UTC, and for those that Polars does not know."""
    found = _OF_DTYPE.match(dtype)
    return found[1] if found and found[1] != "UTC" and knows_zone(found[1]) else None


@lru_cache(maxsize=256)
def knows_zone(zone: str) -> bool:
    """Say whether Polars knows a time zone."""
    try:
        pl.Series([0]).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    except (pl.exceptions.ComputeError, ValueError):
        return False
    return True


def by_clock(moments: np.ndarray, zone: str | None) -> np.ndarray:
    """Return what clocks of a place say at moments ``(n,)``, as the microseconds from 1970 until they say it in UTC."""
    if zone is None:
        return moments
    there = pl.Series(moments).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    return np.asarray(there.dt.replace_time_zone(None).to_physical().to_numpy())


def days_in_zone(moments: pl.Series, zone: str) -> pl.Series:
    """Return what clocks of a place say at moments in UTC, Datetime without a zone ``(n,)``, and null where it was.

    Where clocks skip midnight the first moment of a day is its midnight.
    """
    moments = moments.cast(pl.Datetime("us"))
    there = moments.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    days = there.dt.truncate("1d")
    return days.zip_with((from_zone(days, zone) == moments).fill_null(True), there)


def from_zone(times: pl.Series, zone: str) -> pl.Series:
    """Return the moments in UTC at which clocks of a place say times, as `of_clock` does, and null where it was."""
    moments = of_clock(times.cast(pl.Datetime("us")).to_physical().fill_null(0).to_numpy(), zone)
    return pl.Series(times.name, moments).cast(pl.Datetime("us")).set(times.is_null(), None)


def of_clock(times: np.ndarray, zone: str | None) -> np.ndarray:
    """Return the moments ``(n,)`` at which clocks say times: the first of two; an hour later if there is none."""
    if zone is None:
        return times
    naive = pl.Series(times).cast(pl.Datetime("us"))
    first, later = (
        one.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
        for one in (naive, naive.dt.offset_by("1h"))
    )
    return np.asarray(first.fill_null(later).to_physical().fill_null(pl.Series(times)).to_numpy())


def zone_of_offsets(texts: pl.Series, moments: pl.Series) -> str | None:
    """Return a zone by whose clocks texts with offsets are written.

    Parameters
    ----------
    texts : pl.Series
        As they came ``(n,)``; those without an offset are in UTC.
    moments : pl.Series
        The same in UTC, Datetime without a zone ``(n,)``.

    Returns
    -------
    str or None
        Of several the first of `ZONES`; None if there is none, or all are in UTC.
    """
    held = pl.DataFrame({"text": texts, "moment": moments.cast(pl.Datetime("us"))}).drop_nulls()
    offset = held["text"].str.extract(OFFSET).str.replace(":", "").fill_null("+0000")
    sign = np.where(offset.str.starts_with("-").to_numpy(), -1, 1)
    hours, minutes = (offset.str.slice(at, 2).cast(pl.Int64).to_numpy() for at in (1, 3))
    asked = sign * (hours * HOUR + minutes * (HOUR // 60))
    if not len(asked) or not asked.any():
        return None
    own = held["moment"].to_physical().to_numpy()
    zones: tuple[str, ...] = ZONES
    if (asked == asked[0]).all() and asked[0] % HOUR == 0:
        # By POSIX, zones east of Greenwich are negative.
        zones = (f"Etc/GMT{-asked[0] // HOUR:+d}",)
    return next(
        (zone for zone in zones if knows_zone(zone) and (by_clock(own, zone) - own == asked).all()), None
    )
