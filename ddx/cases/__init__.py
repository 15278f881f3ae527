"""Cases in any form -> evidence, with a reject for everything that cannot be used."""

from ddx.cases.columns import CASE_ID, LISTS, Column, check_separator, check_useful, interpret
from ddx.cases.encode import Encoded, case_ids, encode, from_frame, from_mapping, unknown_columns
from ddx.cases.ids import CaseIds
from ddx.cases.rejects import REJECT_COLUMNS, CaseError, Reject
from ddx.cases.values import both
from ddx.network import select

__all__ = [
    "CASE_ID",
    "LISTS",
    "REJECT_COLUMNS",
    "CaseError",
    "CaseIds",
    "Column",
    "Encoded",
    "Reject",
    "both",
    "case_ids",
    "check_separator",
    "check_useful",
    "encode",
    "from_frame",
    "from_mapping",
    "interpret",
    "select",
    "unknown_columns",
]
