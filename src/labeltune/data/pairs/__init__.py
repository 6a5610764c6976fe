"""Premise/hypothesis pairs that the package makes itself, with labels that are right by construction."""

from .kinds import KINDS, LABELS, generate_pairs

__all__ = ["KINDS", "LABELS", "generate_pairs"]
