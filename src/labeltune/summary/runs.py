"""What `labeltune compare` says of several runs."""

from __future__ import annotations

from labeltune.summary.judgement import Comparison, Record, Scores


class PairComparison(Comparison):
    """Two of the runs, the second less the first."""

    first: int
    """Its place among the runs."""
    second: int
    """Likewise."""
    p_holm: float
    """McNemar's p, adjusted by Holm for the number of pairs; `significant` goes by it."""


class RunsComparison(Record):
    """The tuned models of several runs on the same rows."""

    runs: list[str]
    """The folders' names."""
    scored_split: str
    after: list[Scores]
    """Each run's tuned model."""
    pairs: list[PairComparison]
    comparison: PairComparison
    """The first pair."""
    signature_differences: dict[str, list[str | None]]
    """Every field in which the runs' signatures differ, with the value of each run."""
