"""Lets the tests import the generator, which stands beside pretraining's scripts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
