"""An operator's Cell by its kernel or by its reference, as ``impl="auto"`` would choose between them."""

from __future__ import annotations

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

import maam_ops
from maam_ops.agent_block import FusedAgentBlock

from ...models import create_model
from .. import cases
from ..cases import Arrays
from . import Candidate, Prepared, mindspore

# Labels have none, and nobody asks for that of the images.
_NO_INPUT_GRADIENT = ("cross_entropy", "maam", "maam_deep", "maam_mix", "agent_block")


class _Gradients(nn.Cell):
    """Gradients of a Cell with respect to its parameters and, where wanted, its inputs."""

    def __init__(self, net: nn.Cell, parameters: list[Parameter], every_input: bool) -> None:
        super().__init__()
        self.net, self.parameters = net, ms.ParameterTuple(parameters)
        self.gradient = ops.GradOperation(get_all=every_input, get_by_list=bool(parameters))

    def construct(self, *inputs):
        if len(self.parameters):
            return self.gradient(self.net, self.parameters)(*inputs)
        return self.gradient(self.net)(*inputs)


def prepare(
    case: cases.Operator | cases.OptimizerStep | cases.BranchTraining, inputs: Arrays, *, impl: str
) -> Prepared:
    """The Cell at the case's sizes, from the same parameters on every side."""
    mindspore.configure()
    arguments = [Tensor(array) for array in inputs.values()]
    if isinstance(case, cases.OptimizerStep):
        return _updates(_OPTIMIZERS[case.decay], impl, arguments)
    if isinstance(case, cases.BranchTraining):
        return _calls(_branch(case, impl), arguments, ("d",), every_input=True)
    if case.op == "adam":
        return _updates(_OPTIMIZERS["l2"], impl, arguments)
    calls = {"inference": ("y",), "training": ("d",), "both": ("y", "d")}[case.call]
    return _calls(_CELLS[case.op](impl), arguments, calls, every_input=case.op not in _NO_INPUT_GRADIENT)


def _calls(net: nn.Cell, arguments: list[Tensor], names: tuple[str, ...], *, every_input: bool) -> Prepared:
    """The Cell's results, "y", or their gradients, "d", or both."""
    parameters = list(net.get_parameters())
    for parameter in parameters:
        parameter.set_data(Tensor(_values(parameter)))
    net.set_train("d" in names)
    known = {"y": net}
    if "d" in names:
        known["d"] = _Gradients(net, net.trainable_params(), every_input)
    calls = {name: known[name] for name in names}

    def run() -> Arrays:
        results = {}
        for name, call in calls.items():
            for number, tensor in enumerate(_flat(call(*arguments))):
                results[f"{name}{number}"] = tensor.asnumpy()
        return results

    return Prepared({"": Candidate(run, lambda: _comparable(run()))})


def _comparable(results: Arrays) -> Arrays:
    """Gradients of images by their mean magnitude in each channel.

    Where a rounding turns a ReLU or the place of a maximum, one pixel's gradient is another, rightly, on each side.
    """
    return {
        name: np.abs(array).mean((0, 2, 3)) if name.startswith("d") and array.ndim == 4 else array
        for name, array in results.items()
    }


def _updates(optimizer_class: type[nn.Optimizer], impl: str, arguments: list[Tensor]) -> Prepared:
    value = Parameter(arguments[0].copy(), name="value")
    step = cases.OptimizerStep
    options = {"beta1": step.BETAS[0], "beta2": step.BETAS[1], "eps": step.EPS, "weight_decay": step.WEIGHT_DECAY}
    optimizer = optimizer_class([value], step.LEARNING_RATE, impl=impl, **options)

    def run() -> Arrays:
        optimizer((arguments[1],))
        return {"value": value.asnumpy()[:1]}

    def verify() -> Arrays:
        run()
        return {"value": value.asnumpy().copy()}

    return Prepared({"": Candidate(run, verify)})


def _values(parameter: Parameter) -> np.ndarray:
    rng = np.random.default_rng(list(parameter.name.encode()))
    if parameter.name.endswith(("gamma", "moving_variance")):
        return rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)
    width = max(int(np.prod(parameter.shape[1:])), 1)
    return (rng.standard_normal(parameter.shape) / np.sqrt(width)).astype(np.float32)


def _flat(results) -> list[Tensor]:
    if isinstance(results, Tensor):
        return [results]
    return [tensor for one in results for tensor in _flat(one)]


def _branch(case: cases.BranchTraining, impl: str) -> nn.Cell:
    conv = nn.Conv2d(3, case.CHANNELS, case.kernel, pad_mode="pad", padding=case.kernel // 2)
    branch = nn.SequentialCell(conv, nn.BatchNorm2d(case.CHANNELS), nn.ReLU(), nn.MaxPool2d(2, 2))
    return maam_ops.FusedMix([branch], impl=impl)


def _branch_of_deep(impl: str) -> nn.Cell:
    block = create_model("deep", impl="reference").maam.agent1.block
    return block if impl == "reference" else FusedAgentBlock(block, impl=impl)


_OPTIMIZERS: dict[str, type[nn.Optimizer]] = {"l2": maam_ops.FusedAdam, "decoupled": maam_ops.FusedAdamWeightDecay}
_CELLS: dict[str, Callable[[str], nn.Cell]] = {
    "agent_aggregate": lambda impl: maam_ops.FusedAgentAggregate(3, impl=impl),
    "reduce": lambda impl: maam_ops.FusedReduce(64, 128, impl=impl),
    "aggregate_reduce": lambda impl: maam_ops.FusedAggregateReduce(3, 64, 128, impl=impl),
    "maam": lambda impl: create_model("authors", impl=impl).maam,
    "maam_deep": lambda impl: create_model("deep", impl=impl).maam,
    "maam_mix": lambda impl: create_model("no-reduce", impl=impl).maam,
    "agent_block": _branch_of_deep,
    "conv_block": lambda impl: maam_ops.FusedConvBlock(nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), impl=impl),
    "dense": lambda impl: maam_ops.FusedDense(32768, 256, relu=True, impl=impl),
    "cross_entropy": lambda impl: maam_ops.FusedCrossEntropy(impl=impl),
}
