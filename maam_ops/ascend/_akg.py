"""Kernels in AKG's hybrid DSL, made from source text and run by the AKG inside the mindspore package.

The operators have a variable number of inputs and the DSL has none, so sources are generated. Each lives in a namespace
of its own: a kernel that is called as plain Python gets `range`, `max` and others of the DSL written into its globals.

What MindSpore 2.10's AKG compiles wrongly on CPU, without an error, and what is done instead:

- A kernel with several outputs comes out empty. Every kernel here has one.
- ``s = s + x`` in a loop keeps only the last lane of each vector. Sums are written out as one expression.
- Automatic differentiation hangs for ever. Every operator has its own ``bprop``.

MindSpore keeps compiled kernels in ``./akg_kernel_meta`` of the directory that was current when the first one was
compiled. A process that changes its working directory after that cannot compile another.
"""

from __future__ import annotations

import functools
import importlib.util
import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import ops

_PYTHON_NEEDS = ("decorator", "sympy")


@functools.cache
def missing() -> str | None:
    """What this installation lacks for AKG, whatever the device target, or None."""
    lacking = [name for name in _PYTHON_NEEDS if importlib.util.find_spec(name) is None]
    if lacking:
        return f"AKG needs {' and '.join(lacking)}: pip install 'maam-ops[akg]'"
    library = Path(ms.__file__).parent / "lib" / "plugin" / "cpu" / "libakg.so"
    if not library.exists():
        return f"this mindspore has no AKG ({library.name} is missing)"
    return None


def available() -> str | None:
    """Why AKG kernels cannot run here, or None where they can."""
    target = ms.get_context("device_target")
    if target != "CPU":
        return f"mindspore's package has AKG code generation for CPU, the device target is {target}"
    return missing()


def kernel_from_source(name: str, source: str) -> Callable[..., Any]:
    """The function ``name`` of a source text as a kernel: for ``ops.Custom``, or to be called on NumPy arrays."""
    file = f"<maam_ops AKG kernel {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": f"{__name__}.{name}"}
    exec(compile(source, file, "exec"), namespace)
    return ops.kernel(namespace[name])


def custom_op(
    kernel: Callable[..., Any], out_shape: Callable[..., Any], bprop: Callable[..., Any] | None = None
) -> ops.Custom:
    """A kernel with one float32 output of the shape ``out_shape(*input_shapes)`` as a MindSpore operator."""

    def out_dtype(*dtypes):
        return dtypes[0]

    return ops.Custom(kernel, out_shape, out_dtype, "hybrid", bprop=bprop or _no_second_derivative)


def _no_second_derivative(*_):
    """Stands where AKG would derive a gradient of its own accord, and never return."""
    raise NotImplementedError("maam_ops: AKG kernels have no second derivative; use impl='reference'")
