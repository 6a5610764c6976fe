"""Triton kernels and the functions that launch them. The modules here are imported on GPUs alone.

`attention` is attention over packed rows; `elementwise` is rotary embedding, gated SiLU and dropout.
"""


def power_of_two(number: int) -> int:
    """The next power of two, as tiles want it; at least 16.

    >>> power_of_two(80), power_of_two(3)
    (128, 16)
    """
    return max(16, 1 << (number - 1).bit_length())
