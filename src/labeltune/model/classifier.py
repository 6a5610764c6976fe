"""A model with label words or a classification head: what training and scoring both call, so that they cannot drift
apart."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel

from labeltune.model import compiling
from labeltune.model.attention import PACKED_ATTENTION
from labeltune.model.dropout import Draws
from labeltune.model.families import rotary_switch, why_not_packed, windows
from labeltune.model.head import Head, label_logits, output_layers, padding_mask
from labeltune.model.logits import float32_logits
from labeltune.model.packing import Layout, Packing, pack, static_size, to_device
from labeltune.prompt import LabelWords, Prompter
from labeltune.recipe import TrainSettings

Inputs = Packing | torch.Tensor
"""Packed rows, or token ids (B, T) padded on the right."""

# B rows, T tokens (packed, or padded), A places where answers are read, V vocabulary, H hidden size, K labels
# with a classification head, V is K: its labels are the whole vocabulary


NONE = -100  # no token


@dataclass(frozen=True)
class Classifier:
    """A causal language model with label words, or any model with a classification head, and its prompts."""

    model: Any
    prompter: Prompter
    device: torch.device
    compute_dtype: torch.dtype
    """The type of matrix products; weights and adapter may be stored in another."""
    loss_over: Literal["vocabulary", "labels"] = "vocabulary"
    """What the answer competes with in every loss, trained on or reported."""
    checkpointing: bool | None = None
    """Whether training computes activations again; None where train.gradient_checkpointing decides."""
    packed: bool = False
    """Whether the model reads rows joined end to end; otherwise they are padded on the right."""
    head: Head | None = None
    """The classification head; None where the model answers in words."""
    draws: Draws | None = None
    """What all dropout depends on; None where torch's generator decides."""
    asked_attention: str | None = None
    """The attention that the recipe asks for; None for the family's own choice."""
    own_attention: Any = None
    """Where rows are packed: what transformers computes attention with otherwise."""
    notes: tuple[str, ...] = ()
    """What was decided when it was made fast, in words."""
    max_length: int | None = None
    """The longest input that the model reads, in tokens; None where none is known."""

    @property
    def words(self) -> LabelWords:
        return self.prompter.words

    @cached_property
    def label_tokens_K(self) -> torch.Tensor:
        """The token of each label word, on the device; for words of a single token."""
        with torch.inference_mode(False):  # training reads it too, whoever asks first
            return torch.tensor([ids[0] for ids in self.words.token_ids], device=self.device)

    @cached_property
    def answers(self) -> tuple[tuple[int, ...], ...]:
        """The tokens that training writes for each label: its word and the answer's end, so that a tuned model stops by
        itself; the word alone with a classification head, and where the model does not know the end.
        """
        end = self.words.end
        return self.words.closed if end is not None and end < self.vocabulary else self.words.token_ids

    @cached_property
    def choices_KWC(self) -> torch.Tensor:
        """For each of the W tokens of a label's answer the tokens that label words have in its place, the label's own
        first; NONE fills up, and is all there is behind the word."""
        tree = self.words.tree
        beside: dict[int, list[int]] = {}
        for node, token in zip(tree.branch_nodes, tree.branch_tokens, strict=True):
            beside.setdefault(node, []).append(token)
        shape = len(tree.ways), max(map(len, self.answers)), max(map(len, beside.values()))
        choices_KWC = np.full(shape, NONE, dtype=np.int64)
        for k, way in enumerate(tree.ways):
            for place, branch in enumerate(way):
                own = tree.branch_tokens[branch]
                choices = sorted(beside[tree.branch_nodes[branch]], key=lambda token: token != own)
                choices_KWC[k, place, : len(choices)] = choices
        with torch.inference_mode(False):  # training reads it too, whoever asks first
            return torch.from_numpy(choices_KWC).to(self.device)

    @property
    def places_per_row(self) -> int:
        """Places where logits are computed to score a row: one, or the nodes of the tree of label words."""
        return 1 if self.words.single else len(self.words.tree.paths)

    @property
    def builds_kernels_by_shape(self) -> bool:
        """Whether each new shape of a product costs time and memory: oneDNN, which processors multiply half precision
        with, builds a kernel for it and keeps a thousand of them."""
        return self.device.type == "cpu" and self.compute_dtype != torch.float32

    @cached_property
    def has_dropout(self) -> bool:
        """Whether anything is dropped at random in training, by a module or perhaps by a rate in the configuration."""
        if any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in self.model.modules()):
            return True
        return has_random_rate(self.model.config.get_text_config().to_dict())

    @cached_property
    def windows(self) -> tuple[int, ...]:
        """The windows that attention has in some layers, in tokens."""
        return windows(self.inner.config)

    @cached_property
    def rotary_switch(self) -> int | None:
        """The length in tokens beyond which a row's angles differ, if there is one."""
        return rotary_switch(self.inner.config)

    @cached_property
    def pads_left(self) -> bool:
        """Whether generation may pad rows on the left: chunks, states and scales of some families then begin elsewhere,
        so it may where the family was compared."""
        return why_not_packed(self.inner.config) is None

    def apart(self, lengths: Sequence[int], room: int = 0) -> list[list[int]]:
        """The places of rows that may share a pass, in their order: all of them, but where longer rows have other
        angles.

        Args:
            lengths: of the rows, in tokens.
            room: tokens that each may still grow by.
        """
        switch = self.rotary_switch
        if switch is None:
            return [list(range(len(lengths)))]
        parts: dict[int, list[int]] = {}
        for place, length in enumerate(lengths):
            crosses = length <= switch < length + room
            parts.setdefault(length if crosses else -1 if length <= switch else -2, []).append(place)
        return list(parts.values())

    @contextlib.contextmanager
    def unpacked(self) -> Iterator[Any]:
        """The model with transformers' own attention, which takes other rows than packed ones."""
        if not self.packed:
            yield self.model
            return
        self.inner.set_attn_implementation(self.own_attention)
        try:
            yield self.model
        finally:
            self.inner.set_attn_implementation(PACKED_ATTENTION)

    @property
    def inner(self) -> Any:
        """The model of transformers that an adapter may be in."""
        return self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model

    @property
    def output_layers(self) -> list[Any]:
        """The layers that compute logits, of which one runs in each pass."""
        return output_layers(self.inner) if self.head else [self.model.get_output_embeddings()]

    @property
    def vocabulary(self) -> int:
        """How many tokens the model has an embedding for, whether or not that has an adapter."""
        embeddings = self.model.get_input_embeddings()
        return int(getattr(embeddings, "base_layer", embeddings).num_embeddings)

    @property
    def pad_id(self) -> int:
        """Any id does: padding stands behind the answer, where a causal model cannot see it, or is masked."""
        tokenizer, known = self.prompter.tokenizer, self.vocabulary
        ids = [tokenizer.pad_token_id, tokenizer.eos_token_id]
        if self.head is not None and not self.head.reads_last:  # it may look for the padding by the model's own id
            ids.insert(0, getattr(self.inner.config.get_text_config(), "pad_token_id", None))
        # some tokenizers have tokens that the model has no embedding for
        return next((i for i in ids if i is not None and i < known), 0)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision where matrix products are to be in another type than the weights."""
        if self.compute_dtype == self.model.dtype:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute_dtype)

    def pack(self, sequences: Sequence[npt.NDArray[np.int32]], share: bool) -> Layout:
        """Sequences joined end to end, as the model reads them; `share` lets them have common beginnings once.

        A group may have half as many tokens as the model is wide. The quickstart's base, of width 256, explains in
        8.0 s with groups of any length, in 4.9, 3.4 and 3.2 s with 256, 128 and none (2 cores, AVX512-BF16, 2026-11).
        The wider the model, the less attention counts beside its products. On processors there are groups only where
        they halve the tokens: they need a mask (600 rows of Banking77 take 2.0 s with groups and 1.5 without).
        """
        width = getattr(self.model.config.get_text_config(), "hidden_size", None)
        layout = pack(sequences, share, None if width is None else width // 2)
        if share and self.device.type != "cuda":
            apart = pack(sequences, share, longest_group=0)
            return layout if 2 * len(layout) <= len(apart) else apart
        return layout

    def lay_out(
        self,
        sequences: Sequence[npt.NDArray[np.int32]],
        positions: Sequence[npt.NDArray[np.int64]],
        share: bool,
        size_for: Callable[[int], int] | None = None,
    ) -> tuple[Inputs, torch.Tensor]:
        """Sequences as the model reads them, and where in that to find the positions of each.

        Args:
            positions: for each sequence, counted in its own tokens.
            share: let packed sequences have their common beginnings once.
            size_for: to how many tokens so many packed ones are padded; unpadded if left out.

        Returns:
            the inputs, and the places (A,) of all positions one after another.
        """
        if self.packed:
            layout = self.pack(sequences, share)
            places = [path[wanted] for path, wanted in zip(layout.paths, positions, strict=True)]
            return self.on_device(layout, places, size_for)
        limits = [limit for limit in (self.rotary_switch, self.max_length) if limit is not None]
        padded_BT = pad_right(sequences, self.pad_id, limits=limits)
        places = [row * padded_BT.shape[1] + wanted for row, wanted in enumerate(positions)]
        return padded_BT.to(self.device), to_device(np.concatenate(places), self.device)

    def on_device(
        self, layout: Layout, places: Sequence[npt.NDArray[np.int64]], size_for: Callable[[int], int] | None = None
    ) -> tuple[Packing, torch.Tensor]:
        """Packed rows as the model reads them, and their places (A,) one after another; arguments as above."""
        if size_for is None and self.builds_kernels_by_shape:
            size_for = static_size
        size = None if size_for is None else size_for(len(layout))
        return Packing(layout, self.device, size, self.windows), to_device(np.concatenate(places), self.device)

    def logits_at(
        self, sequences: Sequence[npt.NDArray[np.int32]], positions: Sequence[npt.NDArray[np.int64]], share: bool
    ) -> torch.Tensor:
        """`answer_logits` of sequences laid out, (A, V), in as many passes as they need."""
        parts = self.apart([len(sequence) for sequence in sequences])
        found = [
            self.answer_logits(*self.lay_out([sequences[p] for p in part], [positions[p] for p in part], share))
            for part in parts
        ]
        if len(parts) == 1:
            return found[0]
        ends = np.cumsum([len(wanted) for wanted in positions])
        places = [np.arange(ends[p] - len(positions[p]), ends[p]) for part in parts for p in part]
        return torch.cat(found)[np.argsort(np.concatenate(places))]

    def answer_logits(self, inputs: Inputs, places_A: torch.Tensor) -> torch.Tensor:
        """Run the model and compute logits at the answers' places alone; (A, V) in float32.

        The vocabulary's product costs most of the memory of a pass over short prompts, and all positions but the
        answer's are thrown away. Picking the places just before the output layer keeps whatever a model family does to
        its logits afterwards (scaling, soft capping).

        Args:
            inputs: packed rows, or (B, T) rows padded on the right: causality hides the padding, so there is no mask.
            places_A: places whose next token is wanted, counted through all T or B * T tokens; with a classification
                head, each row's last.
        """
        if isinstance(inputs, Packing):
            compiling.wait(self.model.training)
        if self.head is not None:
            arguments = model_inputs(inputs)
            if isinstance(inputs, torch.Tensor) and not self.head.reads_last:
                arguments["attention_mask"] = padding_mask(inputs, places_A)
            return label_logits(self.inner, self.head, arguments, places_A, self.autocast)

        def pick(_module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (given[0].flatten(0, 1)[places_A][None], *given[1:])

        layer = self.model.get_output_embeddings()
        hook = layer.register_forward_pre_hook(pick)
        try:
            with self.autocast(), float32_logits(layer):
                output = self.model(**model_inputs(inputs), use_cache=False)
        finally:
            hook.remove()
        logits_AV: torch.Tensor = output.logits[0].float()
        return logits_AV


def model_inputs(inputs: Inputs) -> dict[str, Any]:
    """What transformers' models are called with. A mask of four dimensions keeps them from building one."""
    if isinstance(inputs, torch.Tensor):
        return {"input_ids": inputs}
    no_mask = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=inputs.ints.device)
    return {
        "input_ids": inputs.input_ids_1T,
        "position_ids": inputs.position_ids_1T,
        "attention_mask": no_mask,
        "packing": inputs,
    }


def has_random_rate(config: Mapping[str, Any]) -> bool:
    """Whether a configuration names a rate of dropout, of layers left out or of jitter in routers that is not 0.

    Some families drop in `forward` without a module for it. Heads have modules, so their rates say nothing.

    >>> has_random_rate({"attention_dropout": 0.0, "classifier_dropout": 0.1, "attn": {"resid_pdrop": 0.1}})
    True
    """
    for key, value in config.items():
        if isinstance(value, dict):
            if has_random_rate(value):
                return True
        elif isinstance(value, float) and value > 0:
            name = str(key)
            if ("drop" in name or "jitter" in name) and not name.startswith(("classifier_", "summary_")):
                return True
    return False


def choose_compute_dtype(train: TrainSettings, base_dtype: torch.dtype) -> torch.dtype:
    """float16 or bfloat16 where the recipe asks for mixed precision, otherwise the base's own type."""
    if train.fp16:
        return torch.float16
    return torch.bfloat16 if train.bf16 else base_dtype


def pad_right(
    sequences: Sequence[npt.NDArray[np.int32]], pad_id: int, multiple: int = 8, limits: Sequence[int] = ()
) -> torch.Tensor:
    """Token ids of several sequences as one (B, T) tensor, T rounded up to a multiple, beyond none of the limits that
    they keep themselves.

    >>> pad_right([np.array([5, 6]), np.array([7])], pad_id=0, multiple=1).tolist()
    [[5, 6], [7, 0]]
    >>> pad_right([np.array([5, 6])], pad_id=0, limits=[3]).tolist()
    [[5, 6, 0]]
    """
    longest = max(len(sequence) for sequence in sequences)
    size = min([-(-longest // multiple) * multiple, *(limit for limit in limits if longest <= limit)])
    padded_BT = np.full((len(sequences), size), pad_id, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        padded_BT[row, : len(sequence)] = sequence
    return torch.from_numpy(padded_BT)
