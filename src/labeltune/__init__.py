"""Tune an open language model to choose between labels, and prove what the tuning changed."""

__version__ = "0.1.0"
