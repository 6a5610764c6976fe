"""Save models of well-known shapes with random weights: speed and memory do not depend on what the weights are.

    python benchmarks/shapes.py phi-2 llama-3.2-3b --tokenizer gpt2_bpe/ --work /tmp/benchmarks

A shape is saved once per work folder and number of layers, and found again after that. The tokenizer folder holds
GPT-2's vocab.json and merges.txt. With `--layers 1` a shape fits any machine, to try a script.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

END, PAD = "<|endoftext|>", "<|pad|>"


@dataclass(frozen=True, slots=True)
class Shape:
    """A published model's dimensions, and where its adapter goes."""

    architecture: str
    """The name of its configuration class in transformers."""
    layers: int
    settings: dict[str, Any]
    target_modules: tuple[str, ...]


EVERY_PROJECTION = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SHAPES = {
    "phi-2": Shape(
        architecture="PhiConfig",
        layers=32,
        settings={
            "vocab_size": 51200,
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_attention_heads": 32,
            "max_position_embeddings": 2048,
            "partial_rotary_factor": 0.4,
            "hidden_act": "gelu_new",
        },
        target_modules=("q_proj", "k_proj", "v_proj", "dense"),
    ),
    "llama-3.2-3b": Shape(
        architecture="LlamaConfig",
        layers=28,
        settings={
            "vocab_size": 128256,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_attention_heads": 24,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 4096,
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
        },
        target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
    ),
    "gemma-3-1b": Shape(
        architecture="Gemma3TextConfig",
        layers=26,
        settings={
            "vocab_size": 262144,
            "hidden_size": 1152,
            "intermediate_size": 6912,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "max_position_embeddings": 32768,
            "sliding_window": 512,
        },
        target_modules=EVERY_PROJECTION,
    ),
    "mistral-7b": Shape(
        architecture="MistralConfig",
        layers=32,
        settings={
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32768,
            "sliding_window": 4096,
        },
        target_modules=EVERY_PROJECTION,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="+", choices=SHAPES, metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the models")
    parser.add_argument("--layers", type=int, help="fewer than the shape's own, to try a script")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    options = parser.parse_args()
    for name in options.shapes:
        print(save_shape(name, options.tokenizer, options.work, options.layers, options.dtype))


def save_shape(name: str, tokenizer: Path, work: Path, layers: int | None = None, dtype: str = "bfloat16") -> Path:
    """The folder of this shape with its tokenizer; made on the GPU where there is one, and only where it is missing."""
    folder = shape_folder(name, work, layers, dtype)
    if not folder.is_dir():
        words = make_tokenizer(tokenizer)
        save_random(folder, make_config(name, words, layers), words, dtype)
    return folder


def save_random(folder: Path, config: Any, words: Any, dtype: str = "bfloat16") -> None:
    """A model of this configuration with random weights, and its tokenizer; the folder appears when it is whole."""
    import torch
    from transformers import AutoModelForCausalLM

    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.save_pretrained(partial)
    words.save_pretrained(partial)
    partial.rename(folder)


def find_shape(name: str, tokenizer: Path, work: Path, layers: int | None = None, dtype: str = "bfloat16") -> Path:
    """The same, made in a process of its own, so that making it leaves nothing in the caller's memory or its peak."""
    folder = shape_folder(name, work, layers, dtype)
    if not folder.is_dir():
        command = [sys.executable, __file__, name, f"--tokenizer={tokenizer}", f"--work={work}", f"--dtype={dtype}"]
        subprocess.run(command + ([f"--layers={layers}"] if layers else []), check=True, stdout=sys.stderr)
    return folder


def shape_folder(name: str, work: Path, layers: int | None, dtype: str) -> Path:
    """Where this shape is saved.

    >>> shape_folder("phi-2", Path("work"), None, "bfloat16").as_posix()
    'work/phi-2-32-layers-bfloat16'
    """
    return work / f"{name}-{layers or SHAPES[name].layers}-layers-{dtype}"


def make_config(name: str, tokenizer: Any, layers: int | None = None) -> Any:
    """The shape's configuration in transformers, with this tokenizer's special tokens."""
    import transformers

    shape = SHAPES[name]
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    architecture = getattr(transformers, shape.architecture)
    settings = shape.settings | {"vocab_size": max(shape.settings["vocab_size"], len(tokenizer))}
    return architecture(**settings, **special, num_hidden_layers=layers or shape.layers)


def make_tokenizer(folder: Path) -> Any:
    """GPT-2's byte-pair tokenizer, which Phi-2 shares, with a token for padding that is not the end of text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pairs = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    pairs.add_special_tokens([END, PAD])
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END)
    return PreTrainedTokenizerFast(tokenizer_object=pairs, pad_token=PAD, model_max_length=2048, **special)


if __name__ == "__main__":
    main()
