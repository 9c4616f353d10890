"""agent_aggregate as Triton kernels, for triton-ascend. Importable only where ``triton`` is.

The same structure as the Ascend C kernels: one sweep forward; one sweep backward that leaves a row of dot products for
each program; and a kernel that adds the rows in order. ``size`` is the number of elements of a branch, ``count`` the
number of branches (2 to 8), ``block`` the elements of a program: launch cdiv(size, block) programs. Kernels take eight
branches, of which those from ``count`` on are never touched.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def softmax_weights(alpha, count: tl.constexpr):
    """The weights, in a vector of 8 of which the first ``count`` are not zero."""
    k = tl.arange(0, 8)
    value = tl.load(alpha + k, mask=k < count, other=-float("inf"))
    e = tl.exp(value - tl.max(value, 0))
    return e / tl.sum(e, 0)


@triton.jit
def pick(vector, k: tl.constexpr):
    """Element k of a vector of 8: Triton cannot index one."""
    return tl.sum(tl.where(tl.arange(0, 8) == k, vector, 0.0), 0)


@triton.jit
def branch(k: tl.constexpr, a0, a1, a2, a3, a4, a5, a6, a7):
    """Argument k of eight: Triton has no lists of pointers."""
    return (
        a0
        if k == 0
        else a1
        if k == 1
        else a2
        if k == 2
        else a3
        if k == 3
        else a4
        if k == 4
        else a5
        if k == 5
        else a6
        if k == 6
        else a7
    )


@triton.jit
def aggregate_forward(alpha, a0, a1, a2, a3, a4, a5, a6, a7, g, size, count: tl.constexpr, block: tl.constexpr):
    """G = sum_k w_k A_k."""
    weights = softmax_weights(alpha, count)
    i = tl.program_id(0) * block + tl.arange(0, block)
    inside = i < size
    total = tl.zeros((block,), tl.float32)
    for k in tl.static_range(count):
        a = branch(k, a0, a1, a2, a3, a4, a5, a6, a7)
        total += pick(weights, k) * tl.load(a + i, mask=inside, other=0.0).to(tl.float32)
    tl.store(g + i, total.to(g.dtype.element_ty), mask=inside)


@triton.jit
def aggregate_backward(
    alpha, dg, a0, a1, a2, a3, a4, a5, a6, a7, d0, d1, d2, d3, d4, d5, d6, d7, rows, size,
    count: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """dA_k = w_k dG, and rows[program, k] = <dG, A_k> over the program's elements; rows is float32, (programs, 8)."""
    weights = softmax_weights(alpha, count)
    i = tl.program_id(0) * block + tl.arange(0, block)
    inside = i < size
    upstream = tl.load(dg + i, mask=inside, other=0.0).to(tl.float32)
    for k in tl.static_range(count):
        a = branch(k, a0, a1, a2, a3, a4, a5, a6, a7)
        d = branch(k, d0, d1, d2, d3, d4, d5, d6, d7)
        dot = tl.sum(upstream * tl.load(a + i, mask=inside, other=0.0).to(tl.float32), 0)
        tl.store(rows + tl.program_id(0) * 8 + k, dot)
        tl.store(d + i, (pick(weights, k) * upstream).to(d.dtype.element_ty), mask=inside)


@triton.jit
def aggregate_alpha_gradient(alpha, rows, dalpha, programs, count: tl.constexpr):
    """d alpha_k = w_k (dots_k - sum_j w_j dots_j), where dots are the sums of rows; one program."""
    weights = softmax_weights(alpha, count)
    k = tl.arange(0, 8)
    dots = tl.zeros((8,), tl.float32)
    for program in range(programs):
        dots += tl.load(rows + program * 8 + k, mask=k < count, other=0.0)
    mean = tl.sum(weights * dots, 0)
    tl.store(dalpha + k, weights * (dots - mean), mask=k < count)
