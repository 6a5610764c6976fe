"""Label words as tokenizers spell them: what they share, what tells them apart, how an answer ends and is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, GenerationConfig

from labeltune.explain.probe import answer_states
from labeltune.export import _row
from labeltune.model.adapter import add_adapter
from labeltune.prompt import LabelWords, Prompter, end_token, parse_answer, read_answer
from labeltune.recipe import AdapterSettings, PromptSettings, ScoreSettings
from labeltune.rows import Prediction
from labeltune.score import collect, evaluation_mode, score_batches, to_predictions
from labeltune.score.generate import check_room, ends, generate_answers, generate_ids, generate_texts
from labeltune.score.labels import score_labels
from labeltune.score.sofar import SoFar
from labeltune.train.batches import make_batch
from labeltune.train.loop import make_stepper, train
from labeltune.train.schedule import make_schedule
from labeltune.train.step import answer_losses
from spellings import SHAPES, save_base
from tiny import ANSWERS, TEMPLATE, make_classifier, make_ready, train_settings

CHINESE = {"red": "好评", "green": "坏评", "blue": "好坏"}
NESTED = {"red": "so", "green": "so maybe", "blue": "no"}
BOTH = {"red": "2", "green": "2 1", "blue": "20"}
"""Words that share their beginning, of which one is the beginning of the others where digits stand alone."""
CASES = [
    *((shape, ANSWERS) for shape in SHAPES),
    *((shape, CHINESE) for shape in ("whole words", "split digits", "pieces")),
    *((shape, NESTED) for shape in SHAPES),
    *((shape, BOTH) for shape in SHAPES),
]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return {shape: save_base(tmp_path_factory.mktemp("base"), shape) for shape in SHAPES}


def long_way(classifier, rows):
    """Log-probabilities (N, K) over the labels, from each word's tokens behind the prompt's text, one row at a time."""
    tokenizer, words = classifier.prompter.tokenizer, classifier.words
    scores_NK = np.zeros((len(rows), len(words.names)))
    for row, example in enumerate(rows):
        prompt = tokenizer(TEMPLATE.format(**example.columns)).input_ids
        for k, word in enumerate(words.words):
            whole = tokenizer(f"{TEMPLATE.format(**example.columns)} {word}").input_ids
            whole += [tokenizer.eos_token_id] if words.counts_end else []
            assert whole[: len(prompt)] == prompt
            with torch.inference_mode(), classifier.unpacked() as model:
                log_probs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
            places = range(len(prompt), len(whole))
            scores_NK[row, k] = sum(float(log_probs[place - 1, whole[place]]) for place in places)
    return scores_NK - np.logaddexp.reduce(scores_NK, axis=1, keepdims=True)


@pytest.mark.parametrize("ready", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize(("shape", "answers"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_probabilities_are_those_of_the_long_way(bases, examples, shape, answers, ready):
    classifier = make_classifier(bases[shape], answers)
    classifier = make_ready(classifier)[0] if ready else classifier
    rows = examples[:6]
    encoded = classifier.prompter.encode_rows(rows)
    scores = collect(score_batches(classifier, encoded, ScoreSettings()), len(rows), len(answers))
    np.testing.assert_allclose(scores.labels_NK, long_way(classifier, rows), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_position_decides_between_digits_whatever_the_tokenizer(bases, examples, shape):
    prompter = Prompter(
        AutoTokenizer.from_pretrained(bases[shape]),
        PromptSettings(template=TEMPLATE, answers=ANSWERS, single_token_answers=True),
        list(ANSWERS),
        256,
    )
    assert prompter.words.single
    assert len(prompter.words.shared) == (shape != "whole words")
    text = TEMPLATE.format(**examples[0].columns)
    for word, ids in zip(prompter.words.words, prompter.words.token_ids, strict=True):
        whole = prompter.tokenizer(f"{text} {word}").input_ids
        assert prompter.encode(examples[0].columns)[0] + list(ids) == whole


@pytest.mark.parametrize("shape", SHAPES)
def test_one_place_a_row_is_read_for_digits(bases, examples, shape, monkeypatch):
    classifier = make_classifier(bases[shape], ANSWERS)
    places = []
    real = type(classifier).answer_logits
    monkeypatch.setattr(
        type(classifier),
        "answer_logits",
        lambda self, inputs, at_A: places.append(len(at_A)) or real(self, inputs, at_A),
    )
    list(score_batches(classifier, classifier.prompter.encode_rows(examples), ScoreSettings()))
    assert sum(places) == len(examples)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_loss_over_labels_is_that_of_one_place_a_row(bases, examples, shape):
    classifier = replace(make_classifier(bases[shape], ANSWERS), loss_over="labels")
    encoded = classifier.prompter.encode_rows(examples[:8])
    batch = make_batch(classifier, encoded, np.arange(8), [1.0] * 3)
    assert batch.targets_BW.shape == (8, 2)  # a digit and the end
    scores = collect(score_batches(classifier, encoded, ScoreSettings()), 8, 3)
    with torch.inference_mode():
        word_B, answer_B = answer_losses(classifier, batch, 0.0)
    gold = -scores.labels_NK[np.arange(8), encoded.gold]
    np.testing.assert_allclose(word_B, gold, rtol=0, atol=1e-4)
    assert (answer_B > word_B).all()


def test_what_words_share_is_part_of_the_prompt_everywhere(bases, examples):
    tokenizer = AutoTokenizer.from_pretrained(bases["split digits"])
    prompter = Prompter(
        tokenizer, PromptSettings(template=TEMPLATE, answers=ANSWERS, max_length=40), list(ANSWERS), 256
    )
    [blank] = prompter.words.shared
    assert prompter.max_prompt_tokens == 39
    long = {"first": "ball " * 90, "second": "boat"}
    encoded = prompter.encode_rows([replace(examples[0], columns=long), examples[0]])
    assert encoded.cut.tolist() == [True, False]
    for row, columns in enumerate((long, examples[0].columns)):
        ids, _ = prompter.encode(columns)
        assert encoded.prompt(row).tolist() == ids
        assert ids[-1] == blank
        assert len(ids) <= 39
        assert len(prompter.column_spans(columns)) == len(ids)
        assert prompter.column_spans(columns)[-1] is None


def test_the_fingerprint_does_not_ask_where_the_border_is_drawn(bases):
    """An adapter from when each label was two tokens goes on with its prompt."""
    prompter = Prompter(
        AutoTokenizer.from_pretrained(bases["split digits"]),
        PromptSettings(template=TEMPLATE, answers=ANSWERS),
        list(ANSWERS),
        256,
    )
    two_tokens = [[*prompter.words.shared, *ids] for ids in prompter.words.token_ids]
    content = [TEMPLATE, 256 - 2, [], list(ANSWERS), two_tokens]
    assert prompter.fingerprint() == hashlib.sha256(json.dumps(content).encode()).hexdigest()


def test_hidden_states_are_those_of_the_place_that_decides(bases, examples, tmp_path):
    classifier = make_classifier(bases["split digits"], ANSWERS)
    encoded = classifier.prompter.encode_rows(examples[:5])
    with SoFar(tmp_path / "states", "k").opened() as so_far:
        states_NH = answer_states(classifier, encoded, ScoreSettings(), so_far, lambda: None)
    with torch.inference_mode():
        ids = torch.tensor([encoded.prompt(0).tolist()])
        state_H = classifier.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1]
    np.testing.assert_allclose(states_NH[0], state_H / state_H.norm(), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_where_a_word_begins_another_all_count_the_end(bases, shape):
    words = make_classifier(bases[shape], NESTED).words
    assert words.counts_end
    assert all(ids[-1] == words.end for ids in words.token_ids)
    assert words.closed == words.token_ids
    apart = make_classifier(bases[shape], ANSWERS).words
    assert not apart.counts_end
    assert [ids[-1] for ids in apart.closed] == [apart.end] * 3


def test_without_a_token_for_the_end_such_words_are_refused(bases):
    tokenizer = AutoTokenizer.from_pretrained(bases["whole words"])
    tokenizer.eos_token = None
    assert end_token(tokenizer) is None
    assert end_token(tokenizer, GenerationConfig(eos_token_id=[7, 9])) == 7
    with pytest.raises(ValueError, match=r"'so' is the beginning of 'so maybe' .* has no token that ends a text"):
        Prompter(tokenizer, PromptSettings(template=TEMPLATE, answers=NESTED), list(NESTED), 256)
    apart = Prompter(tokenizer, PromptSettings(template=TEMPLATE, answers=ANSWERS), list(ANSWERS), 256).words
    assert apart.closed == apart.token_ids


def test_words_of_one_token_are_insisted_on_behind_what_they_share(bases):
    tokenizer = AutoTokenizer.from_pretrained(bases["split digits"])
    for answers, word in (({"a": "11", "b": "12"}, None), ({"a": "1", "b": "123"}, "123"), (CHINESE, "好评")):
        asked = PromptSettings(template=TEMPLATE, answers=answers, single_token_answers=True)
        if word is None:
            assert len(Prompter(tokenizer, asked, list(answers), 256).words.shared) == 2
            continue
        with pytest.raises(ValueError, match=f"label word '{word}' is .* tokens .* after what all words begin with"):
            Prompter(tokenizer, asked, list(answers), 256)


@pytest.mark.parametrize("shape", ["whole words", "split digits", "pieces"])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(answers=st.lists(st.text("01 aio评好é", min_size=1, max_size=5), min_size=2, max_size=4, unique=True))
def test_any_words_are_told_apart_or_refused(bases, shape, answers):
    tokenizer = TOKENIZERS.setdefault(shape, AutoTokenizer.from_pretrained(bases[shape]))
    names = [f"label {place}" for place in range(len(answers))]
    try:
        asked = PromptSettings(template=TEMPLATE, answers=dict(zip(names, answers, strict=True)))
        words = Prompter(tokenizer, asked, names, 256).words
    except ValueError:
        return
    for one, ids in enumerate(words.token_ids):
        assert ids
        assert all(other[: len(ids)] != ids for place, other in enumerate(words.token_ids) if place != one)
    for word, ids, closed in zip(words.words, words.spelled, words.closed, strict=True):
        assert tokenizer.decode([*words.shared, *ids]).strip() == word.strip()
        assert closed == (*ids, words.end)
        assert read_answer(tokenizer, words, ids)[1] == words.names[words.words.index(word)]


TOKENIZERS = {}


def tune(folder, answers, steps, loss_over="vocabulary"):
    classifier = make_classifier(folder, answers)
    adapter = AdapterSettings(r=8, lora_alpha=16, target_modules="all-linear")
    classifier = replace(classifier, model=add_adapter(classifier.model, adapter, 0), loss_over=loss_over)
    settings = train_settings(max_steps=steps, per_device_train_batch_size=10, learning_rate=0.02)
    return classifier, settings


@pytest.mark.parametrize("answers", [ANSWERS, CHINESE, NESTED], ids=["digits", "chinese", "nested"])
def test_a_tuned_model_ends_its_answer_and_says_what_its_probabilities_say(bases, examples, answers):
    classifier, asked = tune(bases["split digits"], answers, 60)
    encoded = classifier.prompter.encode_rows(examples)
    schedule = make_schedule(asked, len(encoded))
    steps = list(train(make_stepper(classifier, schedule), encoded, schedule))
    assert steps[-1].loss < 0.5 * steps[0].loss
    scoring = ScoreSettings(mode="generate", max_new_tokens=12)
    scores = collect(score_batches(classifier, encoded, scoring), len(encoded), 3)
    rows = list(to_predictions(classifier, examples, encoded, scores))
    assert sum(row.predicted == row.likeliest for row in rows) >= len(rows) - 1
    assert sum(row.generated.strip() in answers.values() for row in rows) >= len(rows) - 1


@pytest.mark.parametrize("answers", [ANSWERS, CHINESE], ids=["one token", "several"])
def test_a_first_token_that_the_scores_decide_is_what_generating_writes(bases, examples, answers):
    classifier, asked = tune(bases["split digits"], answers, 30)
    encoded = classifier.prompter.encode_rows(examples)
    schedule = make_schedule(asked, len(encoded))
    list(train(make_stepper(classifier, schedule), encoded, schedule))
    prompts = [encoded.prompt(row) for row in range(len(encoded))]
    with evaluation_mode(classifier):
        scores_BK = score_labels(classifier, prompts)
        for tokens in (1, 5):
            written = generate_answers(classifier, prompts, scores_BK, tokens)
            assert written == generate_ids(classifier, prompts, tokens)


def test_text_follows_the_scores_where_they_decide_and_is_generated_where_not(bases, examples):
    classifier = make_classifier(bases["split digits"], ANSWERS)
    encoded = classifier.prompter.encode_rows(examples[:3])
    prompts = [encoded.prompt(row) for row in range(3)]
    scores_BK = torch.tensor([[0.1, 0.5, 0.2], [0.1, 0.2, 0.1], [0.3, 0.1, 0.4]]).log()
    with evaluation_mode(classifier):
        written = generate_answers(classifier, prompts, scores_BK, 4)
        plain = generate_ids(classifier, prompts, 4)
    words = classifier.words.token_ids
    assert tuple(written[0][:1]) == words[1]  # 0.5 is more than the 0.2 that are left
    assert written[1] == plain[1]  # 0.2 is not more than 0.6
    assert tuple(written[2][:1]) == words[2]
    assert all(len(ids) <= 4 for ids in written)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_loss_of_a_step_is_that_of_the_words_and_what_is_lowered_has_the_end_too(bases, examples, shape):
    for answers in (ANSWERS, NESTED, {"red": "maybe so", "green": "no", "blue": "yes yes"}):
        classifier, asked = tune(bases[shape], answers, 1)
        encoded = classifier.prompter.encode_rows(examples[:10])
        scores = collect(score_batches(classifier, encoded, ScoreSettings()), 10, 3)
        predictions = list(to_predictions(classifier, examples[:10], encoded, scores))
        with torch.inference_mode():
            word_B, answer_B = answer_losses(classifier, make_batch(classifier, encoded, np.arange(10), [1.0] * 3), 0.0)
        lowered, shown = answer_B.numpy(), np.array([row.loss for row in predictions])
        np.testing.assert_allclose(word_B, shown, atol=1e-4)
        if classifier.words.counts_end:
            np.testing.assert_allclose(lowered, shown, atol=1e-4)
        else:
            assert (lowered > shown + 0.01).all()
        schedule = make_schedule(asked, 10)
        [step] = train(make_stepper(classifier, schedule), encoded, schedule)
        assert step.loss == pytest.approx(shown.mean(), abs=1e-4)


TROUBLE = {
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "min_new_tokens": 6,
    "min_length": 200,
    "do_sample": True,
    "temperature": 9.0,
    "top_k": 3,
    "suppress_tokens": list(range(200)),
    "begin_suppress_tokens": list(range(100)),
    "forced_eos_token_id": 5,
    "bad_words_ids": [[token] for token in range(50, 150)],
    "sequence_bias": [[[70], 30.0]],
    "exponential_decay_length_penalty": [1, 50.0],
    "num_beams": 3,
    "renormalize_logits": True,
    "max_length": 10,
    "stop_strings": ["a"],
    "typical_p": 0.5,
    "max_time": 1e-9,
}


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("setting", TROUBLE)
def test_generating_is_greedy_whatever_the_base_is_configured_for(bases, examples, setting, adapter):
    classifier = make_classifier(bases["split digits"], ANSWERS)
    if adapter:
        classifier = replace(classifier, model=add_adapter(classifier.model, AdapterSettings(r=2), 0))
    encoded = classifier.prompter.encode_rows(examples[:4])
    prompts = [encoded.prompt(row) for row in range(4)]
    expected = generate_ids(classifier, prompts, 6)
    own = GenerationConfig(eos_token_id=0, **{setting: TROUBLE[setting]})
    classifier.inner.generation_config = own
    if adapter:
        classifier.model.generation_config = own
    assert generate_ids(classifier, prompts, 6) == expected
    assert classifier.inner.generation_config is own
    assert len({tuple(ids) for ids in expected}) > 1


def test_generating_ends_at_every_end_that_the_base_names(bases, examples):
    classifier = make_classifier(bases["split digits"], ANSWERS)
    encoded = classifier.prompter.encode_rows(examples[:4])
    prompts = [encoded.prompt(row) for row in range(4)]
    free = generate_ids(classifier, prompts, 8)
    for named in ([free[0][2], free[1][3]], free[2][1], None):
        classifier.inner.generation_config = GenerationConfig(eos_token_id=named)
        found = ends(classifier)
        assert set(found) == {classifier.words.end, *([named] if isinstance(named, int) else named or [])}
        for ended, whole in zip(generate_ids(classifier, prompts, 8), free, strict=True):
            assert ended == whole[: next((i for i, token in enumerate(whole) if token in found), len(whole))]
    assert generate_texts(classifier, prompts, 8) == classifier.prompter.tokenizer.batch_decode(free)


@pytest.fixture(scope="module")
def digits(bases):
    return make_classifier(bases["split digits"], {"a": "1", "b": "14", "c": "2"})


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("1", "a"),
        ("14", "b"),
        ("1488", None),
        ("148", None),
        ("14 8", "b"),
        ("1.", "a"),
        ("1, not 2", "a"),
        ("2\n1", "c"),
        ("2x", None),
        ("2好", "c"),
        ("3 or rather 2", "c"),
        ("", None),
    ],
)
def test_an_answer_is_read_by_its_tokens_and_then_by_its_text(digits, text, label):
    tokenizer, words = digits.prompter.tokenizer, digits.words
    ids = tokenizer(f" {text}").input_ids
    assert ids[0] == words.shared[0]
    read = read_answer(tokenizer, words, ids[1:])
    assert read == (f" {text}", label)
    assert parse_answer(text, words) == label


def test_a_special_token_does_not_continue_a_word(digits):
    tokenizer, words = digits.prompter.tokenizer, digits.words
    one, four = (tokenizer(text).input_ids[0] for text in ("1", "4"))
    assert read_answer(tokenizer, words, [one, tokenizer.eos_token_id, four, four])[1] == "a"
    assert read_answer(tokenizer, words, [one, four, four])[1] is None


@pytest.mark.parametrize("shape", ["whole words", "split digits", "pieces"])
def test_words_that_share_half_a_character_are_read_by_their_tokens(bases, shape):
    classifier = make_classifier(bases[shape], CHINESE)
    tokenizer, words = classifier.prompter.tokenizer, classifier.words
    assert words.shared
    for name, ids in zip(words.names, words.token_ids, strict=True):
        text, label = read_answer(tokenizer, words, ids)
        assert (text.strip(), label) == (CHINESE[name], name)
        assert read_answer(tokenizer, words, [*ids, *tokenizer("的商品").input_ids])[1] == name


def labels_of(*words):
    return LabelWords(tuple("abcdef"[: len(words)]), words, tuple((place,) for place in range(len(words))))


@pytest.mark.parametrize(
    ("words", "text", "label"),
    [
        (("好评", "差评"), "这是好评吗", "a"),
        (("好", "不好"), "我觉得不好。", "b"),
        (("ดี", "ไม่ดี"), "ผมคิดว่าไม่ดีเลย", "b"),
        (("ดี", "แย่"), "มันดีมาก", "a"),
        (("はい", "いいえ"), "答えはいいえです", "a"),  # はい stands in it: it has no blanks to tell
        (("yes", "no"), "nothing", None),
        (("yes", "no"), "Yes, not no", "a"),
        (("Yes", "yes"), "It is yes", "b"),
        (("Yes", "yes"), "YES, or yes", "b"),
        (("Yes", "yes"), "YES", None),
        (("Yes", "yes", "no"), "YES or NO", "c"),
        (("straße", "weg"), "STRASSE", "a"),
        (("été", "hiver"), "l'Été.", "a"),
        (("ete", "hiver"), "ete\u0301", None),
        (("C", "C++"), "C++ it is", "b"),
        (("-1", "1"), "it is -1", "a"),
        (("2", "3"), "有2只猫", "a"),
        (("不好", "好"), "x好y", "b"),
        (("नहीं", "हाँ"), "नहींतर", None),
        (("نعم", "لا"), "الجواب: لا.", "b"),
    ],
)
def test_text_is_read_with_the_boundaries_of_its_script(words, text, label):
    assert parse_answer(text, labels_of(*words)) == label


def test_an_exported_choice_has_the_end_where_it_counts(bases):
    row = Prediction("1", "red", "red", {"red": 1.0}, 0.1, {"first": "red ball", "second": "boat"})
    for answers, end in ((NESTED, "<|end|>"), (ANSWERS, "")):
        prompter = make_classifier(bases["split digits"], answers).prompter
        exported = _row(row, prompter)
        assert exported["choices"] == [f" {word}{end}" for word in answers.values()]
        for choice, ids in zip(exported["choices"], prompter.words.token_ids, strict=True):
            assert prompter.tokenizer(exported["prompt"] + choice).input_ids == [*prompter.encode(row.columns)[0], *ids]


def test_a_word_that_generation_would_cut_off_is_refused():
    words = LabelWords(("no", "yes"), ("no", "yes"), ((5, 6, 7, 2), (8, 2)), end=2)
    for score in (ScoreSettings(mode="generate", max_new_tokens=3), ScoreSettings(max_new_tokens=2)):
        check_room(score, words)
    with pytest.raises(ValueError, match=r"'no' is 3 tokens, and score.max_new_tokens is 2, .* to 3 or more"):
        check_room(ScoreSettings(mode="generate", max_new_tokens=2), words)
