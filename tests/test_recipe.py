import contextlib
import re
import runpy
import string
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labeltune.folder import choose_folder
from labeltune.recipe import Recipe, TrainSettings
from labeltune.recipes import _explain, bundled_recipes, load_recipe
from labeltune.recipes.keys import SYNONYMS, settings_class


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_bundled_recipe_loads(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert set(recipe.prompt.answers) == set(recipe.data.label_names)
    assert len(set(recipe.report.paraphrases) - {recipe.prompt.template}) == 2


def test_the_experiment_is_spelled_as_published():
    recipe = load_recipe("snli-phi2")
    assert recipe.prompt.template == (
        "Given the premise {premise} and the hypothesis {hypothesis}, determine whether the hypothesis "
        "entails the premise. Output 0 in case of entailment, 1 in case the statements are unrealted or "
        "not directly implied, 2 in case of a contradiction. Please answer with only the number: 0, 1, or 2."
    )
    adapter, train, score = recipe.adapter, recipe.train, recipe.score
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout, adapter.bias) == (32, 32, 0.05, "none")
    assert adapter.target_modules == ["q_proj", "k_proj", "v_proj", "dense"]
    assert (train.num_train_epochs, train.per_device_train_batch_size, train.fp16) == (5, 1, True)
    assert (train.gradient_checkpointing, train.max_grad_norm, train.logging_steps) == (True, 1.0, 10)
    assert (train.eval_strategy, train.save_strategy, train.load_best_model_at_end) == ("epoch", "epoch", False)
    assert (score.mode, score.max_new_tokens, score.per_device_eval_batch_size) == ("generate", 50, 1)
    assert (recipe.model.quantization, recipe.data.train_rows) == ("nf4", 1001)


def test_a_resolved_recipe_loads_again_as_itself(tmp_path):
    recipe = load_recipe("snli-phi2-best", ["train.seed=7"])
    path = tmp_path / "recipe.json"
    path.write_text(recipe.model_dump_json())
    assert load_recipe(str(path)) == recipe
    assert load_recipe(str(tmp_path)) == recipe


def test_overrides_reach_any_depth_and_numbers_may_be_written_as_people_write_them():
    recipe = load_recipe("quickstart", ["train.learning_rate=5e-4", "data.train_rows=60", "train.max_steps=40"])
    assert recipe.train.learning_rate == 5e-4
    assert recipe.data.train_rows == 60
    assert recipe.train.max_steps == 40


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.max_step=3"], "unknown key train.max_step; did you mean max_steps?"),
        (["data.train_row=4"], "unknown key data.train_row; did you mean train_rows?"),
        (["tarin.seed=4"], "unknown key tarin; did you mean train?"),
        (["train.seed=x"], "train.seed is 'x'"),
        (["train.fp16=true", "train.bf16=true"], "choose one"),
        (["train.max_steps=0"], "train.max_steps is 0"),
        (["data.hub=some/data"], "exactly one of hub and files; found hub and files"),
        (["data.files.trian=a.jsonl"], "data.files names 'trian'"),
        (["prompt.template=no columns"], "names no column"),
        (["prompt.template='{premise} {sentence}'"], "{sentence}, which is not in data.text_columns"),
        (["prompt.template='{premise'"], "a '{' without a partner"),
        (["prompt.answers.maybe='3'"], "'maybe', which data.labels does not have"),
        (["prompt.answers={entailment: '0', neutral: '1'}"], "no word for the label 'contradiction'"),
        (["train.class_weights={entailment: 2}"], "it must name each of"),
        (["train.class_weights={entailment: 0, neutral: 1, contradiction: 1}"], "greater than 0"),
        (["train.eval_strategy='no'", "train.early_stopping_patience=2"], "needs scored validation rows"),
        (["train.seed"], "not of the form section.key=value"),
        (["train.seed=[1"], "not valid YAML"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(overrides, message):
    with pytest.raises(ValueError, match=r".") as caught:
        load_recipe("quickstart", overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: {seed: 1, seed: 2}", "the key 'seed' stands twice"),
        ("- a\n- b", "holds no sections"),
        ("a: [1", "not valid YAML"),
        ("data: 3", "data is '3'"),
        ("x: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"broken\.yaml") as caught:
        load_recipe(str(path))
    assert message in str(caught.value)


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean snli-phi2"):
        load_recipe("snli-phi")


def test_labels_are_text_however_yaml_reads_them(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "data: {files: {train: a}, text_columns: [t], label_column: l, labels: {0: zero, true: yes_label, 1.5: half}}\n"
        "prompt: {template: '{t}', answers: {zero: 0, yes_label: 1, half: 2}}\nmodel: {name_or_path: m}\n"
    )
    recipe = load_recipe(str(path))
    assert list(recipe.data.labels) == ["0", "true", "1.5"]
    assert recipe.prompt.answers["zero"] == "0"


TEXTS = [
    "yes", "no", "on", "off", "y", "n", "true", "TRUE", "True", "false", "null", "Null", "NULL", "~", ".nan", ".inf",
    "NaN", "NA", "None", "012", "0o14", "01", "1.10", "1e5", "1_000", "12:30", "2024-01-01", "0x1F", "+", "-", "=",
    "<<", "1.0", "-1", "é",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_text_stays_text_wherever_the_recipe_wants_text(tmp_path, text):
    path = tmp_path / "r.yaml"
    key = '"<<"' if text == "<<" else text  # a merge key is one without quotes
    item = f"'{text}'" if text == "-" else text  # an item that YAML takes for the beginning of one
    path.write_text(
        f"data: {{files: {{train: a}}, text_columns: [{item}], label_column: {item}, "
        f"labels: {{{key}: {item}, b: c}}}}\n"
        f"prompt: {{template: '{{{text}}}', answers: {{{key}: {item}, c: d}}}}\nmodel: {{name_or_path: {item}}}\n"
        f"train: {{class_weights: {{{key}: 1, c: 2}}}}\n"
    )
    if text in {"null", "Null", "NULL", "~"}:  # a setting itself may be null, and a label column must not
        with pytest.raises(ValueError, match="name_or_path"):
            load_recipe(str(path))
        path.write_text(
            path.read_text()
            .replace(f"name_or_path: {text}", "name_or_path: m")
            .replace(f"label_column: {text}", "label_column: l")
        )
    recipe = load_recipe(str(path))
    assert recipe.data.labels == {text: text, "b": "c"}
    assert recipe.data.text_columns == [text]
    assert recipe.prompt.answers == {text: text, "c": "d"}
    assert recipe.train.class_weights == {text: 1, "c": 2}
    (tmp_path / "recipe.json").write_text(recipe.model_dump_json())
    again = load_recipe(str(tmp_path / "recipe.json"))
    assert again.model_dump() == recipe.model_dump() | {"name": again.name}


def test_overrides_are_text_too():
    recipe = load_recipe("quickstart", ["prompt.answers={entailment: yes, neutral: null, contradiction: no}"])
    assert recipe.prompt.answers == {"entailment": "yes", "neutral": "null", "contradiction": "no"}
    recipe = load_recipe("quickstart", ["prompt.answers.entailment=on", "data.train_rows=null", "train.fp16=yes"])
    assert recipe.prompt.answers["entailment"] == "on"
    assert recipe.data.train_rows is None
    assert recipe.train.fp16


def test_merge_keys_and_anchors_are_read(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "prompt: &p {template: '{t}', answers: [yes, no]}\n"
        "data: {files: {train: a}, text_columns: [t], label_column: l, labels: &l {1: up, 0: down}}\n"
        "model: {name_or_path: m}\n"
    )
    assert load_recipe(str(path)).prompt.answers == {"up": "yes", "down": "no"}
    path.write_text(path.read_text() + "train: {<<: {seed: 3, max_steps: 5}, max_steps: 7}\n")
    train = load_recipe(str(path)).train
    assert (train.seed, train.max_steps) == (3, 7)


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("train:\n  seed: 1\n  fp16: true\n  seed: 2\n")
    with pytest.raises(ValueError, match="'seed' stands twice") as caught:
        load_recipe(str(path))
    assert "line 4" in str(caught.value)


def test_a_line_separator_in_a_recipe_is_named_with_what_to_write(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("name: x\ndescription: 'a\u2028b'\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"u2028 in line 2"):
        load_recipe(str(path))


def test_answers_come_from_the_labels_names_and_templates_may_list_them(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "data: {files: {train: a}, text_columns: [t!], label_column: l, labels: [card_arrival, {x}, no]}\n".replace(
            "{x}", "'{x}'"
        )
        + "prompt: {template: '{t!}: {labels}? {{}}{label_descriptions}', label_descriptions: {no: None of them}}\n"
        "model: {name_or_path: m}\nreport: {paraphrases: ['{labels}: {t!}']}\n"
    )
    recipe = load_recipe(str(path))
    assert recipe.data.labels == {"card_arrival": "card_arrival", "{x}": "{x}", "no": "no"}
    assert recipe.prompt.answers == {"card_arrival": "card arrival", "{x}": "{x}", "no": "no"}
    assert recipe.prompt.template == ("{t!}: card arrival, {{x}} or no? {{}}card arrival\n{{x}}\nno: None of them")
    assert recipe.report.paraphrases == ["card arrival, {{x}} or no: {t!}"]


@pytest.mark.parametrize(
    "setting",
    [
        "report.seed=-1", "data.seed=-1", "train.seed=99999999999999999999", "report.bootstrap_samples=100000000000000",
        "train.max_steps=1000000000000000", "train.num_train_epochs=inf", "train.learning_rate=nan",
        "train.learning_rate=inf", "report.confidence=0.99999999999999999", "adapter.lora_alpha=inf",
        "train.per_device_train_batch_size=100000000000000000000", "data.train_rows=0", "data.rows_per_label=0",
        "score.per_device_eval_batch_size=100000000000000000000", "score.max_new_tokens=100000000000000000000",
        "train.max_grad_norm=.inf", "prompt.max_length=100000000000000000000", "train.class_weights={a: inf}",
        "data.split={validation: 0.5, test: 0.5}", "data.split={validation: 1.5}", "data.split={}",
        "data.csv.encoding=utf-99", "data.csv.encoding=rot13", "data.csv.delimiter=ab",
    ],
)  # fmt: skip
def test_bounds_are_checked_before_anything_is_loaded(setting):
    with pytest.raises(ValueError, match=setting.split("=")[0].split(".")[1]):
        load_recipe("quickstart", [setting])


def test_settings_are_frozen():
    frozen = TrainSettings()
    with pytest.raises(ValidationError):
        frozen.seed = 3


def test_the_page_of_settings_is_up_to_date():
    page = Path(__file__).parents[1] / "docs"
    module = runpy.run_path(str(page / "settings.py"))
    assert module["settings_page"]() == (page / "settings.md").read_text(encoding="utf-8"), (
        "run python docs/settings.py"
    )


def slips(key):
    """The key with one letter added, left out, changed, or swapped with the next."""
    letters = string.ascii_lowercase + string.digits + "_"
    for place in range(len(key) + 1):
        yield from (key[:place] + letter + key[place:] for letter in letters)
        yield from (key[:place] + letter + key[place + 1 :] for letter in letters if place < len(key))
        yield key[:place] + key[place + 1 :]
        yield key[:place] + key[place : place + 2][::-1] + key[place + 2 :]


SECTIONS = {name: field.annotation for name, field in Recipe.model_fields.items() if name in {
    "data", "prompt", "model", "adapter", "train", "score", "report"
}}  # fmt: skip


@pytest.mark.parametrize(("place", "section"), [((), Recipe), *(((n,), s) for n, s in SECTIONS.items())])
def test_every_slip_of_one_letter_in_every_key_is_refused_with_the_right_key(place, section):
    tried = 0
    for key in section.model_fields:
        for slip in set(slips(key)) - set(section.model_fields):
            with pytest.raises(ValidationError) as caught:
                section.model_validate({slip: 1})
            problem = next(p for p in caught.value.errors() if p["type"] == "extra_forbidden")
            assert problem["loc"] == (slip,)
            explained = _explain({**problem, "loc": (*place, slip)})
            refused, _, hint = explained.partition("; ")
            assert refused == f"unknown key {'.'.join((*place, slip))}"
            if len(key) > 1:
                assert key in hint.removeprefix("did you mean ").rstrip("?").split(" or ")
            else:  # with its only letter changed nothing of it is left to go by
                assert key in re.split(", | or ", re.sub(r"^(did you mean|there are) |\?$", "", hint))
            tried += 1
    assert tried > 100


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
KEYS = sorted({key for section in SECTIONS.values() for key in section.model_fields} | set(SECTIONS))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    content=st.binary(max_size=120)
    | st.dictionaries(st.sampled_from(KEYS), VALUES | st.dictionaries(st.sampled_from(KEYS), VALUES), max_size=4)
)
def test_any_content_is_a_recipe_or_a_message(tmp_path, content):
    path = tmp_path / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content).encode())
    with pytest.raises(ValueError, match=r"any\.yaml") as caught:
        load_recipe(str(path))
    assert not isinstance(caught.value, UnicodeError)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(key=st.sampled_from(KEYS), section=st.sampled_from(sorted(SECTIONS)), value=VALUES)
def test_any_override_is_taken_or_explained(key, section, value):
    with contextlib.suppress(ValueError):
        recipe = load_recipe("quickstart", [f"{section}.{key}={yaml.safe_dump(value, default_flow_style=True)}"])
        assert isinstance(recipe, Recipe)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("a: &a [x,x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi"))
         + "data: *i\n", "data is [["),
        ("# " + "a" * 2**20, "more than 1 MiB"),
    ],
)  # fmt: skip
def test_a_recipe_cannot_exhaust_the_reader(tmp_path, content, message):
    path = tmp_path / "bomb.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"bomb\.yaml") as caught:
        load_recipe(str(path))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("name", ["../../up", "/etc/x", "a\0b", "..", "ä b"])
def test_a_recipes_name_stays_under_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("quickstart").model_copy(update={"name": name})
    path = choose_folder(recipe, None, False).path
    assert path.parent.name == "runs"
    assert ".." not in path.parts


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("train.lr", "learning_rate"), ("lr", "train.learning_rate"), ("seed", "train.seed"),
        ("model.name", "name_or_path"), ("epochs", "train.num_train_epochs"), ("train.epochs", "num_train_epochs"),
        ("train.batch_size", "per_device_train_batch_size"), ("score.batch_size", "per_device_eval_batch_size"),
        ("max_seq_length", "prompt.max_length"), ("train.max_length", "prompt.max_length"),
        ("adapter.lora_r", "r"), ("train.lora_r", "adapter.r"), ("adapter.alpha", "lora_alpha"),
        ("dropout", "adapter.lora_dropout"), ("train.warmup", "warmup_ratio"), ("data.text_column", "text_columns"),
        ("text_column", "data.text_columns"), ("data.target", "label_column"), ("base_model", "model.name_or_path"),
        ("train.per_device_batch_size", "per_device_train_batch_size"), ("score.eval_steps", "train.eval_steps"),
        ("train.learningRate", "learning_rate"), ("train.learning-rate", "learning_rate"),
        ("train.LearningRate", "learning_rate"), ("model.maxSeqLength", "prompt.max_length"), ("lora", "adapter"),
        ("training", "train"), ("data.csv.sep", "delimiter"), ("encoding", "data.csv.encoding"),
        ("model.torch_dtype", "dtype"), ("title", "report.title"), ("adapter.lr", "train.learning_rate"),
    ],
)  # fmt: skip
def test_another_trainers_key_or_one_in_the_wrong_section_gets_the_right_one(wrong, right):
    with pytest.raises(ValueError, match=rf"unknown key {re.escape(wrong)}; did you mean ") as caught:
        load_recipe("quickstart", [f"{wrong}=1"])
    assert right in re.split(r" or |\?", str(caught.value).partition("did you mean ")[2])


def test_every_right_key_that_is_hinted_at_is_one():
    for name in SYNONYMS:
        model = Recipe
        for part in name.split("."):
            assert part in model.model_fields, name
            model = settings_class(model.model_fields[part].annotation)
    with pytest.raises(ValueError, match=r"unknown key train\.output_dir; name the run's folder with --out"):
        load_recipe("quickstart", ["train.output_dir=x"])
