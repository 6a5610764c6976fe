"""Annotators' votes, however a table spells them."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from labeltune.text import excerpt

NameOf = Callable[[object], str | None]
"""The label's name that one value stands for, or None."""

NO_VOTE = frozenset({"", "[]", "{}", "-", "-1", "nan", "null", "none", "na", "n/a", "<na>"})
"""What a table writes where an annotator did not vote, unless it names a label."""
SEPARATORS = ("\t", "|", "｜", ";", "；", ",", "，", "、", "،", "/")
VOTE_KEYS = ("label", "vote", "answer", "annotation", "value")
"""Where the vote stands in a record of one annotation."""
LONGEST = 100_000
"""Characters of a cell that is read as a list; votes are shorter."""
DEEPEST = 5
MOST_WORDS = 12
"""Parts that a label's name may itself be split into."""
LARGEST_BITS = 64
MOST_COUNTED = 10_000
MOST_LISTED = 1000
OTHERS = "(others)"

_WRAPPED = re.compile(r"\b(?:np|numpy|pd)\.\w+\(([^()]*)\)")
_ARRAY = re.compile(r"(?:np\.|numpy\.)?(?:array|tuple|list|set|frozenset|Counter|dict_values)\((.*)\)", re.DOTALL)
_DTYPE = re.compile(r",\s*dtype=[^\[\]{}]*$")
_NOT_A_NUMBER = re.compile(r"(?<=[\[,:(\s])(?:nan|NaN|null|<NA>)(?=\s*[\],})])")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_SIDE_BY_SIDE = re.compile(rf"\[\s*(?:{_QUOTED.pattern})(?:\s+(?:{_QUOTED.pattern}))*\s*\]", re.DOTALL)


def read_votes(cells: Sequence[object], name_of: NameOf) -> tuple[list[str], list[str]]:
    """The labels' names that a row's annotators chose, and the votes that name no label.

    Args:
        cells: several with one vote each, or one that holds them all: a list, an array, a map of annotator: vote or of
            label: votes, the text of one of these in JSON, Python or numpy, or labels with a separator between them.
            Who did not vote is left out.

    >>> name_of = {"0": "no", "1": "yes", "no": "no", "yes": "yes"}.get
    >>> read_votes(["[0, 'yes', None, '?']"], lambda value: name_of(str(value)))
    (['no', 'yes'], ['?'])
    >>> read_votes(["0;0;1"], lambda value: name_of(str(value)))
    (['no', 'no', 'yes'], [])
    """
    names: list[str] = []
    unknown: list[str] = []
    for part in (vote for cell in cells for vote in _one_cell(cell, name_of)):
        name = name_of(part)
        if name is not None:
            names.append(name)
        elif not _missing(part):
            unknown.append(str(part))
    return names, unknown


def listed_votes(cell: object, between: re.Pattern[str]) -> list[object]:
    """The votes of a cell that holds them all, where the labels are not known.

    Args:
        between: what may stand between labels, and so in none of them.

    >>> listed_votes('["yes, but", "no"]', re.compile(",")), listed_votes("0,0,1", re.compile(","))
    (['yes, but', 'no'], ['0', '0', '1'])
    >>> listed_votes({"good": 2, "bad": 1}, re.compile(","))
    ['good', 'good', 'bad']
    """
    held = _structure(cell.strip()) if isinstance(cell, str) and len(cell) <= LONGEST else None
    if held is None and isinstance(cell, str):
        plain = cell.strip()
        parts, _ = read_votes([plain], lambda value: None if between.search(str(value)) else str(value))
        return list(parts)
    found = cell if held is None else held
    if isinstance(found, Mapping):
        texts, counts = [str(key) for key in found], list(found.values())
        counted = all(isinstance(own, int) and not isinstance(own, bool) and 0 <= own <= MOST_COUNTED for own in counts)
        if counted and not any(text.lstrip("-").isdecimal() or _annotator(text) for text in texts):
            return [text for text, own in zip(texts, counts, strict=True) for _ in range(own)]
    return list(_flat(found, lambda value: None if isinstance(value, Mapping | list | tuple) else str(value)))


def _annotator(key: str) -> bool:
    """Whether a key of a map names who voted rather than a label."""
    return re.match(r"(annot|rater|vote|coder|judge|worker|user|label|answer)\w*", key, re.IGNORECASE) is not None


def count_unknown(counts: Counter[str], votes: Iterable[str]) -> None:
    """Count votes that name no label, by their text; all beyond the first 1,000 texts together."""
    for vote in votes:
        text = excerpt(vote)
        counts[text if text in counts or len(counts) < MOST_LISTED else OTHERS] += 1


def _missing(value: object) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return str(value).strip().lower() in NO_VOTE


def _one_cell(cell: object, name_of: NameOf) -> Iterator[object]:
    """The single votes of a cell."""
    if not isinstance(cell, str) or name_of(cell) is not None:
        yield from _flat(cell, name_of)
        return
    text = cell.strip()
    structure = _structure(text) if len(text) <= LONGEST else None
    if structure is not None:
        yield from _flat(structure, name_of)
    else:
        within = text.strip("[](){}").strip()
        tries = [_separated(one, name_of) for one in dict.fromkeys((text, within)) if one]
        yield from max(tries, key=lambda parts: sum(name_of(part) is not None for part in parts), default=[text])


def _flat(value: object, name_of: NameOf, depth: int = 0) -> Iterator[object]:
    """The votes in nested lists, arrays and maps, one by one."""
    if not isinstance(value, str | bytes) and hasattr(value, "tolist"):
        value = value.tolist()
    if depth > DEEPEST:
        yield excerpt(value)
    elif isinstance(value, Mapping):
        yield from _of_map(value, name_of, depth)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _flat(part, name_of, depth + 1)
    elif isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"' and name_of(value) is None:
        yield value[1:-1]
    elif isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        yield hex(value)  # in decimals Python refuses to write what is too long
    else:
        yield value


def _of_map(value: Mapping[object, object], name_of: NameOf, depth: int) -> Iterator[object]:
    """A map of annotator: vote, of label: how many chose it, or one annotation with its vote under a usual name."""
    known = next((key for key in VOTE_KEYS if key in value), None)
    counts = [own for own in value.values() if isinstance(own, int) and not isinstance(own, bool)]
    if known is not None:
        yield from _flat(value[known], name_of, depth + 1)
    elif (
        len(counts) == len(value)
        and all(name_of(key) is not None for key in value)
        and not all(name_of(own) is not None for own in counts)
        and all(0 <= own <= MOST_COUNTED for own in counts)
    ):
        for key, own in zip(value, counts, strict=True):
            yield from [key] * own
    else:
        for part in value.values():
            yield from _flat(part, name_of, depth + 1)


def _structure(text: str) -> object | None:
    """The list or map that a text spells in JSON, Python or numpy; None where it spells none."""
    inner = _ARRAY.fullmatch(text)
    if inner:
        text = _DTYPE.sub("", inner[1]).strip()
    if text[:1] not in ("[", "{", "("):
        return None
    try:
        return _container(json.loads(text))
    except (ValueError, RecursionError):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a backslash that escapes nothing
        try:
            if _SIDE_BY_SIDE.fullmatch(text):  # to Python, texts side by side are one
                return [ast.literal_eval(found[0]) for found in _QUOTED.finditer(text)]
            return _container(ast.literal_eval(_NOT_A_NUMBER.sub("None", _WRAPPED.sub(r"\1", text))))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None


def _container(value: object) -> object | None:
    return value if isinstance(value, list | tuple | dict | set) else None


def _separated(text: str, name_of: NameOf) -> list[str]:
    """Labels with separators between them: the one by which all parts are labels, or else most of them.

    Blanks separate only where all parts are labels; a text that holds no label is one vote for none.
    """
    best: list[str] = [bare if name_of(bare := text.strip("'\"")) is not None else text]
    most = 0
    for separator in SEPARATORS:
        if separator in text:
            parts = _labels_of(text.split(separator), separator, name_of)
            hits = sum(name_of(part) is not None for part in parts)
            if hits and all(name_of(part) is not None or _missing(part) for part in parts):
                return parts
            if hits > most:
                best, most = parts, hits
    if most:
        return [one for part in best for one in ([part] if name_of(part) is not None else _separated(part, name_of))]
    parts = _labels_of(text.split(), " ", name_of)
    if len(parts) > 1 and all(name_of(part) is not None or _missing(part) for part in parts):
        return parts
    return best


def _labels_of(pieces: Sequence[str], separator: str, name_of: NameOf) -> list[str]:
    """Pieces joined again where together they are a label, as "yes, but" is between commas."""
    found: list[str] = []
    place = 0
    while place < len(pieces):
        for end in range(min(len(pieces), place + MOST_WORDS), place, -1):
            part = separator.join(pieces[place:end]).strip().strip("'\"")
            if end == place + 1 or name_of(part) is not None:
                found.append(part)
                place = end
                break
    return found
