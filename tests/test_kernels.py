"""The Triton kernels beside the same computed by torch in float64."""

import numpy as np
import pytest
import torch

from labeltune.model.attention import attend, rotate_and_attend
from labeltune.model.dropout import Dropping
from labeltune.model.fuse import gated_silu
from labeltune.model.packing import Packing, Rule, pack
from tiny import attend_in_grid

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernels run on a GPU alone")

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
HEADS = pytest.mark.parametrize(("heads", "size"), [((32, 32), 80), ((24, 8), 128), ((4, 2), 20)])


def packings():
    random = np.random.default_rng(0)
    beginning = random.integers(0, 9, 37)
    plain = [random.integers(0, 9, size).astype(np.int32) for size in (5, 170, 83, 1, 90, 84, 77, 300)]
    alike = [np.append(beginning, random.integers(0, 3, size)).astype(np.int32) for size in (30, 90, 140, 9, 2, 0)]
    for rows, share, size in ((plain, False, None), (alike, True, None), (alike, True, 512)):
        yield Packing(pack(rows, share), torch.device("cuda"), size, windows=[1, 40])


def gradients(function, inputs):
    """Output and gradients of a weighted sum of it, in float64 on the CPU."""
    output = function(*inputs)
    weights = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((output * weights.to(output)).sum(), inputs)
    return [tensor.detach().cpu().double() for tensor in (output, *found)]


def assert_close(answers, expected, dtype):
    for one, other in zip(answers, expected, strict=True):
        assert float((one - other).norm() / other.norm()) < TOLERANCE[dtype]


def randn(*shape, dtype):
    return torch.randn(*shape, device="cuda").to(dtype).requires_grad_()


def wide(*tensors):
    return tuple(tensor.detach().double().requires_grad_() for tensor in tensors)


@DTYPES
@HEADS
@pytest.mark.parametrize(
    ("window", "softcap", "sinks"),
    [(None, None, False), (40, None, False), (1, None, True), (None, 2.0, False), (40, 2.0, True)],
)
def test_attention(dtype, heads, size, window, softcap, sinks):
    torch.manual_seed(0)
    sinks_H = torch.randn(heads[0], device="cuda").to(dtype) if sinks else None
    rule, wide_sinks = Rule(0.1, window, softcap, sinks_H), None if sinks_H is None else sinks_H.double()
    wide_rule = Rule(0.1, window, softcap, wide_sinks)
    for packing in packings():
        inputs = [randn(len(packing.layout), h, size, dtype=dtype) for h in (heads[0], heads[1], heads[1])]
        answers = gradients(lambda *qkv, p=packing: attend(*qkv, p, rule), inputs)
        expected = gradients(lambda *qkv, p=packing: attend_in_grid(*qkv, p, wide_rule), wide(*inputs))
        assert_close(answers, expected, dtype)


@DTYPES
@HEADS
def test_rotary_embedding_before_attention(dtype, heads, size):
    torch.manual_seed(0)
    rotary = size // 4 * 2
    for packing in packings():
        tokens = len(packing.layout)
        angles = torch.rand(1, tokens, rotary // 2, device="cuda").repeat(1, 1, 2) * 6
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        qkv = randn(tokens, heads[0] + 2 * heads[1], size, dtype=dtype)
        answers = gradients(
            lambda x, w=(cos, sin), p=packing: rotate_and_attend(x.clone(), w, heads, p, Rule(0.1)), [qkv]
        )
        at_home = Packing(packing.layout, torch.device("cpu"))
        alone = [tensor.detach().cpu().double() for tensor in (qkv, cos, sin)]
        expected = gradients(
            lambda x, w=(alone[1], alone[2]), p=at_home: rotate_and_attend(x, w, heads, p, Rule(0.1)),
            [alone[0].requires_grad_()],
        )
        assert_close(answers, expected, dtype)


@DTYPES
def test_gated_silu(dtype):
    torch.manual_seed(0)
    both = randn(300, 2 * 3000, dtype=dtype)
    expected = gradients(gated_silu, [both.detach().cpu().double().requires_grad_()])
    assert_close(gradients(gated_silu, [both]), expected, dtype)


@DTYPES
@pytest.mark.parametrize("rank", [4, 32, 96])
def test_dropped_product(dtype, rank):
    from labeltune.model.kernels import elementwise

    torch.manual_seed(0)
    u, a = randn(300, rank, dtype=dtype), randn(rank, 501, dtype=dtype)
    dropping = Dropping(0.3, torch.tensor(7 << 32, device="cuda"), 5)
    with torch.no_grad():
        answer = elementwise.dropped_product(u, a, dropping)
        kept = elementwise.drop(torch.ones(300, 501, device="cuda"), dropping).double()
        assert_close([answer.double()], [(u.double() @ a.double()) * kept], dtype)


@DTYPES
def test_drop(dtype):
    from labeltune.model.kernels import elementwise

    x = randn(700, 501, dtype=dtype).detach().abs() + 1
    state = torch.tensor((7 << 32) + 2, device="cuda")

    def kept(rate, key, state=state):
        dropped = elementwise.drop(x, Dropping(rate, state, key))
        assert_close([dropped[dropped != 0].double()], [x[dropped != 0].double() / (1 - rate)], dtype)
        return dropped != 0

    for rate in (0.05, 0.5):
        first = kept(rate, 1)
        assert torch.equal(first, kept(rate, 1))
        together = (1 - rate) ** 2 + rate**2
        for other in (kept(rate, 2), kept(rate, 1, state + 1), first.roll(1, 0), first.roll(1, 1), first.roll(4, 1)):
            assert float((first == other).double().mean()) == pytest.approx(together, abs=0.005)
        assert float(first.double().mean()) == pytest.approx(1 - rate, abs=0.005)
