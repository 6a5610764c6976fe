"""The classification head: a layer that is trained beside the adapter, and answers in place of words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from bitsandbytes.functional import int8_vectorwise_dequant
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification

from labeltune.model.influence import described, few, influence, sample_row, tried

# B rows, T tokens, A places where answers are read, K labels, H hidden size

Context = Callable[[], contextlib.AbstractContextManager[Any]]

LARGEST_ERROR = 1e-3
"""Largest difference of two sets of float32 logits, relative to the largest of them, that is put down to rounding."""
ON_PADDING = "depends on padding, and so on the other rows of a batch"
REMEDY = "set model.head to words where it is a language model, or take another base"


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
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ValueError(
            f"model.head is sequence, and transformers has no classification head for {described(config)}; {REMEDY}"
        )
    if config.is_encoder_decoder:
        raise ValueError(
            f"model.head is sequence, which takes decoders and encoders, and {described(config)} is an "
            "encoder-decoder; take another base"
        )
    with tried(config, REMEDY), torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    found = _beside_backbone(model)
    if not found or model.base_model is model:
        raise ValueError(
            f"model.head is sequence, and the classification head of {described(config)} is not beside its backbone; "
            f"{REMEDY}"
        )
    return found


def _beside_backbone(model: Any) -> tuple[str, ...]:
    beside = [(name, child) for name, child in model.named_children() if child is not model.base_model]
    return tuple(name for name, child in beside if any(True for _ in child.parameters()))


def settle_head(
    model: Any, loading: Mapping[str, Collection[Any]], keep: bool, seed: int, max_length: int
) -> tuple[Head, str]:
    """Make a loaded model's head ready: new where the checkpoint has none for these labels, float32, and tried.

    Args:
        model: on its device, in evaluation mode.
        loading: what `from_pretrained` reports of missing and mismatched weights.
        keep: whether the checkpoint's own head has these labels, in this order.
        seed: of a new head's weights.
        max_length: the longest input, in tokens.

    Returns:
        the head, and what was decided, in words.

    Raises:
        ValueError: the checkpoint lacks weights of the backbone, or padding changes the head's answer.
    """
    modules = _beside_backbone(model)
    absent = {*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}
    poolers = _missing_poolers(model, [name for name in absent if name.split(".")[0] not in modules])
    final = _final_layer(model)
    is_new = not keep or any(name.split(".")[0] in modules for name in absent)
    if not keep:
        generator = torch.Generator(final.weight.device).manual_seed(seed)
        torch.nn.init.normal_(final.weight, std=getattr(model.config, "initializer_range", 0.02), generator=generator)
        if final.bias is not None:
            torch.nn.init.zeros_(final.bias)
    for name in modules:
        model.get_submodule(name).float()
    with tried(model.config, REMEDY):
        row_1T = sample_row(model, max_length)
        head = Head((*modules, *poolers), _reads_last(model, modules, row_1T))
        fault = None if head.reads_last else _fault(model, head, row_1T)
    if fault is not None:
        raise ValueError(f"the answer of the classification head of {described(model.config)} {fault}; {REMEDY}")
    origin = "new, so the base can only guess" if is_new else "as the checkpoint has it"
    reads = "the last token's hidden state" if head.reads_last else "the whole row"
    return head, f"classification head ({', '.join(head.modules)}) in float32 on {reads}; {origin}"


def _final_layer(model: Any) -> Any:
    layers = output_layers(model)
    if not layers:
        raise ValueError(
            f"the classification head of {described(model.config)} does not end in a linear layer with a row for each "
            f"label; {REMEDY}"
        )
    return layers[-1]


def _missing_poolers(model: Any, names: Sequence[str]) -> list[str]:
    """The backbone's modules that the checkpoint lacks: a pooler may be learnt anew, nothing else may."""
    modules = sorted({name.rpartition(".")[0] for name in names})
    if any("pooler" not in name for name in modules):
        raise ValueError(
            f"the checkpoint lacks weights of {few(modules)}, or has them in another shape; download it again or take "
            "another base"
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


def _reads_last(model: Any, modules: Sequence[str], row_1T: torch.Tensor) -> bool:
    """Whether the logits are one layer on the last token's hidden state, in which nothing behind that token counts."""
    if len(modules) > 1 or not isinstance(model.get_submodule(modules[0]), torch.nn.Linear):
        return False
    states: list[Any] = []
    hook = model.base_model.register_forward_hook(lambda _module, _given, output: states.append(output))
    try:
        with torch.no_grad(), _widened(model.base_model, contextlib.nullcontext):
            own_1K = model(input_ids=row_1T).logits
            states_1TH = getattr(states[0], "last_hidden_state", None)
            if states_1TH is None or states_1TH.shape[:2] != row_1T.shape:
                return False
            logits_1K = model.get_submodule(modules[0])(states_1TH[:, -1])  # of the same numbers: no rounding between
    finally:
        hook.remove()
    if not _equal(logits_1K, own_1K):
        return False
    head, last = Head(tuple(modules), reads_last=True), _last_place(row_1T)
    longer_1T = torch.cat([row_1T, row_1T.flip(1)], dim=1)
    influence_T = influence(
        model, lambda: label_logits(model, head, {"input_ids": longer_1T}, last, contextlib.nullcontext)
    )
    return not bool((influence_T[int(last) + 1 :] > 0).any())


def _fault(model: Any, head: Head, row_1T: torch.Tensor) -> str | None:
    """Why a row's logits are not the row's alone, if so: they must be the same alone and padded beside a longer row.

    Logits are compared in float32, in which rounding is far below 1e-3. Without its kernel, transformers' MRA has no
    attention at all.
    """
    places_1 = _last_place(row_1T)
    size = row_1T.shape[1]
    padding = getattr(model.config.get_text_config(), "pad_token_id", None) or 0
    padded_1T = torch.cat([row_1T, torch.full_like(row_1T, padding)], dim=1)

    def logits(ids_BT: torch.Tensor, places_B: torch.Tensor) -> torch.Tensor:
        inputs = {"input_ids": ids_BT, "attention_mask": padding_mask(ids_BT, places_B)}
        return label_logits(model, head, inputs, places_B, contextlib.nullcontext)

    influence_T = influence(model, lambda: logits(padded_1T, places_1))
    if int((influence_T[:size] == 0).sum()) >= size - 1:
        return "depends on one token of a row alone"
    both_2T = torch.cat([padded_1T, torch.cat([row_1T, row_1T.flip(1)], dim=1)])
    places_2 = torch.cat([places_1, places_1 + 3 * size])
    with torch.no_grad(), _in_float32(model):
        is_equal = _equal(logits(both_2T, places_2)[:1], logits(row_1T, places_1))
    return None if is_equal else ON_PADDING


@contextlib.contextmanager
def _in_float32(model: Any) -> Iterator[None]:
    """Weights and products in float32 for a while; half precision comes back as it was."""
    held = [(one, one.dtype) for one in (*model.parameters(), *model.buffers()) if one.is_floating_point()]
    packed = [(module, module.compute_dtype) for module in model.modules() if isinstance(module, Linear4bit)]
    eights = [module for module in model.modules() if isinstance(module, Linear8bitLt)]
    try:
        for one, _ in held:
            one.data = one.data.float()
        for module, _ in packed:
            module.compute_dtype = torch.float32
        for module in eights:
            module.forward = partial(_product_in_float32, module)
        yield
    finally:
        for one, dtype in held:
            one.data = one.data.to(dtype)
        for module, dtype in packed:
            module.compute_dtype = dtype
        for module in eights:
            del module.forward


def _product_in_float32(module: Any, states: torch.Tensor) -> torch.Tensor:
    """What a layer with weights in 8 bits computes, without rounding the states too."""
    scale = module.weight.SCB if module.state.SCB is None else module.state.SCB
    return torch.nn.functional.linear(states, int8_vectorwise_dequant(module.weight.data, scale), module.bias)


def _last_place(row_1T: torch.Tensor) -> torch.Tensor:
    return torch.tensor([row_1T.shape[1] - 1], device=row_1T.device)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return float((one - other).abs().max()) <= LARGEST_ERROR * float(other.abs().max())
