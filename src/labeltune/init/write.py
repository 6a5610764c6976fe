"""A recipe as text, with a comment where something was guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labeltune.init.base import BaseChoice
from labeltune.init.guess import Guess
from labeltune.recipe import DataSettings, answer_for
from labeltune.text import count, one_line

MOST_WORDS = 20
"""With more labels a classification head takes the place of words: it is as good and scores several times as fast."""
PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
LINE = 118


@dataclass(frozen=True)
class Found:
    """What a recipe is written from."""

    name: str
    """What the user called the table."""
    settings: DataSettings
    """Where its rows are, how it is written, and its columns."""
    guess: Guess
    labels: Sequence[str]
    rows: int
    split: Mapping[str, float]
    """Parts that are taken from the training rows."""
    group: str | None
    """A column of which many values repeat, which must not stand in two parts."""
    repeated: bool
    """Whether rows repeat others."""
    long: bool
    """Whether texts are so long that the prompt needs a limit."""
    base: BaseChoice
    words: bool = False
    """Whether label words answer, rather than a head."""
    chat: bool = False
    """Whether the base has a chat template, in which the prompt is asked."""
    why_head: str = ""


def new_names(names: Sequence[str], rename: Mapping[str, str]) -> list[str]:
    """The columns by the names that the recipe gives them.

    >>> new_names(["text", "{x}"], {"x": "{x}"})
    ['text', 'x']
    """
    given = {old: new for new, old in rename.items()}
    return [given.get(name, name) for name in names]


def recipe_text(found: Found) -> str:
    """The recipe in YAML."""
    sections = [
        f"# Written by `labeltune init` from {one_line(found.name)}.",
        "# Everything here may be changed. `labeltune run --dry-run` shows the rows, `labeltune prompt` one of them",
        "# as the model sees it.",
        *_data(found),
        *_prompt(found),
        *_model(found),
        *_train(),
    ]
    return "\n".join(sections) + "\n"


def _data(found: Found) -> list[str]:
    guess, data = found.guess, found.settings
    lines = ["data:"]
    lines += [f"  hub: {quoted(data.hub)}"] if data.hub else ["  files:"]
    lines += [f"    {split}: {quoted(path)}" for split, path in (data.files or {}).items()]
    csv = data.csv.model_dump(exclude_none=True)
    if csv:
        values = {key: listed(value) if isinstance(value, list) else _scalar(value) for key, value in csv.items()}
        lines += [f"  csv: {{{', '.join(f'{key}: {value}' for key, value in values.items())}}}  # as found"]
    if data.rename:
        pairs = ", ".join(f"{quoted(new)}: {quoted(old)}" for new, old in data.rename.items())
        lines += [f"  rename: {{{pairs}}}  # names that a template cannot hold"]
    lines += [f"  text_columns: {listed(data.text_columns)}"]
    if guess.label:
        lines += [f"  label_column: {quoted(guess.label)}"]
    if guess.votes:
        lines += [f"  votes_column: {listed(guess.votes)}" + ("" if guess.label else "  # their majority is the label")]
    said = f"# {count(len(found.labels), 'label')}, as found in the rows"
    if all(re.fullmatch(r"-?\d+", label) for label in found.labels):
        said += "; names would help, as in {" + ", ".join(f'"{label}": name' for label in found.labels[:2]) + ", ...}"
    lines += _wrapped("  labels: ", found.labels, said)
    if guess.id:
        lines += [f"  id_column: {quoted(guess.id)}"]
    if guess.kept:
        lines += [f"  keep_columns: {listed(guess.kept)}  # the report compares rows by them"]
    if guess.unused:
        lines += [f"  # not used: {', '.join(map(quoted, guess.unused))}"]
    return lines + _splits(found)


def _splits(found: Found) -> list[str]:
    lines = []
    if found.split:
        parts = ", ".join(f"{name}: {size:g}" for name, size in found.split.items())
        group, why = "", "in the labels' shares"
        if found.group:
            group, why = f", group_by: {quoted(found.group)}", f"rows of one {one_line(found.group)} stay together"
        lines += [f"  split: {{{parts}{group}}}  # out of the training rows; {why}"]
    if found.repeated:
        lines += ["  drop_duplicates: true  # some rows repeat others"]
    if found.settings.hub or len(found.settings.files or ()) > 1:
        lines += ["  drop_leaking_rows: true  # training rows that stand in validation or test as well"]
    return lines


def _prompt(found: Found) -> list[str]:
    columns = found.settings.text_columns
    text = f"{{{columns[0]}}}" if len(columns) == 1 else "\n".join(f"{_title(name)}: {{{name}}}" for name in columns)
    lines = ["prompt:"]
    if found.words:
        end = "" if found.chat else chr(10) + "Label:"
        lines += [f"  template: {escaped(f'{text}{chr(10) * 2}Which label fits: {{labels}}?{end}')}"]
        lines += ["  chat: true  # as one message of a user, in the base's own chat template"] * found.chat
        words = {name: answer_for(name) for name in found.labels}
        lines += _wrapped(
            "  answers: ", [f"{quoted(name)}: {quoted(word)}" for name, word in words.items()], braces=True
        )
    else:
        lines += [f"  template: {escaped(text)}"]
    if found.long:
        lines += ["  max_length: 512  # tokens; longer texts are cut at their end"]
    return lines


def _model(found: Found) -> list[str]:
    head = "words" if found.words else "sequence"
    return [
        f"# base: {found.base.why}",
        f"# head: {found.why_head}",
        "model:",
        f"  name_or_path: {quoted(found.base.name)}",
        f"  head: {head}",
    ]


def _train() -> list[str]:
    return [
        "train:",
        "  # num_train_epochs and learning_rate go by the rows and the base where they are left out; a run says which",
        "  train_sampling_strategy: group_by_length",
    ]


def _wrapped(begin: str, items: Sequence[str], comment: str = "", braces: bool = False) -> list[str]:
    """A list or mapping on one line where it fits, else on lines of its own."""
    texts = list(items) if braces else [quoted(item) for item in items]
    left, right = "{}" if braces else "[]"
    whole = f"{begin}{left}{', '.join(texts)}{right}"
    if len(whole) + len(comment) + 2 <= LINE:
        return [whole + (f"  {comment}" if comment else "")]
    lines, line = [f"{begin}{left}" + (f"  {comment}" if comment else "")], "   "
    for text in texts:
        if len(line) + len(text) + 2 > LINE and line.strip():
            lines.append(line)
            line = "   "
        line += f" {text},"
    return [*lines, line, f"  {right}"]


def _title(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else quoted(str(value))


def listed(names: Sequence[str]) -> str:
    """Names as a list in YAML.

    >>> listed(["text", "a b"])
    '[text, "a b"]'
    """
    return f"[{', '.join(map(quoted, names))}]"


def quoted(text: str | None) -> str:
    """A text as YAML has it: quoted where it could be read as something else.

    >>> quoted("card_arrival"), quoted("yes"), quoted("12"), quoted("a: b")
    ('card_arrival', '"yes"', '"12"', '"a: b"')
    """
    plain = str(text)
    ambiguous = plain.casefold() in {"yes", "no", "on", "off", "y", "n", "true", "false", "null"}
    return plain if PLAIN.fullmatch(plain) and not ambiguous else escaped(plain)


def escaped(text: str) -> str:
    """A text in double quotes, with what YAML takes for a line break written out."""
    found = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", found)
