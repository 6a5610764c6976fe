"""What every section of a recipe has in common."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

COUNT = 10**9
"""The largest number of rows, steps or tokens that a setting may name."""
SEED = 2**32 - 1
"""The largest seed."""


class Settings(BaseModel):
    """The common ground of all sections: frozen, and closed to unknown keys and to numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


def as_text(value: object) -> object:
    """A number or truth value that stands where a text belongs, as JSON writes it; anything else unchanged.

    >>> as_text(True), as_text(0), as_text("no")
    ('true', '0', 'no')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | str) else value


def column_name(heading: object) -> object:
    """A column's name as recipes and tables share it: composed accents (Unicode NFC), no blanks around it.

    >>> column_name(" label "), column_name("cafe\\u0301") == "caf\\u00e9"
    ('label', True)
    """
    text = as_text(heading)
    return unicodedata.normalize("NFC", text).strip().removeprefix("\ufeff") if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(as_text)]
Column = Annotated[str, BeforeValidator(column_name)]
