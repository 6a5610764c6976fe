"""What an adapter belongs to: base weights, tokenizer, prompt and labels. With any other it would answer nonsense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SHOWN, MOST_LABELS = 12, 8
"""Hex digits of a fingerprint in a message."""
REMEDIES = {
    "head": "set model.head to the one that it was tuned with",
    "base": "set model.name_or_path and model.revision to the base that it was tuned on",
    "tokenizer": "use the tokenizer files that it was tuned with",
    "labels": "write data.labels as it was tuned, in the same order",
    "prompt": "use the prompt.template, prompt.answers and prompt.max_length that it was tuned with",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Fingerprints are SHA-256, as hex digits."""

    base: str
    tokenizer: str
    prompt: str
    labels: tuple[str, ...]
    """Label names, in the order of every array of K."""
    head: str = "words"
    """How the model answers: `model.head`."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"labels": list(self.labels)}


def require_same(what: str, there: Mapping[str, Any], here: Identity) -> None:
    """Refuse to use an adapter with anything but what it was tuned with.

    Args:
        what: the adapter, for the message.
        there: its identity as JSON has it; parts that are not recorded are not compared.

    Raises:
        ValueError: something differs; names all that does.

    >>> require_same("a", {"base": "1" * 64}, Identity("2" * 64, "", "", ("no", "yes")))
    Traceback (most recent call last):
      ...
    ValueError: a has another base (111111111111 there, 222222222222 here); set model.name_or_path and model.revision \
to the base that it was tuned on
    """
    found = here.to_json()
    different = [part for part in REMEDIES if part in there and there[part] != found[part]]
    if "prompt" in different and {"labels", "head"} & set(different):
        different.remove("prompt")  # the prompt's fingerprint covers these too
    if different:
        differences = [f"another {part} ({_show(there[part])} there, {_show(found[part])} here)" for part in different]
        raise ValueError(f"{what} has {' and '.join(differences)}; {', '.join(REMEDIES[part] for part in different)}")


def _show(value: Any) -> str:
    if isinstance(value, str):
        return value[:SHOWN]
    more = f" and {len(value) - MOST_LABELS} more" if len(value) > MOST_LABELS else ""
    return ", ".join(map(str, value[:MOST_LABELS])) + more
