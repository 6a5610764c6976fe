"""A real sentence encoder, all-MiniLM-L6-v2, kept small enough to travel: every matrix as int8 with a scale per row.

Shapes: N sentences, T word pieces, H = 384 channels, K labels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

WEIGHTS, TOKENIZER = "encoder.safetensors", "encoder_tokenizer.json"
CONFIG = BertConfig(
    vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
)


def pack(source: Path, folder: Path) -> None:
    """Copy the encoder out of `source` (model.safetensors, tokenizer.json) with its matrices as int8."""
    packed = {}
    for name, weight in load_file(source / "model.safetensors").items():
        if weight.ndim == 2 and weight.is_floating_point():
            scale_R1 = weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
            packed[name] = (weight / scale_R1).round().to(torch.int8)
            packed[f"{name}.scale"] = scale_R1
        elif weight.is_floating_point():
            packed[name] = weight
    save_file(packed, folder / WEIGHTS)
    (folder / TOKENIZER).write_bytes((source / "tokenizer.json").read_bytes())


def load(folder: Path) -> tuple[BertModel, Tokenizer]:
    """The encoder in float32, and its tokenizer set to pad and to cut at 128 pieces."""
    packed = load_file(folder / WEIGHTS)
    state = {
        name: weight * packed[f"{name}.scale"] if weight.dtype == torch.int8 else weight
        for name, weight in packed.items()
        if not name.endswith(".scale")
    }
    model = BertModel(CONFIG, add_pooling_layer=False)
    lost, unused = model.load_state_dict(state, strict=False)
    if lost or any("pooler" not in name for name in unused):
        raise ValueError(f"{folder / WEIGHTS} does not fit: missing {lost}, not used {unused}")
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(128)
    return model, tokenizer


def sentence_vectors(model: BertModel, tokenizer: Tokenizer, sentences: list[str], device: str) -> Tensor:
    """(N, H) float16 of unit length: the mean over each sentence's pieces, as the encoder was trained to be used."""
    model.eval().to(device)

    def vectors(batch: list[str]) -> Tensor:
        return functional.normalize(_pooled(model, tokenizer.encode_batch(batch), device), dim=1).half()

    return _by_length(vectors, sentences, [len(sentence) for sentence in sentences], 2048)


@torch.no_grad()
def _by_length(read: Callable[[list], Tensor], items: list, lengths: list[int], size: int) -> Tensor:
    """`read` of all items, a batch of like length at a time, on the CPU in the items' order."""
    order = sorted(range(len(items)), key=lengths.__getitem__)
    found = [
        read([items[place] for place in order[start : start + size]]).cpu() for start in range(0, len(order), size)
    ]
    return torch.cat(found)[torch.tensor(order).argsort()]


def _pooled(model: BertModel, found: list, device: str) -> Tensor:
    """(N, H) in float32, the mean over the pieces."""
    ids_NT = torch.tensor([one.ids for one in found], device=device)
    real_NT = torch.tensor([one.attention_mask for one in found], device=device)
    types_NT = torch.tensor([one.type_ids for one in found], device=device)
    with torch.autocast(device, torch.bfloat16):
        hidden_NTH = model(input_ids=ids_NT, attention_mask=real_NT, token_type_ids=types_NT).last_hidden_state
    return ((hidden_NTH * real_NT[..., None]).sum(1) / real_NT.sum(1, keepdim=True)).float()


class Judge(nn.Module):
    """The encoder with both sentences in one input, and a linear reader of the mean over its pieces."""

    def __init__(self, encoder: BertModel, tokenizer: Tokenizer, device: str) -> None:
        super().__init__()
        self.encoder, self.tokenizer, self.device = encoder, tokenizer, device
        self.reader = nn.Linear(CONFIG.hidden_size, 3)
        self.to(device)

    def forward(self, pairs: list[tuple[str, str]]) -> Tensor:
        """(N, K) logits in float32."""
        return self.reader(_pooled(self.encoder, self.tokenizer.encode_batch(pairs), self.device))

    def probabilities(self, pairs: list[tuple[str, str]]) -> Tensor:
        """(N, K), on the CPU."""
        self.eval()
        lengths = [len(premise) + len(hypothesis) for premise, hypothesis in pairs]
        return _by_length(lambda batch: self(batch).softmax(1), pairs, lengths, 1024)
