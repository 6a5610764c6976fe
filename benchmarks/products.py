"""Frozen linear layers on this processor: the kernels in C beside torch's own products, in turns.

    python benchmarks/products.py [--threads 2] [--rows 457]

Each shape is a ring of layers and inputs larger than the caches, as they are met in training. The table has medians.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator

import torch
from rich.console import Console
from rich.table import Table

from labeltune.model import native
from labeltune.model.linear import LinearGroup, Workspace

SHAPES = ((256, 1024), (1024, 256), (256, 768), (2048, 2048))
"""Inputs and outputs of a layer."""
RING_BYTES = 64 * 2**20
TIMES = 100
KERNELS, TORCH = "kernels", "torch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=457, help="tokens of a pass; 457 are a step of the quickstart's")
    given = parser.parse_args()
    if native.library() is None:
        parser.exit(1, f"{native.MISSING}\n")
    torch.set_num_threads(given.threads)
    chosen = KERNELS if native.multiplies(torch.empty(1)) else TORCH
    registers = torch.backends.cpu.get_cpu_capability()
    table = Table(title=f"{registers}, {given.threads} threads, {given.rows} rows; labeltune takes {chosen}")
    for name in ("inputs", "outputs", "gradient", "kernels, GFLOP/s", "torch, GFLOP/s"):
        table.add_column(name, justify="right")
    for (inputs, outputs), gradient in itertools.product(SHAPES, (False, True)):
        seconds = measure(given.rows, inputs, outputs, gradient)
        speeds = (f"{2e-9 * given.rows * inputs * outputs / seconds[kind]:.0f}" for kind in (KERNELS, TORCH))
        table.add_row(str(inputs), str(outputs), "yes" if gradient else "no", *speeds)
    Console().print(table)


def measure(rows: int, inputs: int, outputs: int, gradient: bool) -> dict[str, float]:
    """Seconds of one layer's pass, or of its gradient's, each way."""
    ring = itertools.cycle(list(layers(rows, inputs, outputs)))
    taken: dict[str, list[float]] = {KERNELS: [], TORCH: []}
    for turn in range(2 * TIMES):
        kind = (KERNELS, TORCH)[turn % 2]
        native.multiplies = lambda _, by_kernels=kind == KERNELS: by_kernels  # type: ignore[assignment, misc]
        group, x = next(ring)
        begun = time.perf_counter()
        y = group(x)
        if gradient:
            d_y = torch.ones_like(y)
            begun = time.perf_counter()
            torch.autograd.grad(y, x, d_y)
        taken[kind].append(time.perf_counter() - begun)
    return {kind: statistics.median(times) for kind, times in taken.items()}


def layers(rows: int, inputs: int, outputs: int) -> Iterator[tuple[LinearGroup, torch.Tensor]]:
    """An odd number of layers, each with an input of its own, so that both ways meet all of them."""
    numbers = inputs * outputs + rows * (inputs + outputs)
    for _ in range(RING_BYTES // (4 * numbers) // 2 * 2 + 3):
        layer = torch.nn.Linear(inputs, outputs).requires_grad_(False)
        yield LinearGroup([layer], Workspace()), torch.randn(rows, inputs, requires_grad=True)


if __name__ == "__main__":
    main()
