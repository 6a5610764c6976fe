"""The published Phi-2 experiment, argument for argument, in Phi-2's shape with random weights: ours and HF Trainer's.

Speed and memory do not depend on the weights' values, so this measures both without Phi-2's own weights; accuracy means
nothing here. One process per stack, one after the other on the same GPU, the same rows.

    python benchmarks/phi2_shape.py --train train.jsonl --validation dev.jsonl --tokenizer gpt2_bpe/ --work /tmp/phi2

Rows are JSONL with premise, hypothesis and label (0, 1, 2); the tokenizer folder holds vocab.json and merges.txt.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

SHAPE = {
    "vocab_size": 51200,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "partial_rotary_factor": 0.4,
    "hidden_act": "gelu_new",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the base and the runs")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--layers", type=int, default=32, help="fewer than Phi-2's 32 to try the script itself")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    base = options.work / "base"
    if options.peer:
        print(json.dumps(hf_trainer(base, options.train, options.steps)))
        return
    if not (base / "config.json").is_file():
        make_base(base, options.tokenizer, options.layers)
    rows = [ours(options, base, name) for name in ("snli-phi2", "snli-phi2-best")]
    rows.append(json.loads(subprocess.check_output([sys.executable, *sys.argv, "--peer"], text=True).splitlines()[-1]))
    print(f"\n{'stack':<46}{'s per step':>12}{'peak allocated, MiB':>22}{'GPU load, %':>14}{'mean power, W':>16}")
    for row in rows:
        figures = [row[key] for key in ("s_per_step", "peak_mib", "gpu_load_percent", "power_w")]
        shown = ["-" if figure is None else f"{figure:,.3f}" if figure < 10 else f"{figure:,.0f}" for figure in figures]
        print(f"{row['stack']:<46}{shown[0]:>12}{shown[1]:>22}{shown[2]:>14}{shown[3]:>16}")


def make_base(folder: Path, tokenizer_folder: Path, layers: int) -> None:
    """Save a Phi of Phi-2's shape with random weights and GPT-2's vocabulary, which Phi-2 shares."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer(str(tokenizer_folder / "vocab.json"), str(tokenizer_folder / "merges.txt"))
    bpe.add_special_tokens(["<|endoftext|>"])
    end = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **end).save_pretrained(folder)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = PhiForCausalLM._from_config(PhiConfig(**SHAPE, num_hidden_layers=layers), dtype=torch.float16)
    model.save_pretrained(folder)


def ours(options: argparse.Namespace, base: Path, recipe: str) -> dict[str, object]:
    """`labeltune run` with few steps and few scored rows; figures from the run folder that it leaves."""
    out = options.work / f"run-{recipe}"
    settings = [
        "data.hub=null",
        f"data.files.train={options.train}",
        f"data.files.validation={options.validation}[:8]",
        f"data.files.test={options.validation}[1000:1008]",
        f"model.name_or_path={base}",
        f"train.max_steps={options.steps}",
        "train.logging_steps=5",
    ]
    command = [sys.executable, "-m", "labeltune", "run", recipe, "--out", str(out)]
    subprocess.run([*command, *(part for setting in settings for part in ("--set", setting))], check=True)
    summary = json.loads((out / "summary.json").read_text())
    steps = [json.loads(line) for line in (out / "steps.jsonl").read_text().splitlines()]
    half = [step for step in steps if step["step"] >= options.steps // 5]
    spent_s = half[-1]["elapsed_s"] - half[0]["elapsed_s"]
    samples = [json.loads(line) for line in (out / "hardware.jsonl").read_text().splitlines()]
    power = [sample["gpu_power_w"] for sample in samples if sample["phase"] == "train" and sample["gpu_power_w"]]
    return {
        "stack": f"labeltune, {recipe}",
        "s_per_step": spent_s / (half[-1]["step"] - half[0]["step"]),
        "peak_mib": summary["hardware"]["gpu_allocated_mib_peak"],
        "gpu_load_percent": summary["hardware"]["gpu_load_percent_mean"],
        "power_w": sum(power) / len(power) if power else None,
    }


def hf_trainer(base: Path, train: Path, steps: int) -> dict[str, object]:
    """The experiment as people write it: Trainer, peft and bitsandbytes, batch 1, fp16, gradient checkpointing."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        BitsAndBytesConfig,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from labeltune.recipes import load_recipe

    recipe = load_recipe("snli-phi2")
    tokenizer = AutoTokenizer.from_pretrained(base)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float16, device_map="auto", quantization_config=quantization
    )
    model = prepare_model_for_kbit_training(model)
    targets = list(recipe.adapter.target_modules)
    adapter = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=32, lora_dropout=0.05, target_modules=targets)
    model = get_peft_model(model, adapter)
    data = []
    for line in train.read_text().splitlines()[:1001]:
        row = json.loads(line)
        prompt = tokenizer(recipe.prompt.template.format(**row)).input_ids
        answer = tokenizer(f" {row['label']}").input_ids
        data.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: object, **options: object) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir=str(base.parent / "trainer"),
        per_device_train_batch_size=1,
        max_steps=steps,
        fp16=True,
        gradient_checkpointing=True,
        max_grad_norm=1.0,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
    )

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return {key: torch.tensor([rows[0][key]]) for key in rows[0]}

    torch.cuda.reset_peak_memory_stats()
    Trainer(model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[Clock()]).train()
    warm = steps // 5
    return {
        "stack": "HF Trainer + peft + bitsandbytes, snli-phi2",
        "s_per_step": (ends[-1] - ends[warm - 1]) / (len(ends) - warm),
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20,
        "gpu_load_percent": None,
        "power_w": None,
    }


if __name__ == "__main__":
    main()
