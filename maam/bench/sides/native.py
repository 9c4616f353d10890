"""Our kernels on NumPy arrays, without MindSpore, and the machine's limits on the same buffers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np

from maam_ops import _native

from .. import cases
from ..cases import Arrays, Case
from . import Candidate, Prepared, aligned


class _Buffers:
    """Inputs and results of one case, each from a cache line on."""

    def __init__(self, case: Case, inputs: Arrays) -> None:
        self.inputs = {name: aligned(array.shape, array) for name, array in inputs.items()}
        self.inputs["constants"] = np.array([cases.EPS, cases.MOMENTUM])
        self.inputs["no relu"] = np.zeros(1, np.float32)
        self.results = {name: aligned(shape) for name, shape in _result_shapes(case).items()}
        self.g = aligned(inputs["a0"].shape) if isinstance(case, cases.AggregateReduceInference) else None


def _result_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    match case:
        case cases.AggregateForward():
            return {"g": case.shape}
        case cases.AggregateBackward():
            return {"dalpha": (case.agents,), **{f"da{i}": case.shape for i in range(case.agents)}}
        case cases.ReduceInference() | cases.AggregateReduceInference():
            return {"f": (case.batch, case.out_channels, case.grid, case.grid)}
        case cases.DenseForward():
            return {"y": (case.batch, case.outputs)}
        case cases.DenseBackward():
            weight = (case.outputs, case.features)
            return {"dx": (case.batch, case.features), "dweight": weight, "dbias": (case.outputs,)}
    raise TypeError(f"maam.bench: no kernel alone for {type(case).__name__}")


_held: dict[Case, _Buffers] = {}


def _buffers(case: Case, inputs: Arrays) -> _Buffers:
    """One set for all sides of this process; that of another case is let go."""
    if case not in _held:
        _held.clear()
        _held[case] = _Buffers(case, inputs)
    return _held[case]


_REDUCE = ("constants", "weight", "gamma", "beta", "moving_mean", "moving_variance")


def _arguments(case: Case) -> tuple[str, list[str]]:
    """Entry point and the names of its inputs in order."""
    match case:
        case cases.AggregateForward():
            return "AggregateForward", ["alpha", *(f"a{i}" for i in range(case.agents))]
        case cases.AggregateBackward():
            return "AggregateBackward", ["alpha", "dg", *(f"a{i}" for i in range(case.agents))]
        case cases.AggregateReduceInference():
            return "AggregateReduceInference", ["alpha", *_REDUCE, *(f"a{i}" for i in range(case.agents))]
        case cases.ReduceInference():
            return "ReduceInference", [*_REDUCE, "g"]
        case cases.DenseForward():
            return "DenseForward", ["no relu", "x", "weight", "bias"]
    raise TypeError(f"maam.bench: no kernel alone for {type(case).__name__}")


def _launcher(symbol: str, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> Callable[[], None]:
    dtypes = [array.dtype.name for array in (*inputs, *outputs)]
    return functools.partial(_native.core().launch, symbol, inputs, outputs, dtypes)


def kernel(case: Case, inputs: Arrays) -> Prepared:
    """The operator's kernel, as MindSpore would call it."""
    buffers = _buffers(case, inputs)
    symbol, names = _arguments(case)
    results = buffers.results
    launch = _launcher(symbol, [buffers.inputs[name] for name in names], list(results.values()))
    return _prepared(results, launch)


def dense_gradients(case: cases.DenseBackward, inputs: Arrays) -> Prepared:
    """Both kernels of a dense layer's backward pass."""
    buffers = _buffers(case, inputs)
    x, weight, dy = (buffers.inputs[name] for name in ("x", "weight", "dy"))
    results = buffers.results
    by_input = _launcher("DenseInputGradient", [weight, dy], [results["dx"]])
    by_parameters = _launcher("DenseParameterGradients", [x, dy], [results["dweight"], results["dbias"]])

    def launch() -> None:
        by_input()
        by_parameters()

    return _prepared(results, launch)


def two_kernels(case: cases.AggregateReduceInference, inputs: Arrays) -> Prepared:
    """Aggregate into memory, then reduce from there."""
    buffers = _buffers(case, inputs)
    branches = [buffers.inputs[name] for name in ("alpha", *(f"a{i}" for i in range(case.agents)))]
    aggregate = _launcher("AggregateForward", branches, [buffers.g])
    small = [buffers.inputs[name] for name in _REDUCE]
    reduce = _launcher("ReduceInference", [*small, buffers.g], list(buffers.results.values()))

    def launch() -> None:
        aggregate()
        reduce()

    return _prepared(buffers.results, launch)


def _prepared(results: Arrays, launch: Callable[[], None]) -> Prepared:
    def run() -> Arrays:
        launch()
        return results

    def verify() -> Arrays:
        for array in results.values():
            array.fill(np.nan)  # the sides share these buffers: nothing of another's may pass for ours
        return run()

    def counter(name: str, combine: Callable[[list[int]], int]) -> Callable[[], float]:
        def read() -> float:
            core = _native.core()
            core.reset_counters()
            run()
            return float(combine([row[name] for row in core.counters().values()]))

        return read

    facts = {"bytes_moved": counter("bytes_moved", sum), "scratch_bytes": counter("scratch_bytes", max)}
    return Prepared({"": Candidate(run, verify)}, facts)


def bandwidth(case: Case, inputs: Arrays) -> Prepared:
    """The fastest loop over the case's streams: eight ways, of which the fastest counts."""
    buffers = _buffers(case, inputs)
    traffic = case.traffic
    reads = _streams(buffers.inputs, traffic.size)[: traffic.reads]
    writes = _streams(buffers.results, traffic.size)[: traffic.writes]
    core = _native.core()
    candidates = {}
    for streaming, blocked, ranges in itertools.product((False, True), repeat=3):
        name = f"{'streaming' if streaming else 'normal'} stores, {'blocks' if blocked else 'vectors'} in turn, "
        name += "a range a thread" if ranges else "tasks"
        run = functools.partial(
            core.ceiling_bandwidth, reads, writes, streaming=streaming, blocked=blocked, ranges=ranges
        )
        candidates[name] = Candidate(run)
    return Prepared(candidates)


def _streams(arrays: Arrays, size: int) -> list[np.ndarray]:
    """The large arrays cut into streams of `size` elements."""
    large = [array.reshape(-1) for array in arrays.values() if array.size >= size and array.dtype == np.float32]
    return [array[start : start + size] for array in large for start in range(0, array.size, size)]


def fma(case: Case, inputs: Arrays) -> Prepared:
    """The time the case's FLOPs would take in registers."""
    core = _native.core()
    flops_of_a_pass = core.ceiling_fma()
    return Prepared({"": Candidate(core.ceiling_fma, scale=case.traffic.flops / flops_of_a_pass)})
