"""A run folder in, report.html, report.md and the adapter's model card out. Reads files only."""

from labeltune.report.card import write_card
from labeltune.report.write import write_report

__all__ = ["write_card", "write_report"]
