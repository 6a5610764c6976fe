"""The base that ships with the package: it loads as any other, and is what its card says."""

import hashlib
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from labeltune.model.base import load_base
from labeltune.model.files import resolve_path
from labeltune.prompt import Prompter
from labeltune.recipe import ModelSettings
from labeltune.recipes import load_recipe

FOLDER = Path(resolve_path("labeltune-small"))
WEIGHTS = FOLDER / "model.safetensors"
PAIR = {"premise": "A man is asleep.", "hypothesis": "A man is reading."}

pytestmark = pytest.mark.skipif(not WEIGHTS.exists(), reason="the small base's weights are not there; see pretraining/")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def quickstart():
    return load_recipe("quickstart")


@pytest.fixture(scope="module")
def prompter(tokenizer, quickstart):
    return Prompter(tokenizer, quickstart.prompt, quickstart.data.label_names, 512)


def test_it_has_the_parameters_that_the_card_states():
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    parameters = sum(weight.numel() for weight in model.parameters())
    assert parameters <= 10_000_000
    assert f"| parameters | {parameters:,} |" in (FOLDER / "README.md").read_text()
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_the_weights_are_those_of_the_card():
    card = (FOLDER / "README.md").read_text()
    stated = re.search(r"sha256 of `model.safetensors` \| `([0-9a-f]{64})`", card)
    assert stated
    assert stated.group(1) == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert "TO FILL IN" not in card


def test_the_card_begins_with_the_hubs_front_matter():
    front = (FOLDER / "README.md").read_text().split("---\n")[1]
    for key in ("license: apache-2.0", "language:", "library_name: transformers", "pipeline_tag:", "tags:"):
        assert key in front


def test_the_answers_of_the_quickstart_are_single_tokens(tokenizer, prompter):
    assert prompter.words.single
    assert prompter.words.words == ("0", "1", "2")
    assert [tokenizer.decode(list(ids)) for ids in prompter.words.token_ids] == [" 0", " 1", " 2"]


def test_a_pair_fits_and_survives_the_tokenizer(tokenizer, prompter):
    ids, cut = prompter.encode(PAIR)
    assert not cut
    assert tokenizer.decode(ids) == prompter.render(PAIR)


def test_it_has_learned_some_english(tokenizer):
    model = AutoModelForCausalLM.from_pretrained(FOLDER).eval()
    losses = []
    for text in ("A man is riding a bicycle in a park.", "park a in bicycle a riding is man A."):
        ids_BT = tokenizer(text, return_tensors="pt").input_ids
        losses.append(model(input_ids=ids_BT, labels=ids_BT).loss.item())
    assert losses[0] < 5
    assert losses[1] > losses[0] + 1


def test_in_nf4_on_the_cpu_its_logits_are_finite(prompter, quickstart):
    settings = ModelSettings(name_or_path="labeltune-small", quantization="nf4", device="cpu", dtype="float32")
    base = load_base(settings)
    ids, _ = prompter.encode(PAIR)
    with torch.no_grad():
        logits_V = base.model(input_ids=torch.tensor([ids])).logits[0, -1]
    assert logits_V.shape == (8192,)
    assert torch.isfinite(logits_V).all()
