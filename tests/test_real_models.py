"""Real pretrained models: labeltune's figures against those of plain transformers and peft, one row at a time."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from labeltune import pipeline
from labeltune.data import load_rows
from labeltune.folder import RunFolder
from labeltune.job import load_classifier, make_fast
from labeltune.model.adapter import trainable_parameters
from labeltune.model.classifier import Classifier
from labeltune.model.head import output_layers
from labeltune.prompt import Prompter
from labeltune.recipe import Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import Example, read_predictions
from labeltune.score import collect, score_batches
from labeltune.terminal import Terminal
from labeltune.train.batches import make_batch
from real import LABELS, book_rows
from test_real_data import SNLI, snli
from tiny import SHARED_DATA, row_losses, write_jsonl

# N rows, K labels

QUIET = Terminal(quiet=True)
ROWS = book_rows()[:12:2]
TEMPLATE = "Premise: {premise}\nHypothesis: {hypothesis}\nIs the hypothesis true, given the premise?\nAnswer:"
WORDS = {"entailment": "yes", "neutral": "maybe", "contradiction": "no"}
DIGITS = {"entailment": "0", "neutral": "1", "contradiction": "2"}
"""Each is two tokens behind a space in SmolLM2's tokenizer, of which the first is the same and ends the prompt."""
PAIR = "{premise} {hypothesis}"
PHRASES = {"entailment": "surely true", "neutral": "undecided", "contradiction": "false, I think"}
WORD_ERROR, PHRASE_ERROR = 1e-4, 2e-4
"""Largest difference of log-probabilities. A phrase's is a sum over four tokens, where float32 alone puts plain
transformers up to 6e-5 away from itself in float64, and labeltune 3e-5."""


def make_recipe(folder: Path, answers: dict[str, str] | None = None, **sections: dict[str, Any]) -> Recipe:
    """A recipe for NLI rows; its files are never read where rows are handed over."""
    columns = {"text_columns": ["premise", "hypothesis"], "label_column": "label"}
    labels = {name: name for name in LABELS}
    content = {
        "data": {"files": {"train": "none.jsonl"}, **columns, "labels": labels},
        "prompt": {"template": TEMPLATE, "answers": answers or {}},
        "model": {"name_or_path": str(folder), "device": "cpu", "dtype": "float32"},
        "adapter": {"r": 8, "lora_alpha": 16},
    }
    return Recipe.model_validate({key: content.get(key, {}) | sections.get(key, {}) for key in content | sections})


def load(recipe: Recipe, fresh_adapter: bool = False) -> Classifier:
    """The classifier as every verb makes it."""
    classifier = load_classifier(recipe, QUIET, lambda: "", fresh_adapter=fresh_adapter)[0]
    return make_fast(classifier, [classifier.prompter.encode_rows(ROWS)], QUIET)


def our_scores(classifier: Classifier, recipe: Recipe, rows: list[Example] = ROWS):
    encoded = classifier.prompter.encode_rows(rows)
    return collect(score_batches(classifier, encoded, recipe.score), len(rows), len(LABELS))


@torch.inference_mode()
def plain_scores(model: Any, folder: Path, answers: dict[str, str], rows: list[Example] = ROWS) -> np.ndarray:
    """Log-probability (N, K) of each answer behind each prompt, from text to figure without labeltune."""
    tokenizer = AutoTokenizer.from_pretrained(folder)

    @functools.cache
    def log_probabilities(ids: tuple[int, ...]) -> torch.Tensor:
        return model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)

    scores = []
    for row in rows:
        log_probabilities.cache_clear()
        prompt = TEMPLATE.format(**row.columns)
        start = len(tokenizer(prompt).input_ids)
        for answer in answers.values():
            ids = tokenizer(f"{prompt} {answer}").input_ids
            places = range(start, len(ids))
            scores.append(sum(float(log_probabilities(tuple(ids[:-1]))[i - 1, ids[i]]) for i in places))
    return np.array(scores).reshape(len(rows), len(answers))


def among_labels(words_NK: np.ndarray) -> np.ndarray:
    """The same normalised over the labels."""
    return words_NK - np.logaddexp.reduce(words_NK, axis=1, keepdims=True)


def load_plain_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


@pytest.fixture(scope="module")
def plain(smollm2: Path) -> Any:
    return load_plain_model(smollm2)


@pytest.fixture(scope="module")
def plain_words(smollm2: Path, plain: Any) -> np.ndarray:
    """Log-probabilities (N, K) of the single-token words, in float32."""
    return plain_scores(plain, smollm2, WORDS)


def snli_rows(count: int) -> list[Example]:
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real rows in {SHARED_DATA}")
    settings = snli(files={"validation": f"{SNLI}/dev.jsonl[:{count}]"})
    return list(load_rows(settings, ["validation"])["validation"].rows)


def test_probabilities_of_words_of_one_token_are_those_of_plain_transformers(smollm2, plain_words):
    recipe = make_recipe(smollm2, WORDS)
    classifier = load(recipe)
    assert classifier.packed
    assert classifier.words.single
    scores = our_scores(classifier, recipe)
    np.testing.assert_allclose(scores.words_NK, plain_words, rtol=0, atol=WORD_ERROR)
    np.testing.assert_allclose(scores.labels_NK, among_labels(plain_words), rtol=0, atol=WORD_ERROR)


@pytest.mark.parametrize(
    ("answers", "longest", "limit"),
    [
        pytest.param(DIGITS, 1, WORD_ERROR, id="digits"),
        pytest.param(PHRASES, 4, PHRASE_ERROR, id="phrases", marks=pytest.mark.slow),
    ],
)
def test_probabilities_of_longer_words_are_those_of_plain_transformers(smollm2, plain, answers, longest, limit):
    recipe = make_recipe(smollm2, answers)
    classifier = load(recipe)
    assert classifier.packed
    assert classifier.words.longest == longest
    few = ROWS[:4]
    ours = our_scores(classifier, recipe, few).labels_NK
    np.testing.assert_allclose(ours, among_labels(plain_scores(plain, smollm2, answers, few)), rtol=0, atol=limit)


def test_one_position_decides_in_the_published_experiment(smollm2):
    recipe = load_recipe("snli-phi2")
    assert recipe.prompt.single_token_answers
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    words = Prompter(tokenizer, recipe.prompt, recipe.data.label_names, 2048).words
    assert words.single
    assert tokenizer.convert_ids_to_tokens([*words.shared, *(ids[0] for ids in words.token_ids)]) == [
        "Ġ",
        "0",
        "1",
        "2",
    ]
    assert tokenizer.decode([words.end]) == "<|im_end|>"


def test_bfloat16_is_as_near_to_float32_as_that_of_plain_transformers(smollm2, plain_words):
    recipe = make_recipe(smollm2, WORDS, model={"dtype": "bfloat16"})
    ours = our_scores(load(recipe), recipe).words_NK
    theirs = plain_scores(load_plain_model(smollm2, torch.bfloat16), smollm2, WORDS)
    assert 0 < np.linalg.norm(ours - plain_words) <= 1.5 * np.linalg.norm(theirs - plain_words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "limit"),
    [(WORDS, WORD_ERROR), (DIGITS, WORD_ERROR), (PHRASES, PHRASE_ERROR)],
    ids=["words", "digits", "phrases"],
)
@pytest.mark.parametrize("source", ["books", "snli"])
def test_probabilities_of_more_rows_are_those_of_plain_transformers(smollm2, plain, source, answers, limit):
    rows = book_rows() if source == "books" else snli_rows(50)
    expected = among_labels(plain_scores(plain, smollm2, answers, rows))
    recipe = make_recipe(smollm2, answers)
    np.testing.assert_allclose(our_scores(load(recipe), recipe, rows).labels_NK, expected, rtol=0, atol=limit)
    recipe = make_recipe(smollm2, answers, model={"dtype": "bfloat16"})
    ours = our_scores(load(recipe), recipe, rows).labels_NK
    theirs = among_labels(plain_scores(load_plain_model(smollm2, torch.bfloat16), smollm2, answers, rows))
    assert np.linalg.norm(ours - expected) <= 1.5 * np.linalg.norm(theirs - expected)


@pytest.mark.parametrize("name", ["smollm2", "minilm"])
def test_logits_of_a_head_are_those_of_plain_transformers_alone_and_together(name, request):
    """A decoder, whose head reads the last token, and an encoder, whose head sees the whole row through a pooler."""
    folder = request.getfixturevalue(name)
    recipe = make_recipe(folder, model={"head": "sequence"}, prompt={"template": PAIR})
    classifier = load(recipe)
    assert classifier.packed == (name == "smollm2")
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, dtype=torch.float32).eval()
    [head], [plain_head] = output_layers(classifier.inner), output_layers(plain)
    plain_head.load_state_dict(head.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        texts = [PAIR.format(**row.columns) for row in ROWS]
        expected = torch.cat([plain(**tokenizer(text, return_tensors="pt")).logits for text in texts])
        together = head_logits(classifier, ROWS)
        alone = torch.cat([head_logits(classifier, [row]) for row in ROWS])
    assert expected.std(0).max() > 0.01  # rows differ
    torch.testing.assert_close(together, expected, rtol=0, atol=3e-5)
    torch.testing.assert_close(alone, expected, rtol=0, atol=3e-5)


def head_logits(classifier: Classifier, rows: list[Example]) -> torch.Tensor:
    """(N, K), in one pass."""
    prompts = [np.array(classifier.prompter.encode(row.columns)[0], dtype=np.int32) for row in rows]
    last = [np.array([len(prompt) - 1]) for prompt in prompts]
    return classifier.answer_logits(*classifier.lay_out(prompts, last, share=True))


def test_generated_text_is_that_of_plain_transformers(smollm2, plain):
    recipe = make_recipe(smollm2, WORDS, score={"mode": "generate", "max_new_tokens": 5})
    rows = ROWS[:4]
    texts = our_scores(load(recipe), recipe, rows).texts
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    expected = []
    for row in rows:
        prompt = tokenizer(TEMPLATE.format(**row.columns), return_tensors="pt")
        [ids] = plain.generate(**prompt, max_new_tokens=5, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        expected.append(tokenizer.decode(ids[prompt.input_ids.shape[1] :], skip_special_tokens=True))
    assert texts == expected
    assert len(set(texts)) > 1


@pytest.fixture(scope="module")
def tuned(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of three steps on these rows."""
    folder = tmp_path_factory.mktemp("tuned")
    data = [{**row.columns, "label": row.gold} for row in ROWS]
    files = {name: str(write_jsonl(folder / f"{name}.jsonl", data)) for name in ("train", "test")}
    recipe = make_recipe(
        smollm2,
        WORDS,
        data={"files": files, "allow_leakage": True},
        train={"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3},
        report={"training_rows": 0, "examples": 0, "robustness_rows": 0, "bootstrap_samples": 1000},
    )
    return pipeline.run(recipe, QUIET, folder / "run")


def test_plain_peft_answers_as_the_run_that_trained_the_adapter(smollm2, tuned, plain_words):
    model = PeftModel.from_pretrained(load_plain_model(smollm2), str(tuned.adapter)).eval()
    adapted = plain_scores(model, smollm2, WORDS)
    merged = plain_scores(model.merge_and_unload(), smollm2, WORDS, ROWS[:3])
    for path, scores, limit in (
        (tuned.base("test"), plain_words, 1e-4),
        (tuned.tuned_test, adapted, 1e-4),
        (tuned.tuned_test, merged, 1e-3),
    ):
        expected = np.exp(among_labels(scores))
        predictions = list(read_predictions(path))[: len(scores)]
        probabilities = [[row.probabilities[name] for name in LABELS] for row in predictions]
        np.testing.assert_allclose(probabilities, expected, rtol=0, atol=limit)
    assert np.abs(adapted - plain_words).max() > 0.1  # the adapter does something


@pytest.mark.parametrize("answers", [pytest.param(WORDS, marks=pytest.mark.slow), PHRASES], ids=["words", "phrases"])
def test_loss_and_gradients_are_those_of_plain_transformers_and_peft(smollm2, answers):
    recipe = make_recipe(smollm2, answers)
    classifier = replace(load(recipe, fresh_adapter=True), loss_over="vocabulary")
    assert classifier.packed
    parameters = trainable_parameters(classifier.model)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in parameters.items():
        if "lora_B" in name:  # zero in a fresh adapter, which hides half of the gradients
            with torch.no_grad():
                parameter.normal_(std=0.02, generator=generator)
    rows = ROWS[:3]
    batch = make_batch(classifier, classifier.prompter.encode_rows(rows), np.arange(3), [1.0] * len(LABELS))
    classifier.model.train()
    losses = row_losses(classifier, batch, smoothing=0.0)
    gradients = dict(zip(parameters, torch.autograd.grad(losses.mean(), list(parameters.values())), strict=True))

    model = get_peft_model(load_plain_model(smollm2), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    expected = dict(model.named_parameters())
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    for name, parameter in parameters.items():
        expected[name].data.copy_(parameter.data)
    plain_losses = []
    for row in rows:
        prompt = TEMPLATE.format(**row.columns)
        ids = tokenizer(f"{prompt} {answers[row.gold]}{tokenizer.eos_token}", return_tensors="pt").input_ids
        hidden = torch.arange(ids.shape[1]) < len(tokenizer(prompt).input_ids)
        loss = model(input_ids=ids, labels=ids.masked_fill(hidden, -100)).loss
        plain_losses.append(loss * (~hidden).sum())
    torch.stack(plain_losses).mean().backward()
    torch.testing.assert_close(losses, torch.stack(plain_losses), rtol=1e-4, atol=0)
    for name, gradient in gradients.items():
        difference = torch.linalg.vector_norm(gradient - expected[name].grad)
        assert difference <= 1e-4 * torch.linalg.vector_norm(expected[name].grad), name
