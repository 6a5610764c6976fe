"""A language model with label words: what training and scoring both call, so that they cannot drift apart."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from labeltune.prompt import LabelWords, Prompter
from labeltune.recipe import TrainSettings

# B rows in a batch, T tokens (padded), A answer tokens, V vocabulary, H hidden size, K labels


@dataclass(frozen=True, slots=True)
class Classifier:
    """A causal language model, its prompts and its label words, on one device."""

    model: Any
    prompter: Prompter
    device: torch.device
    compute_dtype: torch.dtype
    """The type of matrix products; weights and adapter may be stored in another."""
    loss_over: Literal["vocabulary", "labels"] = "vocabulary"
    """What the answer competes with in every loss, trained on or reported."""

    def __post_init__(self) -> None:
        if self.loss_over == "labels" and not self.words.single:
            raise ValueError(
                "train.loss_over is labels, and some label word is more than one token with this tokenizer: "
                f"{', '.join(self.words.words)}; choose words of one token, or set train.loss_over to vocabulary"
            )

    @property
    def words(self) -> LabelWords:
        return self.prompter.words

    @property
    def label_tokens_K(self) -> torch.Tensor:
        """The token of each label word, on the device; for words of a single token."""
        return torch.tensor([ids[0] for ids in self.words.token_ids], device=self.device)

    @property
    def pad_id(self) -> int:
        """Any id does: padding stands behind the answer, where a causal model cannot see it, or is masked."""
        tokenizer = self.prompter.tokenizer
        return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision where the computing type is a half one; nothing in float32."""
        if self.compute_dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute_dtype)

    def answer_logits(self, input_ids_BT: torch.Tensor, positions_BA: torch.Tensor, **inputs: Any) -> Any:
        """Run the model and compute logits at the answer positions alone.

        The vocabulary's product costs most of the memory of a pass over short prompts, and all positions but the
        answer's are thrown away. Picking the positions just before the output layer keeps whatever a model family does
        to its logits afterwards (scaling, soft capping).

        Args:
            input_ids_BT: padded on the right; causality hides the padding, so there is no attention mask.
            positions_BA: positions whose next token is wanted.

        Returns:
            the model's output, whose `logits` are (B, A, V) in float32.
        """

        def pick(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            hidden_BTH = inputs[0]
            rows_B1 = torch.arange(hidden_BTH.shape[0], device=hidden_BTH.device)[:, None]
            return (hidden_BTH[rows_B1, positions_BA], *inputs[1:])

        hook = self.model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            with self.autocast():
                output = self.model(input_ids=input_ids_BT, **inputs)
        finally:
            hook.remove()
        output.logits = output.logits.float()
        return output


def choose_compute_dtype(train: TrainSettings, base_dtype: torch.dtype) -> torch.dtype:
    """float16 or bfloat16 where the recipe asks for mixed precision, otherwise the base's own type."""
    if train.fp16:
        return torch.float16
    return torch.bfloat16 if train.bf16 else base_dtype


def pad_right(sequences: Sequence[npt.NDArray[np.int32]], pad_id: int, multiple: int = 8) -> torch.Tensor:
    """Token ids of several sequences as one (B, T) tensor, T rounded up to a multiple.

    >>> pad_right([np.array([5, 6]), np.array([7])], pad_id=0, multiple=1).tolist()
    [[5, 6], [7, 0]]
    """
    longest = max(len(sequence) for sequence in sequences)
    padded_BT = np.full((len(sequences), -(-longest // multiple) * multiple), pad_id, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        padded_BT[row, : len(sequence)] = sequence
    return torch.from_numpy(padded_BT)
