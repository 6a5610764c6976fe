"""Small tokenizers in the shapes of well-known chat models, each with the essentials of that family's chat template."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "Is the statement true? Answer yes, no or maybe.\n", "The quick brown fox jumps over the lazy dog.",
    "user\nsystem\nassistant\nmodel\n", "Premise: a man sleeps. Hypothesis: he is awake.\n\nAnswer: yes or no",
    "Text: red ball near the blue boat? maybe so", "The model thinks: good, bad or neutral, positive or negative",
] * 3  # fmt: skip


def special(*contents: str, **flags: bool) -> list[AddedToken]:
    return [AddedToken(content, normalized=False, special=True, **flags) for content in contents]


def plain(*contents: str, **flags: bool) -> list[AddedToken]:
    return [AddedToken(content, **{"normalized": False, **flags}, special=False) for content in contents]


def byte_level(added: list[AddedToken], normalizer: Any = None, ignore_merges: bool = False) -> Tokenizer:
    """BPE over bytes, as Llama 3, Qwen and DeepSeek have it."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    content = json.loads(trained.to_str())
    content["model"]["ignore_merges"] = ignore_merges
    tokenizer = Tokenizer.from_str(json.dumps(content))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(added)
    return tokenizer


def sentencepiece(added: list[AddedToken], normalizer: Any = None, pre_tokenizer: Any = None) -> Tokenizer:
    """BPE over characters with a blank before the first word, and bytes for what it does not know."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    reserved = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=500, special_tokens=reserved, show_progress=False)
    )
    content = json.loads(trained.to_str())
    content["added_tokens"] = []
    content["model"] |= {"byte_fallback": True, "fuse_unk": True}
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([decoders.Strip(" ", 1, 0)] if normalizer is None or pre_tokenizer is not None else [])
    )
    tokenizer.add_tokens([*special("<unk>", "<s>", "</s>"), *added])
    return tokenizer


def begins_with(tokenizer: Tokenizer, token: str) -> Tokenizer:
    """Put a token before any text, as most tokenizers do with their beginning-of-text token."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.token_to_id(token))]
    )
    return tokenizer


LLAMA3 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: {{ strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' }}\n\n{{ system }}<|eot_id|>"
    "{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
PHI3 = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN3 = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|im_start|>assistant\n' + ('<think>\n\n</think>\n\n' if loop.last else '')"
    " + message['content'].lstrip('\n') + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% if thinking is not defined %}{% set thinking = true %}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% else %}{{ '<｜Assistant｜></think>' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' + ('<think>' if thinking else '</think>') }}{% endif %}"
)
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + (system if loop.last else '') + message['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + message['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
GLM = (
    "[gMASK]<sop>{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>\n<think></think>\n' + message['content'] | trim }}"
    "{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{{ '/nothink' if message['role'] == 'user' and enable_thinking is defined and not enable_thinking"
    " and not message['content'].endswith('/nothink') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|assistant|>' + ('\n<think></think>' if enable_thinking is defined and not enable_thinking else '') }}"
    "{% endif %}"
)
SMOLLM3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% set mode = '/think' if enable_thinking else '/no_think' %}"
    "{{ '<|im_start|>system\n## Metadata\n\nToday Date: ' + strftime_now('%d %B %Y') + '\nReasoning Mode: ' + mode }}"
    "{% if messages[0]['role'] == 'system' %}{{ '\n\n' + messages[0]['content'].rstrip() }}"
    "{% set messages = messages[1:] %}{% endif %}<|im_end|>\n"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' + ('' if mode == '/think' else '<think>\n\n</think>\n') }}{% endif %}"
)


def llama3() -> Tokenizer:
    tokens = special("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>")
    return begins_with(byte_level(tokens, ignore_merges=True), "<|begin_of_text|>")


def phi3() -> Tokenizer:
    blank = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokens = [*special("<|endoftext|>"), *special("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", rstrip=True)]
    return sentencepiece(tokens, normalizer=blank)


def gemma3() -> Tokenizer:
    tokens = [*special("<bos>", "<start_of_turn>", "<end_of_turn>"), *plain("\n\n", "\n\n\n", "▁▁", "<table>", "<td>")]
    return begins_with(sentencepiece(tokens, normalizer=normalizers.Replace(" ", "▁")), "<bos>")


def qwen3() -> Tokenizer:
    tokens = [*special("<|endoftext|>", "<|im_start|>", "<|im_end|>"), *plain("<think>", "</think>", "<tool_call>")]
    return byte_level(tokens, normalizer=normalizers.NFC())


def deepseek() -> Tokenizer:
    marks = plain("<｜User｜>", "<｜Assistant｜>", normalized=True)
    tokens = [*special("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), *marks, *plain("<think>", "</think>")]
    return begins_with(byte_level(tokens), "<｜begin▁of▁sentence｜>")


def mistral() -> Tokenizer:
    first = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return begins_with(sentencepiece(special("[INST]", "[/INST]"), pre_tokenizer=first), "<s>")


def glm() -> Tokenizer:
    tokens = [*special("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>")]
    return byte_level([*tokens, *plain("<think>", "</think>", "/nothink")])


def smollm3() -> Tokenizer:
    return byte_level([*special("<|im_start|>", "<|im_end|>"), *plain("<think>", "</think>")])


Build = Callable[[], Tokenizer]
FAMILIES: dict[str, tuple[Build, str, dict[str, str]]] = {
    "llama3": (llama3, LLAMA3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    "phi3": (phi3, PHI3, {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"}),
    "gemma3": (gemma3, GEMMA3, {"bos_token": "<bos>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "qwen3": (qwen3, QWEN3, {"eos_token": "<|im_end|>"}),
    "deepseek": (
        deepseek, DEEPSEEK, {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}
    ),
    "mistral": (mistral, MISTRAL, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    "glm": (glm, GLM, {"eos_token": "<|endoftext|>"}),
    "smollm3": (smollm3, SMOLLM3, {"eos_token": "<|im_end|>"}),
}  # fmt: skip


@functools.cache
def chat_tokenizer(family: str) -> Any:
    """A tokenizer of this shape with its chat template."""
    build, template, names = FAMILIES[family]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=build(), **names)
    tokenizer.chat_template = template
    return tokenizer
