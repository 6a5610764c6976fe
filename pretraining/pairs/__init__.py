"""Premise/hypothesis pairs that the package makes itself, with labels that are right by construction.

Subjects, activities and places are tables; vocabulary.py says which words only the test split uses; facts.py says what
excludes what; options.py lists what may be drawn; scene.py changes one detail of a scene; wording.py says a scene in a
sentence; claims.py and kinds.py make a pair of each kind; generate.py balances and splits.
"""

from .generate import LABELS, generate_pairs
from .kinds import KINDS

__all__ = ["KINDS", "LABELS", "generate_pairs"]
