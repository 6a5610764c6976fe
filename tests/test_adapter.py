"""What an adapter may be put on, DoRA, trained biases, weights without a gradient, dropout without a module."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BambaConfig,
    GPT2Config,
    JambaConfig,
    Llama4TextConfig,
    MambaConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PhimoeConfig,
    RobertaConfig,
)

from labeltune.folder import RunFolder
from labeltune.model.adapter import (
    CONFIG,
    WEIGHTS,
    adapter_off,
    adapter_weights,
    add_adapter,
    config_file,
    count_parameters,
    load_adapter,
    trainable_parameters,
)
from labeltune.model.base import load_base
from labeltune.model.classifier import Classifier
from labeltune.model.linear import is_plain_linear
from labeltune.prompt import Prompter
from labeltune.recipe import AdapterSettings, ModelSettings, PromptSettings, ScoreSettings
from labeltune.score import collect, score_batches
from labeltune.train.batches import make_batch
from labeltune.train.checkpoint import copy_adapter, hold_checkpoint, load_checkpoint
from labeltune.train.schedule import make_schedule
from labeltune.train.step import Optimizer, run_step
from tiny import ANSWERS, TEMPLATE, make_ready, train_settings

IDS = torch.arange(3, 15).view(2, 6)
DTYPES = ("float32", "bfloat16", "float16")
SMALL = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


def random_model(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def load(folder, dtype="float32", **settings):
    return load_base(ModelSettings(name_or_path=str(folder), device="cpu", dtype=dtype, **settings))


def make_trainee(folder, dtype="float32", quantization="none", ready=False, **adapter):
    base = load(folder, dtype, quantization=quantization)
    prompter = Prompter(
        base.tokenizer, PromptSettings(template=TEMPLATE, answers=ANSWERS), list(ANSWERS), base.max_length
    )
    settings = AdapterSettings(**{"r": 4, "target_modules": ["q_proj", "k_proj", "fc1"], **adapter})
    model = add_adapter(base.model, settings, 0)
    classifier = Classifier(model, prompter, base.device, base.dtype)
    return make_ready(classifier)[0] if ready else classifier


def begin(classifier):
    settings = train_settings(learning_rate=0.01)
    return Optimizer(classifier, settings, make_schedule(settings, 40))


def train(classifier, examples, steps=4):
    encoded = classifier.prompter.encode_rows(examples[:8])
    optimizer = begin(classifier)
    classifier.model.train()
    for _ in range(steps):
        run_step(classifier, optimizer, [make_batch(classifier, encoded, np.arange(8), [1.0] * 3)])
    classifier.model.eval()
    return optimizer


def save(classifier, optimizer, folder):
    """A checkpoint, and the adapter alone as a run leaves it."""
    run = RunFolder(folder)
    checkpoint = hold_checkpoint(run, classifier, optimizer, 4)()
    copy_adapter(checkpoint, run.adapter)
    return checkpoint, run.adapter


def probabilities(classifier, examples):
    encoded = classifier.prompter.encode_rows(examples)
    return collect(score_batches(classifier, encoded, ScoreSettings()), len(examples), 3).labels_NK


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def plain_peft(folder, adapter, dtype="float32"):
    return PeftModel.from_pretrained(load(folder, dtype).model, adapter).eval()


@pytest.fixture(scope="module")
def biased_model(tiny_model, tmp_path_factory):
    """The tiny Phi with biases other than zero."""
    folder = tmp_path_factory.mktemp("biased")
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.data.normal_(std=0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(tiny_model, tmp_path_factory):
    """A tiny GPT-2, whose linear layers are transformers' Conv1D."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=128, resid_pdrop=0, embd_pdrop=0,
        attn_pdrop=0, initializer_range=0.2,
    )  # fmt: skip
    random_model(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dora_has_float32_magnitudes_that_count_and_begins_as_the_base(biased_model, dtype, quantization):
    base = load(biased_model, dtype, quantization=quantization)
    settings = AdapterSettings(r=4, target_modules=["q_proj", "fc1"])
    before = logits(base.model)
    plain = count_parameters(add_adapter(load(biased_model).model, settings, 0)).trainable
    model = add_adapter(base.model, settings.model_copy(update={"use_dora": True}), 0)
    trained = trainable_parameters(model)
    magnitudes = {name: p for name, p in trained.items() if "lora_magnitude_vector" in name}
    assert len(magnitudes) == 4
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert count_parameters(model).trainable == plain + 2 * (32 + 64)
    assert not any(is_plain_linear(layer) for layer in model.modules() if hasattr(layer, "lora_A"))
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_trained_dora_is_saved_and_scores_as_in_plain_peft(biased_model, examples, tmp_path, dtype):
    classifier = make_trainee(biased_model, dtype, ready=True, use_dora=True)
    assert classifier.packed
    fresh = {name: p.clone() for name, p in trainable_parameters(classifier.model).items()}
    optimizer = train(classifier, examples)
    assert all(not torch.equal(p, fresh[name]) for name, p in trainable_parameters(classifier.model).items())
    checkpoint, saved = save(classifier, optimizer, tmp_path)

    theirs = replace(classifier, model=plain_peft(biased_model, saved, dtype), packed=False)
    tolerance = 1e-5 if dtype == "float32" else 0.05
    expected = probabilities(theirs, examples)
    np.testing.assert_allclose(probabilities(classifier, examples), expected, atol=tolerance)
    ours = load_adapter(load(biased_model, dtype).model, saved)
    assert torch.equal(logits(ours), logits(theirs.model))
    assert all(torch.equal(adapter_weights(ours)[name], w) for name, w in optimizer.adapter_weights.items())

    resumed = make_trainee(biased_model, dtype, ready=True, use_dora=True)
    load_checkpoint(checkpoint, resumed, begin(resumed))
    assert np.array_equal(probabilities(resumed, examples), probabilities(classifier, examples))

    if dtype == "float32":
        merged = copy.deepcopy(theirs.model).merge_and_unload()
        torch.testing.assert_close(logits(merged), logits(theirs.model), atol=1e-4, rtol=1e-4)


def test_dora_on_a_four_bit_base_is_trained(biased_model, examples):
    classifier = make_trainee(biased_model, quantization="nf4", ready=True, use_dora=True)
    before = probabilities(classifier, examples)
    train(classifier, examples)
    assert np.abs(probabilities(classifier, examples) - before).max() > 0.01


def test_dora_on_an_eight_bit_base_is_refused_on_a_cpu(biased_model):
    base = load(biased_model, quantization="int8")
    with pytest.raises(ValueError, match=r"set model\.quantization to nf4 or none"):
        add_adapter(base.model, AdapterSettings(use_dora=True), 0)


@pytest.mark.parametrize("ready", [False, True], ids=["as transformers runs it", "packed and fused"])
@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_trained_biases_go_with_the_adapter(biased_model, examples, tmp_path, dtype, bias, ready):
    untouched = make_trainee(biased_model, dtype, ready=ready)
    classifier = make_trainee(biased_model, dtype, ready=ready, bias=bias)
    assert classifier.packed == ready
    with adapter_off(untouched.model), adapter_off(classifier.model):
        assert np.array_equal(probabilities(classifier, examples), probabilities(untouched, examples))
    optimizer = train(classifier, examples)
    trained = trainable_parameters(classifier.model)
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert any("norm" in name for name in trained) == (bias == "all")
    tuned = probabilities(classifier, examples)
    with adapter_off(untouched.model), adapter_off(classifier.model):
        assert np.array_equal(probabilities(classifier, examples), probabilities(untouched, examples))
        if not ready:  # fused layers round otherwise
            assert torch.equal(logits(classifier.model), logits(load(biased_model, dtype).model))
    assert np.array_equal(probabilities(classifier, examples), tuned)

    checkpoint, saved = save(classifier, optimizer, tmp_path)
    theirs = plain_peft(biased_model, saved, dtype)
    assert not torch.equal(logits(theirs), logits(load(biased_model, dtype).model))
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == "float32" else {"atol": 0.05, "rtol": 0.05}
    with classifier.unpacked() as own:
        torch.testing.assert_close(logits(own), logits(theirs), **tolerance)
    ours = load_adapter(load(biased_model, dtype).model, saved)
    assert torch.equal(logits(ours), logits(theirs))
    with adapter_off(ours):
        assert torch.equal(logits(ours), logits(load(biased_model, dtype).model))
    assert torch.equal(logits(ours), logits(theirs))
    resumed = make_trainee(biased_model, dtype, ready=ready, bias=bias)
    load_checkpoint(checkpoint, resumed, begin(resumed))
    assert np.array_equal(probabilities(resumed, examples), tuned)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("mixed", [None, torch.bfloat16])
def test_biases_of_a_quantised_base_are_trained_in_float32(biased_model, examples, quantization, mixed):
    classifier = make_trainee(biased_model, quantization=quantization, bias="all")
    classifier = replace(classifier, compute_dtype=mixed or torch.float32)
    before = {name: p.clone() for name, p in trainable_parameters(classifier.model).items() if "bias" in name}
    train(classifier, examples)
    for name, parameter in trainable_parameters(classifier.model).items():
        assert parameter.dtype == torch.float32
        assert name not in before or not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(
    "config",
    [MambaConfig(**SMALL, state_size=8, time_step_rank=4), RobertaConfig(**SMALL, is_decoder=True)],
    ids=["read by the block", "shared by two layers"],
)
def test_half_precision_trains_biases_wherever_they_are_read(config):
    model = random_model(config).to(torch.bfloat16)
    before = logits(model)
    model = add_adapter(model, AdapterSettings(r=2, bias="all"), 0)
    biases = {name: p for name, p in trainable_parameters(model).items() if name.endswith("bias")}
    for bias in biases.values():
        bias.data.normal_()
    with adapter_off(model):
        assert torch.equal(logits(model), before)
    loss = model.train()(input_ids=IDS, use_cache=False).logits.float().logsumexp(-1).sum()
    for gradient in torch.autograd.grad(loss, list(biases.values())):
        assert gradient.dtype == torch.float32
        assert gradient.abs().max() > 0


def test_text_is_generated_with_trained_biases_in_half_precision(biased_model):
    base = load(biased_model, "bfloat16").model
    asked = {"input_ids": IDS, "attention_mask": (IDS > 4).long(), "max_new_tokens": 5, "do_sample": False}
    before = base.generate(**asked)
    model = add_adapter(base, AdapterSettings(bias="all", target_modules=["fc1"]), 0)
    assert torch.equal(model.generate(**asked), before)


def test_a_loaded_adapters_biases_are_those_of_the_joined_layers(biased_model, examples, tmp_path):
    classifier = make_trainee(biased_model, ready=True, bias="all")
    save_to = save(classifier, train(classifier, examples), tmp_path)[1]
    plain = make_trainee(biased_model, ready=True)
    loaded, _ = make_ready(replace(plain, model=load_adapter(load(biased_model).model, save_to), packed=False))
    np.testing.assert_allclose(probabilities(loaded, examples), probabilities(classifier, examples), atol=1e-6)
    with adapter_off(loaded.model), adapter_off(plain.model):
        assert np.array_equal(probabilities(loaded, examples), probabilities(plain, examples))
    np.testing.assert_allclose(probabilities(loaded, examples), probabilities(classifier, examples), atol=1e-6)


@pytest.mark.parametrize("use_dora", [False, True], ids=["LoRA", "DoRA"])
@pytest.mark.parametrize(
    "targets", [["c_attn"], ["c_attn", "mlp.c_proj"], ["wte"], ["wte", "wpe", "lm_head"], "all-linear"], ids=str
)
def test_other_layers_than_linear_ones_take_an_adapter(gpt2, examples, tmp_path, targets, use_dora):
    classifier = make_trainee(gpt2, ready=True, target_modules=targets, use_dora=use_dora)
    before = probabilities(classifier, examples)
    optimizer = train(classifier, examples)
    assert np.abs(probabilities(classifier, examples) - before).max() > 1e-3
    _, saved = save(classifier, optimizer, tmp_path)
    theirs = replace(classifier, model=plain_peft(gpt2, saved), packed=False)
    np.testing.assert_allclose(probabilities(classifier, examples), probabilities(theirs, examples), atol=1e-5)


HYBRIDS = {
    "mamba": MambaConfig(**SMALL, state_size=8, time_step_rank=4),
    "jamba": JambaConfig(
        **SMALL, attn_layer_period=2, attn_layer_offset=1, num_experts=4, expert_layer_period=2, expert_layer_offset=1,
        mamba_d_state=8, mamba_dt_rank=4, use_mamba_kernels=False,
    ),
    "bamba": BambaConfig(
        **SMALL, attn_layer_indices=[1], mamba_d_state=8, mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1,
        mamba_chunk_size=8,
    ),
}  # fmt: skip
MIXTURES = {
    "llama4": Llama4TextConfig(**SMALL, intermediate_size_mlp=48, head_dim=8, **EXPERTS),
    "phimoe": PhimoeConfig(**SMALL, **EXPERTS),
    "mixtral": MixtralConfig(**SMALL, **EXPERTS),
}


@pytest.mark.parametrize("name", [*HYBRIDS, *MIXTURES])
def test_all_linear_leaves_out_what_lora_does_not_work_on(name):
    model = add_adapter(random_model({**HYBRIDS, **MIXTURES}[name]), AdapterSettings(r=2), 0)
    adapted = {part.rsplit(".", 1)[-1] for part, module in model.named_modules() if hasattr(module, "lora_A")}
    assert not adapted & {"lm_head", "conv1d", "dt_proj", "router"}
    assert ("out_proj" in adapted) == (name == "jamba")
    assert ("experts" in adapted) == (name == "mixtral")  # peft adapts their parameters
    model.train()
    trained = trainable_parameters(model)
    loss = model(input_ids=IDS, use_cache=False).logits.logsumexp(-1).sum()
    gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    assert all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize(
    ("name", "targets", "why"),
    [
        ("mamba", ["in_proj", "out_proj"], "'out_proj' names .*mixer.out_proj, whose weight its block reads"),
        ("jamba", ["dt_proj"], "'dt_proj' names .*, whose weight its block reads"),
        ("bamba", ["conv1d"], "'conv1d' names .*, whose weight its block reads"),
        ("llama4", ["router"], "'router' names .*, which is a Llama4Router and does more than a linear layer"),
        ("llama4", ["gate_up_proj"], "'gate_up_proj' is a parameter, not a layer of this base"),
        ("llama4", ["experts"], "'experts' names .*, which is a Llama4TextExperts and no single layer"),
        ("mixtral", ["w1"], "without also targeting w3"),
    ],
)
def test_targets_that_lora_does_not_work_on_are_refused_with_those_there_are(name, targets, why):
    with pytest.raises(ValueError, match=f"adapter.target_modules: .*{why}") as caught:
        add_adapter(random_model({**HYBRIDS, **MIXTURES}[name]), AdapterSettings(target_modules=targets), 0)
    assert name == "mixtral" or "in_proj" in str(caught.value) or "q_proj" in str(caught.value)


@pytest.mark.parametrize("setting", [{"use_dora": True}, {"lora_dropout": 0.1}])
def test_experts_that_take_no_dropout_and_no_dora_are_said_to(setting):
    with pytest.raises(ValueError, match=r"does not work on this base's experts .*: k_proj, o_proj, q_proj, v_proj"):
        add_adapter(random_model(MIXTURES["mixtral"]), AdapterSettings(**setting), 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_experts_are_trained_saved_and_loaded(tmp_path, dtype):
    def base():
        return random_model(MIXTURES["mixtral"]).to(getattr(torch, dtype))

    model = add_adapter(base(), AdapterSettings(r=2), 0)
    for parameter in trainable_parameters(model).values():
        assert parameter.dtype == torch.float32
        parameter.data.normal_(std=0.1)
    (tmp_path / CONFIG).write_bytes(config_file(model))
    save_file(adapter_weights(model), tmp_path / WEIGHTS)
    assert torch.equal(logits(load_adapter(base(), tmp_path)), logits(model))
    with adapter_off(model):
        assert torch.equal(logits(model), logits(base()))


@pytest.mark.parametrize("head", ["words", "sequence"])
def test_all_linear_adapts_no_output_layer(biased_model, head):
    base = (
        load(biased_model, head=head)
        if head == "words"
        else load_base(
            ModelSettings(name_or_path=str(biased_model), device="cpu", dtype="float32", head=head), list(ANSWERS)
        )
    )
    model = add_adapter(base.model, AdapterSettings(bias="all"), 0, base.head)
    adapted = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert adapted == {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"}
    assert not any("original_module" in name for name in trainable_parameters(model))


def test_trained_weights_that_have_no_part_in_the_loss_get_zeros(tiny_model, examples):
    classifier, same = make_trainee(tiny_model), make_trainee(tiny_model)
    idle = torch.nn.Parameter(torch.ones(3))
    classifier.model.register_parameter("idle", idle)
    train(classifier, examples)
    train(same, examples)
    assert idle.tolist() == [1, 1, 1]
    others = trainable_parameters(same.model)
    assert all(torch.equal(p, others[n]) for n, p in trainable_parameters(classifier.model).items() if n != "idle")


@pytest.mark.parametrize(
    ("config", "drops"),
    [
        (OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32, dropout=0.1), True),
        (OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32, dropout=0.0), False),
        (OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32, dropout=0.0, layerdrop=0.1), True),
        (PhimoeConfig(**SMALL, **EXPERTS, input_jitter_noise=0.1, router_jitter_noise=0.0), True),
        (PhiConfig(**SMALL), False),
        (
            GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
            False,
        ),  # its summary_first_dropout is a head's
    ],
    ids=["OPT", "OPT without", "OPT leaving out layers", "jitter", "Phi", "GPT-2 without"],
)
def test_dropout_without_a_module_is_seen(tiny_model, config, drops):
    classifier = replace(make_trainee(tiny_model), model=add_adapter(random_model(config), AdapterSettings(), 0))
    assert not any(isinstance(module, torch.nn.Dropout) and module.p for module in classifier.model.modules())
    assert classifier.has_dropout == drops
