"""How a row becomes a prompt, and which words answer it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from labeltune.recipe.base import COUNT, Settings, Text, column_name
from labeltune.recipe.data import PLACEHOLDERS

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([^{}]+)|[{}]")


def split_template(template: str) -> list[tuple[str, bool]]:
    """A template in pieces: text, or the name of a column (True), which may be any but one with braces.

    >>> split_template("{a!} {{b}}: {c:d}")
    [('a!', True), (' {b}: ', False), ('c:d', True)]

    Raises:
        ValueError: a brace has no partner.
    """
    pieces: list[tuple[str, bool]] = []
    for match in _PIECE.finditer(template):
        if match[0] in ("{", "}"):
            raise ValueError(
                f"the template has a {match[0]!r} without a partner in {template!r}; write {{{{ and }}}} for literal "
                "braces"
            )
        if match[1] is not None:
            pieces.append((str(column_name(match[1])), True))
        else:
            text = match[0][0] if match[0] in ("{{", "}}") else match[0]
            joined = pieces.pop()[0] if pieces and not pieces[-1][1] else ""
            pieces.append((joined + text, False))
    return pieces


def columns_of(template: str) -> list[str]:
    """The columns that a template names, in order.

    >>> columns_of("{a} {labels} {a}")
    ['a', 'a']
    """
    return [text for text, is_column in split_template(template) if is_column and text not in PLACEHOLDERS]


def join_template(pieces: Sequence[tuple[str, bool]]) -> str:
    """The inverse of `split_template`.

    >>> join_template(split_template("{a!} {{b}}: {c:d}"))
    '{a!} {{b}}: {c:d}'
    """
    return "".join(
        "{" + text + "}" if is_column else text.replace("{", "{{").replace("}", "}}") for text, is_column in pieces
    )


def answer_for(label: str) -> str:
    """The word that a label's name suggests: its words apart.

    >>> answer_for("card_arrival"), answer_for("Refund_not_showing_up"), answer_for("0")
    ('card arrival', 'Refund not showing up', '0')
    """
    return " ".join(label.replace("_", " ").split()) or label


def _template(value: object) -> object:
    if isinstance(value, str):
        split_template(value)
    return value


Template = Annotated[str, BeforeValidator(_template)]


class Message(Settings):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: Template


class PromptSettings(Settings):
    """How a row becomes a prompt, and which words answer it. Either `template` or `messages`."""

    template: Template | None = None
    """Text with `{column}` for each text column, and `{labels}` and `{label_descriptions}` where the answers should be
    listed; `{{` and `}}` for literal braces."""
    chat: bool = False
    """Put the template as one user message into the chat template that comes with the model's tokenizer."""
    messages: list[Message] = []
    """Instead of the template, a chat for that chat template: a list of `{role, content}`. A role is system, user or
    assistant, a content what `template` is."""
    answers: dict[Text, Text] | list[Text] | None = None
    """The word that stands for each label name, or a list of words in the labels' order; made from the names when left
    out (`card_arrival` becomes "card arrival"). Not needed with `model.head: sequence`, which answers without words."""
    label_descriptions: dict[Text, Text] = {}
    """What each label name means, for `{label_descriptions}` in the template."""
    max_length: int | None = Field(None, ge=8, le=COUNT)
    """Longest prompt with its answer, in tokens; text columns are cut to fit. The model's own limit when left out."""
    single_token_answers: bool = False
    """Insist that every answer is one token, instead of scoring longer answers by their whole sequence."""

    @model_validator(mode="before")
    @classmethod
    def _no_answers(cls, content: object) -> object:
        """No answers at all are none given."""
        if isinstance(content, dict) and content.get("answers") in ({}, []):
            return {**content, "answers": None}
        return content

    @model_validator(mode="after")
    def _one_wording(self) -> Self:
        if self.messages and self.template is not None:
            raise ValueError("both prompt.template and prompt.messages are given; remove one of them")
        if not self.messages and self.template is None:
            raise ValueError("prompt.template is missing; give it, or prompt.messages for a chat")
        return self

    @property
    def chat_messages(self) -> list[Message]:
        """The messages for the chat template; none where the template is the whole prompt."""
        return self.messages or ([Message(role="user", content=self.texts[0])] if self.chat else [])

    @property
    def texts(self) -> list[str]:
        """What the user wrote: the template alone, or the content of each message."""
        return [message.content for message in self.messages] or [self.template or ""]

    def with_texts(self, texts: Sequence[str]) -> Self:
        """The same with other texts, in the order of `texts`."""
        if not self.messages:
            return self.model_copy(update={"template": texts[0]})
        changed = zip(self.messages, texts, strict=True)
        messages = [message.model_copy(update={"content": text}) for message, text in changed]
        return self.model_copy(update={"messages": messages})

    def with_wording(self, wording: str) -> Self:
        """The same with another text for the row's columns: as template, or in place of the one message with columns.

        >>> system = {"role": "system", "content": "Be brief."}
        >>> chat = PromptSettings(messages=[system, {"role": "user", "content": "{a}?"}])
        >>> chat.with_wording("Is it {a}?").texts
        ['Be brief.', 'Is it {a}?']
        """
        places = self.places_with_columns
        return self.with_texts([wording if place in places else text for place, text in enumerate(self.texts)])

    @property
    def places_with_columns(self) -> list[int]:
        """Which of `texts` name a column."""
        return [place for place, text in enumerate(self.texts) if columns_of(text)]

    @property
    def shown(self) -> str:
        """All of it as one text for people.

        >>> PromptSettings(messages=[{"role": "user", "content": "{a}?"}]).shown
        'user: {a}?'
        """
        return "\n\n".join(f"{message.role}: {message.content}" for message in self.messages) or self.texts[0]

    @property
    def template_columns(self) -> list[str]:
        """The columns that the template or the messages name, in order, each once.

        >>> PromptSettings(template="{a} {{b}} {c}", answers={"x": "1", "y": "2"}).template_columns
        ['a', 'c']
        """
        return list(dict.fromkeys(name for text in self.texts for name in columns_of(text)))

    @property
    def words(self) -> Mapping[str, str]:
        """The answers of a recipe whose labels are known, by label name; none with a classification head."""
        assert self.answers is None or isinstance(self.answers, dict)
        return self.answers or {}


def fill_labels(template: str, words: Sequence[str], descriptions: Mapping[str, str]) -> str:
    """The template with `{labels}` and `{label_descriptions}` written out.

    Args:
        words: the answers, in the labels' order.
        descriptions: what each of them means, by answer.

    >>> fill_labels("{text}: {labels}?", ["ham", "spam"], {})
    '{text}: ham or spam?'
    """
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
    lines = "\n".join(f"{word}: {descriptions[word]}" if word in descriptions else word for word in words)
    filled = {"labels": listed, "label_descriptions": lines}
    pieces = [
        (filled[text], False) if is_column and text in filled else (text, is_column)
        for text, is_column in split_template(template)
    ]
    return join_template(pieces)
