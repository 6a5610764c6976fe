"""Kernels compiled ahead are those that training then uses, and all of its attention's and dropout's."""

import threading

import pytest
import torch
from transformers import AutoConfig

from labeltune.model import compiling
from test_dropout import make_steps


@pytest.fixture
def nothing_under_way(monkeypatch):
    monkeypatch.setattr(compiling, "_under_way", {"forward": [], "backward": []})


def test_a_pass_waits_for_what_it_uses(nothing_under_way):
    done, go_on = [], threading.Event()
    compiling._begin("backward", [lambda: go_on.wait(10) and done.append("backward")])
    compiling._begin("forward", [lambda: done.append("forward")])
    compiling.wait(training=False)
    assert done == ["forward"]
    go_on.set()
    compiling.wait(training=True)
    assert done == ["forward", "backward"]


def test_what_cannot_be_compiled_is_told_where_it_is_used(nothing_under_way):
    compiling._begin("forward", [lambda: 1 / 0])
    compiling.wait(training=True)
    assert not compiling._under_way["forward"]


def test_nothing_begins_without_a_gpu(nothing_under_way):
    compiling.begin_attention(AutoConfig.for_model("phi"), torch.float32, torch.device("cpu"))
    assert compiling._under_way == {"forward": [], "backward": []}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="kernels are for GPUs")
def test_nothing_is_compiled_in_training_that_was_begun_before(tiny_model, examples, monkeypatch, tmp_path):
    """In a cache of its own, so that nothing is there; by the threads that compile, and by all others."""
    from triton import JITFunction, knobs

    from labeltune.model import kernels

    for kernel in (value for value in vars(kernels).values() if isinstance(value, JITFunction)):
        kernel.device_caches.clear()  # what the tests before have compiled
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    begun, compiled = [], {True: set(), False: set()}

    def note(**about):
        here = threading.current_thread().name
        compiled[here.startswith("compile")].add(str(about["repr"]).partition("[")[0])

    def begin(kind, launches, real=compiling._begin):
        real(kind, launches)
        begun.extend(compiling._under_way[kind])

    monkeypatch.setattr(knobs.runtime, "jit_cache_hook", note)
    monkeypatch.setattr(compiling, "_begin", begin)
    make_steps(tiny_model, examples)
    assert [future.exception() for future in begun] == [None] * len(begun)
    assert {"attention_forward", "attention_backward_keys", "rotate_heads", "drop_kernel"} <= compiled[True]
    # the trial of packing, when nothing is fused yet, has queries that lie elsewhere, and small heads' places tell
    assert compiled[False] <= {"attention_forward"}
