import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from labeltune.durable import DamagedError
from labeltune.folder import RunFolder
from labeltune.model.adapter import add_adapter, trainable_parameters
from labeltune.model.base import load_base
from labeltune.model.classifier import Classifier
from labeltune.prompt import Prompter
from labeltune.recipe import AdapterSettings, ModelSettings, PromptSettings, ScoreSettings
from labeltune.score import collect, score_batches, to_predictions
from labeltune.train.batches import (
    RECORDING_TOKENS,
    SIZE_STEP,
    Shapes,
    batches_of_step,
    choose_shapes,
    class_weights,
    epoch_order,
    few_sizes,
    make_batch,
)
from labeltune.train.capture import Stepper
from labeltune.train.checkpoint import hold_checkpoint, load_checkpoint, newest_checkpoint, remove_old_checkpoints
from labeltune.train.loop import check_loss_bearing, make_stepper, prepare, train
from labeltune.train.schedule import make_schedule
from labeltune.train.step import NotFiniteLossError, Optimizer, run_step
from tiny import ANSWERS, TEMPLATE, make_classifier, make_ready, row_losses, train_settings

ADAPTER = AdapterSettings(r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])


def make_trainee(folder, answers=ANSWERS, adapter=ADAPTER):
    classifier = make_classifier(folder, answers)
    model = add_adapter(classifier.model, adapter, seed=0)
    for name, parameter in trainable_parameters(model).items():
        if "lora_B" in name:  # B begins at zero, where half of the gradients vanish
            torch.manual_seed(1)
            parameter.data.normal_(std=0.1)
    return replace(classifier, model=model)


def make_optimizer(classifier, rows=40, **settings):
    settings = train_settings(**{"learning_rate": 0.01, "per_device_train_batch_size": 8, **settings})
    schedule = make_schedule(settings, rows)
    return Optimizer(classifier, settings, schedule), schedule


def weights(classifier):
    return torch.cat([p.detach().flatten() for p in trainable_parameters(classifier.model).values()])


def begin(classifier, optimizer, encoded, schedule, first_step=1):
    """The training loop, ready to take its first step."""
    if first_step == 1:
        prepare(classifier, schedule.settings, schedule.settings.gradient_checkpointing)
    return train(Stepper(classifier, optimizer, capture=False), encoded, schedule, first_step)


def run_all(classifier, optimizer, encoded, schedule, first_step=1):
    return list(begin(classifier, optimizer, encoded, schedule, first_step))


@pytest.mark.parametrize(
    "answers", [ANSWERS, {"red": "yes no", "green": "maybe", "blue": "so no so"}], ids=["one", "more"]
)
def test_loss_and_gradient_equal_those_of_the_plain_masked_model(tiny_model, examples, answers):
    classifier = make_trainee(tiny_model, answers)
    encoded = classifier.prompter.encode_rows(examples[:6])
    batch = make_batch(classifier, encoded, np.arange(6), [1.0] * 3)
    parameters = list(trainable_parameters(classifier.model).values())
    losses = row_losses(classifier, batch, smoothing=0.0)
    ours = torch.autograd.grad(losses.mean(), parameters)

    expected = []
    for row in range(6):
        word, end = classifier.words.token_ids[encoded.gold[row]], classifier.prompter.tokenizer.eos_token_id
        prompt, answer = encoded.prompt(row).tolist(), [*word, end]
        ids = torch.tensor([[*prompt, *answer]])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        expected.append(classifier.model(input_ids=ids, labels=labels).loss * len(answer))
    theirs = torch.autograd.grad(torch.stack(expected).mean(), parameters)
    torch.testing.assert_close(losses, torch.stack(expected), atol=1e-5, rtol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_loss_over_labels_is_that_of_the_label_probabilities(tiny_model, examples):
    classifier = replace(make_trainee(tiny_model), loss_over="labels")
    encoded = classifier.prompter.encode_rows(examples[:12])
    scores = collect(score_batches(classifier, encoded, ScoreSettings()), 12, 3)
    predictions = list(to_predictions(classifier, examples[:12], encoded, scores))
    with torch.no_grad():
        classifier.model.train(False)
        losses = row_losses(classifier, make_batch(classifier, encoded, np.arange(12), [1.0] * 3), smoothing=0.0)
    for loss, prediction in zip(losses.tolist(), predictions, strict=True):
        assert loss == pytest.approx(-np.log(prediction.probabilities[prediction.gold]), abs=1e-5)
        assert prediction.loss == pytest.approx(loss, abs=1e-5)


def test_a_loss_over_labels_of_several_tokens_chooses_token_by_token(tiny_model, examples):
    classifier = replace(
        make_trainee(tiny_model, {"red": "yes no", "green": "maybe", "blue": "yes so"}), loss_over="labels"
    )
    encoded = classifier.prompter.encode_rows(examples[:6])
    with torch.no_grad():
        classifier.model.train(False)
        losses = row_losses(classifier, make_batch(classifier, encoded, np.arange(6), [1.0] * 3), smoothing=0.0)
    (yes, no), (maybe,), (_, so) = classifier.words.token_ids
    for row, loss in enumerate(losses.tolist()):
        prompt, gold = encoded.prompt(row).tolist(), encoded.gold[row]
        with torch.no_grad():
            logits = classifier.model(input_ids=torch.tensor([[*prompt, yes]])).logits[0]
        first = torch.log_softmax(logits[-2, [yes, maybe]], 0)
        second = torch.log_softmax(logits[-1, [no, so]], 0)
        expected = {0: first[0] + second[0], 1: first[1], 2: first[0] + second[1]}[int(gold)]
        assert loss == pytest.approx(-float(expected), abs=1e-5)


def test_the_whole_answer_gains_weight_over_the_training(tiny_model, examples):
    classifier = replace(make_trainee(tiny_model), loss_over="labels")
    encoded = classifier.prompter.encode_rows(examples)
    settings = train_settings(max_steps=4, per_device_train_batch_size=4)
    stepper = make_stepper(classifier, make_schedule(settings, len(encoded)))
    shares = []
    for _ in train(stepper, encoded, make_schedule(settings, len(encoded))):
        shares.append(float(stepper.optimizer.progress))
    assert shares == pytest.approx([0.5, 0.75, 1.0, 1.0])  # of the next step


def test_scoring_before_training_changes_no_gradient_of_a_quantised_base(tiny_model, examples):
    def gradients(score_first):
        base = load_base(ModelSettings(name_or_path=str(tiny_model), device="cpu", dtype="float32", quantization="nf4"))
        settings = PromptSettings(template=TEMPLATE, answers=ANSWERS)
        prompter = Prompter(base.tokenizer, settings, list(ANSWERS), base.max_length)
        classifier = Classifier(add_adapter(base.model, ADAPTER, 0), prompter, base.device, torch.float32)
        encoded = prompter.encode_rows(examples[:8])
        if score_first:
            list(score_batches(classifier, encoded, ScoreSettings()))
        batch = make_batch(classifier, encoded, np.arange(8), [1.0] * 3)
        loss = row_losses(classifier, batch, smoothing=0.0).mean()
        return torch.autograd.grad(loss, list(trainable_parameters(classifier.model).values()))

    for one, other in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(one, other)


def test_training_lowers_the_loss_and_touches_the_adapter_alone(tiny_model, examples):
    classifier = make_trainee(tiny_model)
    frozen = {n: p.clone() for n, p in classifier.model.named_parameters() if not p.requires_grad}
    encoded = classifier.prompter.encode_rows(examples)
    optimizer, schedule = make_optimizer(classifier, num_train_epochs=8)
    steps = run_all(classifier, optimizer, encoded, schedule)
    assert [step.step for step in steps] == list(range(1, 41))
    assert np.mean([s.loss for s in steps[-5:]]) < 0.6 * np.mean([s.loss for s in steps[:5]])
    assert all(torch.equal(frozen[n], p) for n, p in classifier.model.named_parameters() if n in frozen)
    assert all(p.dtype == torch.float32 for p in trainable_parameters(classifier.model).values())
    assert all(state["exp_avg"].dtype == torch.float32 for state in optimizer.adamw.state.values())


def test_accumulation_gives_the_step_of_the_whole_batch(tiny_model, examples):
    results = []
    for size, accumulation in ((8, 1), (3, 3)):
        classifier = make_trainee(tiny_model, adapter=ADAPTER.model_copy(update={"lora_dropout": 0.0}))
        encoded = classifier.prompter.encode_rows(examples[:8])
        optimizer, _ = make_optimizer(classifier, label_smoothing_factor=0.1)
        rows = batches_of_step(np.arange(8), size, accumulation, 0)
        batches = [make_batch(classifier, encoded, some, [1.0, 2.0, 0.5]) for some in rows]
        results.append((run_step(classifier, optimizer, batches), weights(classifier)))
    (whole, whole_weights), (parts, parts_weights) = results
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)
    torch.testing.assert_close(parts_weights, whole_weights, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "answers", [ANSWERS, {"red": "yes no", "green": "maybe", "blue": "so no so"}], ids=["one", "more"]
)
def test_a_batch_filled_up_to_a_shape_gives_the_same_step(tiny_model, examples, answers):
    results = []
    for shapes in (None, Shapes((256, 512), rows=16)):
        adapter = ADAPTER.model_copy(update={"lora_dropout": 0.0})
        classifier, _ = make_ready(make_trainee(tiny_model, answers, adapter))
        assert classifier.packed
        encoded = classifier.prompter.encode_rows(examples[:11])
        optimizer, _ = make_optimizer(classifier)
        batches = [make_batch(classifier, encoded, rows, [1.0, 2.0, 0.5], shapes) for rows in (range(9), range(9, 11))]
        results.append((run_step(classifier, optimizer, batches), weights(classifier)))
        if shapes is not None:
            assert {len(batch.inputs.layout) for batch in batches} == {256}
            assert {len(batch.weights_B) for batch in batches} == {16}
            assert [len(batch.rows) for batch in batches] == [9, 2]
    (plain, plain_weights), (filled, filled_weights) = results
    assert filled.loss == pytest.approx(plain.loss, rel=1e-5)
    assert filled.grad_norm == pytest.approx(plain.grad_norm, rel=1e-4)
    torch.testing.assert_close(filled_weights, plain_weights, atol=1e-4, rtol=1e-3)


def test_the_chosen_sizes_cost_least():
    def cost(sizes, tokens, times):
        padding = sum(min(size - one for size in sizes if size >= one) for one in tokens)
        return len(sizes) * RECORDING_TOKENS + times * padding

    random = np.random.default_rng(0)
    for times in (1.0, 7.5, 60.0):
        tokens = random.integers(33, 7 * SIZE_STEP, 60)
        possible = list(range(SIZE_STEP, 7 * SIZE_STEP + 1, SIZE_STEP))
        every = [s for n in range(1, 8) for s in itertools.combinations(possible, n) if s[-1] >= tokens.max()]
        least = min(cost(sizes, tokens, times) for sizes in every)
        assert cost(few_sizes(tokens, times), tokens, times) == pytest.approx(least)
    assert len(few_sizes(tokens, 1e6)) == 6
    assert few_sizes(tokens, 1e-6) == (7 * SIZE_STEP,)


def test_shapes_hold_the_passes_that_they_were_chosen_for(tiny_model, examples):
    classifier, _ = make_ready(make_trainee(tiny_model))
    encoded = classifier.prompter.encode_rows(examples)
    passes = [np.arange(0, 16), np.arange(16, 25)]
    shapes = choose_shapes(classifier, encoded, passes, times=1000.0)
    assert shapes.rows == 16
    for rows in passes:
        batch = make_batch(classifier, encoded, rows, [1.0] * 3, shapes)
        assert batch.tokens - len(rows) <= len(batch.inputs.layout) < batch.tokens + SIZE_STEP


def test_checkpointed_activations_give_the_same_gradients(tiny_model, examples):
    norms = []
    for checkpointing in (False, True):
        classifier = make_trainee(tiny_model)
        encoded = classifier.prompter.encode_rows(examples)
        optimizer, schedule = make_optimizer(classifier, max_steps=3, gradient_checkpointing=checkpointing)
        norms.append([step.grad_norm for step in run_all(classifier, optimizer, encoded, schedule)])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_learns_too(tiny_model, examples, precision):
    classifier = make_trainee(tiny_model)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    classifier = replace(classifier, compute_dtype=dtype)
    encoded = classifier.prompter.encode_rows(examples)
    optimizer, schedule = make_optimizer(classifier, num_train_epochs=4, **{precision: True})
    steps = run_all(classifier, optimizer, encoded, schedule)
    taken = [step for step in steps if not step.skipped]
    assert len(taken) >= 15
    assert taken[-1].loss < taken[0].loss
    assert optimizer.scaling == (precision == "fp16")


def test_a_loss_that_is_not_finite_stops_before_the_optimizer(tiny_model, examples, monkeypatch):
    classifier = make_trainee(tiny_model)
    encoded = classifier.prompter.encode_rows(examples)
    optimizer, schedule = make_optimizer(classifier)
    steps = begin(classifier, optimizer, encoded, schedule)
    next(steps)
    before, moments = weights(classifier), [s["exp_avg"].clone() for s in optimizer.adamw.state.values()]
    monkeypatch.setattr("labeltune.train.step.cross_entropy", lambda logits, *_, **__: logits.sum(1) * float("nan"))
    with pytest.raises(NotFiniteLossError, match=r"the loss is nan at step 2, training rows \d+, "):
        next(steps)
    assert torch.equal(weights(classifier), before)
    assert all(torch.equal(s["exp_avg"], m) for s, m in zip(optimizer.adamw.state.values(), moments, strict=True))


def test_gradients_that_are_not_finite_stop_too(tiny_model, examples):
    classifier = make_trainee(tiny_model)
    encoded = classifier.prompter.encode_rows(examples)
    optimizer, schedule = make_optimizer(classifier)
    parameter = next(iter(optimizer.parameters.values()))
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    before = weights(classifier)
    with pytest.raises(NotFiniteLossError, match="gradients' norm is"):
        run_all(classifier, optimizer, encoded, schedule)
    assert torch.equal(weights(classifier), before)


def test_float16_gradients_that_keep_overflowing_stop_the_run(tiny_model, examples):
    classifier = replace(make_trainee(tiny_model), compute_dtype=torch.float16)
    encoded = classifier.prompter.encode_rows(examples)
    optimizer, schedule = make_optimizer(classifier, max_steps=50, fp16=True)
    next(iter(optimizer.parameters.values())).register_hook(lambda gradient: gradient * float("inf"))
    steps = begin(classifier, optimizer, encoded, schedule)
    taken = list(itertools.islice(steps, 19))
    assert all(step.skipped and step.grad_norm is None for step in taken)
    with pytest.raises(NotFiniteLossError, match="overflowed 20 steps in a row"):
        next(steps)


def test_training_on_nothing_is_refused(tiny_model, examples):
    classifier = make_trainee(tiny_model)
    unlabelled = classifier.prompter.encode_rows([replace(example, gold=None) for example in examples])
    with pytest.raises(ValueError, match="no token carries loss: no training row has a gold label"):
        check_loss_bearing(unlabelled, [1.0, 1.0, 1.0])
    labelled = classifier.prompter.encode_rows([example for example in examples if example.gold == "red"])
    with pytest.raises(ValueError, match="every class weight in use is 0"):
        check_loss_bearing(labelled, [0.0, 1.0, 1.0])
    check_loss_bearing(labelled, [1.0, 0.0, 0.0])


def test_class_weights_follow_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    gold = np.array([0, 0, 0, 1, 1, 2], dtype=np.int32)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=gold)
    assert class_weights("balanced", ["a", "b", "c"], gold) == pytest.approx(expected)
    assert class_weights({"c": 3, "a": 1, "b": 2}, ["a", "b", "c"], gold) == [1, 2, 3]


@pytest.mark.parametrize("by_length", [False, True])
def test_every_epoch_shows_every_row_once_in_another_order(by_length):
    lengths = np.random.default_rng(0).integers(5, 60, 103)
    orders = [epoch_order(lengths, 8, seed=3, epoch=epoch, by_length=by_length) for epoch in (0, 0, 1)]
    assert all(sorted(order) == list(range(103)) for order in orders)
    assert orders[0].tolist() == orders[1].tolist() != orders[2].tolist()


def test_grouping_by_length_saves_padding():
    lengths = np.random.default_rng(0).integers(5, 60, 1000)

    def padded(order):
        return sum(8 * lengths[order[i : i + 8]].max() for i in range(0, 1000, 8))

    grouped, plain = (padded(epoch_order(lengths, 8, 0, 0, by_length)) for by_length in (True, False))
    assert grouped < 1.15 * lengths.sum() < plain


def test_the_schedule_counts_as_transformers_does():
    schedule = make_schedule(
        train_settings(
            num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=3, warmup_ratio=0.1
        ),
        50,
    )
    assert (schedule.batches_per_epoch, schedule.steps_per_epoch, schedule.total_steps) == (13, 5, 10)
    assert schedule.warmup_steps == 1
    assert [s for s in range(1, 11) if schedule.scores(s)] == [5, 10]
    by_steps = make_schedule(train_settings(max_steps=7, eval_strategy="steps", eval_steps=3, save_strategy="no"), 50)
    assert [s for s in range(1, 8) if by_steps.scores(s)] == [3, 6, 7]
    assert [s for s in range(1, 8) if by_steps.saves(s)] == [3, 6, 7]
    last_only = make_schedule(
        train_settings(max_steps=7, eval_strategy="no", save_strategy="no", load_best_model_at_end=False), 50
    )
    assert [s for s in range(1, 8) if last_only.saves(s)] == [7]
    assert not any(last_only.scores(s) for s in range(1, 8))


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_the_learning_rate_warms_up_and_follows_its_schedule(tiny_model, examples, kind):
    classifier = make_trainee(tiny_model)
    encoded = classifier.prompter.encode_rows(examples)
    optimizer, schedule = make_optimizer(classifier, max_steps=10, warmup_steps=2, lr_scheduler_type=kind)
    rates = [step.learning_rate / 0.01 for step in run_all(classifier, optimizer, encoded, schedule)]
    assert rates[:3] == pytest.approx([0, 0.5, 1])
    end = {"linear": 1 / 8, "cosine": 0.5 * (1 + np.cos(np.pi * 7 / 8)), "constant": 1}[kind]
    assert rates[-1] == pytest.approx(end)


def train_until(stop, fresh, folder, **held):
    """Train what `fresh` makes up to a step, and leave a checkpoint of it in the folder."""
    classifier, encoded, optimizer, schedule = fresh()
    for step in begin(classifier, optimizer, encoded, schedule):
        if step.step == stop:
            hold_checkpoint(RunFolder(folder), classifier, optimizer, stop, **held)()
            break


@pytest.mark.parametrize("stop", [3, 5, 7])
def test_a_resumed_run_ends_bit_for_bit_where_an_unbroken_one_does(tiny_model, examples, tmp_path, stop):
    settings = {"num_train_epochs": 2, "lr_scheduler_type": "cosine", "warmup_steps": 2, "weight_decay": 0.1}

    def fresh():
        classifier = make_trainee(tiny_model)
        return (classifier, classifier.prompter.encode_rows(examples), *make_optimizer(classifier, **settings))

    classifier, encoded, optimizer, schedule = fresh()
    unbroken = run_all(classifier, optimizer, encoded, schedule)
    expected = weights(classifier)

    train_until(stop, fresh, tmp_path, losses=[1.5])
    classifier, encoded, optimizer, schedule = fresh()
    state = load_checkpoint(newest_checkpoint(RunFolder(tmp_path)), classifier, optimizer)
    assert (state["step"], state["losses"]) == (stop, [1.5])
    resumed = run_all(classifier, optimizer, encoded, schedule, stop + 1)
    assert resumed == unbroken[stop:]
    assert torch.equal(weights(classifier), expected)


def test_rotation_keeps_the_best_and_the_last(tiny_model, tmp_path):
    classifier = make_trainee(tiny_model)
    optimizer, _ = make_optimizer(classifier)
    for step in (5, 10, 15, 20):
        hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, step)()
    remove_old_checkpoints(RunFolder(tmp_path), 2, keep=[5, 20])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-20", "checkpoint-5"]
    remove_old_checkpoints(RunFolder(tmp_path), None, keep=[])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_of_another_adapter_is_refused(tiny_model, tmp_path):
    classifier = make_trainee(tiny_model, adapter=AdapterSettings(r=4, target_modules=["fc1"]))
    optimizer, _ = make_optimizer(classifier)
    folder = hold_checkpoint(RunFolder(tmp_path), classifier, optimizer, 1)()
    other = make_trainee(tiny_model)
    with pytest.raises(ValueError, match="belongs to another adapter"):
        load_checkpoint(folder, other, make_optimizer(other)[0])
    (folder / "trainer_state.json").unlink()
    with pytest.raises(DamagedError, match=r"trainer_state\.json is missing"):
        load_checkpoint(folder, classifier, optimizer)
