"""From a row to token ids: the rendered template, the answer's position, and label words checked with the tokenizer.

The template is trusted and may hold the tokenizer's control tokens; the data is not, and its text always stays text.
"""

from labeltune.prompt.chat import prompt_notes
from labeltune.prompt.encode import EncodedRows, Prompter
from labeltune.prompt.words import LabelWords, parse_answer

__all__ = ["EncodedRows", "LabelWords", "Prompter", "parse_answer", "prompt_notes"]
