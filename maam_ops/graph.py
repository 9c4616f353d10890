"""What MindSpore really executes: the kernels and the memory of a compiled graph.

The figures come from the last graph the compiler hands to its runtime, after every pass of its own. Nothing is
executed: parameters and optimizer state stay as they are. MindSpore's memory statistics are all zero on CPU, so
:func:`memory_plan` adds up the tensors of that same graph.

    >>> maam_ops.graph.count_kernels(net, x)            # inference or training, as the net stands
    >>> maam_ops.graph.count_kernels(train_step, x, y)  # a function: forward, backward, optimizer
"""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import nn

from maam_ops._ir import Kernel, KernelGraph, activation_bytes, parse

__all__ = [
    "Kernel",
    "KernelCount",
    "KernelGraph",
    "MemoryPlan",
    "activation_bytes",
    "compile_graphs",
    "count_kernels",
    "memory_plan",
    "profile_kernels",
]


@dataclass(frozen=True)
class KernelCount:
    """The kernels of one call.

    Attributes:
        total: number of kernels; those in both arms of a data-dependent branch count.
        by_type: number of kernels of each type, most frequent first.
        kernels: all of them in execution order; empty where a profiler counted.
        milliseconds: time in the kernels of each type where a profiler counted, longest first; empty elsewhere.
    """

    total: int
    by_type: dict[str, int]
    kernels: tuple[Kernel, ...] = ()
    milliseconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.total} kernels: " + ", ".join(f"{count} {kind}" for kind, count in self.by_type.items())


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one call in bytes, as its graph has it.

    Attributes:
        peak_bytes: most bytes of kernel outputs alive at once, with the kernels run one after another and each output
            freed after its last reader. The runtime's allocator may need more.
        total_bytes: all kernel outputs together, which is what the kernels write.
        parameter_bytes: the Parameters used, optimizer state included.
        input_bytes: the call's inputs.
    """

    peak_bytes: int
    total_bytes: int
    parameter_bytes: int
    input_bytes: int


def compile_graphs(net_or_fn: nn.Cell | Callable[..., Any], *inputs: Any) -> list[KernelGraph]:
    """Compiles in GRAPH mode, without running, and returns the graphs the runtime would execute.

    Args:
        net_or_fn: a Cell, in the training state it stands in, or a function of the inputs such as a training step.
        inputs: Tensors of the shapes and dtypes to compile for.

    Returns:
        list[KernelGraph]: one graph; several where control flow depends on data.

    Raises:
        TypeError: ``net_or_fn`` is not callable.
        RuntimeError: MindSpore printed no graph.
        ValueError: a size is known at run time only.
    """
    if not callable(net_or_fn):
        raise TypeError(f"maam_ops.graph: net_or_fn: got {type(net_or_fn).__name__}, expected a Cell or a function")
    with tempfile.TemporaryDirectory(prefix="maam_ops_graph_") as folder, _printing_graphs_to(folder):
        # A new outer Cell each time: a net compiled before would answer from the cache and print nothing.
        _Call(net_or_fn).compile(*inputs)
        texts = [path.read_text(encoding="utf-8") for path in _in_print_order(folder)]
    # A graph printed twice counts once, as it was printed last.
    graphs = {graph.name: graph for text in texts for graph in parse(text)}
    if not graphs:
        raise RuntimeError(
            "maam_ops.graph: MindSpore printed no graph_build_*.ir; expected at least one. Unset MS_DEV_SAVE_GRAPHS "
            "and MS_DEV_SAVE_GRAPHS_PATH, which decide over the context where it prints"
        )
    return list(graphs.values())


def count_kernels(net_or_fn: nn.Cell | Callable[..., Any], *inputs: Any) -> KernelCount:
    """Counts the kernels that one call executes in GRAPH mode. Arguments and errors as for :func:`compile_graphs`."""
    kernels = tuple(kernel for graph in compile_graphs(net_or_fn, *inputs) for kernel in graph.kernels)
    return KernelCount(len(kernels), dict(Counter(kernel.type for kernel in kernels).most_common()), kernels)


def memory_plan(net_or_fn: nn.Cell | Callable[..., Any], *inputs: Any) -> MemoryPlan:
    """Adds up the memory of one call in GRAPH mode. Arguments and errors as for :func:`compile_graphs`."""
    graphs = compile_graphs(net_or_fn, *inputs)
    peaks, totals = zip(*(activation_bytes(graph) for graph in graphs), strict=True)
    return MemoryPlan(
        peak_bytes=max(peaks),
        total_bytes=sum(totals),
        parameter_bytes=sum(graph.parameter_bytes for graph in graphs),
        input_bytes=sum(graph.input_bytes for graph in graphs),
    )


def profile_kernels(step: Callable[[], Any], *, steps: int = 3) -> KernelCount:
    """Counts and times the kernels that one step launches, with MindSpore's profiler.

    This is the cross-check of :func:`count_kernels`.
    The runtime launches nothing for a reshape or flatten of the graph, so this count can be smaller by those.

    Args:
        step: runs one step to its end, e.g. ``lambda: net(x).asnumpy()``; called once before counting starts.
        steps: how many steps to count over.

    Raises:
        ValueError: ``steps`` is less than 1.
        RuntimeError: nothing was launched, or not the same kernels in every step.
    """
    if steps < 1:
        raise ValueError(f"maam_ops.graph.profile_kernels: steps: got {steps}, expected 1 or more")
    step()
    with tempfile.TemporaryDirectory(prefix="maam_ops_profile_") as folder:
        _profile(step, steps, folder)
        launches, spent = _launches(folder)
    if not launches or any(count % steps for count in launches.values()):
        raise RuntimeError(
            f"maam_ops.graph.profile_kernels: {steps} steps launched {dict(launches)}; expected the same kernels in "
            "every step. Does the step change its shapes, or does another thread run MindSpore?"
        )
    by_type = {kind: count // steps for kind, count in launches.most_common()}
    milliseconds = {kind: total / steps for kind, total in spent.most_common()}
    return KernelCount(sum(by_type.values()), by_type, milliseconds=milliseconds)


class _Call(nn.Cell):
    """An entry point of its own for the compiler; leaves the names of the Parameters below it as they are."""

    def __init__(self, target: nn.Cell | Callable[..., Any]) -> None:
        super().__init__(auto_prefix=False)
        self.target = target

    def construct(self, *inputs):
        return self.target(*inputs)


@contextlib.contextmanager
def _printing_graphs_to(folder: str) -> Iterator[None]:
    before = {name: ms.get_context(name) for name in ("mode", "save_graphs", "save_graphs_path")}
    # MindSpore reads MS_DEV_SAVE_GRAPHS once per process, so the context it is, with its deprecation warning each time.
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("ME")]
    for logger in loggers:
        logger.addFilter(_is_not_about_save_graphs)
    try:
        ms.set_context(mode=ms.GRAPH_MODE, save_graphs=2, save_graphs_path=folder)
        yield
    finally:
        ms.set_context(**before)
        for logger in loggers:
            logger.removeFilter(_is_not_about_save_graphs)


def _is_not_about_save_graphs(record: logging.LogRecord) -> bool:
    return "save_graphs" not in record.getMessage()


def _in_print_order(folder: str) -> list[Path]:
    return sorted(Path(folder).rglob("graph_build_*.ir"), key=lambda path: int(path.stem.rpartition("_")[2]))


def _profile(step: Callable[[], Any], steps: int, folder: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        profiler = ms.profiler.profile(
            activities=[ms.profiler.ProfilerActivity.CPU],
            on_trace_ready=ms.profiler.tensorboard_trace_handler(folder),
        )
        profiler.start()
        for _ in range(steps):
            step()
        profiler.stop()


def _launches(folder: str) -> tuple[Counter[str], Counter[str]]:
    """Number of launches and milliseconds by kernel type."""
    launches: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for table in Path(folder).rglob("cpu_op_type_info_*.csv"):
        with table.open(newline="", encoding="utf-8") as rows:
            for row in csv.DictReader(rows):
                launches[row["op_type"]] += int(row["type_occurrences"])
                spent[row["op_type"]] += float(row["total_compute_time"])
    return launches, spent
