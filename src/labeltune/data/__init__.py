"""Where examples come from, which of them are used, and what is wrong with them."""

from labeltune.data.audit import audit
from labeltune.data.clean import text_of
from labeltune.data.files import read_table
from labeltune.data.leakage import check_leakage
from labeltune.data.load import Skipped, Split, load_rows
from labeltune.data.store import Rows
from labeltune.data.table import audit_table
from labeltune.data.writing import write_table

__all__ = [
    "Rows",
    "Skipped",
    "Split",
    "audit",
    "audit_table",
    "check_leakage",
    "load_rows",
    "read_table",
    "text_of",
    "write_table",
]
