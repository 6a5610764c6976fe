"""From a row to token ids: the rendered template, the answer's position, and label words checked with the tokenizer.

The template is trusted and may hold the tokenizer's control tokens; the data is not, and its text always stays text.
"""

from labeltune.prompt.chat import prompt_notes
from labeltune.prompt.encode import EncodedRows, Prompter
from labeltune.prompt.reading import parse_answer, read_answer
from labeltune.prompt.words import LabelWords, end_token, named_ends

__all__ = [
    "EncodedRows", "LabelWords", "Prompter", "end_token", "named_ends", "parse_answer", "prompt_notes", "read_answer",
]  # fmt: skip
