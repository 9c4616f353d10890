"""The compiled part: where it is, why it is missing, and how its entry points become MindSpore operators."""

from __future__ import annotations

import functools
import importlib
import itertools
import linecache
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mindspore import ops
from mindspore.ops import CustomRegOp, DataType

LIBRARY = Path(__file__).with_name("libmaam_ops.so")
_GENERATED = str(Path(__file__).with_name("_generated.py"))
_NUMBERS = itertools.count()
HOW_TO_BUILD = "install a C++20 compiler (g++ 10 or newer) and reinstall: pip install --force-reinstall --no-deps ."


@functools.cache
def core() -> ModuleType:
    """The extension module ``maam_ops._core``; raises ImportError with the reason where it is missing."""
    if not LIBRARY.exists():
        raise ImportError(
            f"maam_ops was installed without its native kernels ({LIBRARY.name} is missing): {HOW_TO_BUILD}"
        )
    return importlib.import_module("maam_ops._core")


@functools.cache
def missing_reason(symbols: tuple[str, ...]) -> str | None:
    """Why these entry points of the library cannot be used, or None where they can."""
    try:
        missing = sorted(set(symbols) - set(core().functions()))
    except ImportError as error:
        return str(error)
    if missing:
        return f"{LIBRARY.name} lacks {', '.join(missing)}: it is of another version; reinstall maam_ops"
    return None


def _registration(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
    info = CustomRegOp(name)
    for position, argument in enumerate(inputs):
        info = info.input(position, argument)
    for position, result in enumerate(outputs):
        info = info.output(position, result)
    # The kernels check the types themselves, with a readable error.
    info = info.dtype_format(*[DataType.None_Default] * (len(inputs) + len(outputs)))
    return info.target("CPU").get_op_info()


def custom_op(
    symbol: str, inputs: Sequence[str], outputs: Sequence[str], bprop: Callable[..., Any] | None = None
) -> ops.Custom:
    """An entry point of the library as a MindSpore operator, with its shapes and types inferred in C++.

    Args:
        symbol: exported function; ``<symbol>InferShape`` and ``<symbol>InferType`` must exist beside it.
        inputs: names of the inputs in order.
        outputs: names of the outputs in order.
        bprop: gradient function, see :func:`bprop_of`.
    """
    # The graph compiler keeps gradient functions by name and attributes: of two operators that only differ in theirs,
    # both would get that of the first.
    info = _registration(f"maam_ops_{symbol}_{next(_NUMBERS)}", inputs, outputs)
    return ops.Custom(f"{LIBRARY}:{symbol}", None, None, "aot", bprop=bprop, reg_info=info)


def bprop_of(arguments: Sequence[str], body: str, **names: Any) -> Callable[..., Any]:
    """A gradient function with exactly these positional arguments, then ``out`` and ``dout``.

    The graph compiler accepts neither ``*args`` nor a function without source, so for operators with a variable number
    of inputs the function is generated and its source made known to :mod:`inspect`.

    Args:
        arguments: names of the operator's inputs.
        body: the expression to return: one gradient for each input.
        names: what the expression refers to besides its arguments.
    """
    source = [
        f"def make({', '.join(names)}):\n",
        f"    def bprop({', '.join(arguments)}, out, dout):\n",
        f"        return {body}\n",
        "    return bprop\n",
    ]
    lines = linecache.getlines(_GENERATED)
    blank = "\n" * len(lines)
    lines = [*lines, *source]
    # No modification time: the entry stays although the file on disk is shorter.
    linecache.cache[_GENERATED] = (sum(map(len, lines)), None, lines, _GENERATED)
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(blank + "".join(source), _GENERATED, "exec"), namespace)
    return namespace["make"](**names)
