"""Chats by the model's own chat template, and control tokens in templates and in data."""

from __future__ import annotations

import datetime
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from chat_families import FAMILIES, chat_tokenizer, special
from labeltune import pipeline
from labeltune.explain.variants import move_line_breaks, swap_label_words
from labeltune.export import export_task
from labeltune.job import load_classifier, load_plain, make_fast
from labeltune.plan import make_plan
from labeltune.predict import predict_file
from labeltune.prompt import Prompter
from labeltune.prompt.chat import DATE, NO_THINKING
from labeltune.prompt.control import control_tokens
from labeltune.recipe import PromptSettings, Recipe
from labeltune.recipes import load_recipe
from labeltune.rows import read_predictions
from labeltune.score import collect, score_batches
from labeltune.show import describe_prompt, draw_prompt, token_runs
from labeltune.terminal import Terminal
from real import LABELS, book_rows

ANSWERS = {"a": "yes", "b": "no"}
QUESTION = "Text: {x}\nIs it good? yes or no"
TEXTS = (
    "red ball", " \n padded\t ", "emoji 👍🏽, مرحبا, e\u0301", "a\n\n\nb  c   d", "", "{x} {{ 1 }} {% raw %}",
    "<|x|> < >",
    "the quick brown fox " * 5,
)  # fmt: skip
ROLES = {"gemma3": ("user", "assistant", "user"), "mistral": ("system", "user", "assistant", "user")}


def make_prompter(tokenizer: Any, limit: int = 2000, answers: dict[str, str] = ANSWERS, **prompt: Any) -> Prompter:
    return Prompter(tokenizer, PromptSettings(answers=answers, **prompt), list(answers), limit)


def plain_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """What transformers makes of a chat, on the day that stands for every day."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **NO_THINKING)
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False, **NO_THINKING
    )
    today, day = datetime.datetime.now(), f"{DATE.day} "
    for form in ("%d %b %Y", "%d %B %Y"):
        if f"Today Date: {today.strftime(form)}" in text:
            text = text.replace(f"Today Date: {today.strftime(form)}", f"Today Date: {DATE.strftime(form)}")
            assert day in text
            return tokenizer(text, add_special_tokens=False).input_ids
    return ids


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_template_as_one_user_message_is_what_the_chat_template_makes_of_it(family):
    tokenizer = chat_tokenizer(family)
    for template in (QUESTION, "{x}", "{x}\n", "\n {x} Good?\n\n"):
        prompter = make_prompter(tokenizer, template=template, chat=True)
        for text in TEXTS:
            expected = plain_ids(tokenizer, [said("user", template.replace("{x}", text))])
            assert prompter.encode({"x": text})[0] == [*expected, *prompter.words.shared]


@pytest.mark.parametrize("family", FAMILIES)
def test_several_messages_are_what_the_chat_template_makes_of_them(family):
    tokenizer = chat_tokenizer(family)
    contents = {"system": " Be brief: yes or no. \n", "user": "  {x}\n{y}\n", "assistant": "no"}
    roles = ROLES.get(family, ("system", "user", "assistant", "user"))
    messages = [said(role, contents[role]) for role in roles]
    prompter = make_prompter(tokenizer, messages=messages)
    random_texts = random.Random(0)
    for _ in range(60):
        x, y = random_texts.choice(TEXTS), random_texts.choice(TEXTS)
        filled = [
            said(one["role"], one["content"].replace("{x}", "\0").replace("{y}", y).replace("\0", x))
            for one in messages
        ]
        assert prompter.encode({"x": x, "y": y})[0] == [*plain_ids(tokenizer, filled), *prompter.words.shared]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_is_spelled_as_in_an_assistants_message(family):
    tokenizer = chat_tokenizer(family)
    prompter = make_prompter(tokenizer, template=QUESTION, chat=True)
    asked = said("user", QUESTION.replace("{x}", "red ball"))
    ids = prompter.encode({"x": "red ball"})[0]
    if family == "smollm3":  # whose template writes no empty thoughts into a finished answer
        ids = ids[: -len(tokenizer("<think>\n\n</think>\n").input_ids)]
    for word, spelled in zip(prompter.words.words, prompter.words.token_ids, strict=True):
        text = tokenizer.apply_chat_template([asked, said("assistant", word)], tokenize=False, **NO_THINKING)
        for form in ("%d %b %Y", "%d %B %Y"):
            text = text.replace(datetime.datetime.now().strftime(form), DATE.strftime(form))
        whole = tokenizer(text, add_special_tokens=False).input_ids
        assert whole[: len(ids) + len(spelled)] == [*ids, *spelled]
    assert prompter.answer_prefix == {"mistral": " ", "glm": "\n"}.get(family, "")


def test_there_is_one_beginning_of_text():
    for family in ("llama3", "gemma3", "mistral", "deepseek"):
        tokenizer = chat_tokenizer(family)
        ids = make_prompter(tokenizer, template=QUESTION, chat=True).encode({"x": "red"})[0]
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids[0] == tokenizer.bos_token_id


def test_thinking_is_switched_off_where_the_template_has_a_switch():
    for family, ends in {"qwen3": "<think>\n\n</think>\n\n", "deepseek": "</think>", "smollm3": "</think>\n"}.items():
        prompter = make_prompter(chat_tokenizer(family), template=QUESTION, chat=True)
        assert prompter.render({"x": "red"}).endswith(ends)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plain_template_is_read_as_transformers_reads_its_whole_text(family):
    tokenizer = chat_tokenizer(family)
    tokens = sorted(token.content for token in control_tokens(tokenizer).added.values())
    chooser = random.Random(1)
    for _ in range(20):
        one, two, three = chooser.choices(tokens, k=3)
        template = f"{one} \n{{x}} {two}\n say {{y}}{three}  answer:"
        prompter = make_prompter(tokenizer, template=template)
        for x, y in (("red", "ball"), (" padded ", "\n"), ("", "é👍"), ("a  b", "c\n\nd ")):
            whole = template.replace("{x}", x).replace("{y}", y)
            begun = whole.startswith(str(tokenizer.bos_token))  # then no second one
            expected = tokenizer(whole, add_special_tokens=not begun).input_ids
            assert prompter.encode({"x": x, "y": y})[0] == expected
            assert prompter.render({"x": x, "y": y}) == whole


def with_control_in_vocabulary() -> Any:
    """Unigram as T5 has it: the control tokens are pieces of the vocabulary, with a better score than any other."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<extra_id_0>", 0.0), ("▁", -2.0)]
    pieces += [(character, -3.0) for character in "abcdefghijklmnopqrstuvwxyz<>_/0123456789|.,:?!"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.add_tokens(special("<pad>", "</s>", "<unk>", "<extra_id_0>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def with_words_added() -> Any:
    """Added words of every kind: normalized, whole words only, taking blanks, beginning within themselves."""
    tokenizer = chat_tokenizer("qwen3").backend_tokenizer
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    kinds = {"covid": {}, "[A]": {"single_word": True}, "===": {"lstrip": True, "rstrip": True}, "Ⅷx": {}}
    tokenizer.add_tokens([AddedToken(content, normalized=True, **flags) for content, flags in kinds.items()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")


PROMPTERS = {
    **{name: lambda name=name: make_prompter(chat_tokenizer(name), template=QUESTION, chat=True) for name in FAMILIES},
    "unigram": lambda: make_prompter(with_control_in_vocabulary(), template="</s> {x} </s>is it?"),
    "words": lambda: make_prompter(with_words_added(), template="{x}==={x} [A] <|im_end|> is it?"),
}
LOSSLESS = ("llama3", "qwen3", "deepseek", "glm", "smollm3", "gemma3")


@pytest.mark.parametrize("name", PROMPTERS)
def test_no_text_of_a_row_becomes_a_control_token(name):
    """10,000 texts with the tokenizer's control tokens whole and in pieces, over all tokenizers."""
    prompter = PROMPTERS[name]()
    tokenizer, control = prompter.tokenizer, prompter.control
    spelled = sorted(token.content for token in control.added.values())
    halves = [piece for one in spelled for piece in (one[: len(one) // 2], one[len(one) // 2 :], one[:-1], one[1:])]
    texts = st.lists(st.sampled_from([*spelled, *halves, " ", "\n", "=", "yes"]) | st.text(max_size=4)).map("".join)
    own = [token for token in prompter.token_ids if token is not None]
    model_knows_bytes = name != "unigram"

    @settings(
        max_examples=1000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
    )
    @given(text=texts)
    def check(text: str) -> None:
        text = text.encode("utf-8", "replace").decode()
        ids, cut = prompter.encode({"x": text})
        assert not cut
        assert [token for token in ids if token in control.added and token != control.unknown] == own
        assert not model_knows_bytes or control.unknown is None or control.unknown not in ids
        if name in LOSSLESS:
            whole = prompter.render({"x": text})
            if name == "qwen3":
                whole = tokenizer.backend_tokenizer.normalizer.normalize_str(whole)
            asked = ids[: len(ids) - len(prompter.words.shared)]
            decoded = tokenizer.decode(asked, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            assert decoded == (whole.replace("▁", " ") if name == "gemma3" else whole)

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_text_beside_control_text_is_spelled_as_ever(family):
    """Other text of a row with a control token in it is encoded as without one."""
    prompter = make_prompter(chat_tokenizer(family), template="{x}\n{y}", chat=True)
    token = next(iter(prompter.control.added.values())).content
    usual = prompter.encode({"x": "quick brown", "y": "fox jumps"})[0]
    hostile = prompter.encode({"x": "quick brown", "y": f"fox jumps {token}"})[0]
    places = [place for place, span in enumerate(prompter.column_spans({"x": "quick brown", "y": "fox jumps"})) if span]
    after = len(usual) - places[-1] - 1
    assert hostile[: places[-1] - 1] == usual[: places[-1] - 1]
    assert hostile[-after:] == usual[-after:]


@pytest.mark.parametrize("text", ["red  ball  é near", "red <|eot_id|> ball", "  padded", "<start_of_turn> x"])
@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_know_their_place_in_a_column(family, text):
    prompter = make_prompter(chat_tokenizer(family), template="{y}{x}\nIs it?", chat=True)
    columns = {"x": text, "y": ""}
    ids, spans = prompter.encode(columns)[0], prompter.column_spans(columns)
    assert len(ids) == len(spans)
    own = [span for span in spans if span is not None]
    assert {name for name, _, _ in own} == {"x"}
    covered = {place for _, start, end in own for place in range(start, end)}
    stripped = len(text) - len(text.lstrip()) if family in ("gemma3", "llama3") else 0
    assert covered >= {place for place, letter in enumerate(text) if place >= stripped and not letter.isspace()}


def test_long_rows_are_cut_and_the_chat_stays_whole():
    tokenizer = chat_tokenizer("gemma3")
    prompter = make_prompter(tokenizer, limit=60, template=QUESTION, chat=True)
    ids, cut = prompter.encode({"x": "quick <end_of_turn> fox " * 40})
    assert cut
    assert len(ids) <= prompter.max_prompt_tokens
    text = tokenizer.decode(ids)
    assert text.startswith("<bos><start_of_turn>user\nText: quick")
    assert text.endswith("\nIs it good? yes or no<end_of_turn>\n<start_of_turn>model\n")
    assert ids.count(tokenizer.convert_tokens_to_ids("<end_of_turn>")) == 1


def test_what_a_chat_cannot_be_is_refused_with_the_reason():
    bare = PreTrainedTokenizerFast(tokenizer_object=FAMILIES["qwen3"][0](), eos_token="<|im_end|>")
    with pytest.raises(ValueError, match=r"has no chat template, which prompt\.chat and prompt\.messages need"):
        make_prompter(bare, template="{x}", chat=True)
    gemma = chat_tokenizer("gemma3")
    with pytest.raises(ValueError, match=r"refuses messages of these roles \(system, user\): System role not supp"):
        make_prompter(gemma, messages=[said("system", "Be brief."), said("user", "{x}")])
    with pytest.raises(ValueError, match="Conversation roles must alternate"):
        make_prompter(gemma, messages=[said("user", "a"), said("user", "{x}")])
    dropping = PreTrainedTokenizerFast(tokenizer_object=FAMILIES["qwen3"][0](), eos_token="<|im_end|>")
    dropping.chat_template = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(ValueError, match=r"leaves out the system message 'Be brief\.'"):
        make_prompter(dropping, messages=[said("system", "Be brief."), said("user", "{x}")])
    for template, why in {
        "{{ messages[0].content | upper }}": "leaves out|does more",
        "{{ messages[0].content | replace('w', 'v') }}": "does more with the text",
        "{{ messages[0].content if messages[0].content.startswith(' ') else 'x' + messages[0].content }}": "does more",
        "{{ 1 / 0 }}": "refuses .*division by zero",
        "{{ messages.no.thing }}": "refuses .*has no attribute 'no'",
        "{% if %}": "refuses .*Expected",
        "{{ ''.__class__.__mro__ }}": "refuses .*unsafe",
        "{{ messages[0].content + 1 }}": "refuses ",
    }.items():
        dropping.chat_template = template
        with pytest.raises(ValueError, match=why):
            make_prompter(dropping, template="{x}", chat=True)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({}, "prompt.template is missing"),
        ({"template": "{x}", "messages": [said("user", "{x}")]}, "both prompt.template and prompt.messages"),
        ({"messages": [said("user", "no column")]}, "prompt.messages names no column"),
        ({"messages": [said("user", "{z}")]}, "prompt.messages names {z}, which is not in data.text_columns"),
        ({"messages": [said("judge", "{x}")]}, "'system', 'user' or 'assistant'"),
        ({"messages": [said("user", "{x")]}, "'{' without a partner"),
        ({"messages": [{"role": "user"}]}, "content"),
    ],
)
def test_messages_that_cannot_serve_are_refused(prompt, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe_with(prompt)


def recipe_with(prompt: dict[str, Any], **sections: Any) -> Recipe:
    data = {"files": {"train": "none.jsonl"}, "text_columns": ["x", "y"], "label_column": "l", "labels": ["a", "b"]}
    model = {"name_or_path": "m", "device": "cpu", "dtype": "float32"}
    return Recipe.model_validate({"data": data, "prompt": {"answers": ANSWERS} | prompt, "model": model} | sections)


def test_messages_list_the_labels_and_paraphrases_take_the_place_of_the_one_with_columns():
    messages = [said("system", "Answer {labels}."), said("user", "{x}? {label_descriptions}")]
    paraphrases = {"paraphrases": ["Is it {x}: {labels}?"]}
    recipe = recipe_with({"messages": messages}, report=paraphrases)
    recipe = recipe.with_labels({"a": "a", "b": "b"})
    assert recipe.prompt.texts == ["Answer yes or no.", "{x}? yes\nno"]
    assert recipe.prompt.with_wording(recipe.report.paraphrases[0]).texts == [
        "Answer yes or no.",
        "Is it {x}: yes or no?",
    ]
    with pytest.raises(ValueError, match=r"several of prompt.messages name columns"):
        recipe_with({"messages": [said("system", "{y}"), said("user", "{x}")]}, report=paraphrases)
    swapped = swap_label_words(recipe.prompt)
    assert swapped is not None
    assert swapped.texts == ["Answer no or yes.", "{x}? no\nyes"]
    relaid = move_line_breaks(recipe.prompt)
    assert relaid is not None
    assert relaid.texts == ["Answer yes or no.", "{x}? yes no"]


def test_the_fingerprint_tells_chats_and_their_templates_apart():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=FAMILIES["qwen3"][0](), eos_token="<|im_end|>")
    tokenizer.chat_template = chat_tokenizer("qwen3").chat_template
    chat = [said("user", "{x}")]
    prompts = [{"template": "{x}"}, {"template": "{x}", "chat": True}, {"messages": [said("system", "Hi"), *chat]}]
    prints = [make_prompter(tokenizer, **prompt).fingerprint() for prompt in prompts]
    assert make_prompter(tokenizer, messages=chat).fingerprint() != prints[0]
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|endoftext|>")
    prints += [make_prompter(tokenizer, **prompt).fingerprint() for prompt in prompts[1:]]
    tokenizer.chat_template = tokenizer.chat_template.replace("message['content'] +", "message['content'] | trim +")
    prints += [make_prompter(tokenizer, **prompt).fingerprint() for prompt in prompts[1:]]
    assert len(set(prints)) == len(prints)


def test_a_date_in_the_template_is_the_same_every_day():
    for family, day in {"llama3": "26 Jul 2024", "smollm3": "26 July 2024"}.items():
        assert f"Today Date: {day}\n" in make_prompter(chat_tokenizer(family), template="{x}", chat=True).render(
            {"x": ""}
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_is_shown_in_whole_characters_and_without_control_characters(family):
    tokenizer = chat_tokenizer(family)
    prompter = make_prompter(tokenizer, template="{x}", chat=True)
    text = "مرحبا 👩‍👩‍👧 👍🏽 e\u0301 🇩🇪 x\u202ey\x1b[31m z\u2067\x9b"
    ids = prompter.encode({"x": text})[0]
    runs = token_runs(tokenizer, ids)
    assert [token for run, _ in runs for token in run] == ids
    whole = "".join(text for _, text in runs)
    assert "\ufffd" not in whole
    for character in ("👩‍👩‍👧", "👍🏽", "e\u0301", "🇩🇪"):
        assert any(character in shown for _, shown in runs) or family == "qwen3"  # which composes accents
    tokens = [{"ids": run, "text": shown, "control": False, "loss": False} for run, shown in runs]
    word = {"a": {"word": "yes\u202e", "ids": [1]}}
    drawn = draw_prompt({"id": "1\x1b", "gold": "a\u202e", "cut": False, "tokens": tokens, "label_words": word})
    console = Terminal().console
    with console.capture() as captured:
        console.print(drawn)
    assert not set("\u202e\u2067\x9b\x1b") & set(re.sub(r"\x1b\[[0-9;]*m", "", captured.get()))


SMOLLM2_CHAT = [
    said("system", "Answer with yes, maybe or no."),
    said("user", "Premise: {premise}\nHypothesis: {hypothesis}\nIs the hypothesis true, given the premise?"),
]
WORDS = {"entailment": "yes", "neutral": "maybe", "contradiction": "no"}


@pytest.mark.parametrize("in_messages", [True, False])
def test_label_probabilities_of_a_real_chat_model_are_those_of_plain_transformers(smollm2, in_messages):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    rows = book_rows()[:5]
    chat = SMOLLM2_CHAT if in_messages else SMOLLM2_CHAT[1:]
    prompt = {"messages": chat} if in_messages else {"template": chat[0]["content"], "chat": True}
    recipe = Recipe.model_validate(
        {
            "data": {
                "files": {"train": "none.jsonl"},
                "text_columns": ["premise", "hypothesis"],
                "label_column": "label",
                "labels": list(LABELS),
            },
            "prompt": prompt | {"answers": WORDS},
            "model": {"name_or_path": str(smollm2), "device": "cpu", "dtype": "float32"},
        }
    ).with_labels({name: name for name in LABELS})
    classifier = load_classifier(recipe, Terminal(quiet=True), lambda: "")[0]
    encoded = classifier.prompter.encode_rows(rows)
    classifier = make_fast(classifier, [encoded], Terminal(quiet=True))
    ours = collect(score_batches(classifier, encoded, recipe.score), len(rows), len(LABELS)).words_NK
    for place, row in enumerate(rows):
        filled = [said(one["role"], one["content"].format(**row.columns)) for one in chat]
        ids = tokenizer.apply_chat_template(filled, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert encoded.prompt(place).tolist() == ids
        with torch.inference_mode():
            logs = model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        expected = [float(logs[tokenizer.encode(word, add_special_tokens=False)[0]]) for word in WORDS.values()]
        assert ours[place].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_run_says_that_a_chat_template_is_not_used(smollm2, capsys):
    model = {"name_or_path": str(smollm2), "device": "cpu", "dtype": "float32"}
    for chat, said_so in ((False, True), (True, False)):
        load_plain(recipe_with({"template": "{x}", "chat": chat}, model=model), Terminal())
        captured = capsys.readouterr()
        assert ("has a chat template, which this recipe does not use" in captured.out + captured.err) == said_so


CHAT = (
    "{% for m in messages %}<|end|>{{ m.role }}: {{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|end|>assistant:{% else %}<|end|>{% endif %}"
)


@pytest.fixture
def chat_recipe(recipe_file: Path, tiny_model: Path, tmp_path: Path) -> Recipe:
    """The small recipe, on a base that has a chat template."""
    folder = shutil.copytree(tiny_model, tmp_path / "chat-model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    content = yaml.safe_load(recipe_file.read_text())
    messages = [said("system", "Say 0, 1 or 2."), said("user", "The {first} is near the {second}. Which?")]
    content |= {"prompt": {"messages": messages, "answers": content["prompt"]["answers"]}}
    content["model"]["name_or_path"] = str(folder)
    content["report"] |= {"paraphrases": ["Near the {second}: {first}."], "robustness_rows": 20, "examples": 1}
    content["train"]["num_train_epochs"] = 1
    recipe_file.write_text(yaml.safe_dump(content))
    return load_recipe(str(recipe_file))


def test_a_whole_run_of_a_chat(chat_recipe, tmp_path):
    planned = make_plan(chat_recipe, Terminal(quiet=True))
    assert planned
    folder = pipeline.run(chat_recipe, Terminal(quiet=True), tmp_path / "run")
    variants = {one["name"]: one for one in json.loads(folder.variants.read_text())["variants"]}
    assert variants["paraphrase 1 of the prompt"]["template"].endswith("user: Near the {second}: {first}.")
    assert variants["label words swapped"]["template"].startswith("system: Say 2, 0 or 1.")
    shown = describe_prompt(chat_recipe, "test", 0)
    assert [token["text"] for token in shown["tokens"] if token["control"]] == ["<|end|>"] * 4  # the answer's too
    assert shown["text"].startswith("<|end|>system: Say 0, 1 or 2.\n<|end|>user: The ")
    exported = export_task(folder, tmp_path / "task")
    assert "add_bos_token=False" in exported["command"]
    row = json.loads(next((tmp_path / "task").glob("*.jsonl")).read_text().splitlines()[0])
    assert row["prompt"].endswith("Which?\n<|end|>assistant:")
    assert "The {first} is near" in folder.model_card.read_text()
    out = tmp_path / "out.jsonl"
    predict_file(folder.path, tmp_path / "test.jsonl", out, Terminal(quiet=True))
    labelled = [json.loads(line)["predicted"] for line in out.read_text().splitlines()]
    assert labelled == [row.predicted for row in read_predictions(folder.tuned_test)]
