"""Operators in MindSpore: the fused one, and the same in plain ops, in every form worth writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

import maam_ops
from maam_ops import functional, reference

from .. import cases
from ..cases import Arrays, Case
from . import Candidate, Prepared

Forms = Mapping[str, Callable[..., Tensor]]


def configure(mode: str = "graph", graph_kernel: bool = False) -> None:
    """Execution mode of this process; MindSpore's threads are as many as the CPUs it may use."""
    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    if graph_kernel:
        ms.set_context(enable_graph_kernel=True)


def _fused(alpha: Tensor, *branches: Tensor) -> Tensor:
    return functional.agent_aggregate(alpha, *branches, impl="native")


def _akg(alpha: Tensor, *branches: Tensor) -> Tensor:
    return functional.agent_aggregate(alpha, *branches, impl="akg")


def _indexed(alpha: Tensor, *branches: Tensor) -> Tensor:
    weights = ops.softmax(alpha, 0)
    total = weights[0] * branches[0]
    for i in range(1, len(branches)):
        total = total + weights[i] * branches[i]
    return total


def _stacked(alpha: Tensor, *branches: Tensor) -> Tensor:
    weights = ops.softmax(alpha, 0).reshape((-1, 1, 1, 1, 1))
    return (weights * ops.stack(branches, 0)).sum(0)


def _public(alpha: Tensor, *branches: Tensor) -> Tensor:
    # As the authors' public code has it, the list of branches included.
    weights = ops.softmax(alpha.reshape((-1, 1, 1, 1)), 0)
    return sum(w * f for w, f in zip(weights, list(branches)))  # noqa: B905 - graph mode has no strict=


AGGREGATE_FORMS: Forms = {
    "split": reference.agent_aggregate,
    "indexed": _indexed,
    "stack, mul, sum": _stacked,
    "zip and sum()": _public,
}


class _Call(nn.Cell):
    """A function as an entry point of the compiler."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def construct(self, *inputs):
        return self.function(*inputs)


class _InputGradients(nn.Cell):
    """Gradients of every input of a function, for an incoming gradient given last."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.net = _Call(function)
        self.gradient = ops.GradOperation(get_all=True, sens_param=True)

    def construct(self, *inputs):
        return self.gradient(self.net)(*inputs)


class _AllGradients(nn.Cell):
    """Gradients of the inputs and of the parameters of a Cell, for an incoming gradient given last."""

    def __init__(self, net: nn.Cell) -> None:
        super().__init__()
        self.net = net
        self.parameters = ms.ParameterTuple(net.trainable_params())
        self.gradient = ops.GradOperation(get_all=True, get_by_list=True, sens_param=True)

    def construct(self, *inputs):
        return self.gradient(self.net, self.parameters)(*inputs)


class _AggregateThen(nn.Cell):
    """An aggregate in plain ops with its parameter, and what follows."""

    def __init__(self, form: Callable[..., Tensor], agents: int, rest: nn.Cell) -> None:
        super().__init__()
        self.alpha = Parameter(ops.ones((agents,), ms.float32), name="alpha")
        self.form = form
        self.rest = rest

    def construct(self, *branches):
        return self.rest(self.form(self.alpha, *branches))


def prepare(case: Case, inputs: Arrays, *, fused: bool, mode: str = "graph", graph_kernel: bool = False) -> Prepared:
    """Every form of the case that this side has."""
    configure(mode, graph_kernel)
    tensors = {name: Tensor(array) for name, array in inputs.items()}
    candidates = _BUILDERS[type(case)](case, tensors, fused)
    if mode == "pynative":
        # Indexing and unpacking a tensor costs milliseconds there; nobody who measures would keep it.
        candidates = {name: form for name, form in candidates.items() if name not in ("indexed", "zip and sum()")}
    return Prepared(candidates)


def _branches(case: Case, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensors[f"a{i}"] for i in range(case.agents)]


def prepare_akg(case: Case, inputs: Arrays) -> Prepared:
    """The aggregate by the kernels that MindSpore's AKG compiles."""
    configure()
    tensors = {name: Tensor(array) for name, array in inputs.items()}
    build = _forward_forms if isinstance(case, cases.AggregateForward) else _backward_forms
    return Prepared(build(case, tensors, {"": _akg}))


def _forward_forms(case: cases.AggregateForward, tensors: Mapping[str, Tensor], forms: Forms):
    arguments = [tensors["alpha"], *_branches(case, tensors)]
    return {name: _one_result("g", _Call(form), arguments) for name, form in forms.items()}


def _backward_forms(case: cases.AggregateBackward, tensors: Mapping[str, Tensor], forms: Forms):
    arguments = [tensors["alpha"], *_branches(case, tensors), tensors["dg"]]
    names = ["dalpha", *(f"da{i}" for i in range(case.agents))]

    def candidate(form: Callable[..., Tensor]) -> Candidate:
        net = _InputGradients(form)
        return Candidate(lambda: dict(zip(names, _numpy(net(*arguments)), strict=True)))

    return {name: candidate(form) for name, form in forms.items()}


def _aggregate_forward(case: cases.AggregateForward, tensors: Mapping[str, Tensor], fused: bool):
    return _forward_forms(case, tensors, {"": _fused} if fused else AGGREGATE_FORMS)


def _aggregate_backward(case: cases.AggregateBackward, tensors: Mapping[str, Tensor], fused: bool):
    return _backward_forms(case, tensors, {"": _fused} if fused else AGGREGATE_FORMS)


_SMALL = ("weight", "gamma", "beta", "moving_mean", "moving_variance")


def _reduce_inference(case: cases.ReduceInference, tensors: Mapping[str, Tensor], fused: bool):
    net = _fill(_fused_reduce(case) if fused else _plain_reduce(case), tensors, training=False)
    nets = {"": net} if fused else {"cells": net, "folded": _Call(_folded(case, tensors))}
    return {name: _one_result("f", net, [tensors["g"]]) for name, net in nets.items()}


def _aggregate_reduce_inference(case: cases.AggregateReduceInference, tensors: Mapping[str, Tensor], fused: bool):
    branches = _branches(case, tensors)
    if fused:
        nets = {"": _fused_aggregate_reduce(case)}
    else:
        nets = {
            f"{name}, folded": _AggregateThen(form, case.agents, _Call(_folded(case, tensors)))
            for name, form in AGGREGATE_FORMS.items()
        }
    return {name: _one_result("f", _fill(net, tensors, training=False), branches) for name, net in nets.items()}


def _reduce_training(case: cases.ReduceTraining, tensors: Mapping[str, Tensor], fused: bool):
    net = _fill(_fused_reduce(case) if fused else _plain_reduce(case), tensors, training=True)
    return {"": _training_candidate(net, [tensors["g"]], ["dg"], tensors["df"])}


def _aggregate_reduce_training(case: cases.AggregateReduceTraining, tensors: Mapping[str, Tensor], fused: bool):
    if fused:
        nets = {"": _fused_aggregate_reduce(case)}
    else:
        nets = {name: _AggregateThen(form, case.agents, _plain_reduce(case)) for name, form in AGGREGATE_FORMS.items()}
    names = [f"da{i}" for i in range(case.agents)]
    branches = _branches(case, tensors)
    return {
        name: _training_candidate(_fill(net, tensors, training=True), branches, names, tensors["df"])
        for name, net in nets.items()
    }


def _fused_dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.dense(x, weight, bias, impl="native")


def _transposing(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ops.BiasAdd()(ops.MatMul(transpose_b=True)(x, weight), bias)  # as nn.Dense has it


DENSE_FORMS: Forms = {"layer": _transposing, "matmul": reference.dense}


def _dense_forward(case: cases.DenseForward, tensors: Mapping[str, Tensor], fused: bool):
    arguments = [tensors[name] for name in ("x", "weight", "bias")]
    forms = {"": _fused_dense} if fused else DENSE_FORMS
    return {name: _one_result("y", _Call(form), arguments) for name, form in forms.items()}


def _dense_backward(case: cases.DenseBackward, tensors: Mapping[str, Tensor], fused: bool):
    arguments = [tensors[name] for name in ("x", "weight", "bias", "dy")]

    def candidate(form: Callable[..., Tensor]) -> Candidate:
        net = _InputGradients(form)
        return Candidate(lambda: dict(zip(("dx", "dweight", "dbias"), _numpy(net(*arguments)), strict=True)))

    return {name: candidate(form) for name, form in ({"": _fused_dense} if fused else DENSE_FORMS).items()}


_BUILDERS: dict[type[Case], Callable[..., dict[str, Candidate]]] = {
    cases.AggregateForward: _aggregate_forward,
    cases.AggregateBackward: _aggregate_backward,
    cases.ReduceInference: _reduce_inference,
    cases.ReduceTraining: _reduce_training,
    cases.AggregateReduceInference: _aggregate_reduce_inference,
    cases.AggregateReduceTraining: _aggregate_reduce_training,
    cases.DenseForward: _dense_forward,
    cases.DenseBackward: _dense_backward,
}


def _numpy(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    return [tensor.asnumpy() for tensor in tensors]


def _one_result(result: str, net: nn.Cell, arguments: Sequence[Tensor]) -> Candidate:
    return Candidate(lambda: {result: net(*arguments).asnumpy()})


def _training_candidate(net: nn.Cell, inputs: Sequence[Tensor], names: Sequence[str], df: Tensor) -> Candidate:
    short = {id(parameter): name for name, parameter in _named_parameters(net)}
    gradients = _AllGradients(net)
    parameters = [short[id(parameter)] for parameter in gradients.parameters]

    def run() -> Arrays:
        by_input, by_parameter = gradients(*inputs, df)
        results = dict(zip(names, _numpy(by_input), strict=True))
        return results | {f"d{name}": g.asnumpy() for name, g in zip(parameters, by_parameter, strict=True)}

    def verify() -> Arrays:
        results = run()
        return results | {name: p.asnumpy().copy() for name, p in _named_parameters(net) if name.startswith("moving")}

    return Candidate(run, verify)


def _named_parameters(net: nn.Cell) -> list[tuple[str, Parameter]]:
    """Parameters by the attribute that holds them; their own names depend on what surrounds the Cell."""
    return [(name.rpartition(".")[2], parameter) for name, parameter in net.parameters_and_names()]


def _fused_reduce(case: cases.ReduceInference | cases.ReduceTraining) -> nn.Cell:
    return maam_ops.FusedReduce(case.channels, case.out_channels, eps=cases.EPS, momentum=cases.MOMENTUM, impl="native")


def _fused_aggregate_reduce(case: cases.AggregateReduceInference | cases.AggregateReduceTraining) -> nn.Cell:
    return maam_ops.FusedAggregateReduce(
        case.agents, case.channels, case.out_channels, eps=cases.EPS, momentum=cases.MOMENTUM, impl="native"
    )


def _plain_reduce(case: cases.ReduceInference | cases.ReduceTraining) -> nn.Cell:
    bn = nn.BatchNorm2d(case.out_channels, eps=cases.EPS, momentum=cases.MOMENTUM)
    return nn.SequentialCell(nn.Conv2d(case.channels, case.out_channels, 1), bn, nn.ReLU())


def _folded(case: cases.ReduceInference, tensors: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Inference with the normalisation folded into weight and bias beforehand, as a careful user would."""
    weight, gamma, beta, mean, variance = (tensors[name].asnumpy() for name in _SMALL)
    scale = gamma / np.sqrt(variance + np.float32(cases.EPS))
    folded = Tensor(weight * scale.reshape(-1, 1, 1, 1))
    bias = Tensor(beta - mean * scale)

    def forward(g):
        return ops.relu(ops.conv2d(g, folded, bias))

    return forward


def _fill(net: nn.Cell, tensors: Mapping[str, Tensor], training: bool) -> nn.Cell:
    """Gives the parameters of a net copies of the case's values."""
    for name, parameter in _named_parameters(net):
        parameter.set_data(tensors[name].copy())
    return net.set_train(training)
