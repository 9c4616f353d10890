"""The ways to do a case: name -> environment -> callable.

This file is the registry. A further framework adds a module with a `prepare` function and calls :func:`register` for
each of its sides; neither the runner nor the cases change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..cases import Arrays, Case


@dataclass(frozen=True)
class Candidate:
    """One form of a side: `run` goes from ready inputs to results in NumPy.

    Attributes:
        run: the timed call; returns the results.
        verify: results for the correctness gate where they are more than `run` returns; called once, first.
        scale: a time reported is that of `run` times this.
    """

    run: Callable[[], Arrays]
    verify: Callable[[], Arrays] | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Prepared:
    """A side ready for one case.

    Attributes:
        candidates: forms by name; the fastest of them stands for the side.
        facts: what can be asked besides time, by name: "kernels", "plan_peak_bytes" ...
    """

    candidates: Mapping[str, Candidate]
    facts: Mapping[str, Callable[[], float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """One way to do a case.

    Attributes:
        name: how benchmarks and results call it.
        description: what it is, for the report.
        prepare: "module:function", imported in the side's process only: (case, inputs, **options) -> Prepared.
        options: keyword arguments of `prepare`.
        environment: variables set for the process.
        process: sides of one name share a process and its buffers; by default a side has its own.
        requires: modules that must be installed; without them the side is left out and the report says so.
        gated: False for limits of the machine, which compute no result of the case.
        python: interpreter of another virtual environment.
    """

    name: str
    description: str
    prepare: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    process: str | None = None
    requires: tuple[str, ...] = ()
    gated: bool = True
    python: str | None = None

    def missing(self) -> list[str]:
        """Modules this side needs and this interpreter lacks."""
        return [] if self.python else [name for name in self.requires if find_spec(name) is None]

    def load(self, case: Case, inputs: Arrays) -> Prepared:
        module, _, function = self.prepare.partition(":")
        return getattr(import_module(module), function)(case, inputs, **self.options)


SIDES: dict[str, Side] = {}


def register(side: Side) -> None:
    """Makes a side known to benchmarks; a name can be taken once."""
    if side.name in SIDES:
        raise ValueError(f"maam.bench: side {side.name!r} is registered already")
    SIDES[side.name] = side


def aligned(shape: tuple[int, ...], fill: np.ndarray | None = None) -> np.ndarray:
    """A float32 array that starts at a cache line, a copy of `fill` if given."""
    count = int(np.prod(shape))
    raw = np.empty(4 * count + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + 4 * count].view(np.float32).reshape(shape)
    if fill is not None:
        array[...] = fill
    return array


_NATIVE = f"{__name__}.native"
_MINDSPORE = f"{__name__}.mindspore"
_MODEL = f"{__name__}.model"
_OPERATOR = f"{__name__}.operator"
_AKG = ("decorator", "sympy")
# One process and one set of buffers: where pages lie in memory must not decide between kernel and ceiling. NumPy would
# ask for huge pages, which MindSpore's tensors do not get.
_SHARED = {"process": "native", "environment": {"NUMPY_MADVISE_HUGEPAGE": "0"}}

for _side in (
    Side("kernel", "our kernel alone, on NumPy arrays", f"{_NATIVE}:kernel", **_SHARED),
    Side("gradient kernels", "our two kernels alone", f"{_NATIVE}:dense_gradients", **_SHARED),
    Side("two kernels", "aggregate, then reduce, on NumPy arrays", f"{_NATIVE}:two_kernels", **_SHARED),
    Side("bandwidth", "same streams, no arithmetic", f"{_NATIVE}:bandwidth", gated=False, **_SHARED),
    Side("fma", "same FLOPs in registers", f"{_NATIVE}:fma", gated=False, **_SHARED),
    Side("fused", "fused operator, GRAPH mode", f"{_MINDSPORE}:prepare", {"fused": True}),
    Side("unfused", "plain MindSpore, GRAPH mode, best form", f"{_MINDSPORE}:prepare", {"fused": False}),
    Side(
        "unfused, untuned",
        "plain MindSpore, GRAPH mode, its oneDNN as it comes",
        f"{_MINDSPORE}:prepare",
        {"fused": False},
        environment={"MAAM_OPS_TUNE": "0"},
    ),
    Side(
        "graph kernel",
        "plain MindSpore with graph kernel fusion, best form",
        f"{_MINDSPORE}:prepare",
        {"fused": False, "graph_kernel": True},
        requires=_AKG,
    ),
    Side("akg", "the operator's AKG variant, GRAPH mode", f"{_MINDSPORE}:prepare_akg", requires=_AKG),
    Side("fused, PYNATIVE", "fused operator", f"{_MINDSPORE}:prepare", {"fused": True, "mode": "pynative"}),
    Side("unfused, PYNATIVE", "plain, best form", f"{_MINDSPORE}:prepare", {"fused": False, "mode": "pynative"}),
    Side("fused model", "fused operators", f"{_MODEL}:prepare", {"fused": True}),
    Side("int8 model", "int8 operators", f"{_MODEL}:prepare_reduced", {"precision": "int8"}),
    Side(
        "bfloat16 model",
        "fused operators, stored in bfloat16",
        f"{_MODEL}:prepare_reduced",
        {"precision": "bfloat16"},
    ),
    Side("Predictor", "fused operators, without MindSpore's runtime", f"{_MODEL}:prepare_predictor"),
    Side(
        "int8 Predictor",
        "int8 operators, without MindSpore's runtime",
        f"{_MODEL}:prepare_predictor",
        {"precision": "int8"},
    ),
    Side(
        "bfloat16 Predictor",
        "fused operators stored in bfloat16, without MindSpore's runtime",
        f"{_MODEL}:prepare_predictor",
        {"precision": "bfloat16"},
    ),
    Side("unfused model", "plain MindSpore", f"{_MODEL}:prepare", {"fused": False}),
    Side(
        "fused model, graph kernel",
        "fused operators, graph kernel fusion of the rest",
        f"{_MODEL}:prepare",
        {"fused": True, "graph_kernel": True},
        requires=_AKG,
    ),
    Side(
        "unfused model, graph kernel",
        "plain MindSpore with graph kernel fusion",
        f"{_MODEL}:prepare",
        {"fused": False, "graph_kernel": True},
        requires=_AKG,
    ),
    Side("native operator", "the Cell by its kernel", f"{_OPERATOR}:prepare", {"impl": "native"}),
    Side("reference operator", "the Cell in MindSpore ops", f"{_OPERATOR}:prepare", {"impl": "reference"}),
    Side("replaced stage", "the unfused operators of the model alone", f"{_MODEL}:replaced_stage", gated=False),
):
    register(_side)
