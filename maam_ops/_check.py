"""Argument checks shared by the operators: each error names the operator, the argument, what was got and expected.

They run at compile time in GRAPH mode (MindSpore's ``constexpr``), so they cost nothing in a compiled net.
"""

from __future__ import annotations

import mindspore as ms
from mindspore.ops.primitive import constexpr

MIN_BRANCHES = 2
MAX_BRANCHES = 8
FLOAT_TYPES = (ms.float32, ms.float16, ms.bfloat16, ms.float64)


def _same_shape(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Equality where -1 stands for an extent that is only known at run time (the kernel checks it then)."""
    if -2 in left or -2 in right:
        return True
    return len(left) == len(right) and all(a == b or -1 in (a, b) for a, b in zip(left, right, strict=True))


@constexpr
def check_branch_count(op: str, count: int, expected: int = 0) -> bool:
    """Raise ValueError unless ``count`` is ``expected`` (or 2 to 8 where that is 0)."""
    if expected and count != expected:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {expected} (one for each element of alpha)")
    if not MIN_BRANCHES <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {MIN_BRANCHES} to {MAX_BRANCHES}")
    return True


@constexpr
def check_branches(op: str, alpha_shape, shapes, dtypes) -> bool:
    """Raise unless alpha has one element a branch and all branches share a shape and a float dtype."""
    count = len(shapes)
    if not MIN_BRANCHES <= count <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.{op}: branches: got {count}, expected {MIN_BRANCHES} to {MAX_BRANCHES}")
    elements = 1
    for extent in alpha_shape:
        elements *= extent
    if min(alpha_shape, default=1) >= 0 and elements != count:
        raise ValueError(
            f"maam_ops.{op}: alpha: got shape {tuple(alpha_shape)}, expected {count} elements, one a branch"
        )
    if dtypes[0] not in FLOAT_TYPES:
        names = ", ".join(str(dtype) for dtype in FLOAT_TYPES)
        raise TypeError(f"maam_ops.{op}: branch 0: got dtype {dtypes[0]}, expected one of {names}")
    for i in range(1, count):
        if not _same_shape(tuple(shapes[i]), tuple(shapes[0])):
            raise ValueError(
                f"maam_ops.{op}: branch {i}: got shape {tuple(shapes[i])}, expected that of branch 0, {tuple(shapes[0])}"
            )
        if dtypes[i] != dtypes[0]:
            raise TypeError(f"maam_ops.{op}: branch {i}: got dtype {dtypes[i]}, expected that of branch 0, {dtypes[0]}")
    return True
