"""Numbers as people write them in text: ``$1,234.50``, ``1.234,50 €``, ``12,5``, ``40%``, ``(1,006)`` for less than 0.

A column of them is read as numbers and written back in the same way. What is read must come back to the letter, so
codes that only look like numbers stay text. Only signs of money and per cent may stand beside the digits: ``A12`` is
a code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import polars as pl

_SIGN = "[$€£¥₹%]"
#: A number, what stands before and behind it, and how thousands and decimals are parted, as a pattern says it.
_PATTERN = re.compile(
    rf"(?P<before>(?:{_SIGN} ?)?)#(?P<thousands>[,. '\u00a0\u202f]?)##0(?:(?P<decimal>[.,])(?P<places>0?##|0{{1,6}}))?"
    rf"(?P<after>(?: ?{_SIGN})?)"
)
#: How thousands and decimals are parted, the likelier way first: where all have three digits behind one comma, it
#: parts thousands.
_WAYS = (
    (",", "."),
    (".", ","),
    ("'", "."),
    (" ", ","),
    ("\u00a0", ","),
    ("\u202f", ","),
    ("", "."),
    ("", ","),
)
#: More decimals are not kept.
MOST_PLACES = 6
#: Rows looked at before all are.
_FIRST = 200


@dataclass(frozen=True)
class NumberText:
    """How numbers are written.

    Attributes
    ----------
    before, after : str
        What stands before and behind the digits.
    thousands : str
        What parts thousands; empty for nothing.
    decimal : str
        What parts decimals.
    places : int or None
        How many decimals all have, 0 for none; None if each has as many as it needs.
    one_at_least : bool
        Whether a number that needs none has a zero all the same, as pandas writes it.
    bracketed : bool
        Whether negative numbers stand in brackets, as accountants write them.
    """

    before: str
    thousands: str
    decimal: str
    after: str
    places: int | None
    one_at_least: bool = False
    bracketed: bool = False

    @property
    def pattern(self) -> str:
        """The same as a text for a schema: ``$#,##0.00``, or ``#,##0.##`` where decimals differ in number.

        With brackets ``#,##0;(#,##0)``, as spreadsheets have it.
        """
        free = "0##" if self.one_at_least else "##"
        places = (
            "" if self.places == 0 else self.decimal + (free if self.places is None else "0" * self.places)
        )
        plain = f"{self.before}#{self.thousands}##0{places}{self.after}"
        return f"{plain};({plain})" if self.bracketed else plain

    @classmethod
    def of(cls, pattern: str | None) -> Self | None:
        """Read what `pattern` says; None for anything else."""
        plain, *negative = (pattern or "").split(";")
        found = _PATTERN.fullmatch(plain)
        if found is None or found["thousands"] == found["decimal"] or negative not in ([], [f"({plain})"]):
            return None
        decimal, places = found["decimal"], found["places"]
        return cls(
            found["before"],
            found["thousands"],
            decimal or _other(found["thousands"]),
            found["after"],
            None if places in ("##", "0##") else len(places or ""),
            places == "0##",
            bool(negative),
        )

    def read(self, texts: pl.Series) -> pl.Series:
        """Return texts as numbers, Int64 or Float64; null where a text is written otherwise."""
        if self.bracketed:
            texts = _opened(texts.set(texts.str.starts_with("-"), None))
        body = rf"\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})*" if self.thousands else r"\d+"
        form = (
            rf"^-?{re.escape(self.before)}(?:{body})(?:{re.escape(self.decimal)}\d+)?{re.escape(self.after)}$"
        )
        plain = texts.str.strip_suffix(self.after).str.replace(self.before, "", literal=True)
        if self.thousands:
            plain = plain.str.replace_all(self.thousands, "", literal=True)
        plain = plain.str.replace(self.decimal, ".", literal=True).set(~texts.str.contains(form), None)
        whole = plain.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == plain.null_count() else plain.cast(pl.Float64, strict=False)

    def write(self, numbers: pl.Series) -> pl.Series:
        """Return numbers Int64 or Float64 as texts; nulls stay."""
        plain = numbers.cast(pl.String)
        if numbers.dtype == pl.Float64:
            plain = numbers.cast(pl.Decimal(38, self.places or MOST_PLACES)).cast(pl.String)
            if not self.places:
                plain = plain.str.strip_chars_end("0")
                plain = plain.str.replace(r"\.$", ".0") if self.one_at_least else plain.str.strip_suffix(".")
        parts = pl.DataFrame({"text": plain}).select(
            pl.col("text").str.starts_with("-").alias("negative"),
            pl.col("text").str.extract(r"^-?(\d+)").alias("whole"),
            pl.col("text").str.extract(r"\.(\d+)$").alias("places"),
        )
        whole = pl.col("whole")
        if self.thousands:
            # From the right, three by three: reversed, parted, and reversed again.
            whole = whole.str.reverse().str.replace_all(r"(\d{3})", "${1}" + self.thousands).str.reverse()
            whole = whole.str.strip_prefix(self.thousands)
        if self.places and numbers.dtype != pl.Float64:
            places = pl.lit(self.decimal + "0" * self.places)
        else:
            places = (
                pl.when(pl.col("places").is_null())
                .then(pl.lit(""))
                .otherwise(self.decimal + pl.col("places"))
            )
        left, right = ("(", ")") if self.bracketed else ("-", "")
        text = pl.concat_str(
            pl.when(pl.col("negative")).then(pl.lit(left)).otherwise(pl.lit("")),
            pl.lit(self.before), whole, places, pl.lit(self.after),
            pl.when(pl.col("negative")).then(pl.lit(right)).otherwise(pl.lit("")),
        )  # fmt: skip
        return parts.select(text.alias(numbers.name)).to_series()


def written_numbers(texts: pl.Series) -> tuple[pl.Series, NumberText] | None:
    """Read texts as numbers, if all are written alike and not as a computer writes them.

    Parameters
    ----------
    texts : pl.Series
        Strings without blanks around them; nulls stay.

    Returns
    -------
    tuple of (pl.Series, NumberText) or None
        Numbers, Int64 or Float64, and how they are written. None if they are written in several ways, or one would
        not come back as it was.
    """
    present = texts.drop_nulls()
    first = present.head(_FIRST)
    if not len(present) or not first.str.contains(r"\d").all():
        return None
    bracketed = bool(present.str.starts_with("(").any())
    plain = _opened(first) if bracketed else first
    sides = (rf"^-?({_SIGN} ?)?\d", rf"\d( ?{_SIGN})?$")
    before, after = (plain.str.extract(side).fill_null("") for side in sides)
    if before.n_unique() > 1 or after.n_unique() > 1:
        return None
    if not present.cast(pl.Float64, strict=False).null_count():
        return None
    # ``552 100 554`` in every row is the number of a person or a firm, as long as all others.
    coded = not before[0] and not after[0] and present.str.len_chars().n_unique() == 1
    for thousands, decimal in _WAYS:
        if coded and thousands not in ("", ","):
            continue
        for some in (first, present):
            places = _places(_opened(some) if bracketed else some, decimal, after[0])
            way = NumberText(before[0], thousands, decimal, after[0], *places, bracketed)
            numbers = way.read(some)
            if numbers.null_count() or (way.write(numbers) != some).any():
                break
        else:
            return way.read(texts), way
    return None


def _opened(texts: pl.Series) -> pl.Series:
    """Return texts with a sign in the place of brackets."""
    return texts.str.replace(r"^\((.+)\)$", "-${1}")


def _other(thousands: str) -> str:
    """Return what decimals are parted by, where none was seen."""
    return "," if thousands == "." else "."


def _places(texts: pl.Series, decimal: str, after: str) -> tuple[int | None, bool]:
    """Return how many decimals all texts have, and whether a number that needs none has one if these differ.

    None if not all have as many, or more than anybody writes.
    """
    digits = texts.str.strip_suffix(after).str.extract(rf"{re.escape(decimal)}(\d+)$").fill_null("")
    lengths = digits.str.len_chars().unique()
    if len(lengths) == 1 and int(lengths[0]) <= MOST_PLACES:
        return int(lengths[0]), False
    return None, bool(lengths.min()) and bool((digits == "0").any())
