"""summary.json, typed: the one definition that judge and explain write, and report, table, card and trackers read."""

from labeltune.summary.explained import Explained, ScoredVariant, Summary
from labeltune.summary.judgement import Calibration, CalibrationSides, Comparison, Epoch, Judgement, Record, Scores
from labeltune.summary.runs import PairComparison, RunsComparison

__all__ = [
    "Calibration",
    "CalibrationSides",
    "Comparison",
    "Epoch",
    "Explained",
    "Judgement",
    "PairComparison",
    "Record",
    "RunsComparison",
    "ScoredVariant",
    "Scores",
    "Summary",
]
