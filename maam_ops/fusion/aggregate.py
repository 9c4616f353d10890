"""Recognises Cells that compute a softmax-weighted sum of their N inputs, by what they compute.

People write this sum with indexing, unpacking, zip and ``sum``, stack, einsum ...; a Cell that is given random weights
and random branches and answers with the definition, gradients included, is one, however it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES
from maam_ops._rounding import as_double
from maam_ops.fusion import source
from maam_ops.fusion.checks import NotFusable, first_line, only_call, only_slot, require_plain, require_sole_owner
from maam_ops.fusion.report import Refusal
from maam_ops.fusion.slots import Slot, Tree
from maam_ops.fusion.trace import Call, Trace
from maam_ops.fusion.verify import differentiate

PATTERN = "agent_aggregate"
# Rounding of N products and sums in the dtype, relative to the largest output.
_TOLERANCE = {ms.float16: 1e-2, ms.bfloat16: 8e-2, ms.float32: 1e-4, ms.float64: 1e-10}
_RESTRUCTURE = (
    "its construct does more than the weighted sum, so there is no Cell to replace; move the weights and the sum into "
    "a Cell of their own (or use maam_ops.FusedAgentAggregate) and call it with the branches"
)


@dataclass(frozen=True)
class AggregateMatch:
    """A Cell that is proven to be the weighted sum."""

    slot: Slot
    call: Call
    key: str
    parameter: Parameter


def find(tree: Tree, trace: Trace, net: nn.Cell, named: frozenset[str]) -> tuple[list[AggregateMatch], list[Refusal]]:
    """Sorts the Cells that look like the pattern into matches and refusals.

    Args:
        tree: the places of the net.
        trace: a recorded forward pass of it.
        net: the net.
        named: paths which the user says are aggregates; they may branch on attributes and use a branch twice.
    """
    matches: list[AggregateMatch] = []
    refusals: list[Refusal] = []
    for cell in _distinct([net, *(slot.cell for slot in tree.slots)]):
        path = tree.path(cell)
        try:
            parameter = _candidate_parameter(cell, trace, path in named)
            if parameter is not None:
                matches.append(_match(tree, trace, cell, *parameter, named=path in named))
        except NotFusable as reason:
            refusals.append(Refusal(path, PATTERN, str(reason)))
    return matches, refusals


def _distinct(cells: list[nn.Cell]) -> list[nn.Cell]:
    return list({id(cell): cell for cell in cells}.values())


def _candidate_parameter(cell: nn.Cell, trace: Trace, named: bool) -> tuple[str, Parameter] | None:
    """The weights of a Cell worth a closer look, or None; refuses look-alikes that no replacement can serve."""
    if type(cell).__module__.split(".")[0] in ("mindspore", "maam_ops") and not named:
        return None
    own = {key: parameter for key, parameter in cell._params.items() if parameter is not None}
    weights = {key: p for key, p in own.items() if MIN_BRANCHES <= p.size <= MAX_BRANCHES}
    if len(weights) == 1 and len(list(cell.get_parameters())) == 1:
        branches = [len(_branches(call)) for call in trace.of(cell)]
        if named or source.mentions(cell, "softmax") or not branches or max(branches) >= MIN_BRANCHES:
            return next(iter(weights.items()))
        return None
    if named:
        raise NotFusable(
            f"got {len(list(cell.get_parameters()))} Parameters in it, expected one, with {MIN_BRANCHES} to "
            f"{MAX_BRANCHES} elements"
        )
    if weights and source.mentions(cell, "softmax"):
        raise NotFusable(_RESTRUCTURE)
    if len(own) >= MIN_BRANCHES and all(p.size == 1 for p in own.values()) and source.mentions(cell, "softmax"):
        raise NotFusable(
            f"its {len(own)} weights are separate Parameters; make them one Parameter with {len(own)} elements"
        )
    return None


def _branches(call: Call) -> list[Any]:
    args = call.args
    if len(args) == 1 and isinstance(args[0], (list, tuple)):
        args = args[0]
    return list(args)


def _match(tree: Tree, trace: Trace, cell: nn.Cell, key: str, parameter: Parameter, *, named: bool) -> AggregateMatch:
    slot = only_slot(tree, cell)
    require_sole_owner(tree, parameter)
    require_plain(cell, slot.path)
    call = only_call(trace, cell)
    branches = _branches(call)
    _require_branches(branches, parameter, call.output)
    if not named:
        if len({id(branch) for branch in branches}) < len(branches):
            raise NotFusable("one tensor is passed as several branches; add their weights up into one branch")
        try:
            deciding = source.attributes_branched_on(cell)
        except source.SourceError as error:
            raise NotFusable(str(error)) from error
        if deciding:
            raise NotFusable(
                f"which code it runs depends on self.{', self.'.join(deciding)}, which may change later; if it "
                f"does not, name the Cell in a rule: {{{slot.path!r}: {PATTERN!r}}}"
            )
    _require_definition(cell, parameter, branches, as_list=len(call.args) == 1)
    return AggregateMatch(slot, call, key, parameter)


def _require_branches(branches: list[Any], parameter: Parameter, output: Any) -> None:
    count = parameter.size
    if len(branches) != count or not all(isinstance(branch, Tensor) for branch in branches):
        got = [type(branch).__name__ for branch in branches]
        raise NotFusable(
            f"called with {len(got)} arguments ({', '.join(got)}), expected {count} Tensors for {count} weights"
        )
    kinds = {(tuple(tensor.shape), tensor.dtype) for tensor in [*branches, output] if isinstance(tensor, Tensor)}
    if not isinstance(output, Tensor) or len(kinds) != 1:
        raise NotFusable(f"branches and result are {kinds}, expected one Tensor of one shape and dtype for all")
    if branches[0].dtype not in _TOLERANCE:
        raise NotFusable(f"branches are {branches[0].dtype}, expected {', '.join(str(kind) for kind in _TOLERANCE)}")


def _require_definition(cell: nn.Cell, parameter: Parameter, branches: list[Tensor], *, as_list: bool) -> None:
    """Compares the Cell with the definition at random weights, branches and shapes, in both training states.

    Raises:
        NotFusable: it differs somewhere, fails, or changes its own attributes.
    """
    rng = np.random.default_rng(0)
    value = parameter.asnumpy().copy()
    training = {part: part.training for _, part in cell.cells_and_names()}
    state = _python_state(cell)
    rank, dtype = branches[0].ndim, branches[0].dtype
    # Small shapes: the probe's own is compared with the whole net, and may be large.
    shapes = [tuple(2 + axis for axis in range(rank)), tuple(5 - axis % 4 for axis in range(rank)), (3,) * rank]
    try:
        for shape, spread, mode in zip(shapes, (1.0, 3.0, 1.0), (False, True, True), strict=True):
            cell.set_train(mode)
            alpha = rng.normal(0.5, spread, parameter.size)
            parameter.set_data(Tensor(alpha.reshape(parameter.shape), parameter.dtype))
            _compare(cell, parameter, alpha, _random(rng, len(branches), shape, dtype), rng, as_list)
    except NotFusable:
        raise
    except Exception as error:
        raise NotFusable(f"it fails on random branches of shape {shape}: {first_line(error)}") from error
    finally:
        parameter.set_data(Tensor(value, parameter.dtype))
        for part, mode in training.items():
            part.add_flags(training=mode)
    changed = [name for name, before in state.items() if _python_state(cell).get(name) is not before]
    if changed or _python_state(cell).keys() != state.keys():
        raise NotFusable(f"a call changes its own attributes ({', '.join(changed) or 'new ones appear'})")


def _compare(
    cell: nn.Cell,
    parameter: Parameter,
    alpha: np.ndarray,
    branches: list[Tensor],
    rng: np.random.Generator,
    as_list: bool,
) -> None:
    def call(*given):
        return cell(list(given)) if as_list else cell(*given)

    tolerance = _TOLERANCE[branches[0].dtype]
    weights = np.exp(alpha - alpha.max())
    weights /= weights.sum()
    data = [as_double(branch) for branch in branches]
    expected = sum(weight * branch for weight, branch in zip(weights, data, strict=True))
    got = call(*branches)
    if tuple(got.shape) != expected.shape or not _close(as_double(got), expected, tolerance):
        raise NotFusable(
            f"it computes something else than sum_i softmax(alpha)_i A_i: {_effective(call, branches, weights)}"
        )
    cotangent = rng.normal(size=expected.shape)
    seed = Tensor(cotangent, ms.float32)

    def scalar(*given):
        return ops.reduce_sum(call(*given).astype(ms.float32) * seed)

    positions = tuple(range(len(branches)))
    weight_gradient = parameter.requires_grad
    gradients = differentiate(scalar, positions, [parameter] if weight_gradient else None, tuple(branches))
    branch_gradients = gradients[0] if weight_gradient else gradients
    wrong = [
        not _close(as_double(gradient), weight * cotangent, tolerance)
        for gradient, weight in zip(branch_gradients, weights, strict=True)
    ]
    if weight_gradient:
        inner = np.array([(cotangent * branch).sum() for branch in data])
        expected_alpha = weights * (inner - (weights * inner).sum())
        # A sum over the whole branch: rounding grows with its length, not with the size of the result.
        scale = np.abs(weights * inner).max() + np.sqrt(cotangent.size)
        got_alpha = as_double(gradients[1][0]).reshape(-1)
        wrong.append(np.abs(got_alpha - expected_alpha).max() > 10 * tolerance * scale)
    if any(wrong):
        raise NotFusable("its result is the weighted sum but its gradient is not the weighted sum's")


def _effective(call: Any, branches: list[Tensor], expected: np.ndarray) -> str:
    """The factor each branch really gets, measured with one branch of ones at a time."""
    ones, zeros = ops.ones_like(branches[0]), ops.zeros_like(branches[0])
    factors = []
    for number in range(len(branches)):
        result = as_double(call(*(ones if i == number else zeros for i in range(len(branches)))))
        factors.append(f"{result.mean():.3g}" if np.ptp(result) < 1e-3 else "not constant")
    return f"the branches get {', '.join(factors)} where softmax gives {', '.join(f'{w:.3g}' for w in expected)}"


def _random(rng: np.random.Generator, count: int, shape: tuple[int, ...], dtype: ms.Type) -> list[Tensor]:
    return [Tensor(rng.normal(size=shape).astype(np.float64), dtype) for _ in range(count)]


def _close(got: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    # Written so that NaN is not close.
    return bool(np.abs(got - expected).max(initial=0.0) <= tolerance * max(np.abs(expected).max(initial=0.0), 1e-3))


def _python_state(cell: nn.Cell) -> dict[str, Any]:
    """The user's own attributes of the Cell and of its parts, MindSpore's aside."""
    framework = vars(nn.Cell()).keys()
    return {
        f"{path}.{name}".lstrip("."): value
        for path, part in cell.cells_and_names()
        for name, value in vars(part).items()
        if name not in framework
    }
