"""How the cost grows with the work: rows to load and audit, tokens to a prompt, parameters of the base.

    python benchmarks/growth.py [rows] [tokens] [parameters] --tokenizer gpt2_bpe/ --work /tmp/benchmarks

`rows` writes generated pairs to JSONL and times `labeltune run --dry-run` on them, with the peak of the process's
memory. `tokens` times training steps on prompts of growing length, about as many tokens in each step; `parameters`
times them on bases of growing width and depth. Both want a GPU for the larger ones: `--largest` leaves those out.
Cost is linear where the last column stays flat.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from ours import load, steps_of
from rich.console import Console
from rich.table import Table
from shapes import make_config, make_tokenizer, save_random
from table import MIB

from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import Example

ROWS = (1_000, 10_000, 100_000, 1_000_000)
TOKENS = (80, 160, 320, 640, 1280, 2000)
TOKENS_A_STEP = 1344
OF_THE_TEMPLATE = 60
WORDS = ("man", "dog", "street", "red", "walks", "sings", "two", "people", "near", "water")
WIDTHS = {100: (768, 12), 300: (1024, 24), 1000: (2048, 18), 3000: (2560, 36), 7000: (4096, 32)}
"""Hidden size and layers by millions of parameters."""
STEPS = 12
"""Of each size; the median of the last two thirds counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; all of them if left out")
    parser.add_argument("--tokenizer", type=Path, default=Path("gpt2_bpe"), help="GPT-2's vocab.json and merges.txt")
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"))
    parser.add_argument("--largest", type=int, help="rows, tokens or millions of parameters that are not exceeded")
    given = parser.parse_args()
    unknown = [kind for kind in given.kinds if kind not in KINDS]
    if unknown:
        parser.error(f"there is no {unknown[0]!r}; choose from {', '.join(KINDS)}")
    given.work.mkdir(parents=True, exist_ok=True)
    for kind in given.kinds or KINDS:
        Console(width=100).print(KINDS[kind](given))


def grow_rows(given: argparse.Namespace) -> Table:
    """Time and memory of loading, auditing and encoding."""
    table = Table("rows", "s", "peak host memory, MiB", "ms per row", title="Rows: load and audit")
    for rows in sizes(ROWS, given):
        with TemporaryDirectory(dir=given.work) as folder:
            recipe = write_rows(Path(folder), rows)
            begun_s = time.perf_counter()
            command = [sys.executable, "-m", "labeltune", "run", str(recipe), "--dry-run", "--json"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            spent_s = time.perf_counter() - begun_s
        if process.returncode:
            raise SystemExit(f"labeltune failed on {rows:,} rows")
        table.add_row(f"{rows:,}", f"{spent_s:.1f}", f"{usage.ru_maxrss / 1024:,.0f}", f"{1000 * spent_s / rows:.3f}")
    return table


def write_rows(folder: Path, rows: int) -> Path:
    """Generated pairs as JSONL files, so many to train on and 1,000 to test with, and a recipe for them."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "pretraining"))
    from pairs import generate_pairs

    files = {}
    for split, count in (("train", rows), ("test", 1000)):
        path = folder / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as lines:
            for pair in generate_pairs(split, count, 0):
                lines.write(json.dumps(pair) + "\n")
        files[split] = str(path)
    recipe = load_recipe("quickstart").model_dump(mode="json")
    recipe["data"] |= {"files": files}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def grow_tokens(given: argparse.Namespace) -> Table:
    """Training steps of about as many tokens, in fewer and longer rows."""
    table = Table("tokens a row", "rows a step", "s per step", "µs per token", title="Tokens: training steps")
    base = save_base(given, WIDTHS[100])
    for tokens in sizes(TOKENS, given):
        rows = max(1, TOKENS_A_STEP // tokens)
        seconds, seen = time_steps(base, tokens, rows)
        table.add_row(f"{tokens:,}", str(rows), f"{seconds:.3f}", f"{1e6 * seconds / seen:.1f}")
    return table


def grow_parameters(given: argparse.Namespace) -> Table:
    """Training steps of the same rows on larger bases."""
    columns = ("parameters, M", "s per step", "peak allocated, MiB", "ns per parameter")
    table = Table(*columns, title="Parameters: training steps")
    for millions in sizes(tuple(WIDTHS), given):
        base = save_base(given, WIDTHS[millions])
        seconds, _ = time_steps(base, 84, TOKENS_A_STEP // 84)
        table.add_row(f"{millions:,}", f"{seconds:.3f}", peak_mib(), f"{1000 * seconds / millions:.3f}")
    return table


KINDS: dict[str, Callable[[argparse.Namespace], Table]] = {
    "rows": grow_rows,
    "tokens": grow_tokens,
    "parameters": grow_parameters,
}


def sizes(all_sizes: tuple[int, ...], given: argparse.Namespace) -> list[int]:
    return [size for size in all_sizes if given.largest is None or size <= given.largest]


def save_base(given: argparse.Namespace, shape: tuple[int, int]) -> Path:
    """A Phi of this hidden size and so many layers, with random weights."""
    hidden, layers = shape
    folder: Path = given.work / f"growth-{hidden}-{layers}"
    if not folder.is_dir():
        words = make_tokenizer(given.tokenizer)
        config = make_config("phi-2", words, layers)
        config.hidden_size, config.intermediate_size, config.num_attention_heads = hidden, 4 * hidden, hidden // 64
        config.num_key_value_heads = config.num_attention_heads
        config.rope_parameters["partial_rotary_factor"] = 0.5
        save_random(folder, config, words)
    return folder


def time_steps(base: Path, tokens: int, rows: int) -> tuple[float, float]:
    """Seconds of a step, the median, and tokens in it; prompts of about so many tokens, all unlike."""
    import torch

    quantization = "nf4" if torch.cuda.is_available() else "none"
    settings = [f"model.name_or_path={base}", f"model.quantization={quantization}", f"train.max_steps={STEPS}"]
    recipe = load_recipe("snli-phi2-best", [*settings, f"train.per_device_train_batch_size={rows}"])
    classifier = load(recipe)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    _, steps = steps_of(classifier, recipe, make_rows(recipe, tokens, rows * STEPS))
    late = [(step.elapsed_s, step.tokens) for step in steps][STEPS // 3 :]
    return median(seconds for seconds, _ in late), sum(seen for _, seen in late) / len(late)


def make_rows(recipe: Recipe, tokens: int, count: int) -> list[Example]:
    """Rows whose premise is a run of random words."""
    random = np.random.default_rng(0)
    premises = [" ".join(random.choice(WORDS, max(4, tokens - OF_THE_TEMPLATE))) for _ in range(count)]
    return [
        Example(str(place), {"premise": premise, "hypothesis": "It is."}, recipe.data.label_names[place % 3])
        for place, premise in enumerate(premises)
    ]


def peak_mib() -> str:
    """Peak of allocated GPU memory."""
    import torch

    return f"{torch.cuda.max_memory_allocated() / MIB:,.0f}" if torch.cuda.is_available() else "-"


if __name__ == "__main__":
    main()
