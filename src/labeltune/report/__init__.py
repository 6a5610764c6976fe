"""A run folder in, report.html and report.md out. Reads files only."""

from labeltune.report.write import write_report

__all__ = ["write_report"]
