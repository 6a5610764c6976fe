"""The classification head: a layer that is trained beside the adapter, and answers in place of words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

# B rows, T tokens, A places where answers are read, K labels, H hidden size

Context = Callable[[], contextlib.AbstractContextManager[Any]]

LARGEST_ERROR, HALF_ERROR = 1e-3, 0.1
"""Largest difference of two sets of logits, relative to the largest of them, that is put down to rounding; with a base
in half precision."""


@dataclass(frozen=True, slots=True)
class Head:
    """A classification head on a model of transformers. All of it computes in float32, whatever the base does.

    In half precision small updates of a weight are rounded away, and large scores overflow.
    """

    modules: tuple[str, ...]
    """The names of its modules, each trained as a whole."""
    reads_last: bool
    """Whether it is one layer on the last token's hidden state of a causal model. Otherwise it sees the whole row."""


def head_modules(config: Any) -> tuple[str, ...]:
    """The names of what a model of this configuration has beside its backbone; weights are neither made nor loaded.

    Raises:
        ValueError: such models have no classification head here.
    """
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ValueError(
            f"transformers has no classification head for models of type {config.model_type!r}; set model.head to words"
        ) from error
    found = _beside_backbone(model)
    if config.is_encoder_decoder or not found or model.base_model is model:
        raise ValueError(
            f"model.head is sequence, which takes decoders and encoders, and {config.model_type!r} is neither; set "
            "model.head to words or take another base"
        )
    return found


def _beside_backbone(model: Any) -> tuple[str, ...]:
    beside = [(name, child) for name, child in model.named_children() if child is not model.base_model]
    return tuple(name for name, child in beside if any(True for _ in child.parameters()))


def settle_head(model: Any, loading: Mapping[str, Collection[Any]], keep: bool, seed: int) -> tuple[Head, str]:
    """Make a loaded model's head ready: new where the checkpoint has none for these labels, float32, and tried.

    Args:
        model: on its device, in evaluation mode.
        loading: what `from_pretrained` reports of missing and mismatched weights.
        keep: whether the checkpoint's own head has these labels, in this order.
        seed: of a new head's weights.

    Returns:
        the head, and what was decided, in words.

    Raises:
        ValueError: the checkpoint lacks weights of the backbone, or padding changes the head's answer.
    """
    modules = _beside_backbone(model)
    absent = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    poolers = _missing_poolers(model, [name for name in absent if name.split(".")[0] not in modules])
    final = output_layers(model)[-1]
    is_new = not keep or any(name.split(".")[0] in modules for name in absent)
    if not keep:
        generator = torch.Generator(final.weight.device).manual_seed(seed)
        torch.nn.init.normal_(final.weight, std=getattr(model.config, "initializer_range", 0.02), generator=generator)
        if final.bias is not None:
            torch.nn.init.zeros_(final.bias)
    for name in modules:
        model.get_submodule(name).float()
    head = Head((*modules, *poolers), _reads_last(model, modules))
    _check_padding(model, head)
    origin = "new, so the base can only guess" if is_new else "as the checkpoint has it"
    reads = "the last token's hidden state" if head.reads_last else "the whole row"
    return head, f"classification head ({', '.join(head.modules)}) in float32 on {reads}; {origin}"


def _missing_poolers(model: Any, names: Sequence[str]) -> list[str]:
    """The backbone's modules that the checkpoint lacks: a pooler may be learnt anew, nothing else may."""
    modules = sorted({name.rpartition(".")[0] for name in names})
    if any("pooler" not in name for name in modules):
        raise ValueError(
            f"the checkpoint lacks weights of {', '.join(modules)}; download it again or take another base"
        )
    if modules and (model.dtype != torch.float32 or getattr(model, "is_quantized", False)):
        raise ValueError(
            f"the checkpoint lacks {', '.join(modules)}, which would be learnt anew in float32; set model.dtype to "
            "float32 and model.quantization to none, or take another base"
        )
    return modules


def output_layers(model: Any) -> list[Any]:
    """The layers that compute the K logits, the base's first; an adapter has a copy of its own."""
    labels = model.config.num_labels
    return [
        module
        for name, module in model.named_modules()
        if name.split(".")[0] != model.base_model_prefix
        and isinstance(module, torch.nn.Linear)
        and module.out_features == labels
    ]


def label_logits(
    model: Any, head: Head, inputs: Mapping[str, Any], places_A: torch.Tensor, autocast: Context
) -> torch.Tensor:
    """Run the backbone in its own type and the head in float32; (A, K).

    Where the last token counts, it is known by the rows' lengths. transformers looks for it by the padding's id, which
    reads the wrong place where that id is not set, or stands in the text as well.

    Args:
        model: of AutoModelForSequenceClassification, whether or not an adapter is in it.
        inputs: what the backbone takes: packed rows, or B padded ones.
        places_A: each row's last token, counted through all T or B * T tokens.
        autocast: in which the backbone computes.
    """
    if head.reads_last:
        with autocast():
            states_BTH = model.base_model(**inputs, use_cache=False).last_hidden_state
        last_1AH = states_BTH.flatten(0, 1)[places_A][None].float()
        logits_1AK: torch.Tensor = model.get_submodule(head.modules[0])(last_1AH)
        return logits_1AK[0]
    with _widened(model.base_model, autocast):
        logits_BK: torch.Tensor = model(**inputs).logits
    return logits_BK.float()


def padding_mask(input_ids_BT: torch.Tensor, places_B: torch.Tensor) -> torch.Tensor:
    """1 up to each row's last token, 0 behind it; (B, T).

    >>> padding_mask(torch.zeros(2, 3), torch.tensor([1, 5])).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    size = input_ids_BT.shape[1]
    return (torch.arange(size, device=places_B.device)[None] <= (places_B % size)[:, None]).long()


@contextlib.contextmanager
def _widened(backbone: Any, autocast: Context) -> Iterator[None]:
    """Let the backbone compute under autocast, and hand on float32."""
    original = backbone.forward

    def forward(*args: Any, **options: Any) -> Any:
        with autocast():
            output = original(*args, **options)
        for name, value in output.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                output[name] = value.float()
        return output

    backbone.forward = forward
    try:
        yield
    finally:
        backbone.forward = original


def _reads_last(model: Any, modules: Sequence[str]) -> bool:
    """Whether one layer on the last hidden state gives the model's own logits, whatever stands behind that token."""
    if len(modules) > 1 or not isinstance(model.get_submodule(modules[0]), torch.nn.Linear):
        return False
    head = Head(tuple(modules), reads_last=True)
    row_1T = _sample_row(model)
    longer_1T = torch.cat([row_1T, row_1T.flip(1)], dim=1)
    last = torch.tensor([row_1T.shape[1] - 1], device=row_1T.device)
    with torch.no_grad(), _widened(model.base_model, contextlib.nullcontext):
        own_1K = model(input_ids=row_1T).logits
        logits_1K = label_logits(model, head, {"input_ids": longer_1T}, last, contextlib.nullcontext)
    return _equal(model, logits_1K, own_1K)


def _check_padding(model: Any, head: Head) -> None:
    """See that a row's logits are the same alone and padded."""
    if head.reads_last:
        return  # `_reads_last` has put other tokens behind the row
    row_1T = _sample_row(model)
    padded_1T = torch.cat([row_1T, torch.full_like(row_1T, model.config.pad_token_id or 0)], dim=1)
    last = torch.tensor([row_1T.shape[1] - 1], device=row_1T.device)
    with torch.no_grad():
        alone_1K, padded_1K = (
            label_logits(
                model, head, {"input_ids": ids, "attention_mask": padding_mask(ids, last)}, last, contextlib.nullcontext
            )
            for ids in (row_1T, padded_1T)
        )
    if not _equal(model, padded_1K, alone_1K):
        raise ValueError(
            f"padding changes what the classification head of a {model.config.model_type!r} answers; set "
            "model.head to words or take another base"
        )


def _sample_row(model: Any) -> torch.Tensor:
    """A row of nine tokens, none of them the padding; (1, 9)."""
    words = model.get_input_embeddings().num_embeddings
    ids = [i for i in range(words - 1, 0, -max(1, words // 11)) if i != model.config.pad_token_id][:9]
    return torch.tensor([ids], device=model.device)


def _equal(model: Any, one: torch.Tensor, other: torch.Tensor) -> bool:
    limit = LARGEST_ERROR if model.dtype == torch.float32 else HALF_ERROR
    return float((one - other).abs().max()) <= limit * float(other.abs().max())
