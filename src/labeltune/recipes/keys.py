"""The right key for a wrong one: other trainers' names for a setting, keys in the wrong section, slips of the pen."""

from __future__ import annotations

import difflib
import functools
import re
import types
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from labeltune.recipe import Recipe

ALIKE = 0.8
"""How like a key of another section must be."""
SYNONYMS = {
    "train.learning_rate": "lr peak_lr max_lr learningrate step_size",
    "train.num_train_epochs": "epochs num_epochs n_epochs max_epochs epoch number_of_epochs",
    "train.max_steps": "steps num_steps total_steps train_steps num_train_steps iterations max_iters",
    "train.per_device_train_batch_size": "batch_size train_batch_size micro_batch_size per_device_batch_size "
    "per_gpu_train_batch_size device_batch_size mini_batch_size bs batch",
    "score.per_device_eval_batch_size": "batch_size bs batch eval_batch_size test_batch_size "
    "per_gpu_eval_batch_size inference_batch_size",
    "train.gradient_accumulation_steps": "gradient_accumulation grad_accum grad_accum_steps accumulation_steps "
    "accumulate_grad_batches",
    "train.lr_scheduler_type": "scheduler lr_scheduler schedule scheduler_type lr_schedule",
    "train.warmup_ratio": "warmup warm_up warmup_proportion warmup_fraction",
    "train.warmup_steps": "num_warmup_steps warmup_iters",
    "train.weight_decay": "wd decay l2",
    "train.adam_beta1": "beta1",
    "train.adam_beta2": "beta2",
    "train.adam_epsilon": "eps epsilon adam_eps",
    "train.max_grad_norm": "grad_clip gradient_clipping clip_grad_norm gradient_clip_val grad_norm max_norm",
    "train.label_smoothing_factor": "label_smoothing smoothing",
    "train.class_weights": "class_weight label_weights weights",
    "train.gradient_checkpointing": "grad_checkpointing activation_checkpointing use_gradient_checkpointing",
    "train.eval_strategy": "evaluation_strategy eval_every",
    "train.save_strategy": "checkpoint_strategy",
    "train.logging_steps": "log_steps log_every logging_interval log_interval",
    "train.save_total_limit": "keep_checkpoints max_checkpoints",
    "train.load_best_model_at_end": "load_best keep_best",
    "train.early_stopping_patience": "patience early_stopping",
    "train.report_to": "tracker trackers logger logging",
    "train.seed": "seed random_seed random_state",
    "train.fp16": "float16 half",
    "train.bf16": "bfloat16",
    "train.train_sampling_strategy": "group_by_length sampling",
    "model.name_or_path": "base_model base_model_name_or_path model_name_or_path model_name model_id model_path "
    "pretrained_model_name_or_path checkpoint base name path id",
    "model.quantization": "load_in_4bit load_in_8bit quantize bnb quantisation quant",
    "model.dtype": "torch_dtype precision",
    "model.attn_implementation": "attention attn use_flash_attention flash_attention",
    "adapter.r": "lora_r rank lora_rank lora_dim",
    "adapter.lora_alpha": "alpha",
    "adapter.lora_dropout": "dropout",
    "adapter.target_modules": "lora_target_modules targets modules lora_target",
    "adapter.bias": "lora_bias",
    "adapter.use_rslora": "rslora",
    "adapter.use_dora": "dora",
    "data.text_columns": "text_column text texts text_field input_column input_columns columns features "
    "feature_columns",
    "data.label_column": "target target_column label label_field gold gold_column y class_column output_column",
    "data.labels": "classes class_names label_names categories label_map label2id id2label names",
    "data.files": "data_files file train_file path dataset_path",
    "data.hub": "dataset dataset_name dataset_id hf_dataset",
    "data.config": "dataset_config dataset_config_name subset",
    "data.id_column": "id idx index_column",
    "data.votes_column": "votes annotators annotator_labels",
    "data.train_rows": "max_train_samples num_train_samples train_size n_train",
    "data.validation_rows": "max_eval_samples max_validation_samples",
    "data.test_rows": "max_test_samples max_predict_samples",
    "data.split": "test_size validation_split val_split train_test_split validation_size holdout",
    "data.csv.delimiter": "sep separator delim",
    "data.csv.header": "has_header",
    "data.drop_duplicates": "deduplicate dedup",
    "prompt.template": "prompt_template text_template instruction format",
    "prompt.answers": "verbalizer verbalizers label_words answer words",
    "prompt.max_length": "max_seq_length max_seq_len max_len cutoff_len seq_length block_size model_max_length "
    "max_sequence_length sequence_length context_length",
    "score.max_new_tokens": "max_tokens max_generated_tokens",
    "score.mode": "scoring generation",
    "report.title": "heading",
    "report.confidence": "confidence_level alpha_level ci",
    "report.bootstrap_samples": "bootstrap n_bootstrap bootstraps resamples",
    "adapter": "lora peft lora_config peft_config",
    "data": "datasets",
    "train": "training training_args training_arguments trainer args hyperparameters",
    "score": "scores eval evaluation inference evaluate",
}
OUTSIDE = {
    "outputdir": "name the run's folder with --out",
    "outdir": "name the run's folder with --out",
    "out": "name the run's folder with --out",
    "savedir": "name the run's folder with --out",
    "logdir": "the log is steps.jsonl in the run's folder, which --out names",
    "resume": "give --resume to `labeltune run`",
    "resumefromcheckpoint": "give --resume to `labeltune run`",
    "overwriteoutputdir": "an output folder is never overwritten; name another with --out",
}


def right_key(section: Sequence[Any], key: str) -> str:
    """A hint to the key that is meant by one which the section does not have; empty where none is known.

    Hyphens and capitals do not count. Another trainer's name for it and the same key of another section come first,
    then what is like it in this section, and last what is like it elsewhere.

    >>> right_key(["train"], "lr"), right_key(["train"], "learning-rate"), right_key(["model"], "eval_steps")
    ('; did you mean learning_rate?', '; did you mean learning_rate?', '; did you mean train.eval_steps?')
    >>> right_key([], "maxSeqLength"), right_key([], "output_dir")
    ('; did you mean prompt.max_length?', "; name the run's folder with --out")
    """
    here, plain = [str(part) for part in section], _plain(key)
    if plain in OUTSIDE:
        return f"; {OUTSIDE[plain]}"
    places = _places()
    own = [path[-1] for paths in places.values() for path in paths if list(path[:-1]) == here]
    exact, others = places.get(plain, []), [tuple(name.split(".")) for name in _synonyms().get(plain, ())]
    meant = [path for path in [*exact, *others] if list(path[:-1]) == here] or others or exact
    slips = _like(key, own)
    if meant:
        slips = [name for name in slips if len(name) == 1 or _likeness(name, key) >= ALIKE]
    elif not slips:
        found = difflib.get_close_matches(plain, list(places), n=2, cutoff=ALIKE)
        meant = [path for name in found for path in places[name]]
    names = [path[-1] if list(path[:-1]) == here else ".".join(path) for path in meant]
    return _asking(list(dict.fromkeys([*names, *slips])))


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint for a mistyped word: the nearest choice, or two that are almost equally near; else an empty string.

    >>> nearest("max_step", ["max_steps", "seed"]), nearest("adam_beta", ["adam_beta1", "adam_beta2"])
    ('; did you mean max_steps?', '; did you mean adam_beta2 or adam_beta1?')
    """
    found = difflib.get_close_matches(word, list(choices), n=2)
    return _asking([choice for choice in found if _likeness(choice, word) > _likeness(found[0], word) - 0.15])


def _like(key: str, own: Sequence[str]) -> list[str]:
    """Keys of the section that one slip of the pen may have made into this one."""
    found = difflib.get_close_matches(key, own, n=2)
    near = [name for name in found if _likeness(name, key) > _likeness(found[0], key) - 0.15]
    return near or [name for name in own if len(name) == 1 and len(key) <= 2]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _asking(names: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""


def _plain(key: str) -> str:
    return re.sub(r"[^a-z0-9]", "", key.lower())


@functools.cache
def _places() -> dict[str, list[tuple[str, ...]]]:
    """Where each key is, by its plain form: sections, their settings, and the settings of these."""
    found: dict[str, list[tuple[str, ...]]] = {}
    left: list[tuple[tuple[str, ...], type[BaseModel]]] = [((), Recipe)]
    while left:
        above, model = left.pop(0)
        for name, field in model.model_fields.items():
            found.setdefault(_plain(name), []).append((*above, name))
            inner = settings_class(field.annotation)
            if inner is not None:
                left.append(((*above, name), inner))
    return found


@functools.cache
def _synonyms() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, others in SYNONYMS.items():
        for other in others.split():
            found.setdefault(_plain(other), []).append(name)
    return found


def settings_class(annotation: Any) -> type[BaseModel] | None:
    """The class of settings among the kinds of value that a setting may have."""
    kinds = get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
