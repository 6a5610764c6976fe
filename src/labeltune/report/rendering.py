"""What all of the report's templates share: their environment, and text from outside made harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from labeltune import text as words
from labeltune.judge.calibration import temperature_text
from labeltune.judge.table import cost, guessing_loss
from labeltune.report.examples import gold_probability
from labeltune.report.labels import bars
from labeltune.text import one_line, printable

RIGHT_TO_LEFT = re.compile(r"([\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc][\u0300-\u036f]*([ _-](?=[\u0590-\u08ff]))?)+")
"""Words of Hebrew, Arabic and their kin, with the blanks between them."""


def environment() -> Environment:
    """Templates that escape whatever they show, and fail on what they do not know."""
    found = Environment(
        loader=PackageLoader("labeltune", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        words.percent, words.points, words.signed, words.interval, words.points_interval, words.number, words.duration,
        words.count, words.capitalised, words.shorten, words.p_value, words.epoch_name, one_line, printable,
        gold_probability, temperature_text, cost, tied, confusions, bars, breakable, guessing_loss,
    ):  # fmt: skip
        found.filters[function.__name__] = function
    found.filters["md"] = escape_markdown
    found.filters["code"] = code_markdown
    found.filters["fenced"] = fenced
    return found


def escape_markdown(text: object) -> Markup:
    r"""Text from outside as Markdown that shows it and does nothing else.

    >>> print(escape_markdown("a|b <script> *x* https://a.b"))
    a\|b \<script\> \*x\* https\://a.b
    """
    escaped = re.sub(r"([\\`*_\[\]<>#|~&!$])", r"\\\1", one_line(text))
    return Markup(escaped.replace("://", "\\://").replace("www.", "www\\."))


def code_markdown(text: object, in_table: bool = False) -> Markup:
    r"""Text from outside as a Markdown code span, fenced by more backticks than it holds.

    >>> print(code_markdown("a `b` c"), code_markdown("a|b", in_table=True))
    ``a `b` c`` `a\|b`
    """
    line = one_line(text) or " "
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    padding = " " if line[0] in "` " or line[-1] in "` " else ""
    return Markup(fence + padding + (line.replace("|", "\\|") if in_table else line) + padding + fence)


def fenced(text: object) -> Markup:
    r"""Text from outside as a Markdown code block, fenced by more backticks than it holds.

    >>> print(fenced("a\n```b"))
    ````text
    a
    ```b
    ````
    """
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", str(text))), default=0) + 1)
    return Markup(f"{fence}text\n{printable(text)}\n{fence}")


def confusions(confusion: Mapping[str, Mapping[str, int]], most: int = 20) -> list[tuple[str, str, int]]:
    """The most frequent wrong answers as (gold label, answer, rows), the most frequent first.

    >>> confusions({"a": {"a": 9, "b": 1}, "b": {"a": 3, "b": 0}})
    [('b', 'a', 3), ('a', 'b', 1)]
    """
    found = [
        (gold, answer, rows)
        for gold, row in confusion.items()
        for answer, rows in row.items()
        if rows and answer != gold
    ]
    return sorted(found, key=lambda one: -one[2])[:most]


def breakable(name: str) -> Markup:
    """A label's name on one line, which may be broken after underscores, hyphens and slashes.

    >>> print(breakable("card_arrival & co"))
    card_<wbr>arrival &amp; co
    """
    return Markup(re.sub(r"(?<=[_/-])(?=\w)", "<wbr>", str(escape(one_line(name)))))


def tied(text: str) -> str:
    r"""Keep a number and its unit on one line, and words that run from right to left apart from figures beside them.

    Without the marks around them, "(50.4 %)" behind an Arabic label's name is shown as "(% 50.4)".

    >>> tied("97.2 % of them, p = 0.1").split(" ")
    ['97.2\xa0%', 'of', 'them,', 'p\xa0=\xa00.1']
    >>> tied("\u0644\u063a\u0629 (5 %)") == "\u2068\u0644\u063a\u0629\u2069 (5\xa0%)"
    True
    """
    text = RIGHT_TO_LEFT.sub("\u2068\\g<0>\u2069", text)
    units = r"(?<=\d) (?=(?:%|points|MiB|Wh|h|min|s)(?!\w))|(?<=\d h) (?=\d)|(?<=\d min) (?=\d)"
    return re.sub(units + r"|(?<=\bp) (?=[=<])|(?<=[=<]) (?=\d)", "\u00a0", text)
