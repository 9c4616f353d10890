"""That operands are Tensors: a NumPy array has dtypes of the same names, and would be refused for them."""

from __future__ import annotations

from mindspore import Tensor
from mindspore.ops.primitive import constexpr


def require_tensor(op, argument, value):
    """Raise TypeError unless the operand is a Tensor."""
    if not isinstance(value, Tensor):
        _refuse(op, argument, value)


@constexpr
def _refuse(op, argument, value):
    kind = type(value)
    name = f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")
    raise TypeError(f"maam_ops.{op}: {argument}: got a {name}, expected a mindspore.Tensor")
