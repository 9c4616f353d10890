"""``shape_util.variable_shape``: symbolic extents where a shape holds -1."""

from __future__ import annotations

from tbe.graph import Var


def variable_shape(inputs):
    """The shape of each input; unknown extents of one axis are one variable, as operators here need them equal."""
    shapes = []
    for operand in inputs:
        shape = operand["shape"]
        if -1 in shape and len(operand.get("range", ())) != len(shape):
            raise RuntimeError(f"shape {shape} has unknown extents but no range for each")
        shapes.append(tuple(Var(f"axis_{axis}") if extent == -1 else extent for axis, extent in enumerate(shape)))
    return shapes
