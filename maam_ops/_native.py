"""The compiled part: where it is, why it is missing, and how its entry points become MindSpore operators."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import linecache
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops import CustomRegOp, DataType

from maam_ops import _cuda
from maam_ops._library import Library, check_not_open

_PATH = Path(__file__).with_name("libmaam_ops.so")
_GENERATED = str(Path(__file__).with_name("_generated.py"))
_NUMBERS = itertools.count()
_IDENTITY = re.compile(rb"maam_ops build ([0-9a-f]{64})")
HOW_TO_BUILD = "install a C++20 compiler (g++ 10 or newer) and reinstall: pip install --force-reinstall --no-deps ."


@functools.cache
def core() -> ModuleType:
    """The extension module ``maam_ops._core``; raises ImportError with the reason where it is missing."""
    if not _PATH.exists():
        raise ImportError(
            f"maam_ops was installed without its native kernels ({_PATH.name} is missing): {HOW_TO_BUILD}"
        )
    module = importlib.util.find_spec("maam_ops._core")
    if module is None or module.origin is None:
        raise ImportError(f"{_PATH.parent} lacks _core for this Python: {HOW_TO_BUILD}")
    check_libraries(_PATH, Path(module.origin))
    return importlib.import_module("maam_ops._core")


def check_libraries(kernels: Path, module: Path) -> None:
    """Raise ImportError unless both files lie in one folder, belong together, and are not open to everybody's writes.

    Nothing is loaded for it: a library runs code as soon as it is.
    """
    if module.resolve().parent != kernels.resolve().parent:
        raise ImportError(f"{module} is not in the folder of {kernels}, where alone kernels are loaded from")
    for path in (kernels, module):
        check_not_open(path)
    builds = [_IDENTITY.search(path.read_bytes()) for path in (kernels, module)]
    if None in builds or builds[0][1] != builds[1][1]:
        raise ImportError(f"{kernels.name} and {module.name} were not built together: {HOW_TO_BUILD}")


# By device target. The operators are made on import, because the graph compiler cannot call a cache, and for the
# target of that moment.
_LIBRARIES = {
    library.target: library
    for library in (
        Library(
            target="CPU",
            description="C++ kernels",
            path=_PATH,
            how_to_build=HOW_TO_BUILD,
            entry_points=lambda symbols: sorted(set(symbols) - set(core().functions())),
            on_missing="it is of another version; reinstall maam_ops",
        ),
        _cuda.LIBRARY,
    )
}
_TARGET = ms.get_context("device_target")
LIBRARY = _LIBRARIES.get(_TARGET, _LIBRARIES["CPU"])


def _forbidden() -> str | None:
    """Why MindSpore may not open the library: MS_CUSTOM_AOT_WHITE_LIST names the only folder it may open any from."""
    allowed = os.environ.get("MS_CUSTOM_AOT_WHITE_LIST")
    if allowed is None:
        return None
    folder = os.path.realpath(allowed)
    if os.path.commonpath([os.path.realpath(LIBRARY.path), folder]) == folder:
        return None
    return (
        f"MS_CUSTOM_AOT_WHITE_LIST allows libraries in {folder} alone; set it to {LIBRARY.path.parent}, or to a parent"
    )


@functools.cache
def missing_reason(symbols: tuple[str, ...]) -> str | None:
    """Why these entry points of the library cannot be used, or None where they can."""
    return _forbidden() or LIBRARY.missing_reason(symbols)


def target_reason(target: str) -> str | None:
    """Why no operator can run on this device target, or None where those of the library can."""
    if target == LIBRARY.target:
        return None
    if target in _LIBRARIES:
        return (
            f"made for {LIBRARY.target} when maam_ops was imported, the device target is now {target}: set it before "
            "the import"
        )
    return f"built for {' and '.join(_LIBRARIES)}, the device target is {target}"


def _registration(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
    info = CustomRegOp(name)
    for position, argument in enumerate(inputs):
        info = info.input(position, argument)
    for position, result in enumerate(outputs):
        info = info.output(position, result)
    # The kernels check the types themselves, with a readable error.
    info = info.dtype_format(*[DataType.None_Default] * (len(inputs) + len(outputs)))
    return info.target(LIBRARY.target).get_op_info()


class Call(NamedTuple):
    """One call of an operator in PYNATIVE mode."""

    symbol: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


# A context variable: what other threads run meanwhile is not recorded.
_RECORDING: ContextVar[list[Call] | None] = ContextVar("maam_ops_recording", default=None)


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """The calls of this package's operators by this thread in PYNATIVE mode, appended as they are made."""
    calls: list[Call] = []
    token = _RECORDING.set(calls)
    try:
        yield calls
    finally:
        _RECORDING.reset(token)


class _Operator(ops.Custom):
    """``ops.Custom``, whose calls :func:`recorded` sees. The graph compiler calls no Python: it records nothing."""

    def __call__(self, *inputs: Any) -> Any:
        outputs = super().__call__(*inputs)
        calls = _RECORDING.get()
        if calls is not None:
            symbol = self.func.rpartition(":")[2]
            calls.append(Call(symbol, inputs, outputs if isinstance(outputs, tuple) else (outputs,)))
        return outputs


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
    return _Operator(f"{LIBRARY.path}:{symbol}", None, None, "aot", bprop=bprop, reg_info=info)


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
