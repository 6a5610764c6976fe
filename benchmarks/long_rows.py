"""Training on rows longer than a model's windows of attention: labeltune beside transformers' Trainer with peft.

    python benchmarks/long_rows.py [SHAPE ...] --rows reviews.jsonl --tokenizer gpt2_bpe/ --work /tmp/benchmarks

Rows are JSONL with text and label (0, 1), such as film reviews; for Mistral's window several are joined into one. Both
stacks take the same rows in the same random batches of 16, in bfloat16, with the same LoRA adapter without dropout.
labeltune's two epochs are taken whole, what it records on the way included, without computing activations again; of
Trainer's a few steps, the first third left out, and it computes them again where its memory would not do. `--layers 1
--steps 3 --ours 3` tries the script on any machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

from peer_training import device, make_trainer, peak_mib, synchronize
from rows import Encoded, read_examples
from shapes import SHAPES, find_shape
from table import Measured, print_line, report_as_measured, run_apart

from labeltune.environment import prepare_libraries
from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import Example

BATCH_SIZE = 16


@dataclass(frozen=True, slots=True)
class Subject:
    """A shape, and the rows for it."""

    longest: int
    """Tokens to which prompts are cut."""
    most_joined: int
    """Reviews in a row, at most; their number is random."""
    layers: int | None
    """Fewer than the shape's own, so that the peer's activations fit."""
    checkpointing: bool
    """Whether the peer computes activations again: without it Mistral's rows need more than 139 GiB."""


SUBJECTS = {
    "gemma-3-1b": Subject(longest=768, most_joined=4, layers=None, checkpointing=False),
    "mistral-7b": Subject(longest=8192, most_joined=30, layers=4, checkpointing=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(SUBJECTS))
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the models")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--steps", type=int, default=12, help="of the peer")
    parser.add_argument("--ours", type=int, help="steps of labeltune; all of two epochs if left out")
    parser.add_argument("--limit", type=float, default=240.0, help="seconds for each stack")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        prepare_libraries()
        stack, _, name = given.one.partition(" ")
        print_line(STACKS[stack](name, given))
        return
    arguments = [f"--{name}={Path(getattr(given, name)).resolve()}" for name in ("rows", "tokenizer", "work")]
    numbers = {name: getattr(given, name) for name in ("steps", "ours", "layers")}
    arguments += [f"--{name}={value}" for name, value in numbers.items() if value is not None]
    names = [f"{stack} {name}" for name in given.shapes or SUBJECTS for stack in STACKS]
    rows = (run_apart(Path(__file__), name, arguments, limit_s=given.limit) for name in names)
    report_as_measured("rows longer than the window", rows, given.out, "long-rows")


def train_ours(name: str, given: argparse.Namespace) -> Measured:
    """labeltune's steps."""
    from labeltune.job import load_plain
    from labeltune.model.adapter import add_adapter
    from labeltune.model.ready import make_ready
    from labeltune.terminal import Terminal
    from labeltune.train.loop import make_stepper, train
    from labeltune.train.schedule import make_schedule

    recipe, examples = prepare(name, given)
    classifier, base = load_plain(recipe, Terminal(quiet=True))
    classifier = replace(classifier, model=add_adapter(base.model, recipe.adapter, seed=0))
    encoded = classifier.prompter.encode_rows(examples)
    classifier, notes = make_ready(classifier, [encoded])
    schedule = make_schedule(recipe.train, len(encoded))
    stepper = make_stepper(classifier, schedule)
    peak_mib(reset=True)
    begun_s = time.perf_counter()
    steps = sum(1 for _ in itertools.islice(train(stepper, encoded, schedule), given.ours))
    synchronize()
    s_per_step = (time.perf_counter() - begun_s) / steps
    window = base.model.config.sliding_window
    note = f"{steps} steps, {len(stepper._graphs)} shapes recorded; {notes[0].split(';')[0]}; "
    note += told(encoded.lengths.tolist(), window)
    return Measured("labeltune", name, BATCH_SIZE, s_per_step, peak_allocated_mib=peak_mib(), note=note)


def train_hf(name: str, given: argparse.Namespace) -> Measured:
    """The same by transformers' Trainer, which pads each batch to its longest row."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from labeltune.prompt import Prompter
    from labeltune.train.loop import rows_by_step
    from labeltune.train.schedule import make_schedule

    recipe, examples = prepare(name, given)
    folder = recipe.model.name_or_path
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map={"": device()})
    adapter = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.adapter.r,
        lora_alpha=recipe.adapter.lora_alpha,
        target_modules=list(SHAPES[name].target_modules),
    )
    model, tokenizer = get_peft_model(model, adapter), AutoTokenizer.from_pretrained(folder)
    prompter = Prompter(tokenizer, recipe.prompt, recipe.data.label_names, SUBJECTS[name].longest)
    encoded = prompter.encode_rows(examples)
    schedule = make_schedule(recipe.train, len(encoded))
    rows: list[Encoded] = []
    for _, micro_batches in itertools.islice(rows_by_step(encoded, schedule, 1), given.steps):
        for row in micro_batches[0]:
            prompt, answer = encoded.prompt(row).tolist(), list(prompter.words.token_ids[encoded.gold[row]])
            rows.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    os.chdir(given.work)
    trainer, ends_s = make_trainer(
        model,
        tokenizer,
        rows,
        per_device_train_batch_size=BATCH_SIZE,
        train_sampling_strategy="sequential",
        num_train_epochs=1,
        bf16=device() != "cpu",
        gradient_checkpointing=SUBJECTS[name].checkpointing,
        save_strategy="no",
    )
    peak_mib(reset=True)
    trainer.train()
    note = f"{len(ends_s)} steps, {'' if SUBJECTS[name].checkpointing else 'no '}checkpointing"
    return Measured("HF Trainer", name, BATCH_SIZE, seconds_per_step(ends_s), peak_allocated_mib=peak_mib(), note=note)


STACKS = {"ours": train_ours, "hf": train_hf}


def prepare(name: str, given: argparse.Namespace) -> tuple[Recipe, list[Example]]:
    """The recipe on this shape's random weights, and its rows."""
    subject = SUBJECTS[name]
    folder = find_shape(name, given.tokenizer, given.work, given.layers or subject.layers)
    settings = [
        f"model.name_or_path={folder}",
        "model.dtype=bfloat16",
        "adapter.lora_dropout=0",
        f"prompt.max_length={subject.longest}",
        f"train.per_device_train_batch_size={BATCH_SIZE}",
        "train.gradient_checkpointing=false",
    ]
    recipe = load_recipe("imdb", settings)
    chance = random.Random(0)
    reviews = read_examples(given.rows, recipe)
    texts = [one.columns["text"] for one in reviews]
    joined = [
        Example(one.id, {"text": " ".join(chance.sample(texts, chance.randint(1, subject.most_joined)))}, one.gold)
        for one in reviews
    ]
    return recipe, reviews if subject.most_joined == 1 else joined


def seconds_per_step(ends_s: list[float]) -> float:
    """Of all but the first third."""
    warm = max(1, len(ends_s) // 3)
    return (ends_s[-1] - ends_s[warm - 1]) / (len(ends_s) - warm)


def told(lengths: list[int], window: int) -> str:
    """The rows in words."""
    beyond = sum(length > window for length in lengths) / len(lengths)
    return f"rows of {min(lengths)} to {max(lengths):,} tokens, {beyond:.0%} longer than the window of {window:,}"


if __name__ == "__main__":
    main()
