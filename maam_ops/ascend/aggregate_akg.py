"""agent_aggregate in AKG's hybrid DSL, ``impl="akg"``: one kernel forward, and backward one for all dot products and
one for each branch's gradient.

The softmax of alpha stays a MindSpore op: its three scalars arrive as a tensor. Data is seen as (rows, columns) with
few rows, and the dot products are summed over the rows by the kernel, over the columns by MindSpore.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops.primitive import constexpr

from maam_ops import _native
from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES
from maam_ops.ascend import _akg

OP = "agent_aggregate"
# Products added in one expression, where the number of elements divides: what MindSpore sums afterwards is small beside
# the operands, and MindSpore's analysis of the source still short (more rows double the time of the import).
ROWS = 8

available = _akg.available


def forward_source(count: int) -> str:
    """g = sum_k weights[k] * a_k, of ``count`` branches."""
    names = [f"a{k}" for k in range(count)]
    total = " + ".join(f"weights[{k}] * {name}[r, c]" for k, name in enumerate(names))
    return (
        f"def aggregate_{count}({', '.join(names)}, weights):\n"
        "    g = output_tensor(a0.shape, a0.dtype)\n"
        "    for r in range(a0.shape[0]):\n"
        "        for c in range(a0.shape[1]):\n"
        f"            g[r, c] = {total}\n"
        "    return g\n"
    )


def dots_source(count: int, rows: int) -> str:
    """out[k, c] = sum_r dg[r, c] * a_k[r, c], of ``count`` branches and ``rows`` rows."""
    names = [f"a{k}" for k in range(count)]
    sums = "".join(
        f"        out[{k}, c] = {' + '.join(f'dg[{r}, c] * {name}[{r}, c]' for r in range(rows))}\n"
        for k, name in enumerate(names)
    )
    return (
        f"def aggregate_dots_{count}_{rows}(dg, {', '.join(names)}):\n"
        f"    out = output_tensor(({count}, dg.shape[1]), dg.dtype)\n"
        "    for c in range(dg.shape[1]):\n"
        f"{sums}"
        "    return out\n"
    )


SCALE_SOURCE = (
    "def aggregate_scale(dg, weight):\n"
    "    da = output_tensor(dg.shape, dg.dtype)\n"
    "    for r in range(dg.shape[0]):\n"
    "        for c in range(dg.shape[1]):\n"
    "            da[r, c] = weight[0] * dg[r, c]\n"
    "    return da\n"
)


def agent_aggregate(alpha: Tensor, *branches: Tensor) -> Tensor:
    """As ``maam_ops.functional.agent_aggregate``, for float32 branches of static shape.

    Raises:
        TypeError: branches of another dtype: AKG has no float16 on CPU.
        ValueError: a shape that is only known at run time: AKG compiles for fixed shapes.
    """
    shape = branches[0].shape
    view = _view(shape, branches[0].dtype)
    weights = ops.softmax(alpha.reshape((-1,)).astype(ms.float32), 0)
    views = [branch.reshape(view) for branch in branches]
    forward = _MANY_ROWS if view[0] == ROWS else _ONE_ROW
    return forward[len(branches)](*views, weights).reshape(shape)


@constexpr
def _view(shape, dtype):
    """The shape (rows, columns) in which kernels see the data."""
    if dtype != ms.float32:
        raise TypeError(f"maam_ops.{OP}: impl='akg': got dtype {dtype}, expected Float32; use impl='auto' for others")
    size = 1
    for extent in shape:
        size *= extent
    if min(shape, default=1) < 1:
        raise ValueError(
            f"maam_ops.{OP}: impl='akg': got shape {tuple(shape)}, expected at least one element and extents that are "
            "known when the graph is compiled; use impl='auto' for others"
        )
    rows = ROWS if size % ROWS == 0 else 1
    return rows, size // rows


def _same_as_first(*shapes):
    return shapes[0]


def _backward(dots, count):
    def backward(dg, weights, *branches):
        by_weight = dots(dg, *branches).sum(1)
        by_branch = [_SCALE(dg, weight) for weight in ops.split(weights, 1)]
        return (*by_branch, by_weight)

    return backward


def _forward_op(count: int, rows: int) -> ops.Custom:
    def dots_shape(dg, *_):
        return count, dg[1]

    names = [f"a{k}" for k in range(count)]
    dots = _akg.custom_op(
        _akg.kernel_from_source(f"aggregate_dots_{count}_{rows}", dots_source(count, rows)), dots_shape
    )
    bprop = _native.bprop_of(
        [*names, "weights"], f"backward(dout, weights, {', '.join(names)})", backward=_backward(dots, count)
    )
    kernel = _akg.kernel_from_source(f"aggregate_{count}", forward_source(count))
    return _akg.custom_op(kernel, _same_as_first, bprop)


# By number of branches. Built on import, because the graph compiler cannot call a cache, and only where AKG is at hand.
_SCALE = None
_ONE_ROW = _MANY_ROWS = ()
if _akg.missing() is None:
    _SCALE = _akg.custom_op(_akg.kernel_from_source("aggregate_scale", SCALE_SOURCE), _same_as_first)
    _ONE_ROW, _MANY_ROWS = (
        tuple(_forward_op(count, rows) if count >= MIN_BRANCHES else None for count in range(MAX_BRANCHES + 1))
        for rows in (1, ROWS)
    )
