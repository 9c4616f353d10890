"""Which implementation runs, and why: ``maam_ops.explain``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mindspore import nn

from maam_ops import _native, _select
from maam_ops._cell import FusedCell


@dataclass(frozen=True)
class Explanation:
    """The choices made for an operator or for every fused Cell of a net; ``str()`` is meant for people.

    Attributes:
        choices: by place: the operator's name, or the Cell's path in the net.
        kernels: by place: what the kernels reported when the inputs were run, for instance
            ``{"aggregate_forward/avx512": 1}``; empty without inputs and for the reference.
    """

    choices: dict[str, _select.Choice]
    kernels: dict[str, int]

    def __str__(self) -> str:
        if not self.choices:
            return "no fused operator in this net; see maam_ops.fuse"
        lines = []
        for place, choice in self.choices.items():
            lines.append(f"{place}: {choice}" if place != choice.op else str(choice))
        if self.kernels:
            lines.append("ran: " + ", ".join(f"{name} x{calls}" for name, calls in self.kernels.items()))
        return "\n".join(lines)


def explain(net_or_op: nn.Cell | Callable[..., Any] | str, *inputs: Any, impl: str = "auto") -> Explanation:
    """Say which implementation runs and why, for an operator or for every fused Cell of a net.

    Args:
        net_or_op: a Cell, an operator's name such as "agent_aggregate", or the function from ``maam_ops.functional``.
        inputs: where given, the net or function is called with them once and the kernels that ran are listed.
        impl: for an operator: the choice to explain.

    Raises:
        TypeError: something else.
        ValueError: an unknown operator.
    """
    if isinstance(net_or_op, nn.Cell):
        choices = {
            path or type(cell).__name__: cell.choice_now() if isinstance(cell, FusedCell) else cell.choice
            for path, cell in net_or_op.cells_and_names()
            if isinstance(getattr(cell, "choice", None), _select.Choice)
        }
    else:
        op = operator_name("explain", net_or_op)
        choices = {op: _select.choose(op, impl)}
    kernels = kernels_run(lambda: net_or_op(*inputs)) if inputs and callable(net_or_op) else {}
    return Explanation(choices, kernels)


def operator_name(caller: str, operator: Callable[..., Any] | str) -> str:
    """The name of an operator that ``maam_ops.<caller>`` was given by its name or function."""
    name = operator if isinstance(operator, str) else getattr(operator, "__name__", None)
    known = ", ".join(_select.operators())
    if name is None:
        raise TypeError(f"maam_ops.{caller}: got {type(operator).__name__}, expected a Cell or one of {known}")
    if name not in _select.operators():
        raise ValueError(f"maam_ops.{caller}: got {name!r}, expected a Cell or one of {known}")
    return name


def kernels_run(call: Callable[[], Any]) -> dict[str, int]:
    """Calls of each native kernel, by "kernel/isa", while ``call`` runs to its end."""
    if _native.missing_reason(()) is not None:
        call()
        return {}
    core = _native.core()
    before = {name: row["calls"] for name, row in core.counters().items()}
    _wait_for(call())
    after = core.counters()
    calls = {name: row["calls"] - before.get(name, 0) for name, row in after.items()}
    return {name: count for name, count in calls.items() if count}


def _wait_for(result: Any) -> None:
    """PYNATIVE mode runs ahead of Python: reading a result is what waits for the kernels."""
    for item in result if isinstance(result, (list, tuple)) else [result]:
        if isinstance(item, (list, tuple)):
            _wait_for(item)
        elif hasattr(item, "asnumpy"):
            item.float().asnumpy()
