"""The peers' training and scoring, measured beside each other: HF Trainer, Unsloth, plain transformers, and arithmetic.

    python benchmarks/peers.py [STACK ...] --train train.jsonl --score dev.jsonl.gz --tokenizer gpt2_bpe/ \\
        --work /tmp/benchmarks --out /tmp/figures [--unsloth-path FOLDER]

Without names every stack that needs a GPU runs; `--list` tells them. Rows are JSONL with premise, hypothesis and label
(0, 1, 2). Each stack has a process of its own and the same rows, batched by like length. A few steps or batches are
measured with the device synchronised, the first third left out, and projected to 5 epochs over 1,001 rows and to
scoring 9,824. The weights are random in a known shape (shapes.py), so accuracy means nothing. `--layers 1 --steps 3`
tries the script on any machine. `--unsloth-path` is a folder to put on the path of Unsloth's processes alone.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from table import Measured, print_line, report_as_measured, run_apart

LLAMA = "llama-3.2-3b"
LIMIT_S = 240.0


@dataclass(frozen=True, slots=True)
class Options:
    """What every stack is told."""

    train: Path
    """JSONL rows to train on; the first 1,001 are used."""
    score: Path
    """JSONL rows to score."""
    tokenizer: Path
    work: Path
    recipe: str
    layers: int | None
    steps: int
    score_rows: int


@dataclass(frozen=True, slots=True)
class Training:
    """One way to train with LoRA on an NF4 base."""

    title: str
    shape: str = "phi-2"
    batch_size: int = 16
    dtype: str = "bfloat16"
    checkpointing: bool = False
    dropout: float = 0.05
    unsloth: bool = False

    def describe(self) -> str:
        """The arguments in words.

        >>> Training("HF Trainer").describe()
        'bfloat16, no checkpointing, dropout 0.05'
        """
        return f"{self.dtype}, {'' if self.checkpointing else 'no '}checkpointing, dropout {self.dropout:g}"


TRAINING = {
    "hf-experiment": Training(
        "HF Trainer, the experiment's arguments", batch_size=1, dtype="float16", checkpointing=True
    ),
    "hf-1": Training("HF Trainer", batch_size=1, dtype="float16"),
    "hf-16": Training("HF Trainer"),
    "unsloth-16": Training("Unsloth", dropout=0.0, checkpointing=True, unsloth=True),
    "hf-llama-16": Training("HF Trainer", LLAMA, dropout=0.0),
    "unsloth-llama-16": Training("Unsloth", LLAMA, dropout=0.0, unsloth=True),
}


def measure(stack: str, options: Options) -> Measured:
    """The inner call: one stack's figures."""
    if stack in TRAINING:
        from peer_training import train

        return train(TRAINING[stack], options)
    return OTHERS[stack](options)


def _labels_64(options: Options) -> Measured:
    from peer_scoring import score_labels

    return score_labels(options, batch_size=64)


def _generate_1(options: Options) -> Measured:
    from peer_scoring import generate

    return generate(options, new_tokens=10)


def _arithmetic(shape: str) -> Callable[[Options], Measured]:
    def measured(options: Options) -> Measured:
        from limit import arithmetic

        return arithmetic(options, shape)

    return measured


def _quickstart(options: Options) -> Measured:
    from peer_training import train_quickstart

    return train_quickstart(options.work, options.steps)


OTHERS: dict[str, Callable[[Options], Measured]] = {
    "labels-64": _labels_64,
    "generate-1": _generate_1,
    "arithmetic": _arithmetic("phi-2"),
    "arithmetic-llama": _arithmetic(LLAMA),
    "hf-quickstart-cpu": _quickstart,
}
ON_GPU = [*TRAINING, *(name for name in OTHERS if name != "hf-quickstart-cpu")]


def main() -> None:
    parser = make_parser()
    given = parser.parse_args()
    if given.list:
        print("\n".join([*TRAINING, *OTHERS]))
        return
    unknown = [name for name in given.stacks if name not in (*TRAINING, *OTHERS)]
    if unknown:
        parser.error(f"there is no stack {unknown[0]!r}; choose from {', '.join([*TRAINING, *OTHERS])}")
    options = options_of(given)
    if given.one:
        print_line(measure(given.one, options))
        return
    rows = (measure_apart(name, options, given.unsloth_path, given.limit) for name in given.stacks or ON_GPU)
    report_as_measured("Peers", rows, given.out, "peers")


def measure_apart(stack: str, options: Options, unsloth_path: Path | None = None, limit_s: float = LIMIT_S) -> Measured:
    """One stack of this file in a process of its own."""
    environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if stack in TRAINING and TRAINING[stack].unsloth:
        paths = [str(unsloth_path.resolve())] if unsloth_path else []
        paths += [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "UNSLOTH_DISABLE_STATISTICS": "1"}
    return run_apart(Path(__file__), stack, as_arguments(options), limit_s=limit_s, environment=environment)


def as_arguments(options: Options) -> list[str]:
    """The options as the inner call's command line; paths are absolute, since a stack may change its folder."""
    paths = {"train": options.train, "score": options.score, "tokenizer": options.tokenizer, "work": options.work}
    arguments = [f"--{name}={path.resolve()}" for name, path in paths.items()]
    arguments += [f"--recipe={options.recipe}", f"--steps={options.steps}", f"--score-rows={options.score_rows}"]
    return arguments + ([f"--layers={options.layers}"] if options.layers else [])


def options_of(given: argparse.Namespace) -> Options:
    """What the command line says; the work folder is made."""
    given.work.mkdir(parents=True, exist_ok=True)
    names = ("train", "score", "tokenizer", "work", "recipe", "layers", "steps", "score_rows")
    return Options(**{name: getattr(given, name) for name in names})


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", nargs="*", metavar="STACK")
    parser.add_argument("--list", action="store_true", help="name the stacks and stop")
    parser.add_argument("--train", type=Path, default=Path("train.jsonl"))
    parser.add_argument("--score", type=Path, default=Path("dev.jsonl"))
    parser.add_argument("--tokenizer", type=Path, default=Path("gpt2_bpe"))
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"), help="a folder for models and caches")
    parser.add_argument("--out", type=Path, help="a folder for peers.json")
    parser.add_argument("--recipe", default="snli-phi2", help="whose prompt and answers")
    parser.add_argument("--layers", type=int, help="fewer than the shape's own, to try the script")
    parser.add_argument("--steps", type=int, default=36, help="training steps, the first third of them left out")
    parser.add_argument("--score-rows", type=int, default=2048, help="rows that are scored")
    parser.add_argument("--unsloth-path", type=Path, help="a folder with Unsloth and what it needs")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that one stack may take")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
