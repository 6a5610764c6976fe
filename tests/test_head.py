"""The classification head: decoders and encoders, what transformers and peft make of it, and what sends a loss to 0."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.loss.loss_utils import ForCausalLMLoss

from labeltune import pipeline
from labeltune.explain.probe import token_gradients
from labeltune.export import export_task
from labeltune.job import load_plain
from labeltune.judge.runs import compare_runs
from labeltune.model.adapter import add_adapter, trainable_parameters
from labeltune.model.base import load_base
from labeltune.model.head import head_modules
from labeltune.predict import find_subject, predict_file, score_split
from labeltune.recipe import ModelSettings
from labeltune.recipes import load_recipe
from labeltune.rows import read_predictions
from labeltune.score import collect, score_batches, to_predictions
from labeltune.show import describe_prompt, draw_prompt
from labeltune.terminal import Terminal
from labeltune.train.batches import make_batch
from labeltune.train.capture import Stepper
from labeltune.train.loop import check_loss_bearing, prepare, train
from labeltune.train.schedule import make_schedule
from labeltune.train.step import NotFiniteLossError, Optimizer
from tiny import COLOURS, TEMPLATE, make_families, make_ready, make_rows, row_losses, write_jsonl

QUIET = Terminal(quiet=True)
FAMILIES = ("phi", "llama", "bert", "modernbert")
DECODERS = ("phi", "llama")


@pytest.fixture(scope="session")
def families(tiny_model, tmp_path_factory):
    return make_families(tmp_path_factory.mktemp("families"), tiny_model)


def recipe_of(recipe_file, folder, *settings):
    options = [f"model.name_or_path={folder}", "model.head=sequence", "adapter.target_modules=all-linear"]
    return load_recipe(str(recipe_file), [*options, *settings])


def make_job(recipe_file, folder, *settings):
    """A ready classifier with an adapter, and the encoded rows of the fixture's kind."""
    recipe = recipe_of(recipe_file, folder, *settings)
    classifier, base = load_plain(recipe, QUIET)
    adapted = add_adapter(base.model, recipe.adapter, 0, base.head)
    return recipe, make_ready(replace(classifier, model=adapted))[0]


def scored(classifier, recipe, examples):
    encoded = classifier.prompter.encode_rows(examples)
    scores = collect(score_batches(classifier, encoded, recipe.score), len(encoded), len(COLOURS))
    return list(to_predictions(classifier, examples, encoded, scores))


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers_row_by_row(recipe_file, families, examples, family):
    recipe = recipe_of(recipe_file, families[family])
    classifier, _ = load_plain(recipe, QUIET)
    tokenizer = AutoTokenizer.from_pretrained(families[family])
    assert classifier.head.reads_last == (family in DECODERS)
    fast = make_ready(classifier)[0]
    for row in scored(fast, recipe, examples[:8]):
        ids = tokenizer(TEMPLATE.format(**row.columns), return_tensors="pt").input_ids
        with torch.no_grad(), fast.unpacked() as model:
            expected = model(input_ids=ids).logits.softmax(-1)[0]
        assert list(row.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "quantization"), [("float32", "none"), ("bfloat16", "nf4"), ("float16", "int8")])
def test_head_and_adapter_are_trained_in_float32_and_nothing_else(
    recipe_file, families, examples, family, dtype, quantization
):
    settings = (f"model.dtype={dtype}", f"model.quantization={quantization}")
    recipe, classifier = make_job(recipe_file, families[family], *settings)
    trained = trainable_parameters(classifier.model)
    assert {name for name in trained if "lora_" not in name} == {
        name for name, _ in classifier.model.named_parameters() if ".modules_to_save.default." in name
    }
    assert all(p.dtype == torch.float32 for p in trained.values())
    for name in classifier.head.modules:  # the base's own head is neither quantised nor in half precision
        layers = [m for m in classifier.inner.get_submodule(name).modules() if hasattr(m, "weight")]
        assert all(layer.weight.dtype == torch.float32 for layer in layers)
    encoded = classifier.prompter.encode_rows(examples[:10])
    schedule = make_schedule(recipe.train.settled(10, 64).model_copy(update={"max_steps": 2}), len(encoded))
    prepare(classifier, schedule.settings, False)
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = Optimizer(classifier, schedule.settings, schedule)
    losses = [step.loss for step in train(Stepper(classifier, optimizer, True), encoded, schedule)]
    assert np.isfinite(losses).all()
    moved = [name for name, p in trained.items() if not torch.equal(p, before[name])]
    assert any(".modules_to_save." in name for name in moved)
    assert any("lora_B" in name for name in moved)


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoders_rows_are_packed_and_its_loss_and_gradients_are_those_of_padded_rows(
    recipe_file, families, examples, family
):
    _, packed = make_job(recipe_file, families[family])
    recipe = recipe_of(recipe_file, families[family])
    classifier, base = load_plain(recipe, QUIET)
    padded = replace(classifier, model=add_adapter(base.model, recipe.adapter, 0, base.head))
    assert packed.packed
    assert not padded.packed
    found = []
    for one in (packed, padded):
        encoded = one.prompter.encode_rows(examples[:6])
        losses_B = row_losses(one, make_batch(one, encoded, np.arange(6), [1.0] * 3), 0.0)
        parameters = trainable_parameters(one.model)
        gradients = torch.autograd.grad(losses_B.mean(), list(parameters.values()))
        found.append((losses_B, dict(zip(parameters, gradients, strict=True))))
    (one, one_gradients), (other, other_gradients) = found
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for name, gradient in other_gradients.items():
        torch.testing.assert_close(one_gradients[name], gradient, rtol=1e-3, atol=1e-5)


def test_an_encoders_rows_end_as_its_tokenizer_ends_them(recipe_file, families):
    shown = describe_prompt(recipe_of(recipe_file, families["bert"]), "train", 0)
    assert shown["tokens"][0]["text"] == "[CLS]"
    assert shown["tokens"][-1]["text"] == "[SEP]"
    assert shown["label_words"] == {}
    draw_prompt(shown)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_the_embeddings_of_every_family(recipe_file, families, examples, family):
    _, classifier = make_job(recipe_file, families[family])
    prompt, _ = classifier.prompter.encode(examples[0].columns)
    gradients = token_gradients(classifier, prompt, "green")
    assert gradients.shape == (len(prompt),)
    assert np.count_nonzero(gradients) > len(prompt) / 2


@pytest.fixture(scope="module")
def runs(families, tmp_path_factory):
    """A whole run of each family over the same rows, and one that answers in words."""
    from tiny import make_recipe

    folder = tmp_path_factory.mktemp("runs")
    recipe_file = make_recipe(folder, families["phi"])
    small = ["report.training_rows=20", "report.robustness_rows=10", "report.examples=1"]
    recipes = {
        "phi": recipe_of(recipe_file, families["phi"], *small),
        "bert": recipe_of(
            recipe_file, families["bert"], *small, "train.num_train_epochs=8", "train.learning_rate=0.005"
        ),
        "words": load_recipe(str(recipe_file), small),
    }
    return {name: pipeline.run(recipe, QUIET, folder / name) for name, recipe in recipes.items()}


@pytest.mark.parametrize("family", ["phi", "bert"])
def test_a_whole_run_learns_is_reported_and_serves(runs, tmp_path, family):
    folder = runs[family]
    summary = folder.read("summary.json")
    assert summary["after"]["accuracy"] > 0.9
    assert "head:sequence" in summary["signature"]
    assert (folder.path / "report.html").is_file()
    assert "classification head" in (folder.adapter / "README.md").read_text()
    metrics = score_split(find_subject(str(folder.path), None, False, []), "test", tmp_path / "again.jsonl", QUIET)
    assert metrics.accuracy == summary["after"]["accuracy"]
    source = write_jsonl(tmp_path / "new.jsonl", make_rows(5, 7))
    assert predict_file(folder.path, source, tmp_path / "new.csv", QUIET).rows == 5


@pytest.mark.parametrize("family", ["phi", "bert"])
def test_plain_peft_loads_the_adapter_and_answers_alike(runs, families, family):
    folder = runs[family]
    base = AutoModelForSequenceClassification.from_pretrained(families[family], num_labels=len(COLOURS))
    model = PeftModel.from_pretrained(base, str(folder.adapter)).eval()
    tokenizer = AutoTokenizer.from_pretrained(families[family])
    for row in list(read_predictions(folder.predictions("tuned-test")))[:10]:
        ids = tokenizer(TEMPLATE.format(**row.columns), return_tensors="pt").input_ids
        with torch.no_grad():
            expected = model(input_ids=ids).logits.softmax(-1)[0]
        assert list(row.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_both_heads_are_compared_on_the_same_rows(runs):
    result = compare_runs(runs["words"], runs["phi"], runs["bert"]).to_json()
    assert "head" in str(result)


def test_a_run_goes_on_from_its_checkpoint(recipe_file, families, tmp_path):
    recipe = recipe_of(recipe_file, families["phi"], "report.examples=0", "report.robustness_rows=0")
    whole = pipeline.run(recipe, QUIET, tmp_path / "whole")
    again = pipeline.run(recipe, QUIET, tmp_path / "again")
    progress = again.read("progress.json")
    again.write("progress.json", progress | {"choice": None, "epochs": progress["epochs"][:1]})
    for step in (18, 27):
        for path in (again.path / f"checkpoint-{step}").iterdir():
            path.unlink()
        (again.path / f"checkpoint-{step}").rmdir()
    again = pipeline.run(recipe, QUIET, tmp_path / "again", resume=True)
    assert again.predictions("tuned-test").read_bytes() == whole.predictions("tuned-test").read_bytes()


def test_the_harness_is_not_given_what_it_cannot_score(runs, tmp_path):
    with pytest.raises(ValueError, match="answers by a classification head"):
        export_task(runs["phi"], tmp_path / "task")


def test_an_adapter_of_the_other_head_is_refused(runs, tmp_path):
    subject = find_subject(str(runs["words"].path), runs["phi"].adapter, False, [])
    with pytest.raises(ValueError, match=r"has another head .* set model\.head"):
        score_split(subject, "test", tmp_path / "out.jsonl", QUIET)


def test_generating_with_a_classification_head_is_refused(recipe_file):
    with pytest.raises(ValueError, match="writes no text"):
        load_recipe(str(recipe_file), ["model.head=sequence", "score.mode=generate"])


def test_answers_may_be_left_out_but_not_misspelt(recipe_file):
    assert load_recipe(str(recipe_file), ["model.head=sequence", "prompt.answers=null", "prompt.answers={}"])
    named = load_recipe(str(recipe_file), ["prompt.answers={}"])  # without a head, the names are the words
    assert named.prompt.answers == {name: name for name in named.data.label_names}
    with pytest.raises(ValueError, match=r"prompt\.answers has no word"):
        load_recipe(str(recipe_file), ["prompt.answers={red: red}"])


def test_a_new_head_depends_on_its_seed_alone(families):
    def weights(seed):
        torch.rand(seed + 3)
        base = load_base(
            ModelSettings(name_or_path=str(families["bert"]), head="sequence", device="cpu", dtype="float32"),
            COLOURS,
            seed,
        )
        return torch.cat([p.flatten() for p in base.model.classifier.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_checkpoints_own_head_is_kept_where_its_labels_are_ours(families, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(families["bert"], num_labels=3)
    model.config.id2label = dict(enumerate(COLOURS))
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(families["bert"]).save_pretrained(tmp_path)
    settings = ModelSettings(name_or_path=str(tmp_path), head="sequence", device="cpu", dtype="float32")
    own = load_base(settings, COLOURS)
    assert torch.equal(own.model.classifier.weight, model.classifier.weight)
    assert "as the checkpoint has it" in own.notes[-1]
    turned = load_base(settings, COLOURS[::-1])
    assert not torch.equal(turned.model.classifier.weight, model.classifier.weight)
    assert "can only guess" in turned.notes[-1]


def test_a_checkpoint_without_its_backbone_is_refused(families, tmp_path):
    from safetensors.torch import load_file, save_file

    AutoTokenizer.from_pretrained(families["bert"]).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((families["bert"] / "config.json").read_bytes())
    weights = load_file(families["bert"] / "model.safetensors")
    for part, settings, told in (
        ("layer.1.attention", {}, "lacks weights of"),
        ("pooler", {"dtype": "bfloat16"}, "learnt anew in float32"),
    ):
        kept = {name: tensor for name, tensor in weights.items() if part not in name}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=told):
            load_base(
                ModelSettings(
                    name_or_path=str(tmp_path), head="sequence", device="cpu", **({"dtype": "float32"} | settings)
                ),
                COLOURS,
            )
    base = load_base(ModelSettings(name_or_path=str(tmp_path), head="sequence", device="cpu", dtype="float32"), COLOURS)
    assert base.head.modules == ("classifier", "bert.pooler.dense")


def test_what_is_neither_decoder_nor_encoder_is_refused():
    from transformers import CLIPConfig, T5Config

    with pytest.raises(ValueError, match="is an encoder-decoder"):
        head_modules(T5Config(d_model=8, num_layers=1, num_heads=1, d_kv=8, d_ff=8))
    with pytest.raises(ValueError, match="no classification head"):
        head_modules(CLIPConfig())


# What sends the loss of a classification head to 0: each cause, without its guard and with it.


def test_a_head_in_half_precision_loses_small_updates_and_overflows():
    def trained(dtype):
        torch.manual_seed(0)
        head = torch.nn.Linear(32, 3, bias=False).to(dtype)
        first = head.weight.detach().clone()
        adamw = torch.optim.AdamW(head.parameters(), lr=2e-5, weight_decay=0.0)
        states, gold = torch.randn(64, 32, dtype=dtype), torch.randint(3, (64,))
        for _ in range(20):
            adamw.zero_grad()
            cross_entropy(head(states).float(), gold).backward()
            adamw.step()
        return float((head.weight != first).float().mean())

    assert trained(torch.bfloat16) < 0.25  # three of four weights have not moved at all in 20 steps
    assert trained(torch.float32) == 1.0
    big = torch.full((1, 32), 200.0)
    half = torch.nn.Linear(32, 3, bias=False).half()
    torch.nn.init.constant_(half.weight, 20.0)
    assert torch.isnan(cross_entropy(half(big.half()).float(), torch.tensor([0])))  # 128,000 is infinite in float16
    assert torch.isfinite(cross_entropy(half.float()(big), torch.tensor([0])))


def test_the_head_computes_in_float32_under_autocast_and_on_half_precision_bases(recipe_file, families, examples):
    for family, settings in (
        ("phi", ["train.bf16=true"]),
        ("bert", ["train.bf16=true"]),
        ("bert", ["model.dtype=float16"]),
    ):
        _, classifier = make_job(recipe_file, families[family], *settings)
        seen = []

        def note(_module, given, out, seen=seen):
            seen.append((given[0].dtype, out.dtype))

        for layer in classifier.output_layers:
            layer.register_forward_hook(note)
        encoded = classifier.prompter.encode_rows(examples[:4])
        row_losses(classifier, make_batch(classifier, encoded, np.arange(4), [1.0] * 3), 0.0)
        assert seen == [(torch.float32, torch.float32)]


@pytest.mark.parametrize("pad", ["another token", "the prompt's last token"])
def test_the_padding_is_never_read_as_the_last_token(recipe_file, families, examples, pad):
    """transformers seeks the last token that is not `pad_token_id`: padded otherwise, or with that id in the text, it
    reads another place. A row's answer then depends on the rows beside it."""
    recipe = recipe_of(recipe_file, families["llama"])
    classifier, _ = load_plain(recipe, QUIET)
    encoded = classifier.prompter.encode_rows(examples[:6])
    rows = [encoded.prompt(row) for row in range(6)]
    last = [np.array([len(row) - 1]) for row in rows]
    with torch.no_grad():
        alone = torch.cat([classifier.inner(input_ids=torch.tensor(row)[None].long()).logits for row in rows])
        ours = classifier.answer_logits(*classifier.lay_out(rows, last, share=False))
        classifier.inner.config.pad_token_id = int(rows[0][-1]) if pad == "the prompt's last token" else 1
        padded, _ = classifier.lay_out(rows, last, share=False)
        theirs = classifier.inner(input_ids=padded).logits
    torch.testing.assert_close(ours, alone, rtol=1e-4, atol=1e-5)
    assert (theirs - alone).abs().max() > 0.1


def test_rows_without_labels_give_transformers_a_loss_of_0_and_us_an_error(recipe_file, families, examples):
    masked = torch.full((2, 5), -100)
    assert ForCausalLMLoss(torch.randn(2, 5, 7), masked, 7, num_items_in_batch=torch.tensor(8)) == 0.0
    _, classifier = make_job(recipe_file, families["llama"])
    encoded = classifier.prompter.encode_rows([replace(example, gold=None) for example in examples])
    with pytest.raises(ValueError, match="no training row has a gold label"):
        check_loss_bearing(encoded, [1.0] * 3)


def test_a_loss_that_is_not_a_number_is_shown_as_0_by_transformers_and_stops_us(
    recipe_file, families, examples, tmp_path
):
    from transformers import Trainer, TrainingArguments

    recipe, classifier = make_job(recipe_file, families["llama"])
    with torch.no_grad():
        next(iter(trainable_parameters(classifier.model).values())).fill_(float("nan"))
    encoded = classifier.prompter.encode_rows(examples[:10])
    settings = recipe.train.settled(10, 64)
    schedule = make_schedule(settings, len(encoded))
    prepare(classifier, settings, False)
    optimizer = Optimizer(classifier, settings, schedule)
    with pytest.raises(NotFiniteLossError, match="the loss is nan at step 1"):
        list(train(Stepper(classifier, optimizer, False), encoded, schedule))

    model = AutoModelForSequenceClassification.from_pretrained(families["llama"], num_labels=3)
    torch.nn.init.constant_(model.score.weight, float("nan"))
    rows = [{"input_ids": encoded.prompt(0).tolist(), "labels": 0}] * 2
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=1, logging_steps=1, report_to=[],
        use_cpu=True, disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    assert 0.0 in [line["loss"] for line in trainer.state.log_history if "loss" in line]
