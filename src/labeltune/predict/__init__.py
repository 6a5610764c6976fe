"""A finished run, or a recipe's base, put to work on rows: `labeltune predict` and `labeltune score`."""

from labeltune.predict.subject import Subject, find_subject, load_subject, score_split
from labeltune.predict.target import Labelled, predict_file

__all__ = ["Labelled", "Subject", "find_subject", "load_subject", "predict_file", "score_split"]
