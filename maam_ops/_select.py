"""Which implementation of an operator runs, and why: ``impl=`` and ``MAAM_OPS_IMPL``.

An explicit choice is honoured or raises. ``auto`` follows a static order, corrected by a static table where the kernel
was measured to be slower than the reference (:mod:`maam_ops.tuning`), and never fails where the reference could answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import mindspore as ms
from mindspore.ops.primitive import constexpr

from maam_ops import _native, tuning

AUTO = "auto"
NATIVE = "native"
REFERENCE = "reference"
VARIABLE = "MAAM_OPS_IMPL"


@dataclass(frozen=True)
class Implementation:
    """One way to run an operator.

    Attributes:
        name: what ``impl=`` calls it.
        description: what runs, for the reports.
        why_not: returns the reason it cannot run here, or None.
        automatic: whether ``auto`` may take it.
    """

    name: str
    description: str
    why_not: Callable[[], str | None]
    automatic: bool = True


@dataclass(frozen=True)
class Choice:
    """The implementation taken, the reason, why not the others, and what may take calls of the operator elsewhere."""

    op: str
    impl: str
    reason: str
    others: dict[str, str] = field(default_factory=dict)
    rows: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.impl} ({self.reason})"]
        lines += [f"  not {name}: {reason}" for name, reason in self.others.items()]
        lines += [f"  {row}" for row in self.rows]
        return "\n".join(lines)


def _native_why_not(symbols: tuple[str, ...]) -> str | None:
    return _native.target_reason(ms.get_context("device_target")) or _native.missing_reason(symbols)


def _always() -> None:
    return None


# In the order in which `auto` tries them.
_IMPLEMENTATIONS: dict[str, list[Implementation]] = {}


def register(op: str, symbols: tuple[str, ...], *extra: Implementation) -> None:
    """Make an operator known: native by these entry points of the library, reference, and what else it has."""
    _IMPLEMENTATIONS[op] = [
        Implementation(NATIVE, _native.LIBRARY.description, lambda: _native_why_not(symbols)),
        Implementation(REFERENCE, "pure MindSpore ops", _always),
        *extra,
    ]


def operators() -> list[str]:
    """Names of all operators."""
    return list(_IMPLEMENTATIONS)


def implementations(op: str) -> list[Implementation]:
    """The implementations of an operator, in the order of ``auto``."""
    return list(_IMPLEMENTATIONS[op])


def _requested(op: str, impl: str) -> tuple[str, str]:
    known = [AUTO, *(implementation.name for implementation in _IMPLEMENTATIONS[op])]
    if impl != AUTO:
        source = "impl"
    else:
        impl, source = os.environ.get(VARIABLE) or AUTO, VARIABLE
    if impl not in known:
        raise ValueError(f"maam_ops.{op}: {source}: got {impl!r}, expected one of {', '.join(known)}")
    return impl, source


def is_explicit(impl: str) -> bool:
    """Whether the user asked for an implementation by name, here or in the environment."""
    return impl != AUTO or (os.environ.get(VARIABLE) or AUTO) != AUTO


def _reasons(op: str) -> dict[str, str | None]:
    """Why each implementation cannot run here, None where it can."""
    return {candidate.name: candidate.why_not() for candidate in _IMPLEMENTATIONS[op]}


def choose(
    op: str,
    impl: str = AUTO,
    shape: Sequence[int] | None = None,
    training: bool | None = None,
    weight: Sequence[int] | None = None,
) -> Choice:
    """Decide which implementation of ``op`` runs on this machine now.

    Args:
        op: the operator.
        impl: what was asked for.
        shape: of the first operand of a call, for ``auto`` to look it up in the table; None before there is a call.
        training: whether the call is one of training; None for operators that are not told.
        weight: shape of the weight, for operators that have a rule by shapes.

    Raises:
        ValueError: ``impl`` or ``MAAM_OPS_IMPL`` is not a known name.
        RuntimeError: the implementation asked for by name cannot run here.
    """
    wanted, source = _requested(op, impl)
    reasons = _reasons(op)
    if wanted != AUTO:
        if reasons[wanted] is not None:
            usable = ", ".join(name for name, reason in reasons.items() if reason is None)
            raise RuntimeError(
                f"maam_ops.{op}: {source}={wanted}: not available: {reasons[wanted]}. Available: auto, {usable}"
            )
        others = {name: reason or "not asked for" for name, reason in reasons.items() if name != wanted}
        return Choice(op, wanted, f"asked for by {source}", others)
    return _automatic(op, reasons, shape, training, weight)


def _automatic(
    op: str,
    reasons: dict[str, str | None],
    shape: Sequence[int] | None,
    training: bool | None,
    weight: Sequence[int] | None,
) -> Choice:
    automatic = [candidate.name for candidate in _IMPLEMENTATIONS[op] if candidate.automatic]
    taken = next(name for name in automatic if reasons[name] is None)
    others = {}
    for name, reason in reasons.items():
        if name != taken:
            others[name] = reason or (f"{taken} comes first" if name in automatic else "only when asked for")
    # The table is about CPUs.
    if taken != NATIVE or ms.get_context("device_target") != "CPU":
        return Choice(op, taken, "first available in the order of auto", others)
    rule = None if shape is None else tuning.rule_of(op, shape, weight)
    if rule is not None:
        others.pop(REFERENCE)
        return Choice(op, REFERENCE, f"by shape: {rule.text}", {taken: "slower in calls like this", **others})
    table = tuning.table()
    row = None if shape is None else table.find(op, shape, training)
    if row is not None and row.impl != taken:
        others = {name: why for name, why in others.items() if name != row.impl}
        return Choice(op, row.impl, f"by table: {row} [{table.source}]", {taken: "slower in calls like this", **others})
    reason = "first available in the order of auto"
    rows = [f"by table: {row} [{table.source}]" for row in table.of(op)]
    if op in tuning.RULES:
        rows.append(f"by shape: {tuning.RULES[op].text}: reference")
    return Choice(op, taken, reason, others, tuple(rows))


@constexpr
def chosen(op, impl, shape, training, weight=None):
    """The implementation for one call of an operator's function; see :func:`choose`."""
    return choose(op, impl, shape, training, weight).impl


@constexpr
def path(op, impl, automatic, shape, training, weight=None):
    """The implementation for one call of a Cell that has decided for ``impl`` by itself or, if not, was told.

    What ``MAAM_OPS_IMPL`` said when it decided goes on counting.
    """
    return _automatic(op, _reasons(op), shape, training, weight).impl if automatic and impl == NATIVE else impl
