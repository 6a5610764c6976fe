import gc
import json

import pytest
import torch
from safetensors.torch import save
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PhiConfig

from labeltune.durable import write_folder
from labeltune.environment import prepare_libraries
from labeltune.model.adapter import (
    CONFIG,
    FORMAT,
    WEIGHTS,
    adapter_fingerprint,
    adapter_off,
    adapter_weights,
    add_adapter,
    config_file,
    count_parameters,
    load_adapter,
)
from labeltune.model.attention import FP32_ATTENTION
from labeltune.model.base import choose_device, choose_dtype, load_base, tokenizer_fingerprint
from labeltune.model.files import begin_fingerprint
from labeltune.recipe import AdapterSettings, ModelSettings
from labeltune.recipes import load_recipe

PHI2_SHAPE = PhiConfig(
    vocab_size=51200,
    hidden_size=2560,
    intermediate_size=10240,
    num_hidden_layers=32,
    num_attention_heads=32,
    max_position_embeddings=2048,
    hidden_act="gelu_new",
)
SMALL_ADAPTER = AdapterSettings(r=4, target_modules=["q_proj", "dense"])


def load(folder, **settings):
    return load_base(ModelSettings(name_or_path=str(folder), device="cpu", **({"dtype": "float32"} | settings)))


def test_garbage_is_not_looked_for_until_a_base_is_loaded(tiny_model):
    try:
        prepare_libraries()
        assert not gc.isenabled()
        load(tiny_model)
        assert gc.isenabled()
        assert gc.get_freeze_count()
        gc.unfreeze()
        load(tiny_model)
        assert not gc.get_freeze_count()  # what is loaded later may turn into garbage
    finally:
        gc.enable()
        gc.unfreeze()


def save_adapter(folder, tiny_model):
    model = add_adapter(load(tiny_model).model, SMALL_ADAPTER, 0)
    write_folder(folder, [(CONFIG, config_file(model)), (WEIGHTS, save(adapter_weights(model), FORMAT))], {})


def test_phi2_with_the_experiments_adapter_has_the_experiments_parameter_counts():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(PHI2_SHAPE)
    counts = count_parameters(add_adapter(model, load_recipe("snli-phi2").adapter, seed=0))
    assert counts == (20_971_520, 2_800_655_360)
    assert f"{counts.trainable_percent:.4f}" == "0.7488"


def test_four_bit_weights_count_as_the_numbers_they_stand_for(tiny_model):
    plain = count_parameters(add_adapter(load(tiny_model).model, SMALL_ADAPTER, 0))
    packed = count_parameters(add_adapter(load(tiny_model, quantization="nf4").model, SMALL_ADAPTER, 0))
    assert packed == plain


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_only_the_adapter_is_trained_and_it_is_float32(tiny_model, quantization, dtype):
    base = load(tiny_model, quantization=quantization, dtype=dtype)
    model = add_adapter(base.model, SMALL_ADAPTER, 0)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())


def test_the_adapter_depends_on_its_seed_alone(tiny_model):
    def weights(seed):
        torch.rand(seed + 3)  # whatever was drawn before must not matter
        model = add_adapter(load(tiny_model).model, SMALL_ADAPTER, seed)
        return torch.cat([p.flatten() for p in model.parameters() if p.requires_grad])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapters_fingerprint_tells_weights_and_settings_apart(tiny_model, dtype):
    def adapted(**settings):
        return add_adapter(load(tiny_model).model, SMALL_ADAPTER.model_copy(update=settings), seed=0).to(dtype)

    model, same = adapted(), adapted()
    assert adapter_fingerprint(model) == adapter_fingerprint(same) == adapter_fingerprint(model)
    assert adapter_fingerprint(adapted(lora_alpha=3)) != adapter_fingerprint(model)
    with torch.no_grad():
        next(p for p in same.parameters() if p.requires_grad).flatten()[-1].mul_(1.01)
    assert adapter_fingerprint(same) != adapter_fingerprint(model)


def test_a_target_that_matches_nothing_lists_what_there_is(tiny_model):
    with pytest.raises(ValueError, match="'qproj' matches no layer") as caught:
        add_adapter(load(tiny_model).model, AdapterSettings(target_modules=["qproj"]), 0)
    assert "did you mean q_proj?" in str(caught.value)
    assert "fc1" in str(caught.value)


def test_the_vocabulary_is_never_resized(tiny_model):
    base = load(tiny_model)
    assert base.tokenizer.pad_token_id is None
    assert base.model.get_input_embeddings().num_embeddings == base.model.config.vocab_size == len(base.tokenizer)


def test_phi_in_float16_computes_attention_in_float32(tiny_model):
    base = load(tiny_model, dtype="float16")
    assert base.model.config._attn_implementation == FP32_ATTENTION
    assert "float32" in base.notes[0]
    assert load(tiny_model).notes == ()


def test_float32_attention_survives_products_that_overflow_float16(tiny_model):
    ids = torch.arange(10)[None]

    def logits(attention):
        base = load(tiny_model, dtype="float16", attn_implementation=attention)
        for layer in base.model.model.layers:  # queries and keys of a few hundred, as Phi-2 has them
            layer.self_attn.q_proj.weight.data *= 400
            layer.self_attn.k_proj.weight.data *= 400
        with torch.inference_mode():
            return base.model(input_ids=ids).logits

    assert not logits("eager").isfinite().all()
    assert logits(FP32_ATTENTION).isfinite().all()


def test_float32_attention_equals_plain_attention_in_float32(tiny_model):
    ids = torch.arange(12).view(2, 6)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        plain, ours = (
            load(tiny_model, attn_implementation=name).model(input_ids=ids, attention_mask=mask).logits
            for name in ("sdpa", FP32_ATTENTION)
        )
    torch.testing.assert_close(ours[:, -1], plain[:, -1])


def test_the_adapter_switches_off_to_exactly_the_base(tiny_model):
    ids = torch.arange(8)[None]
    base = load(tiny_model)
    before = base.model(input_ids=ids).logits
    model = add_adapter(base.model, SMALL_ADAPTER, 0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    assert not torch.allclose(model(input_ids=ids).logits, before)
    with adapter_off(model):
        assert torch.equal(model(input_ids=ids).logits, before)


def test_a_saved_adapter_loads_and_a_wrong_one_is_refused(tiny_model, tmp_path):
    save_adapter(tmp_path / "adapter", tiny_model)
    load_adapter(load(tiny_model).model, tmp_path / "adapter")
    with pytest.raises(ValueError, match="holds no adapter"):
        load_adapter(load(tiny_model).model, tmp_path)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    with pytest.raises(ValueError, match="does not fit this base"):
        load_adapter(LlamaForCausalLM(config), tmp_path / "adapter")


def test_a_base_that_is_not_there_is_said_so_at_once(tmp_path):
    with pytest.raises(ValueError, match="neither a folder here nor to be had from the hub"):
        load("nobody/has-this-model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(tmp_path / "empty")


def test_asking_for_a_gpu_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no GPU of that kind"):
        choose_device(ModelSettings(name_or_path="x", device="cuda"))


def test_fingerprints_tell_weights_and_tokenizers_apart(tiny_model, tmp_path):
    settings = ModelSettings(name_or_path=str(tiny_model))
    base = load(tiny_model)
    other = tmp_path / "other"
    base.model.model.layers[0].mlp.fc1.weight.data[0, 0] += 1
    base.model.save_pretrained(other)
    assert begin_fingerprint(settings)() == begin_fingerprint(settings)()
    assert begin_fingerprint(settings)() != begin_fingerprint(ModelSettings(name_or_path=str(other)))()
    before = tokenizer_fingerprint(base.tokenizer)
    base.tokenizer.add_tokens(["brandnew"])
    assert tokenizer_fingerprint(base.tokenizer) != before


@pytest.mark.parametrize(("bf16", "expected"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_takes_bfloat16_where_the_gpu_has_it(monkeypatch, bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    settings = ModelSettings(name_or_path="x")
    assert choose_dtype(settings, torch.device("cuda")) == expected
    asked = ModelSettings(name_or_path="x", dtype="float16")
    assert choose_dtype(asked, torch.device("cpu")) == torch.float16


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"avx512_f": True, "avx512_bf16": False}, torch.float32)],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_dtype(ModelSettings(name_or_path="x"), torch.device("cpu")) == expected


def test_a_torch_that_cannot_tell_what_the_processor_has_gets_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_dtype(ModelSettings(name_or_path="x"), torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "XLORA"}, r"not of a plain LoRA adapter \(XLORA\)"),
        ({"auto_mapping": {"parent_library": "os", "base_model_class": "system"}}, r"\(auto_mapping\)"),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, r"\(megatron_config\)"),
        (None, "is no adapter's configuration"),
    ],
)
def test_an_adapter_that_names_code_is_refused(tiny_model, tmp_path, change, message):
    save_adapter(tmp_path / "adapter", tiny_model)
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text("[]" if change is None else json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        load_adapter(load(tiny_model).model, tmp_path / "adapter")
