"""Writes docs/models.md: `PYTHONPATH=tests python docs/models.py`.

Tiny random models of each family are compared with transformers, as tests/test_families.py does; it takes ten minutes.
A family that is further off than rounding ends it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from settings import table
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from families import FAMILIES, LENGTHS, OFF, ON, Comparison, compare, make_recipe, make_rows, save_model, tiny_config
from labeltune.model.base import load_base
from labeltune.text import enumerated
from tiny_configs import tiny_config as any_config

TARGET = Path(__file__).with_name("models.md")
NO_WORDS = (
    "albert", "bart", "bert", "bert-generation", "big_bird", "camembert", "cpmant", "data2vec-text", "electra", "ernie",
    "marian", "mbart", "megatron-bert", "rembert", "roberta", "roformer", "t5", "whisper", "xlm", "xlm-roberta",
    "xlnet", "xmod",
)  # fmt: skip
NO_HEAD = (
    "bart", "canine", "convbert", "fnet", "funnel", "mbart", "mt5", "nystromformer", "perceiver", "reformer", "t5",
    "umt5", "xlnet", "yoso",
)  # fmt: skip
CLASSES: dict[str, Any] = {"words": AutoModelForCausalLM, "sequence": AutoModelForSequenceClassification}


def models_page() -> str:
    """Every family that was compared or refused."""
    parts = [
        "# Which models",
        "Any causal language model of transformers can answer in words, and most models with a classification head can "
        "be tuned with one (`model.head: sequence`). A family is *packed* where it was compared with transformers: "
        "rows stand end to end, which is the fast path. Any other runs as transformers computes it, with rows padded "
        "to the longest of their batch: right, and slower. What cannot be right is refused, before the base is loaded "
        "where its configuration says enough.",
        f"Made by `PYTHONPATH=tests python docs/models.py` with transformers {transformers.__version__} and torch "
        f"{torch.__version__.split('+')[0]} on a CPU, from tiny random models and rows of {min(LENGTHS)} to "
        f"{max(LENGTHS)} tokens, where windows have 16. *Scores*: largest difference of label words' log-probabilities "
        "from transformers', one row at a time, in float32. *Adapter*: the same with a LoRA adapter that plain peft "
        "has loaded. *Gradient*: norm of the difference over the norm. *bfloat16*: the rows' median distance from "
        "float32, over transformers' own. *Head*: scores with a classification head. Generated text was the same in "
        "every family.",
    ]
    packed = [(name, compared(name, make_rows())) for name in ON]
    padded = [(name, compared(name, make_rows(LENGTHS[::3]))) for name in OFF]
    for (name, found), wanted in [*((one, True) for one in packed), *((one, False) for one in padded)]:
        if found.packed != wanted or found.faults():
            sys.exit(f"{name}: {enumerated(found.faults()) or found.note}")
    parts += [
        "## Packed",
        "A trait is what a configuration may change in attention without leaving the fast path: a window, a soft cap. "
        "Attention sinks (GPT-OSS, Granite with windows) and all rotary scalings of transformers are on it too. Each "
        "machine's kernels are tried when a base is loaded, on the longest rows at hand; where they compute something "
        "else, rows are padded and the run says so.",
        table(
            ("model type", "traits", "fused", *FIGURES),
            [(f"`{n}`", traits(n), fused(f), *figures(f)) for n, f in packed],
        ),
        "## Padded",
        "Some of the others; whatever is not in this table and not refused runs the same way.",
        table(("model type", "why", *FIGURES), [(f"`{name}`", OFF[name], *figures(found)) for name, found in padded]),
        "## Refused in words",
        table(("model type", "what is said"), refusals(NO_WORDS, "words")),
        "## Refused with a classification head",
        table(("model type", "what is said"), refusals(NO_HEAD, "sequence")),
    ]
    return "\n\n".join(parts) + "\n"


FIGURES = ("scores", "adapter", "gradient", "bfloat16", "head")


def compared(name: str, rows: Any) -> Comparison:
    print(name, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        return compare(tiny_config(name), Path(folder), rows)


def figures(found: Comparison) -> tuple[str, ...]:
    head = "none" if found.head is None else f"{found.head:.0e}"
    return f"{found.scores:.0e}", f"{found.adapter:.0e}", f"{found.gradient:.0e}", f"{found.half:.2f}", head


def traits(name: str) -> str:
    return ", ".join(sorted(FAMILIES[name])) or "-"


def fused(found: Comparison) -> str:
    return found.note.partition("fused: ")[2]


def refusals(names: Iterable[str], head: str) -> list[tuple[str, str]]:
    return [(f"`{name}`", refusal(name, head)) for name in names]


def refusal(name: str, head: str) -> str:
    """What is said when a tiny model of this family is loaded; ends where nothing is."""
    print(name, head, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as at:
        folder, config = Path(at), any_config(name)
        try:
            if config.is_encoder_decoder:  # which a decoder that is saved alone is not
                raise ValueError
            save_model(config, folder, CLASSES[head])
        except ValueError:  # the configuration is enough
            config.save_pretrained(folder)
        settings = make_recipe(folder, model={"head": head}).model
        try:
            load_base(settings, ("a", "b", "c"))
        except ValueError as error:
            return str(error).replace(str(folder), "FOLDER")
    sys.exit(f"{name} is not refused with model.head: {head}")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    TARGET.write_text(models_page(), encoding="utf-8")
