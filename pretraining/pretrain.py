"""Pretrain the small base: minutes on one GPU.

    python pretraining/pretrain.py --text FOLDER --tokenizer FOLDER --out FOLDER --minutes 5

Beside the next token it learns, at the end of a sentence, the sentence's vector from the encoder (teach.py).

Shapes: B rows in a batch, T tokens in a row, V vocabulary, H width, S sentences, E channels of a sentence vector.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import encoder
import numpy as np
import torch
from corpus import END_OF_TEXT, NOTHING, VECTORS, Rows, build
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoTokenizer, PhiConfig, PhiForCausalLM

# share of the training tokens that each source gives, and how many passes of other wordings are made of it
MIX = {"books": 0.06, "sentences": 0.10, "captions": 0.06, "explanations": 0.08, "mnli": 0.10, "wanli": 0.06,
       "guesses": 0.30, "generated": 0.24}  # fmt: skip
COPIES = {"sentences": 2, "captions": 4, "explanations": 6, "mnli": 8, "wanli": 8, "guesses": 12}
WARMUP, COOLDOWN = 0.02, 0.4  # shares of the run in which the rate rises, and in which it falls to 0


@dataclass(frozen=True)
class Budget:
    """The run ends when either is spent; the learning rate follows the larger share."""

    tokens: int
    seconds: float

    def spent(self, tokens: int, elapsed_s: float) -> float:
        """
        >>> Budget(tokens=100, seconds=60.0).spent(50, 15.0)
        0.5
        """
        return max(tokens / self.tokens, elapsed_s / self.seconds)


def rate(spent: float) -> float:
    """Factor on the learning rate: a rise, a plateau, a straight fall to 0.

    >>> [round(rate(spent), 2) for spent in (0.01, 0.3, 0.8, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    return min(spent / WARMUP, 1.0, max(1.0 - spent, 0.0) / COOLDOWN)


def small_config(end_of_text: int, layers: int, hidden: int) -> PhiConfig:
    """Phi's shape with heads of 32 channels.

    Raises:
        ValueError: `hidden` is no multiple of 32.
    """
    if hidden % 32:
        raise ValueError(f"--hidden is {hidden}; choose a multiple of 32")
    return PhiConfig(
        vocab_size=8192,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        max_position_embeddings=512,
        partial_rotary_factor=0.5,
        hidden_act="gelu_pytorch_tanh",  # Phi's function, in one kernel
        tie_word_embeddings=True,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )


def document_mask(tokens_BT: Tensor, end_of_text: int) -> Tensor:
    """(B, 1, T, T), true where a token may look: at earlier tokens of its own document."""
    ends_BT = (tokens_BT == end_of_text).int()
    document_BT = ends_BT.cumsum(1) - ends_BT
    same_BTT = document_BT[:, :, None] == document_BT[:, None, :]
    return (same_BTT & torch.ones_like(same_BTT[0]).tril())[:, None]


class Pupil(nn.Module):
    """The model, and a linear reader of sentence vectors from one of its inner layers, which does not ship."""

    def __init__(self, model: PhiForCausalLM, end_of_text: int, vector_weight: float) -> None:
        super().__init__()
        self.model, self.end_of_text, self.vector_weight = model, end_of_text, vector_weight
        self.vector_layer = max(model.config.num_hidden_layers * 2 // 3, 1)  # the layers above can compare sentences
        self.reader = nn.Linear(model.config.hidden_size, encoder.CONFIG.hidden_size)

    def forward(self, tokens_BT: Tensor, weights_BT: Tensor, says_BT: Tensor, vectors_SE: Tensor) -> Tensor:
        """Weighted mean cross-entropy of each next token, in nats, plus the sentence vectors' mean cosine distance.

        No document predicts the next one's first token.
        """
        inner_BTH, hidden_BTH = self.hidden(tokens_BT)
        logits_BTV = self.model.lm_head(hidden_BTH[:, :-1])
        targets_BT = tokens_BT[:, 1:]
        nats_BT = functional.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none")
        kept_BT = weights_BT[:, 1:] * (tokens_BT[:, :-1] != self.end_of_text)
        loss = (nats_BT.view_as(targets_BT) * kept_BT).sum() / kept_BT.sum()
        if not self.vector_weight:
            return loss
        read_BTE = self.reader(inner_BTH).float()
        near_BT = functional.cosine_similarity(read_BTE, vectors_SE[says_BT.clamp_min(0)].float(), dim=-1)
        ends_BT = (says_BT != NOTHING).float()
        distance = ((1 - near_BT) * ends_BT).sum() / ends_BT.sum().clamp_min(1)
        return loss + self.vector_weight * distance

    def hidden(self, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """What the layer of the sentence vectors gives, and the last one; written out to compile as one graph."""
        phi = self.model.model
        mask_BTT = document_mask(tokens_BT, self.end_of_text)
        hidden_BTH = phi.embed_dropout(phi.embed_tokens(tokens_BT))
        turns = phi.rotary_emb(hidden_BTH, torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None])
        inner_BTH = hidden_BTH
        for place, layer in enumerate(phi.layers):
            hidden_BTH = layer(hidden_BTH, attention_mask=mask_BTT, position_embeddings=turns)
            inner_BTH = hidden_BTH if place + 1 == self.vector_layer else inner_BTH
        return inner_BTH, phi.final_layernorm(hidden_BTH)


@torch.no_grad()
def start_from_encoder(model: PhiForCausalLM, folder: Path, tokenizer: Any) -> None:
    """Token embeddings from the encoder's word pieces: their mean, on its first H principal directions."""
    teacher, pieces = encoder.load(folder)
    words = [tokenizer.decode([token]).strip() for token in range(len(tokenizer))]
    pieces.no_padding()
    spelt = [found.ids for found in pieces.encode_batch(words, add_special_tokens=False)]
    known = [place for place, word in enumerate(words) if word.isascii() and spelt[place]]
    pieces_PE = teacher.embeddings.word_embeddings.weight
    means_KE = torch.stack([pieces_PE[spelt[place]].mean(0) for place in known])
    centred_KE = means_KE - means_KE.mean(0)
    directions_EH = torch.linalg.svd(centred_KE, full_matrices=False).Vh[: model.config.hidden_size].T
    first_KH = centred_KE @ directions_EH
    weight_VH = model.get_input_embeddings().weight
    weight_VH[known] = (first_KH * (model.config.initializer_range / first_KH.std())).to(weight_VH.device)


def mixed_order(rows: dict[str, Rows], mix: dict[str, float], total: int, seed: int) -> np.ndarray:
    """Row numbers into the sources laid end to end, `total` of them, each source by its share, shuffled."""
    rng = np.random.default_rng(seed)
    whole = sum(mix[source] for source in rows)
    parts, first = [], 0
    for source, found in rows.items():
        count, wanted = len(found.tokens_RT), round(total * mix[source] / whole)
        passes = [rng.permutation(count) for _ in range(math.ceil(wanted / count))]
        if passes:
            parts.append(first + np.concatenate(passes)[:wanted])
            print(f"{source:14} {count:9,} rows, {wanted / count:5.1f} passes")
        first += count
    return rng.permutation(np.concatenate(parts))


def optimisers(model: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the rest."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    chosen = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim == 2], "weight_decay": 0.01},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.is_cuda for p in rest)
    return [
        torch.optim.Muon(inner, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=fused),
    ]


def train(pupil: Pupil, rows: dict[str, Rows], vectors_SE: Tensor, args: argparse.Namespace) -> None:
    """Until the budget is spent, printing the loss and the speed as it goes."""
    device = torch.device(args.device)
    compiled = device.type == "cuda" if args.compile is None else args.compile
    tokens_RT, weights_RT, says_RT = (
        torch.from_numpy(np.concatenate(parts)).to(device) for parts in zip(*rows.values(), strict=True)
    )
    vectors_SE = vectors_SE.to(device)
    row_tokens = tokens_RT.shape[1]
    order = torch.from_numpy(mixed_order(rows, MIX, math.ceil(args.tokens / row_tokens) + args.batch_rows, args.seed))
    order = order.to(device)
    step_loss = torch.compile(pupil) if compiled else pupil
    optims = optimisers(pupil, args.learning_rate)
    budget = Budget(args.tokens, args.minutes * 60)
    pupil.train()
    step, seen_tokens, started_s = 0, 0, 0.0
    while (spent := budget.spent(seen_tokens, time.perf_counter() - started_s if step else 0.0)) < 1:
        for optimiser in optims:
            for group in optimiser.param_groups:
                group["lr"] = args.learning_rate * rate(max(spent, 1e-4))
        chosen = order[step * args.batch_rows : (step + 1) * args.batch_rows]
        with torch.autocast(device.type, torch.bfloat16):
            loss = step_loss(tokens_RT[chosen].long(), weights_RT[chosen].float(), says_RT[chosen], vectors_SE)
        loss.backward()
        nn.utils.clip_grad_norm_(pupil.parameters(), 1.0)
        for optimiser in optims:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step, seen_tokens = step + 1, seen_tokens + len(chosen) * row_tokens
        if step == 1:
            loss.item()
            started_s = time.perf_counter()  # compiling is not part of the budget
        if step % args.log_steps == 0:
            speed = seen_tokens / (time.perf_counter() - started_s)
            print(f"step {step:6} loss {loss.item():.4f} {seen_tokens / 1e6:7.1f} M tokens {speed / 1e3:7.0f} k/s "
                  f"{spent:4.0%}", flush=True)  # fmt: skip
            if not math.isfinite(loss.item()):
                raise SystemExit(f"the loss is {loss.item()} at step {step}; lower --learning_rate")
    print(f"{step} steps, {seen_tokens / 1e6:.1f} M tokens, {time.perf_counter() - started_s:.0f} s")


def save(model: PhiForCausalLM, out: Path) -> None:
    """Config and weights in float16. The output matrix is the embedding, so it is stored once."""
    out.mkdir(parents=True, exist_ok=True)
    model.config.dtype = torch.float16
    model.config.architectures = ["PhiForCausalLM"]
    model.config.save_pretrained(out)
    state = {name: value.detach().half().contiguous().cpu() for name, value in model.state_dict().items()}
    del state["lm_head.weight"]
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="folder that prepare.py wrote")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder that train_tokenizer.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="go on from the weights in this folder")
    parser.add_argument("--minutes", type=float, default=5.0, help="training time at most, without preparation")
    parser.add_argument("--tokens", type=int, default=800_000_000, help="training tokens at most")
    parser.add_argument("--pairs", type=int, default=2_500_000, help="generated pairs")
    parser.add_argument("--vector_weight", type=float, default=2.0, help="of the sentence vectors in the loss")
    parser.add_argument("--embeddings", action=argparse.BooleanOptionalAction, default=True, help="from the encoder's")
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--copies", type=int, default=99, help="passes of other wordings of each source at most")
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--batch_rows", type=int, default=256)
    parser.add_argument("--row_tokens", type=int, default=256)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log_steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=256, help="width; a multiple of 32")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="on by default on a GPU only")
    return parser


def main() -> None:
    args = argument_parser().parse_args()
    started_s = time.perf_counter()
    copies = {source: min(passes, args.copies) for source, passes in COPIES.items()}
    rows = build(args.text, args.tokenizer / "tokenizer.json", args.pairs, copies, args.row_tokens, args.processes)
    vectors_SE = load_file(args.text / VECTORS)["vectors"]
    print(f"texts made in {time.perf_counter() - started_s:.0f} s", flush=True)

    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    end_of_text = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    if args.init is None:
        model = PhiForCausalLM(small_config(end_of_text, args.layers, args.hidden))
        if args.embeddings:
            start_from_encoder(model, args.text, tokenizer)
    else:
        model = PhiForCausalLM.from_pretrained(args.init, dtype=torch.float32)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = args.dropout
    train(Pupil(model, end_of_text, args.vector_weight).to(args.device), rows, vectors_SE, args)
    save(model, args.out)
    if args.out.resolve() != args.tokenizer.resolve():
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(args.tokenizer / name, args.out / name)


if __name__ == "__main__":
    main()
