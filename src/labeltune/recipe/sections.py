"""What a run does with its rows: model, adapter, training, scoring and report."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from labeltune.recipe.base import COUNT, SEED, Settings, Text

Head = Literal["words", "sequence"]
TRAINED_ROWS = 8000
"""So many rows an adapter sees, each several times where there are fewer."""
RATES = ((640, 1e-3), (1536, 5e-4), (math.inf, 2e-4))
"""The widest base of each learning rate. Measured up to 576; larger models want less (Schulman et al. 2025, "LoRA
Without Regret": some ten times the rate of full tuning, which falls with the width)."""
TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]


def _names(value: object) -> object:
    """`none` and a single name, as TrainingArguments takes them, beside a list."""
    return [] if value == "none" else [value] if isinstance(value, str) else value


class ModelSettings(Settings):
    """The base model."""

    name_or_path: str
    """A model id on the hub, a local folder, or `labeltune-small`, the small base that ships with the package."""
    revision: str | None = None
    """The hub model's branch, tag or commit."""
    head: Head = "words"
    """How the model answers. `words`: as a language model, by the word that follows the prompt. `sequence`: by a
    classification head that is trained beside the adapter, on any model of AutoModelForSequenceClassification, decoder
    or encoder."""
    quantization: Literal["nf4", "int8", "none"] = "none"
    """NF4 with double quantisation, 8-bit, or none."""
    memory: Literal["auto", "lean", "fast"] = "auto"
    """What an NF4 base may take. `lean`: weights stay in 4 bits and activations are computed again. `fast`: weights are
    unpacked once, nothing is computed twice. `auto`: fast on a GPU where unpacked weights fill at most half of what is
    free, else lean; on a CPU, and without NF4, as train.gradient_checkpointing says. The result is the same."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Storage and computing type; `auto` is bfloat16 where GPU or CPU multiply it themselves, else float16 on a GPU and
    float32 on a CPU."""
    attn_implementation: str | None = None
    """An attention of transformers (`sdpa`, `eager`, ...); chosen by labeltune when left out."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` takes the GPU where there is one. `mps` is Apple's, which is untested."""


class AdapterSettings(Settings):
    """The LoRA adapter (Hu et al. 2021, arXiv 2106.09685)."""

    r: int = Field(32, ge=1, le=1024)
    """Rank of the update."""
    lora_alpha: float = Field(32, gt=0, le=1e6)
    """The update is scaled by lora_alpha / r."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases are trained too."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names (or ends of names) of the layers that get an adapter; every linear one but the output layer."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r) instead (Kalajdzievski 2023, arXiv 2312.03732)."""
    use_dora: bool = False
    """Train each output's magnitude apart from its direction: DoRA (Liu et al. 2024, arXiv 2402.09353); slower."""


class TrainSettings(Settings):
    """The tuning. Names and meanings are those of transformers' TrainingArguments where it has them."""

    num_train_epochs: float | None = Field(None, gt=0, le=10_000)
    """Passes over the training rows; left out, as many whole ones as make some 8,000 rows, from 3 to 10."""
    max_steps: int = Field(-1, ge=-1, le=COUNT)
    """Optimiser steps; overrides num_train_epochs when positive."""
    per_device_train_batch_size: int = Field(16, ge=1, le=COUNT)
    """Rows in one forward and backward pass."""
    gradient_accumulation_steps: int = Field(1, ge=1, le=COUNT)
    """Passes before each optimiser step."""
    train_sampling_strategy: Literal["random", "group_by_length"] = "random"
    """The order of rows; `group_by_length` puts rows of like length into the same batch, which saves padding."""
    learning_rate: float | None = Field(None, gt=0, le=10)
    """Peak learning rate of AdamW; left out, by the base's width: 1e-3 up to 640, 5e-4 up to 1,536, 2e-4 beyond."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    """How the rate goes on after the warm-up."""
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    """Share of all steps in which the rate rises from 0."""
    warmup_steps: int = Field(0, ge=0, le=COUNT)
    """The same in steps; overrides warmup_ratio when positive."""
    weight_decay: float = Field(0.0, ge=0, le=100)
    """AdamW's decoupled decay, on weight matrices only."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's first decay rate."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """AdamW's second decay rate."""
    adam_epsilon: float = Field(1e-8, gt=0, le=1)
    """AdamW's epsilon."""
    max_grad_norm: float = Field(1.0, ge=0, le=1e9)
    """Gradients are clipped to this norm; 0 leaves them alone."""
    loss_over: Literal["labels", "vocabulary"] = "labels"
    """What a label's word competes with in the loss. `labels`: the other labels' words, as label probabilities compare
    them. `vocabulary`: every token, as in other trainers. With both, the loss of the whole answer among all tokens, its
    end included, gains weight from 0 to 1 over the training, so that the model also writes what it chooses."""
    label_smoothing_factor: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all that the answer competes with."""
    class_weights: dict[Text, PositiveFloat] | Literal["balanced"] | None = None
    """A weight per label name in the loss; `balanced` weighs each label by its rarity."""
    fp16: bool = False
    """Mixed precision in float16, with loss scaling."""
    bf16: bool = False
    """Mixed precision in bfloat16."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    eval_strategy: Literal["no", "epoch", "steps"] = "epoch"
    """When the validation rows are scored."""
    eval_steps: int | None = Field(None, ge=1, le=COUNT)
    """Every so many steps, with eval_strategy `steps`; logging_steps when left out."""
    save_strategy: Literal["no", "epoch", "steps"] = "epoch"
    """When a checkpoint is written; the last step is always saved."""
    save_steps: int = Field(500, ge=1, le=COUNT)
    """Every so many steps, with save_strategy `steps`."""
    save_total_limit: int | None = Field(None, ge=1, le=COUNT)
    """Keep so many checkpoints; the best and the last are never removed."""
    logging_steps: int = Field(10, ge=1, le=COUNT)
    """Steps between lines of steps.jsonl."""
    report_to: Annotated[list[TrackerName], BeforeValidator(_names)] = []
    """Experiment trackers that get these lines and the scores as well: `tensorboard`, `mlflow`, `wandb`, `trackio`; one
    or a list. Their packages are installed apart."""
    load_best_model_at_end: bool = True
    """Keep the checkpoint with the best validation accuracy, rather than the last."""
    early_stopping_patience: int | None = Field(None, ge=1, le=COUNT)
    """Stop after so many scorings of the validation rows without a better accuracy."""
    seed: int = Field(0, ge=0, le=SEED)
    """Seeds the adapter's first weights, the order of rows and the dropout."""

    def settled(self, rows: int, width: int) -> Self:
        """The same with epochs and learning rate written out where they are left out.

        Measured on six tasks, two bases and both heads: docs/defaults.md.

        Args:
            rows: of training.
            width: of the base, its hidden size.

        >>> settled = TrainSettings().settled(rows=1001, width=576)
        >>> settled.num_train_epochs, settled.learning_rate
        (8, 0.001)
        """
        epochs = max(3, min(10, round(TRAINED_ROWS / max(rows, 1))))
        rate = next(rate for widest, rate in RATES if width <= widest)
        return self.model_copy(
            update={
                "num_train_epochs": self.num_train_epochs or epochs,
                "learning_rate": self.learning_rate or rate,
            }
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_steps == 0:
            raise ValueError("train.max_steps is 0; give a positive number of steps, or -1 to train by epochs")
        if self.fp16 and self.bf16:
            raise ValueError("train.fp16 and train.bf16 are both true; choose one")
        if self.early_stopping_patience is not None and self.eval_strategy == "no":
            raise ValueError(
                "train.early_stopping_patience needs scored validation rows; set train.eval_strategy to epoch or steps"
            )
        return self


class ScoreSettings(Settings):
    """How rows are scored, before and after alike."""

    mode: Literal["labels", "generate"] = "labels"
    """`labels`: the likeliest label word at the answer position. `generate`: the first label word in greedily generated
    text."""
    max_new_tokens: int = Field(10, ge=1, le=COUNT)
    """Length of the generated text, in tokens."""
    per_device_eval_batch_size: int | None = Field(None, ge=1, le=COUNT)
    """Rows in one forward pass, as many as make some 16,000 tokens when left out; shrinks when memory runs out."""


class ReportSettings(Settings):
    """What the run's report shows."""

    title: str | None = None
    """The report's heading; made from the recipe's name when left out."""
    confidence: float = Field(0.95, gt=0.5, le=0.9999)
    """Confidence level of every interval."""
    bootstrap_samples: int = Field(10_000, ge=1000, le=1_000_000)
    """Resamples behind each bootstrap interval."""
    seed: int = Field(0, ge=0, le=SEED)
    """The seed of that resampling, and of the choice of rows below."""
    training_rows: int = Field(5000, ge=0, le=COUNT)
    """So many training rows (random ones, where there are more) are scored after each epoch, for the map of training,
    and searched for those nearest to an example; 0 leaves both out."""
    examples: int = Field(3, ge=0, le=20)
    """So many broken, fixed and still wrong rows are explained; 0 leaves that out."""
    robustness_rows: int = Field(200, ge=0, le=COUNT)
    """So many of the scored rows (random ones) are scored again with small changes; 0 leaves that out."""
    paraphrases: list[str] = []
    """Further wordings of prompt.template, or of the one message with columns, that mean the same, to see how often the
    answer moves."""
