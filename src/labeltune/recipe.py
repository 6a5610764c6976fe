"""What the user asks for: typed, frozen, unknown keys refused. Keys that Hugging Face has keep names and meanings."""

from __future__ import annotations

import string
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, model_validator

from labeltune.rows import RESERVED

SPLITS = ("train", "validation", "test")
SMALL, PAIRS = "labeltune-small", "labeltune-pairs"
"""The names of the base and of the folder of rows that ship with the package."""


class Settings(BaseModel):
    """The common ground of all sections: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _text(value: object) -> object:
    """YAML reads `no: 1` as False and `0: a` as an integer; labels are compared as text, as JSON writes them."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_text)]
Head = Literal["words", "sequence"]
TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]


def _names(value: object) -> object:
    """`none` and a single name, as TrainingArguments takes them, beside a list."""
    return [] if value == "none" else [value] if isinstance(value, str) else value


class DataSettings(Settings):
    """Where the rows come from and which of them are used. Exactly one of `hub` and `files`."""

    hub: str | None = None
    """A dataset id on the hub, or a local folder in the hub's layout."""
    config: str | None = None
    """The hub dataset's configuration name."""
    revision: str | None = None
    """The hub dataset's branch, tag or commit."""
    splits: dict[str, str] = Field(default_factory=lambda: {name: name for name in SPLITS})
    """With `hub`: the dataset's split for each of train, validation and test, e.g. `validation: "dev[:1000]"`."""
    files: dict[str, str] | None = None
    """A JSONL, CSV, TSV or Parquet file for each of train, validation and test, plain or gzipped; `"dev.jsonl[:1000]"`
    and `"dev.jsonl[1000:]"` take rows by their place in the file. `labeltune-pairs/train.jsonl` and so on are the
    premise/hypothesis pairs that ship with the package."""
    text_columns: list[str] = Field(min_length=1)
    """The columns that the prompt's template may name."""
    label_column: str
    """The column that holds the gold label."""
    labels: dict[Text, str] = Field(min_length=2)
    """Value in the data: the label's name."""
    id_column: str | None = None
    """A column with a unique id; otherwise a row's id is its split and place."""
    votes_column: str | None = None
    """A column with a list of annotators' labels (values or names)."""
    keep_columns: list[str] = []
    """Further columns that travel with each row."""
    train_rows: int | None = Field(None, ge=1)
    """How many training rows to use; all of them when left out."""
    validation_rows: int | None = Field(None, ge=1)
    """How many validation rows to use; all of them when left out."""
    test_rows: int | None = Field(None, ge=1)
    """How many test rows to use; all of them when left out."""
    select: Literal["first", "random", "stratified"] = "first"
    """Which rows, where a number is given: the first, random ones by seed, or random ones in the labels' shares."""
    seed: int = 0
    """The seed of that selection."""
    bad_rows: Literal["skip", "error"] = "skip"
    """A row with no usable label or text is left out and counted, or stops the run."""
    allow_leakage: bool = False
    """Go on although training rows appear in validation or test."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        sources = [name for name in ("hub", "files") if getattr(self, name) is not None]
        if len(sources) != 1:
            found = " and ".join(sources) or "none"
            raise ValueError(f"data needs exactly one of hub and files; found {found}; set the other to null")
        for place, mapping in (("splits", self.splits), ("files", self.files or {})):
            unknown = [name for name in mapping if name not in SPLITS]
            if unknown:
                raise ValueError(f"data.{place} names {unknown[0]!r}; it may name {', '.join(SPLITS)}")
        if self.files is not None and not self.files:
            raise ValueError("data.files is empty; name at least a train file")
        for name in RESERVED:
            if name in self.text_columns:
                raise ValueError(f"data.text_columns names {name!r}, which predictions use; rename it in the data")
        if len(set(self.text_columns)) < len(self.text_columns):
            raise ValueError(f"data.text_columns names a column twice: {self.text_columns}")
        return self

    @property
    def label_names(self) -> tuple[str, ...]:
        """The distinct label names, in the recipe's order: K of them everywhere else."""
        return tuple(dict.fromkeys(self.labels.values()))

    def rows_wanted(self, split: str) -> int | None:
        """The number of rows to select for this split, or None for all."""
        wanted: int | None = getattr(self, f"{split}_rows")
        return wanted


class PromptSettings(Settings):
    """How a row becomes a prompt, and which words answer it."""

    template: str
    """Text with `{column}` for each text column; `{{` and `}}` for literal braces."""
    answers: dict[str, Text] = {}
    """The word that stands for each label name; not needed with `model.head: sequence`, which answers without words."""
    max_length: int | None = Field(None, ge=8)
    """Longest prompt with its answer, in tokens; text columns are cut to fit. The model's own limit when left out."""
    single_token_answers: bool = False
    """Insist that every answer is one token, instead of scoring longer answers by their whole sequence."""

    @property
    def template_columns(self) -> list[str]:
        """The columns that the template names, in order, each once.

        >>> PromptSettings(template="{a} {{b}} {c}", answers={"x": "1", "y": "2"}).template_columns
        ['a', 'c']
        """
        fields = [field for _, field, _, _ in string.Formatter().parse(self.template) if field is not None]
        return list(dict.fromkeys(fields))


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

    r: int = Field(16, ge=1, le=1024)
    """Rank of the update."""
    lora_alpha: float = Field(32, gt=0)
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

    num_train_epochs: float = Field(3, gt=0)
    """Passes over the training rows."""
    max_steps: int = Field(-1, ge=-1)
    """Optimiser steps; overrides num_train_epochs when positive."""
    per_device_train_batch_size: int = Field(8, ge=1)
    """Rows in one forward and backward pass."""
    gradient_accumulation_steps: int = Field(1, ge=1)
    """Passes before each optimiser step."""
    train_sampling_strategy: Literal["random", "group_by_length"] = "random"
    """The order of rows; `group_by_length` puts rows of like length into the same batch, which saves padding."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate of AdamW."""
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    """How the rate goes on after the warm-up."""
    warmup_ratio: float = Field(0.0, ge=0, lt=1)
    """Share of all steps in which the rate rises from 0."""
    warmup_steps: int = Field(0, ge=0)
    """The same in steps; overrides warmup_ratio when positive."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled decay, on weight matrices only."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's first decay rate."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """AdamW's second decay rate."""
    adam_epsilon: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are clipped to this norm; 0 leaves them alone."""
    loss_over: Literal["vocabulary", "labels"] = "vocabulary"
    """What the answer competes with in the loss. `vocabulary`: every token, as in other trainers, and as generating
    needs. `labels`: the other label words alone, as label probabilities compare them; they must be single tokens."""
    label_smoothing_factor: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread over all that the answer competes with."""
    class_weights: dict[str, PositiveFloat] | Literal["balanced"] | None = None
    """A weight per label name in the loss; `balanced` weighs each label by its rarity."""
    fp16: bool = False
    """Mixed precision in float16, with loss scaling."""
    bf16: bool = False
    """Mixed precision in bfloat16."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    eval_strategy: Literal["no", "epoch", "steps"] = "epoch"
    """When the validation rows are scored."""
    eval_steps: int | None = Field(None, ge=1)
    """Every so many steps, with eval_strategy `steps`; logging_steps when left out."""
    save_strategy: Literal["no", "epoch", "steps"] = "epoch"
    """When a checkpoint is written; the last step is always saved."""
    save_steps: int = Field(500, ge=1)
    """Every so many steps, with save_strategy `steps`."""
    save_total_limit: int | None = Field(None, ge=1)
    """Keep so many checkpoints; the best and the last are never removed."""
    logging_steps: int = Field(10, ge=1)
    """Steps between lines of steps.jsonl."""
    report_to: Annotated[list[TrackerName], BeforeValidator(_names)] = []
    """Experiment trackers that get these lines and the scores as well: `tensorboard`, `mlflow`, `wandb`, `trackio`; one
    or a list. Their packages are installed apart."""
    load_best_model_at_end: bool = True
    """Keep the best checkpoint by validation, rather than the last."""
    early_stopping_patience: int | None = Field(None, ge=1)
    """Stop after so many scorings of the validation rows without a better accuracy."""
    seed: int = 0
    """Seeds the adapter's first weights, the order of rows and the dropout."""

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
    max_new_tokens: int = Field(10, ge=1)
    """Length of the generated text, in tokens."""
    per_device_eval_batch_size: int | None = Field(None, ge=1)
    """Rows in one forward pass, as many as make some 16,000 tokens when left out; shrinks when memory runs out."""


class ReportSettings(Settings):
    """What the run's report shows."""

    title: str | None = None
    """The report's heading; made from the recipe's name when left out."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Confidence level of every interval."""
    bootstrap_samples: int = Field(10_000, ge=1000)
    """Resamples behind each bootstrap interval."""
    seed: int = 0
    """The seed of that resampling, and of the choice of rows below."""
    training_rows: int = Field(5000, ge=0)
    """So many training rows (random ones, where there are more) are scored after each epoch, for the map of training,
    and searched for those nearest to an example; 0 leaves both out."""
    examples: int = Field(3, ge=0, le=20)
    """So many broken, fixed and still wrong rows are explained; 0 leaves that out."""
    robustness_rows: int = Field(200, ge=0)
    """So many of the scored rows (random ones) are scored again with small changes; 0 leaves that out."""
    paraphrases: list[str] = []
    """Further wordings of prompt.template that mean the same, to see how often the answer moves."""


class Recipe(Settings):
    """One job: everything that decides what a run does."""

    name: str = "recipe"
    """Names the run's folder."""
    description: str = ""
    """One line for `labeltune recipes`."""
    data: DataSettings
    prompt: PromptSettings
    model: ModelSettings
    adapter: AdapterSettings = AdapterSettings()
    train: TrainSettings = TrainSettings()
    score: ScoreSettings = ScoreSettings()
    report: ReportSettings = ReportSettings()

    def scoring_by(self, mode: Literal["labels", "generate"]) -> Self:
        """The same recipe with another `score.mode`."""
        return self.model_copy(update={"score": self.score.model_copy(update={"mode": mode})})

    @model_validator(mode="after")
    def _check(self) -> Self:
        names, answers = self.data.label_names, self.prompt.answers
        listed = ", ".join(names)
        for name in names:
            if name not in answers and self.model.head == "words":
                raise ValueError(f"prompt.answers has no word for the label {name!r}; give one for each of {listed}")
        for name in answers:
            if name not in names:
                raise ValueError(f"prompt.answers names the label {name!r}, which data.labels does not have: {listed}")
        columns = self.prompt.template_columns
        for column in columns:
            if column not in self.data.text_columns:
                known = f"which is not in data.text_columns: {', '.join(self.data.text_columns)}"
                raise ValueError(f"prompt.template names {{{column}}}, {known}; write {{{{ and }}}} for literal braces")
        if not columns:
            example = "{" + self.data.text_columns[0] + "}"
            raise ValueError(f"prompt.template names no column; put at least one, such as {example}, into it")
        if self.train.loss_over == "labels" and self.score.mode == "generate":
            raise ValueError(
                "train.loss_over is labels, which does not teach the model to write its answer, and score.mode is "
                "generate; set train.loss_over to vocabulary or score.mode to labels"
            )
        if self.model.head == "sequence" and self.score.mode == "generate":
            raise ValueError(
                "model.head is sequence, which writes no text, and score.mode is generate; set score.mode to labels or "
                "model.head to words"
            )
        for template in self.report.paraphrases:
            if set(PromptSettings(template=template, answers=answers).template_columns) != set(columns):
                raise ValueError(
                    f"report.paraphrases has {template!r}, which must name the same columns as prompt.template: "
                    + ", ".join(f"{{{column}}}" for column in columns)
                    + "; correct it, or set report.paraphrases to []"
                )
        weights = self.train.class_weights
        if isinstance(weights, dict) and set(weights) != set(names):
            raise ValueError(f"train.class_weights names {', '.join(weights)}; it must name each of {', '.join(names)}")
        return self
