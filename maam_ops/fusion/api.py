"""``maam_ops.fuse``: find, swap, check, report."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn

from maam_ops import _select, graph
from maam_ops._cell import names_kept
from maam_ops.fusion import aggregate, conv, dense, rows, swap, verify
from maam_ops.fusion.checks import first_line
from maam_ops.fusion.report import FuseReport, Refusal
from maam_ops.fusion.slots import Tree
from maam_ops.fusion.trace import Trace, record

_BOTH = "aggregate_reduce"
_KEEP = "keep"
_PATTERNS = (aggregate.PATTERN, conv.REDUCE, conv.CONV_BLOCK, _KEEP)


@dataclass(frozen=True)
class Rule:
    """What the user knows about a place in the net.

    Attributes:
        path: the Cell, as in ``net.cells_and_names()``, e.g. ``"maam.fusion"``.
        pattern: ``"agent_aggregate"`` - the Cell is a weighted sum, even where its code branches on attributes or one
            tensor comes as several branches; ``"reduce"`` - the 1x1 convolutions at or below the path, their batch
            normalisations and ReLUs have no other readers, even where the source does not show it; ``"conv_block"`` -
            the same of 3x3 convolutions; ``"keep"`` - nothing at or below the path is changed. What a rule claims is
            still checked on the probe batch.
    """

    path: str
    pattern: str


def fuse(
    net: nn.Cell,
    rules: Mapping[str, str] | Iterable[Rule] | None = None,
    *,
    probe: Any = None,
    impl: str = "auto",
) -> FuseReport:
    """Swaps fused operators into ``net``, in place, where that provably changes nothing but speed.

    It looks for 1x1 or 3x3 convolution, batch normalisation, ReLU as Cells in a row (in an ``nn.SequentialCell`` that
    the source only calls as a whole, or as attributes whose use in a row the source shows), behind 3x3 a 2x2 max-pool
    too; for dense layers with and without a ReLU behind them; and for Cells that compute a softmax-weighted sum of 2 to
    8 branches, however they write it.
    Parameters stay the same objects with the same names, so checkpoints load both ways and an optimizer stays valid.
    The result is checked on a probe batch: outputs, gradients and running statistics, in evaluation and in training;
    what does not pass is taken out again. The net's values and training state stay as they were.

    Fuse before compiling anything that contains the net: graphs compiled from an outer Cell or function are not redone.

    Args:
        net: the net to change.
        rules: what to trust, or to leave alone, by path: ``{"maam.fusion": "agent_aggregate"}``; see :class:`Rule`.
        probe: a batch to check with: the Tensor, or a tuple of the inputs, of one call. Two small images do. By default
            shaped as ``net.set_inputs`` says, or guessed from the first layer. Only with a batch given are the
            executed kernels counted, which compiles the net twice.
        impl: implementation the fused Cells run, as everywhere in ``maam_ops``. With ``"auto"`` nothing is swapped in
            that could only run the reference here.

    Returns:
        FuseReport: swaps, refusals with reasons, kernels before and after, largest error. ``print`` it.

    Raises:
        TypeError: ``net`` is not a Cell, ``rules`` are none, or ``probe`` has no Tensor in it.
        ValueError: a rule names no Cell of the net, or an unknown pattern; unknown ``impl``.
        RuntimeError: the implementation asked for is not available; the net does not run on the probe given.
    """
    if not isinstance(net, nn.Cell):
        raise TypeError(f"maam_ops.fuse: net: got {type(net).__name__}, expected a mindspore.nn.Cell")
    for op in (aggregate.PATTERN, conv.REDUCE, conv.CONV_BLOCK, _BOTH, dense.PATTERN):
        _select.choose(op, impl)
    tree = Tree(net)
    named = _rules_by_pattern(rules, [slot.path for slot in tree.slots])
    with _pynative():
        batch = verify.find_probe(net, probe)
        if batch is None:
            reason = "no probe batch: none was given, and no guess runs through the net; pass probe="
            return FuseReport((), (Refusal("(the net)", "fusion", reason),))
        changes, refusals = _plan(net, tree, _record(net, batch), named, impl)
        before = _kernels_if_it_compiles(net, batch) if probe is not None and changes else None
        changes, error, failed = _apply_checked(net, changes, batch)
        after = before
        if before is not None and changes:
            changes, after, not_compiled = _keep_if_it_compiles(net, changes, batch)
            failed += not_compiled
    swaps = tuple(change.swap for change in changes)
    return FuseReport(swaps, (*refusals, *failed), str(batch), before, after, error if swaps else None)


def _rules_by_pattern(rules: Mapping[str, str] | Iterable[Rule] | None, paths: list[str]) -> dict[str, frozenset[str]]:
    if isinstance(rules, Mapping):
        rules = [Rule(path, pattern) for path, pattern in rules.items()]
    if isinstance(rules, Tensor):
        raise TypeError(
            "maam_ops.fuse: rules: got a Tensor, expected patterns by path, or Rules; pass a batch as probe="
        )
    if rules is None:
        rules = ()
    if isinstance(rules, str) or not isinstance(rules, Iterable):
        raise TypeError(f"maam_ops.fuse: rules: got {rules!r}, expected patterns by path, or Rules")
    named: dict[str, set[str]] = {pattern: set() for pattern in _PATTERNS}
    for rule in rules:
        if not isinstance(rule, Rule):
            raise TypeError(f"maam_ops.fuse: rules: got {rule!r}, expected a Rule such as Rule('maam.fusion', 'keep')")
        if rule.pattern not in named:
            expected = ", ".join(_PATTERNS)
            raise ValueError(
                f"maam_ops.fuse: rules: {rule.path!r}: got pattern {rule.pattern!r}, expected one of {expected}"
            )
        if rule.path not in paths:
            near = difflib.get_close_matches(rule.path, paths, n=3) or paths[:3]
            raise ValueError(
                f"maam_ops.fuse: rules: got path {rule.path!r}, expected that of a Cell in the net, such as "
                f"{', '.join(map(repr, near))}"
            )
        named[rule.pattern].add(rule.path)
    return {pattern: frozenset(found) for pattern, found in named.items()}


@contextlib.contextmanager
def _pynative() -> Iterator[None]:
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=mode)


def _record(net: nn.Cell, batch: verify.Probe) -> Trace:
    with verify.state_kept(net):
        net.set_train(False)
        try:
            return record(net, batch.inputs)
        except Exception as error:
            raise RuntimeError(
                f"maam_ops.fuse: probe: the net does not run on it ({batch}): {first_line(error)}"
            ) from error


def _plan(
    net: nn.Cell, tree: Tree, trace: Trace, named: dict[str, frozenset[str]], impl: str
) -> tuple[list[swap.Change], list[Refusal]]:
    """The changes to make, a pair of patterns in a row as one change, and what was refused so far."""
    aggregates, refused_aggregates = aggregate.find(tree, trace, net, named[aggregate.PATTERN])
    convs, refused_convs = conv.find(tree, trace, named)
    layers, refused_layers = dense.find(tree, trace)
    refused = (*refused_aggregates, *refused_convs, *refused_layers)
    refusals = [refusal for refusal in refused if not _below(refusal.path, named[_KEEP])]
    order = tree.slots
    changes: dict[int, swap.Change] = {}
    for match in (*aggregates, *convs, *layers):
        if isinstance(match, aggregate.AggregateMatch):
            change = swap.aggregate_change(match, impl)
        elif isinstance(match, dense.DenseMatch):
            change = swap.dense_change(match, impl)
        else:
            change = swap.conv_change(match, order, impl)
        kept = [slot.path for slot in change.slots if _below(slot.path, named[_KEEP])]
        if kept:
            continue
        reason = _why_reference_only(change.pattern, impl)
        if reason:
            refusals.append(Refusal(change.slots[0].path, change.pattern, reason))
        else:
            changes[id(match)] = change
    for first in aggregates:
        for second in (match for match in convs if match.pattern == conv.REDUCE):
            both_there = id(first) in changes and id(second) in changes
            if both_there and _why_reference_only(_BOTH, impl) is None and _in_a_row(tree, trace, first, second):
                parts = (changes.pop(id(first)), changes.pop(id(second)))
                changes[id(first)] = swap.both_change(first, second, order, impl, parts)
    return list(changes.values()), refusals


def _below(path: str, roots: frozenset[str]) -> bool:
    return any(path == root or path.startswith(root + ".") for root in roots)


def _why_reference_only(op: str, impl: str) -> str | None:
    choice = _select.choose(op, impl)
    if choice.impl != _select.REFERENCE or "asked for" in choice.reason:
        return None
    return f"only the reference runs here, which saves nothing: {choice.others[_select.NATIVE]}"


def _in_a_row(tree: Tree, trace: Trace, first: aggregate.AggregateMatch, second: conv.ConvMatch) -> bool:
    read_by = [call.cell for call in trace.readers(first.call.output)]
    return (
        len(read_by) == 1
        and read_by[0] is second.conv.cell
        and rows.why_not_in_a_row(tree, first.slot, second.conv) is None
    )


def _apply_checked(
    net: nn.Cell, changes: list[swap.Change], batch: verify.Probe
) -> tuple[list[swap.Change], float | None, list[Refusal]]:
    """Makes all changes at once if the net stays what it was, else those one by one with which it does."""
    if not changes:
        return [], None, []
    expected = verify.observe(net, batch)
    error, excess = _try(net, changes, batch, expected)
    if excess is None:
        return changes, error, []
    _, noise = verify.largest_error(expected, verify.observe(net, batch))
    if noise is not None:
        reason = f"the net differs from run to run ({noise}), so nothing can be checked; switch off what is random"
        return [], None, [Refusal("(the net)", "fusion", reason)]
    expected = verify.loosened(net, batch, expected)
    error, excess = _try(net, changes, batch, expected)
    if excess is None:
        return changes, error, []
    made: list[swap.Change] = []
    refusals: list[Refusal] = []
    largest = 0.0
    waiting = list(changes)
    while waiting:
        change = waiting.pop(0)
        error, excess = _try(net, [change], batch, expected)
        if excess is None:
            made.append(change)
            largest = max(largest, error)
        elif change.parts:
            waiting[:0] = change.parts
        else:
            refusals.append(
                Refusal(
                    change.slots[0].path,
                    change.pattern,
                    f"the net changes on the probe batch, taken out again: {excess}",
                )
            )
    return made, largest if made else None, refusals


def _try(
    net: nn.Cell, changes: list[swap.Change], batch: verify.Probe, expected: dict[str, verify.Measured]
) -> tuple[float, str | None]:
    """Makes the changes and compares; undoes them, and says why, where the net is not what it was."""
    excess: str | None = None
    error = float("inf")
    with names_kept(net):
        try:
            for change in changes:
                change.make()
            error, excess = verify.largest_error(expected, verify.observe(net, batch))
        except Exception as failure:  # a stranger's net may use a Cell in ways nobody foresaw: then it is not fusable
            excess = first_line(failure)
        if excess is not None:
            _undo(changes)
    _forget_compiled_graphs(net)
    return error, excess


def _undo(changes: list[swap.Change]) -> None:
    for change in reversed(changes):
        change.undo()


def _forget_compiled_graphs(net: nn.Cell) -> None:
    """MindSpore would go on running graphs of the old Cells."""
    for _, cell in net.cells_and_names():
        cell.compile_cache.clear()


def _kernels_if_it_compiles(net: nn.Cell, batch: verify.Probe) -> int | None:
    try:
        return _count_kernels(net, batch)
    except Exception:  # the net is for PYNATIVE mode only, which is no reason not to fuse it
        return None


def _keep_if_it_compiles(
    net: nn.Cell, changes: list[swap.Change], batch: verify.Probe
) -> tuple[list[swap.Change], int | None, list[Refusal]]:
    """A net that compiled in GRAPH mode before must do so afterwards."""
    try:
        return changes, _count_kernels(net, batch), []
    except Exception as failure:
        _undo(changes)
        _forget_compiled_graphs(net)
        reason = f"the net no longer compiles in GRAPH mode with it, taken out again: {first_line(failure)}"
        return [], None, [Refusal(change.slots[0].path, change.pattern, reason) for change in changes]


def _count_kernels(net: nn.Cell, batch: verify.Probe) -> int:
    with verify.state_kept(net):
        return graph.count_kernels(net.set_train(False), *batch.inputs).total
