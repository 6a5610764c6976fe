"""A chat as parts, by the chat template that comes with the model's tokenizer.

The template is rendered once with marks for the columns, so that a row's text cannot steer it. What it does to the text
of messages is found out by trying; a template that does more than strip blanks is refused.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from labeltune.prompt.control import unused_text
from labeltune.prompt.template import NEUTRAL, Column, Literal, Part, Trims, parse_template, part_texts
from labeltune.recipe import PromptSettings
from labeltune.text import excerpt, one_line, shorten

NO_THINKING = {"enable_thinking": False, "thinking": False}
"""Switches of chat templates (Qwen 3, GLM, SmolLM3; DeepSeek, Granite), all off: the answer comes at once."""
DATE = datetime.date(2024, 7, 26)
"""The day that templates write which ask for today's (some of Llama 3's have it as a default): a prompt must not change
overnight."""
BLANKS = (" ", "\n", "\t")
PROBES = ("word", " \t padded \n")

Render = Callable[[Sequence[str]], str]


def chat_parts(tokenizer: Any, settings: PromptSettings) -> tuple[list[Part], Trims, str]:
    """The chat's parts, what is stripped from its messages, and what stands between its end and an answer.

    Raises:
        ValueError: there is no chat template, it refuses these messages, or it changes their text.
    """
    messages = settings.chat_messages
    if not tokenizer.chat_template:
        raise ValueError(
            "the model's tokenizer has no chat template, which prompt.chat and prompt.messages need; choose a model "
            "that was trained for chats, or write the whole prompt into prompt.template"
        )
    contents = [parse_template(message.content, place) for place, message in enumerate(messages)]
    source = tokenizer.get_chat_template()
    mark = unused_text(source + "".join(message.content for message in messages))

    def render(texts: Sequence[str], answer: str | None = None) -> str:
        chat = [{"role": message.role, "content": text} for message, text in zip(messages, texts, strict=True)]
        answered = [] if answer is None else [{"role": "assistant", "content": answer}]
        return _render(tokenizer, source, chat + answered, begin_answer=answer is None)

    marked = [_marked(parts, place, mark) for place, parts in enumerate(contents)]
    rendered = render(marked)
    for place, message in enumerate(messages):
        if f"{mark}b{place}{mark}" not in rendered or f"{mark}e{place}{mark}" not in rendered:
            raise ValueError(
                f"the model's chat template leaves out the {message.role} message {excerpt(message.content)!r}; remove "
                "it, or put its text into a user message"
            )
    trims = {place: _stripped(render, marked, place, rendered) for place in range(len(messages))}
    parts = _strip_literals(_split(rendered, mark), trims)
    _check_followed(render, contents, parts, trims)
    return parts, trims, _before_answer(lambda answer: render(marked, answer), rendered, mark)


def prompt_notes(tokenizer: Any, settings: PromptSettings) -> list[str]:
    """What a user should know of model and prompt: a chat template that is not used, or one that asks for the day."""
    if not tokenizer.chat_template:
        return []
    if not settings.chat_messages:
        return ["the model has a chat template, which this recipe does not use; prompt.chat: true does"]
    dated = _dated(tokenizer.get_chat_template()) != tokenizer.get_chat_template()
    return [f"the chat template writes today's date; here it is always {DATE:%d %b %Y}"] if dated else []


def _render(tokenizer: Any, source: str, chat: list[dict[str, str]], begin_answer: bool) -> str:
    try:
        rendered: str = tokenizer.apply_chat_template(
            chat, chat_template=_dated(source), add_generation_prompt=begin_answer, tokenize=False, **NO_THINKING
        )
    except Exception as error:  # a template is a program, and may fail in any way
        roles, why = ", ".join(message["role"] for message in chat), one_line(shorten(str(error), 300))
        raise ValueError(
            f"the model's chat template refuses messages of these roles ({roles}): {why}; "
            "change prompt.messages, or write the whole prompt into prompt.template"
        ) from error
    return rendered


def _dated(source: str) -> str:
    """The chat template with a fixed day in place of today's, in every format that it asks for.

    >>> print(_dated("{{ strftime_now('%Y') }}"))
    {% macro strftime_now(format) %}{{ {"%Y": "2024"}[format] }}{% endmacro %}{{ "" }}{{ strftime_now('%Y') }}
    """
    formats = re.findall(r"""strftime_now\(\s*(["'])(.*?)\1""", source)
    if not formats:
        return source
    days = json.dumps({form: DATE.strftime(form) for _, form in formats})
    return f'{{% macro strftime_now(format) %}}{{{{ {days}[format] }}}}{{% endmacro %}}{{{{ "" }}}}{source}'


def _marked(parts: Sequence[Part], place: int, mark: str) -> str:
    """A message's text with marks at its beginning and end, and one with its name for each column."""
    inner = "".join(part.text if isinstance(part, Literal) else f"{mark}c{part.name}{mark}" for part in parts)
    return f"{mark}b{place}{mark}{inner}{mark}e{place}{mark}"


def _split(rendered: str, mark: str) -> list[Part]:
    """The rendered chat as parts; the inverse of `_marked`.

    >>> _split("<#b0#A #cx##e0#>", "#")
    [Literal(text='<', token_id=None, message=None), Literal(text='A ', token_id=None, message=0), \
Column(name='x', message=0), Literal(text='>', token_id=None, message=None)]
    """
    parts: list[Part] = []
    message = None
    for place, piece in enumerate(rendered.split(mark)):
        if place % 2 == 0:
            parts += [Literal(piece, message=message)] if piece else []
        elif piece[0] == "c":
            parts.append(Column(piece[1:], message))
        else:
            message = int(piece[1:]) if piece[0] == "b" else None
    return parts


def _stripped(render: Render, marked: list[str], place: int, rendered: str) -> tuple[str | None, str | None]:
    """Which blanks the chat template strips from the beginning and the end of a message: None for all."""

    def at(before: str, after: str) -> bool:
        changed = f"{before}{marked[place]}{after}"
        return render([*marked[:place], changed, *marked[place + 1 :]]) == rendered

    left = "".join(blank for blank in BLANKS if at(blank, ""))
    right = "".join(blank for blank in BLANKS if at("", blank))
    return None if len(left) == len(BLANKS) else left, None if len(right) == len(BLANKS) else right


def _strip_literals(parts: Sequence[Part], trims: Trims) -> list[Part]:
    """What is stripped from the messages' own text whatever the row."""
    columns = {part.name: NEUTRAL for part in parts if isinstance(part, Column)}
    stripped = zip(parts, part_texts(parts, columns, trims), strict=True)
    return [replace(part, text=text) if isinstance(part, Literal) else part for part, text in stripped if text]


def _check_followed(render: Render, contents: Sequence[Sequence[Part]], parts: Sequence[Part], trims: Trims) -> None:
    """See that rows come out as the chat template itself renders them."""
    for probe in PROBES:
        columns = {part.name: probe for part in parts if isinstance(part, Column)}
        whole = render(["".join(part_texts(content, columns, {})) for content in contents])
        if whole != "".join(part_texts(parts, columns, trims)):
            raise ValueError(
                "the model's chat template does more with the text of messages than to strip blanks from it, which "
                "labeltune cannot follow; write the whole prompt into prompt.template"
            )


def _before_answer(render_answered: Callable[[str], str], rendered: str, mark: str) -> str:
    """The blanks between the prompt and an answer, as the chat template writes an assistant's message."""
    answer = f"{mark}answer{mark}"
    try:
        before, found, _ = render_answered(answer).partition(answer)
    except ValueError:  # it takes no further message; the prompt is as it should be
        return ""
    between = before.removeprefix(rendered)
    return between if found and between != before and between.isspace() else ""
