"""Training as the peers do it: transformers' Trainer with peft and bitsandbytes, and the same Trainer under Unsloth."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rows import Encoded, batches_of_like_length, encode, read_examples
from shapes import SHAPES, find_shape
from table import EPOCH_ROWS, MIB, Measured, steps_of_five_epochs

from labeltune.recipes import load_recipe

if TYPE_CHECKING:
    from peers import Options, Training

RANK = ALPHA = 32
LONGEST = 512


def train(stack: Training, options: Options) -> Measured:
    """A few steps of one stack, on batches of like length in shuffled order."""
    os.chdir(options.work)  # Unsloth writes a folder of compiled code into the current one
    load = load_unsloth if stack.unsloth else load_hf
    if stack.unsloth:
        import unsloth  # noqa: F401 (it patches transformers, so it must be imported before)
    folder = find_shape(stack.shape, options.tokenizer, options.work, options.layers)
    model, tokenizer = load(stack, folder)
    recipe = load_recipe(options.recipe)
    rows = encode(read_examples(options.train, recipe, EPOCH_ROWS), recipe, tokenizer)
    batches = batches_of_like_length(rows, stack.batch_size)[: options.steps]
    s_per_step, peak_mib = time_steps(stack, model, tokenizer, batches)
    return Measured(
        stack=stack.title,
        shape=stack.shape,
        batch_size=stack.batch_size,
        s_per_step=s_per_step,
        five_epochs_s=s_per_step * steps_of_five_epochs(stack.batch_size),
        peak_allocated_mib=peak_mib,
        note=f"{stack.describe()}; projected from {len(batches) - max(1, len(batches) // 3)} steps",
    )


def load_hf(stack: Training, folder: Path) -> tuple[Any, Any]:
    """The NF4 base with its adapter, as peft's and bitsandbytes' guides do it.

    Only with checkpointing is the base prepared for k-bit training: that turns norms and embeddings to float32, which
    costs the peer time and memory.
    """
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = getattr(torch, stack.dtype)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, device_map={"": device()}, quantization_config=nf4(dtype)
    )
    if stack.checkpointing:
        model = prepare_model_for_kbit_training(model)
    targets = list(SHAPES[stack.shape].target_modules)
    adapter = LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=stack.dropout, bias="none", target_modules=targets
    )
    return get_peft_model(model, adapter), AutoTokenizer.from_pretrained(folder)


def load_unsloth(stack: Training, folder: Path) -> tuple[Any, Any]:
    """The same through Unsloth, whose fast kernels want an adapter without dropout."""
    import torch
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        str(folder), max_seq_length=LONGEST, dtype=getattr(torch, stack.dtype), load_in_4bit=True
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=stack.dropout,
        bias="none",
        target_modules=list(SHAPES[stack.shape].target_modules),
        use_gradient_checkpointing="unsloth" if stack.checkpointing else False,
        random_state=0,
    )
    return model, tokenizer


def nf4(dtype: Any) -> Any:
    """NF4 with double quantisation, computing in this type."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def device() -> str:
    """The GPU, or the CPU to try a script."""
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def synchronize() -> None:
    """Wait until the device has done all that it was asked for."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_mib(reset: bool = False) -> float | None:
    """torch's peak of allocated memory since it was last reset; None on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    if reset:
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated() / MIB


def time_steps(stack: Training, model: Any, tokenizer: Any, batches: list[list[Encoded]]) -> tuple[float, float | None]:
    """Trainer's seconds per step over these batches in their order, the first third left out, and peak MiB."""
    on_gpu = device() != "cpu"
    trainer, ends_s = make_trainer(
        model,
        tokenizer,
        [row for batch in batches for row in batch],
        per_device_train_batch_size=stack.batch_size,
        train_sampling_strategy="sequential",
        num_train_epochs=1,
        fp16=on_gpu and stack.dtype == "float16",
        bf16=on_gpu and stack.dtype == "bfloat16",
        gradient_checkpointing=stack.checkpointing and not stack.unsloth,
        max_grad_norm=1.0,
        logging_steps=10,
        save_strategy="no",
    )
    peak_mib(reset=True)
    trainer.train()
    warm = max(1, len(ends_s) // 3)
    return (ends_s[-1] - ends_s[warm - 1]) / (len(ends_s) - warm), peak_mib()


def make_trainer(model: Any, tokenizer: Any, data: list[Encoded], **arguments: Any) -> tuple[Any, list[float]]:
    """A Trainer that pads on the right in its collator, and the list in which it notes when each step ended."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    ends_s: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            synchronize()
            ends_s.append(time.perf_counter())

    tokenizer.padding_side = "right"
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir="trainer", report_to=[], seed=0, **arguments),
        train_dataset=data,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True, label_pad_token_id=-100),
        callbacks=[Clock()],
    )
    return trainer, ends_s


def train_quickstart(work: Path, steps: int = -1, now: Callable[[], float] = time.perf_counter) -> Measured:
    """The quickstart's training on the CPU in float32: its base, pairs, batches, epochs and adapter, in HF Trainer.

    Saves at the end of each epoch, as the recipe does, and scores nothing. `steps` of 0 or less means all epochs.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from labeltune.data import load_rows
    from labeltune.model.base import resolve_path

    os.chdir(work)
    torch.manual_seed(0)
    recipe = load_recipe("quickstart")
    settings, folder = recipe.train, resolve_path(recipe.model.name_or_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    rows = encode(load_rows(recipe.data, ["train"])["train"].rows, recipe, tokenizer)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **recipe.adapter.model_dump()))
    trainer, ends_s = make_trainer(
        model,
        tokenizer,
        rows,
        use_cpu=True,
        max_steps=max(steps, 0) or -1,
        num_train_epochs=settings.num_train_epochs,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_ratio,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy=settings.train_sampling_strategy,
        logging_steps=settings.logging_steps,
        save_strategy=settings.save_strategy,
        disable_tqdm=True,
    )
    begun_s = now()
    trainer.train()
    train_s = now() - begun_s
    return Measured(
        stack="HF Trainer, peft",
        shape=recipe.model.name_or_path,
        batch_size=settings.per_device_train_batch_size,
        s_per_step=train_s / len(ends_s),
        train_s=train_s,
        note=f"{len(ends_s)} steps, {torch.get_num_threads()} threads",
    )
