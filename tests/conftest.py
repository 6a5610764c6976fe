"""A random Phi of some 30,000 parameters, its tokenizer, and a recipe for it: enough for the whole pipeline.

Beside it two real pretrained models, for what random weights cannot show.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models spend a second thread's time on waiting; before torch

from pathlib import Path

import pytest

from labeltune.model.classifier import Classifier
from labeltune.rows import Example
from real import minilm_folder, smollm2_folder
from tiny import ANSWERS, make_classifier, make_model, make_recipe, make_rows


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `from_pretrained` reads."""
    return make_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def smollm2(pytestconfig: pytest.Config) -> Path:
    """SmolLM2-135M-Instruct; made in some 25 s, once for all runs of pytest in this checkout."""
    assert pytestconfig.cache is not None
    return smollm2_folder(pytestconfig.cache.mkdir("real-models"))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2."""
    return minilm_folder()


@pytest.fixture
def classifier(tiny_model: Path) -> Classifier:
    """The tiny base with single-token label words, without an adapter."""
    return make_classifier(tiny_model, ANSWERS)


@pytest.fixture
def examples() -> list[Example]:
    return [
        Example(str(i), {"first": row["first"], "second": row["second"]}, row["label"])
        for i, row in enumerate(make_rows(40, 1))
    ]


@pytest.fixture
def recipe_file(tmp_path: Path, tiny_model: Path) -> Path:
    """A recipe over small files, ready for `labeltune run`."""
    return make_recipe(tmp_path, tiny_model)
