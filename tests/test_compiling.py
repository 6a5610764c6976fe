"""Kernels compiled ahead are those that training then uses, and all of its attention's and dropout's."""

import threading

import pytest
import torch

from labeltune.model import compiling
from test_dropout import make_steps

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="kernels are for GPUs")


def test_nothing_is_compiled_in_training_that_was_begun_before(tiny_model, examples, monkeypatch, tmp_path):
    """In a cache of its own, so that nothing is there; by the threads that compile, and by all others."""
    from triton import knobs

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    begun, compiled = [], {True: set(), False: set()}

    def note(**about):
        here = threading.current_thread().name
        compiled[here.startswith("compile")].add(str(about["repr"]).partition("[")[0])

    def begin(launches, real=compiling._begin):
        real(launches)
        begun.extend(compiling._under_way)

    monkeypatch.setattr(knobs.runtime, "jit_cache_hook", note)
    monkeypatch.setattr(compiling, "_begin", begin)
    make_steps(tiny_model, examples)
    assert [future.exception() for future in begun] == [None] * len(begun)
    assert {"attention_forward", "attention_backward_keys", "rotate_heads", "drop_kernel"} <= compiled[True]
    assert not compiled[False]
