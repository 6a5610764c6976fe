"""Look at a finished small base: its shape, its perplexity, and what tuning makes of it.

    python pretraining/check.py --model FOLDER --text FOLDER

On a CPU, `--rows 300 --train_rows 501 --epochs 3 --words 20000 --prompts experiment` takes a few minutes.

Shapes: N rows, T tokens, V vocabulary, K labels.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from corpus import read_rows, wikitext
from pairs import LABELS, generate_pairs
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = {
    "experiment": (
        "Given the premise {premise} and the hypothesis {hypothesis}, determine whether the hypothesis entails the "
        "premise. Output 0 in case of entailment, 1 in case the statements are unrealted or not directly implied, 2 in "
        "case of a contradiction. Please answer with only the number: 0, 1, or 2."
    ),
    "short": "{premise}\n{hypothesis}\n",
}


def encode(tokenizer: Any, rows: list[dict[str, str]], template: str) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts padded on the left: ids_NT, real_NT (1 where a token is no padding), gold_N."""
    ids = [tokenizer.encode(template.format(**row))[:500] for row in rows]
    width = max(map(len, ids))
    ids_NT = torch.tensor([[0] * (width - len(found)) + found for found in ids])
    real_NT = torch.tensor([[0] * (width - len(found)) + [1] * len(found) for found in ids])
    return ids_NT, real_NT, torch.tensor([LABELS.index(row["label"]) for row in rows])


def answer_logits(model: nn.Module, ids_NT: Tensor, real_NT: Tensor, device: str) -> Tensor:
    """(N, V) at the answer's position, which is the last."""
    width = int(real_NT.sum(1).max())
    ids_NT, real_NT = ids_NT[:, -width:].to(device), real_NT[:, -width:].to(device)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        return model(input_ids=ids_NT, attention_mask=real_NT, logits_to_keep=1).logits[:, -1].float()


@torch.no_grad()
def score(model: nn.Module, data: tuple[Tensor, Tensor, Tensor], words: list[int], device: str) -> tuple[float, str]:
    """Accuracy, and the share of answers that each label gets."""
    ids_NT, real_NT, gold_N = data
    model.eval()
    chosen = [
        answer_logits(model, ids_NT[at : at + 250], real_NT[at : at + 250], device)[:, words].argmax(1).cpu()
        for at in range(0, len(gold_N), 250)
    ]
    predicted_N = torch.cat(chosen)
    counts = Counter(predicted_N.tolist())
    shares = " / ".join(f"{100 * counts[label] / len(gold_N):.0f}" for label in range(3))
    return (predicted_N == gold_N).float().mean().item(), shares


def tune(folder: Path, train: Any, held_out: Any, words: list[int], args: argparse.Namespace) -> list[float]:
    """LoRA on the answer token alone; the held-out accuracy after each epoch."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(args.device)
    settings = LoraConfig(
        r=32, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "dense"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, settings)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=args.learning_rate, weight_decay=0.0)
    ids_NT, real_NT, gold_N = train
    answers_N = torch.tensor(words)[gold_N].to(args.device)
    steps_per_epoch = math.ceil(len(gold_N) / 16)
    found = []
    for epoch in range(args.epochs):
        model.train()
        for number, rows in enumerate(torch.randperm(len(gold_N)).split(16)):
            done = (epoch * steps_per_epoch + number) / (args.epochs * steps_per_epoch)
            optimiser.param_groups[0]["lr"] = args.learning_rate * min((done + 0.001) / 0.05, 1 - done)
            logits_NV = answer_logits(model, ids_NT[rows], real_NT[rows], args.device)
            functional.cross_entropy(logits_NV, answers_N[rows.to(args.device)]).backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        found.append(score(model, held_out, words, args.device)[0])
    return found


@torch.no_grad()
def perplexity(model: nn.Module, tokenizer: Any, text: str, device: str) -> tuple[float, float]:
    """Per token, and per word of the text, in windows of 256 tokens."""
    ids = tokenizer.encode(text)
    ids_NT = torch.tensor(ids[: len(ids) // 256 * 256]).view(-1, 256)
    nats = 0.0
    for batch_NT in ids_NT.split(16):
        tokens_NT = batch_NT.to(device)
        logits_NTV = model(input_ids=tokens_NT).logits[:, :-1].float()
        nats += functional.cross_entropy(logits_NTV.flatten(0, 1), tokens_NT[:, 1:].flatten(), reduction="sum").item()
    per_token = nats / (len(ids_NT) * 255)
    return math.exp(per_token), math.exp(per_token * len(ids) / len(text.split()))


def tasks(args: argparse.Namespace) -> dict[str, tuple[list[dict[str, str]], list[dict[str, str]]]]:
    """Training and held-out rows of each task."""
    return {
        "SNLI": (
            read_rows(args.text / "check_train.jsonl.xz")[: args.train_rows],
            read_rows(args.text / "check_dev.jsonl.xz")[: args.rows],
        ),
        "own pairs": (
            list(generate_pairs("train", args.train_rows, 0)),
            list(generate_pairs("test", min(args.rows, 600), 0)),
        ),
    }


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--rows", type=int, default=2000, help="held-out rows at most")
    parser.add_argument("--train_rows", type=int, default=1001, help="rows for tuning at most")
    parser.add_argument("--words", type=int, default=200_000, help="words of WikiText-2 at most")
    parser.add_argument("--prompts", nargs="+", choices=list(PROMPTS), default=list(PROMPTS))
    return parser


def main() -> None:
    args = argument_parser().parse_args()

    started_s = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    words = [tokenizer.encode(f" {digit}") for digit in range(10)]
    if any(len(ids) != 1 for ids in words):
        raise SystemExit(f"some digit is not a single token: {words}; train the tokenizer again")
    answers = [ids[0] for ids in words[:3]]
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(args.device)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters; digits are single tokens")
    weights_file = args.model / "model.safetensors"
    print(f"{weights_file.stat().st_size:,} bytes, sha256 {hashlib.sha256(weights_file.read_bytes()).hexdigest()}")
    text = " ".join(wikitext(args.text, "test").split(" ")[: args.words])
    per_token, per_word = perplexity(model, tokenizer, text, args.device)
    print(f"WikiText-2 test: perplexity {per_token:.1f} per token, {per_word:.1f} per word")
    for task, (train_rows, held_out_rows) in tasks(args).items():
        for name in args.prompts:
            train = encode(tokenizer, train_rows, PROMPTS[name])
            held_out = encode(tokenizer, held_out_rows, PROMPTS[name])
            before, shares = score(model, held_out, answers, args.device)
            after = " ".join(f"{100 * found:.1f}" for found in tune(args.model, train, held_out, answers, args))
            print(f"{task:9} {name:10} before {before:.1%} (answers {shares} %)  each epoch {after}", flush=True)
    print(f"checked in {time.perf_counter() - started_s:.0f} s")


if __name__ == "__main__":
    main()
