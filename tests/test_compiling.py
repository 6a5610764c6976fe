"""Kernels compiled ahead are those that training then uses, and all of its attention's and dropout's."""

import threading
from functools import partial

import pytest
import torch
from transformers import AutoConfig

from labeltune.model import compiling
from test_dropout import make_steps


@pytest.fixture
def nothing_under_way(monkeypatch):
    monkeypatch.setattr(compiling, "_compiling", {kind: [] for kind in compiling._compiling})


@pytest.mark.parametrize(("training", "used"), [(False, {"scoring"}), (True, {"scoring", "training"})])
def test_a_pass_waits_for_what_it_uses_and_for_nothing_else(nothing_under_way, training, used):
    done, go_on = [], threading.Event()
    for kind in compiling._compiling:
        if kind in used:
            compiling._begin(kind, partial(done.append, kind))
    for kind in compiling._compiling.keys() - used:
        compiling._begin(kind, lambda: go_on.wait(10))
    compiling.wait(training)
    assert set(done) == used
    waiting = [future for futures in compiling._compiling.values() for future in futures]
    assert len(waiting) == len(compiling._compiling) - len(used)
    go_on.set()
    assert all(future.result() for future in waiting)


def test_what_cannot_be_compiled_is_told_where_it_is_used(nothing_under_way):
    compiling._begin("scoring", lambda: 1 / 0)
    compiling.wait(training=True)
    assert not compiling._compiling["scoring"]


def test_nothing_begins_without_a_gpu(nothing_under_way):
    compiling.begin(AutoConfig.for_model("phi"), torch.float32, torch.device("cpu"))
    assert not any(compiling._compiling.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="kernels are for GPUs")
def test_nothing_is_compiled_in_training_that_was_begun_before(tiny_model, examples, monkeypatch, tmp_path):
    """In a cache of its own, so that nothing is there; by the threads that compile, and by all others."""
    from triton import JITFunction, knobs

    from labeltune.model.kernels import attention, elementwise

    functions = [*vars(attention).values(), *vars(elementwise).values()]
    for kernel in (value for value in functions if isinstance(value, JITFunction)):
        kernel.device_caches.clear()  # what the tests before have compiled
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    begun, compiled = [], {True: set(), False: set()}

    def note(**about):
        here = threading.current_thread().name
        compiled[here.startswith("compile")].add(str(about["repr"]).partition("[")[0])

    def begin(kind, *launches, real=compiling._begin):
        real(kind, *launches)
        begun.extend(compiling._compiling[kind])

    monkeypatch.setattr(knobs.runtime, "jit_cache_hook", note)
    monkeypatch.setattr(compiling, "_begin", begin)
    make_steps(tiny_model, examples)
    assert [future.exception() for future in begun] == [None] * len(begun)
    assert {"attention_forward", "attention_backward_keys", "rotate_heads", "drop_kernel"} <= compiled[True]
    # the trial of packing, when nothing is fused yet, has queries that lie elsewhere, and small heads' places tell; so
    # do those of few ranks
    assert compiled[False] <= {"attention_forward", "dropped_product_kernel"}
