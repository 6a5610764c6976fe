"""How numbers, and text from outside, are written: the same in messages, in summary.json and in the report."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import regex

MISSING = "–"
EXCERPT_WIDTH = 60
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, separators of lines, marks of the writing direction, lone surrogates."""

_ASCII_WORD = re.compile(r"[a-z0-9]+(?:(?:'|_+)[a-z0-9]+)*")
_UNSPACED = "".join(
    rf"\p{{Script={name}}}" for name in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar")
)
"""Scripts without blanks between words. Tibetan is none of them: it marks the end of each syllable."""
_SINGLE = rf"[[{_UNSPACED}\u30fc\uff70]--[\p{{Nd}}\p{{P}}]]"
_RUN = rf"[[\p{{L}}\p{{M}}\p{{N}}]--{_SINGLE}]+"
WORD_CHARACTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--{_SINGLE}]"
"""What continues a word in a script with blanks, as a set of `regex` in version 1."""
_EMOJI = r"\p{Extended_Pictographic}(?:\ufe0f|\p{Emoji_Modifier}|\u200d\p{Extended_Pictographic})*"
WORD = regex.compile(
    rf"(?V1){_SINGLE}\p{{M}}*|{_EMOJI}|\p{{Regional_Indicator}}{{2}}|{_RUN}(?:(?:['’\u200c\u200d]|_+){_RUN})*"
)
"""A word: a run of letters, marks and digits, with apostrophes within it; in a script without blanks between words a
single character with its marks; an emoji."""


def words(text: str) -> list[str]:
    """The words of a text in lower case, one apostrophe for all, accents composed (Unicode NFC).

    >>> words("The dogs don't run: 2 of them.")
    ['the', 'dogs', "don't", 'run', '2', 'of', 'them']
    >>> words("我有2只猫。"), words("मैं हूँ"), words("good 👍")
    (['我', '有', '2', '只', '猫'], ['मैं', 'हूँ'], ['good', '👍'])
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    folded = unicodedata.normalize("NFC", text.lower().replace("’", "'"))
    return [match[0] for match in WORD.finditer(folded)]


def percent(share: float | None, decimals: int = 1) -> str:
    """A share as a percentage; a dash where it is undefined.

    >>> percent(0.6912), percent(None)
    ('69.1 %', '–')
    """
    return MISSING if share is None else f"{share * 100:.{decimals}f} %"


def points(difference: float | None, decimals: int = 1) -> str:
    """A difference of two shares, in percentage points, with its sign.

    >>> points(0.355), points(-0.02), points(0.0)
    ('+35.5', '−2.0', '0.0')
    """
    return signed(None if difference is None else difference * 100, decimals)


def signed(number: float | None, decimals: int = 3) -> str:
    """A number with its sign, none where it rounds to 0.

    >>> signed(0.508), signed(-0.71), signed(-0.0001)
    ('+0.508', '−0.710', '0.000')
    """
    if number is None:
        return MISSING
    text = f"{abs(number):.{decimals}f}"
    return text if float(text) == 0 else ("+" if number > 0 else "−") + text


def interval(bounds: Sequence[float] | None, decimals: int = 1) -> str:
    """An interval of shares, in per cent.

    >>> interval((0.681, 0.7))
    '[68.1, 70.0]'
    """
    return "" if bounds is None else f"[{bounds[0] * 100:.{decimals}f}, {bounds[1] * 100:.{decimals}f}]"


def points_interval(bounds: Sequence[float] | None, decimals: int = 1) -> str:
    """An interval of differences, in percentage points.

    >>> points_interval((-0.01, 0.367))
    '[−1.0, +36.7]'
    """
    return "" if bounds is None else f"[{points(bounds[0], decimals)}, {points(bounds[1], decimals)}]"


def number(value: float | None, decimals: int = 3) -> str:
    """A plain number; a dash where it is undefined.

    >>> number(1.0986), number(None), number(12345, 0)
    ('1.099', '–', '12,345')
    """
    return MISSING if value is None else f"{value:,.{decimals}f}".replace("-", "−")


def p_value(p: float) -> str:
    """A p-value as one writes it after the letter p.

    >>> p_value(0.0412), p_value(3.21e-41), p_value(0.0), p_value(1.0)
    ('= 0.041', '= 3.2e-41', '< 1e-300', '= 1')
    """
    if p < 1e-300:
        return "< 1e-300"
    return f"= {p:.2g}"


def dotted(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by their dotted names.

    >>> dict(dotted({"train": {"seed": 0}, "name": "x"}))
    {'train.seed': 0, 'name': 'x'}
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def count(how_many: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "row"), count(8842, "row"), count(0, "try", "tries")
    ('1 row', '8,842 rows', '0 tries')
    """
    return f"{how_many:,} {noun if how_many == 1 else plural or noun + 's'}"


def listed(names: Sequence[str]) -> str:
    """Names joined as in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def duration(seconds: float | None) -> str:
    """A time span, to the second or, where that is all there is, to its tenth.

    >>> duration(9033), duration(75.2), duration(3.14), duration(None)
    ('2 h 30 min 33 s', '1 min 15 s', '3.1 s', '–')
    """
    if seconds is None:
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole_s = round(seconds)
    if whole_s < 3600:
        return f"{whole_s // 60} min {whole_s % 60} s"
    return f"{whole_s // 3600:,} h {whole_s // 60 % 60} min {whole_s % 60} s"


def epoch_name(epoch: float, step: int) -> str:
    """What to call a scored checkpoint: within an epoch it is named by its step.

    >>> epoch_name(2.0, 126), epoch_name(0.32, 40)
    ('epoch 2', 'step 40 (epoch 0.32)')
    """
    return f"epoch {epoch:.0f}" if float(epoch).is_integer() else f"step {step:,} (epoch {epoch:.2f})"


def capitalised(sentence: str) -> str:
    """The sentence with a capital, the rest left alone.

    >>> capitalised("epoch 2 of SNLI")
    'Epoch 2 of SNLI'
    """
    return sentence[:1].upper() + sentence[1:]


def printable(text: object) -> str:
    r"""Text from outside with control characters written out, so that it cannot steer a terminal; line breaks and tabs
    stay.

    >>> printable("a\x1b[31mred\nnext\u202e")
    'a\\x1b[31mred\nnext\\u202e'
    """
    lines = str(text).replace("\r\n", "\n")
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), lines)


def one_line(text: object) -> str:
    r"""The same on one line: line breaks and tabs become spaces.

    >>> one_line("a\x1b[31mred\nnext")
    'a\\x1b[31mred next'
    """
    return printable(re.sub(r"[\n\t\r]", " ", str(text)))


def excerpt(value: object) -> str:
    """A value from outside on one line, cut to 60 characters, for a message.

    >>> excerpt("two\\nlines"), len(excerpt("a" * 100))
    ('two lines', 60)
    """
    text = one_line(" ".join(str(value)[: 4 * EXCERPT_WIDTH].split()))
    return text if len(text) <= EXCERPT_WIDTH else text[: EXCERPT_WIDTH - 3] + "..."


def enumerated(values: Iterable[object], most: int = 20) -> str:
    """Excerpts of values with commas between them, at most so many.

    >>> enumerated("abc"), enumerated("abc", most=2)
    ('a, b, c', 'a, b and 1 more')
    """
    texts = [excerpt(value) for value in values]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def shorten(text: str, longest: int) -> str:
    """The beginning of a long text, and how much was left out.

    >>> shorten("abcdefgh", 5), shorten("abc", 5)
    ('abcde … (3 more characters)', 'abc')
    """
    left_out = len(text) - longest
    return text if left_out <= 0 else f"{text[:longest]} … ({count(left_out, 'more character')})"
