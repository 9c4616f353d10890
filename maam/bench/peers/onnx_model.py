"""The classifier as an ONNX model, in the forms among which an engine's own optimiser does not choose."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .weights import Folded, Layer

INPUT, OUTPUT = "images", "logits"
# Old enough for every runtime that the extra admits.
OPSET, IR_VERSION = 17, 9


class _Graph:
    """Nodes and constants under construction; methods return the name of their result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], outputs: int | str = 1, **attributes: object) -> list[str]:
        number = len(self.nodes)
        names = [outputs] if isinstance(outputs, str) else [f"{kind}{number}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"{kind}{number}", **attributes))
        return names

    def constant(self, array: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def convolution(self, x: str, layer: Layer, relu: bool = True) -> str:
        inputs = [x, self.constant(layer.weight), self.constant(layer.bias)]
        kernel = list(layer.weight.shape[2:])
        (y,) = self.node("Conv", inputs, kernel_shape=kernel, pads=[layer.padding] * 4)
        return self.node("Relu", [y])[0] if relu else y

    def dense(self, x: str, layer: Layer, result: int | str = 1) -> str:
        return self.node("Gemm", [x, self.constant(layer.weight), self.constant(layer.bias)], result, transB=1)[0]

    def pool(self, x: str) -> str:
        return self.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])[0]

    def split(self, x: str, parts: int) -> list[str]:
        return self.node("Split", [x], parts, axis=1)


def _separate(graph: _Graph, model: Folded) -> str:
    pooled = []
    for branch in model.branches:
        x = INPUT
        for layer in branch:
            x = graph.convolution(x, layer)
        pooled.append(graph.pool(x))
    return graph.convolution(graph.node("Sum", pooled)[0], model.reduce)


def _concatenated(graph: _Graph, model: Folded) -> str:
    x = graph.convolution(INPUT, model.concatenated())
    if all(len(branch) == 1 for branch in model.branches):
        parts = graph.split(graph.pool(x), len(model.branches))
    else:
        parts = []
        for part, branch in zip(graph.split(x, len(model.branches)), model.branches, strict=True):
            for layer in branch[1:]:
                part = graph.convolution(part, layer)
            parts.append(graph.pool(part))
    return graph.convolution(graph.node("Sum", parts)[0], model.reduce)


def _reduced_at_once(graph: _Graph, model: Folded) -> str:
    x = graph.pool(graph.convolution(INPUT, model.concatenated()))
    return graph.convolution(x, model.reduce_of_all())


def forms(model: Folded, batch: int) -> dict[str, onnx.ModelProto]:
    """The model for one batch size by the name of the form; all compute the same."""
    builders = {"branches apart": _separate, "first convolutions as one": _concatenated}
    if all(len(branch) == 1 for branch in model.branches):
        builders["convolutions as one, 1x1 over all branches"] = _reduced_at_once
    return {name: _model(build, model, batch) for name, build in builders.items()}


def _model(build, model: Folded, batch: int) -> onnx.ModelProto:
    graph = _Graph()
    (flat,) = graph.node("Flatten", [build(graph, model)])
    (hidden,) = graph.node("Relu", [graph.dense(flat, model.hidden)])
    graph.dense(hidden, model.output, OUTPUT)
    channels = model.branches[0][0].weight.shape[1]
    classes = len(model.output.bias)
    side = round((model.hidden.weight.shape[1] / len(model.reduce.bias)) ** 0.5) * 2
    proto = helper.make_graph(
        graph.nodes,
        "maam",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, channels, side, side])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, classes])],
        graph.constants,
    )
    made = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return made
