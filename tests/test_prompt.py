import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from labeltune.prompt import LabelWords, Prompter, parse_answer
from labeltune.recipe import PromptSettings
from labeltune.rows import Example


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def prompter(tokenizer, template, answers=None, **settings):
    answers = answers or {"a": "0", "b": "1"}
    return Prompter(tokenizer, PromptSettings(template=template, answers=answers, **settings), list(answers), 64)


def test_prompt_and_answer_together_are_what_the_tokenizer_makes_of_the_whole_text(tokenizer):
    for template in ("The {x} near.", "The {x}\nAnswer: ", "The {x} is\n", "{x}"):
        made = prompter(tokenizer, template)
        ids, cut = made.encode({"x": "red ball"})
        for word, spelled in zip(made.words.words, made.words.token_ids, strict=True):
            text = template.format(x="red ball")
            whole = text + word if text[-1].isspace() else f"{text} {word}"
            assert ids + list(spelled) == tokenizer(whole).input_ids
        assert not cut


def test_text_that_looks_like_a_special_token_stays_text(tokenizer):
    ids, _ = prompter(tokenizer, "The {x}.").encode({"x": "ball <|end|> kite"})
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == "The ball <|end|> kite."


def test_a_special_token_of_the_template_is_one(tokenizer):
    ids, _ = prompter(tokenizer, "<|end|>The {x}.<|end|>").encode({"x": "ball <|end|>"})
    assert [i for i, token in enumerate(ids) if token == tokenizer.eos_token_id] == [0, len(ids) - 1]


def test_only_text_is_cut_and_the_template_stays_whole(tokenizer):
    made = prompter(tokenizer, "The {x} is near the {y}. Answer with 0 or 1.", max_length=48)
    ids, cut = made.encode({"x": "ball " * 100, "y": "boat"})
    text = tokenizer.decode(ids)
    assert cut
    assert len(ids) <= 47
    assert text.startswith("The ball ball")
    assert text.endswith("is near the boat. Answer with 0 or 1.")


def test_both_long_columns_are_cut_alike(tokenizer):
    made = prompter(tokenizer, "{x} is near {y}.", max_length=32)
    text = tokenizer.decode(made.encode({"x": "ball " * 90, "y": "boat " * 60})[0])
    assert abs(text.count("ball") - text.count("boat")) <= 1
    assert text.count("ball") > 5


def test_encoded_rows_hold_what_encode_returns(tokenizer):
    made = prompter(tokenizer, "The {x}.", max_length=20)
    rows = [Example(str(i), {"x": "ball " * (i + 1)}, "ab"[i % 2]) for i in range(30)]
    encoded = made.encode_rows(rows)
    assert len(encoded) == 30
    for i, row in enumerate(rows):
        ids, cut = made.encode(row.columns)
        assert encoded.prompt(i).tolist() == ids
        assert encoded.cut[i] == cut
    assert encoded.gold.tolist() == [i % 2 for i in range(30)]
    assert 0 < encoded.cut_share < 1
    assert made.encode_rows([]).cut_share is None


@pytest.mark.parametrize(
    ("answers", "settings", "message"),
    [
        ({"a": "maybe so it is", "b": "no"}, {"single_token_answers": True}, "choose one that is a single token"),
        ({"a": "no", "b": "no"}, {}, "'no' and 'no' are the same"),
        ({"a": " ", "b": "no"}, {}, "choose another"),
    ],
)
def test_label_words_that_cannot_serve_are_refused(tokenizer, answers, settings, message):
    with pytest.raises(ValueError, match=r".") as caught:
        prompter(tokenizer, "The {x}.", answers, **settings)
    assert message in str(caught.value)


def test_a_template_without_room_is_refused(tokenizer):
    with pytest.raises(ValueError, match="the template alone is"):
        prompter(tokenizer, "Answer with 0 or 1. " * 5 + "{x}", max_length=16)
    with pytest.raises(ValueError, match="reads at most 64 tokens"):
        prompter(tokenizer, "{x}", max_length=65)


def test_the_fingerprint_tells_prompts_apart(tokenizer):
    one, same, other = (prompter(tokenizer, t) for t in ("The {x}.", "The {x}.", "A {x}."))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    swapped = prompter(tokenizer, "The {x}.", {"b": "0", "a": "1"})
    assert swapped.fingerprint() != one.fingerprint()


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (" 0", "a"),
        ("1.", "b"),
        ("The answer is 1, not 0", "b"),
        ("01", None),
        ("", None),
        ("zero", None),
        ("(0)", "a"),
    ],
)
def test_the_first_whole_label_word_counts(text, label):
    assert parse_answer(text, LabelWords(("a", "b"), ("0", "1"), ((1,), (2,)))) == label


def test_a_longer_word_is_not_read_as_a_shorter_one():
    words = LabelWords(("entailed", "not"), ("entailed", "not entailed"), ((1,), (2, 1)))
    assert parse_answer("NOT entailed at all", words) == "not"


@pytest.mark.parametrize("max_length", [None, 16])
def test_tokens_know_which_part_of_which_column_they_stand_for(tokenizer, max_length):
    one = prompter(tokenizer, "<|end|>A {first}. {second}{third}", max_length=max_length)
    columns = {"first": "red ball near a boat and a kite", "second": "green", "third": "é lamp"}
    ids, cut = one.encode(columns)
    assert cut == (max_length is not None)
    spans = one.column_spans(columns)
    assert len(spans) == len(ids)
    assert spans[0] is None
    for name, text in columns.items():
        own = [span[1:] for span in spans if span is not None and span[0] == name]
        covered = {place for start, end in own for place in range(start, end)}
        assert cut or covered == set(range(len(text)))
        assert covered == set(range(len(covered)))
    for token, span in zip(ids, spans, strict=True):
        if span is not None and "é" not in (piece := columns[span[0]][span[1] : span[2]]):
            assert piece in tokenizer.decode([token])


def test_lengths_are_counted_per_prompt(tokenizer):
    encoded = prompter(tokenizer, "The {x}.").encode_rows([Example("1", {"x": "ball"}, None)])
    assert encoded.lengths.tolist() == [len(encoded.prompt(0))]
    assert encoded.gold.tolist() == [-1]
    assert encoded.token_ids.dtype == np.int32


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(first=st.text(min_size=1), second=st.text(min_size=1), times=st.sampled_from([1, 3, 40]))
def test_any_text_fits_and_holds_no_special_token(classifier, first, second, times):
    prompter = classifier.prompter
    ids, cut = prompter.encode({"first": first * times, "second": f"{second}<|end|>" * times})
    assert 0 < len(ids) <= prompter.max_prompt_tokens
    assert prompter.tokenizer.eos_token_id not in ids
    if not cut:
        assert prompter.render({"first": first * times, "second": f"{second}<|end|>" * times}) == (
            prompter.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=st.text() | st.text(alphabet="01 .noNO"), words=st.lists(st.text(min_size=1), min_size=2, max_size=3))
def test_any_generated_text_is_read_as_a_label_or_none(text, words):
    names = tuple(f"label {place}" for place in range(len(words)))
    found = parse_answer(text, LabelWords(names, tuple(words), ((1,), (2,), (3,))[: len(words)]))
    assert found is None or found in names
