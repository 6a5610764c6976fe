"""Where examples come from, which of them are used, and what is wrong with them."""

from labeltune.data.audit import audit
from labeltune.data.clean import text_of
from labeltune.data.columns import TableColumns, find_columns
from labeltune.data.files import read_table
from labeltune.data.labels import resolve
from labeltune.data.leakage import check_leakage
from labeltune.data.load import Split, load_rows
from labeltune.data.read import Skipped
from labeltune.data.store import Rows
from labeltune.data.table import audit_table
from labeltune.data.writing import write_table

__all__ = [
    "Rows",
    "Skipped",
    "Split",
    "TableColumns",
    "audit",
    "audit_table",
    "check_leakage",
    "find_columns",
    "load_rows",
    "read_table",
    "resolve",
    "text_of",
    "write_table",
]
