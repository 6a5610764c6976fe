"""One line that says exactly how a run was scored, so that every number comes with its conditions."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote


def signature(fields: Mapping[str, object]) -> str:
    """Join the fields as `name:value|name:value`, in their order; separators and control characters become %XX.

    >>> signature({"labeltune": "0.1.0", "mode": "labels", "rows": 8842, "base": "a|b", "revision": None})
    'labeltune:0.1.0|mode:labels|rows:8842|base:a%7Cb|revision:none'
    """
    return "|".join(f"{_escape(name)}:{_escape(_as_text(value))}" for name, value in fields.items())


def parse_signature(line: str) -> dict[str, str]:
    """The inverse of `signature`, with every value as text.

    >>> parse_signature("labeltune:0.1.0|base:a%7Cb")
    {'labeltune': '0.1.0', 'base': 'a|b'}
    """
    parts = [part.partition(":") for part in line.split("|") if part]
    return {unquote(name): unquote(value) for name, _, value in parts}


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _escape(text: str) -> str:
    return "".join(
        letter if _is_plain(letter) else quote(letter, safe="", errors="backslashreplace") for letter in text
    )


def _is_plain(letter: str) -> bool:
    return letter.isprintable() and letter not in "%|:"
