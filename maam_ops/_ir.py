"""Parser for ``graph_build_*.ir``, the text in which MindSpore prints the graphs its runtime executes.

The text has a parameter table, then one block per graph. A kernel takes four lines: the node, its abstract types, its
device types, its scope::

      %4(output) = Conv2D(%para26_x, %3) {instance name: conv2d} primitive_attrs: {...}
          : (<Tensor[Float32], (2, 3, 32, 32)>, ...) -> (<Tensor[Float32], (2, 64, 32, 32)>)
          : (<Float32xDefaultFormat[const vector]{2, 3, 32, 32}>, ...) -> (<Float32xDefaultFormat...{2, 64, 32, 32}>)
          # Fullname with scope: (Default/0-Conv2d/Conv2D-op0)

``call @name`` is one kernel made by graph kernel fusion; the block of that name shows what is in it and does not count.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field

# Nodes that order or route values; the runtime launches nothing for them.
_ROUTING = frozenset({"Load", "UpdateState", "MakeTuple", "TupleGetItem", "Depend"})
_DTYPE_BYTES = {
    **dict.fromkeys(("Bool", "Int8", "UInt8"), 1),
    **dict.fromkeys(("Int16", "UInt16", "Float16", "BFloat16"), 2),
    **dict.fromkeys(("Int32", "UInt32", "Float32"), 4),
    **dict.fromkeys(("Int64", "UInt64", "Float64", "Complex64"), 8),
    "Complex128": 16,
}
_BLOCK = re.compile(r"^subgraph @(?P<name>[^(]+)\(")
_NODE = re.compile(r"^  %(?P<id>\d+)\(.*?\) = (?P<kind>call @[^(]+|[\w.]+)\((?P<rest>.*)$")
_PARAMETER = re.compile(
    r"^%(?P<name>para\d+_\S*): <.*?Tensor\[(?P<dtype>\w+)\]\]?, \((?P<shape>[^)]*)\).*IsWeight: (?P<weight>\w+)"
)
_DEVICE_TENSOR = re.compile(r"<(?P<dtype>[A-Za-z]+\d*)x\w+(?:\[[^\]]*\])?\{(?P<shape>[^}]*)\}>")
_DETAIL = re.compile(r"^      [:#] ")  # a constant tensor among the arguments can fill many lines before it
_SCOPE = re.compile(r"# Fullname with scope: \((?P<scope>.*)\)$")
_CUSTOM_FUNCTION = re.compile(r'\b(?:reg_op_name|func_name): "(?P<name>[^"]+)"')


@dataclass(frozen=True)
class Kernel:
    """One kernel of a compiled graph.

    Attributes:
        type: the operator (``"Conv2D"``), ``"Custom:<function>"`` for a custom operator, or the name that graph
            kernel fusion gave its fused kernel.
        scope: where in the net it comes from, e.g. ``"Default/reduce-SequentialCell/0-Conv2d/Conv2D-op0"``.
        output_bytes: memory its outputs need; 0 where it writes into a Parameter.
    """

    type: str
    scope: str
    output_bytes: int


@dataclass(frozen=True)
class Node:
    """One line of a graph: a kernel, or None for routing, and the numbers of the nodes whose values it reads."""

    kernel: Kernel | None
    reads: frozenset[int]


@dataclass(frozen=True)
class KernelGraph:
    """One executed graph.

    Attributes:
        name: MindSpore's name of it.
        parameter_bytes: size of the Parameters it uses.
        input_bytes: size of its other inputs.
        nodes: its nodes by number, in execution order.
    """

    name: str
    parameter_bytes: int
    input_bytes: int
    nodes: dict[int, Node] = field(default_factory=dict)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        return tuple(node.kernel for node in self.nodes.values() if node.kernel)


def parse(text: str) -> list[KernelGraph]:
    """Returns the executed graphs in the text of one ``graph_build_*.ir``.

    Raises:
        ValueError: a tensor has an unknown dtype, or a size that is known at run time only.
    """
    lines = text.splitlines()
    weights: set[str] = set()
    table_bytes = {"true": 0, "false": 0}
    graphs: list[KernelGraph] = []
    current: KernelGraph | None = None
    for index, line in enumerate(lines):
        if parameter := _PARAMETER.match(line):
            table_bytes[parameter["weight"]] += _tensor_bytes(parameter)
            if parameter["weight"] == "true":
                weights.add("%" + parameter["name"])
        elif block := _BLOCK.match(line):
            current = None
            if block["name"].startswith("kernel_graph"):
                current = KernelGraph(block["name"], table_bytes["true"], table_bytes["false"])
                graphs.append(current)
        elif current is not None and (node := _NODE.match(line)):
            end = next(i for i in range(index + 1, len(lines)) if _DETAIL.match(lines[i]))
            call = "\n".join([node["rest"], *lines[index + 1 : end]])
            current.nodes[int(node["id"])] = _node(node["kind"], call, lines[end : end + 4], weights)
    return graphs


def activation_bytes(graph: KernelGraph) -> tuple[int, int]:
    """Peak and sum of a graph's kernel outputs in bytes, kernels one after another, each output freed after its last
    reader. The graph's own results have a reader: the tuple it returns, printed last."""
    producers: dict[int, frozenset[int]] = {}
    last_reader: dict[int, int] = {}
    for number, node in graph.nodes.items():
        read = frozenset().union(*(producers[source] for source in node.reads))
        producers[number] = frozenset({number}) if node.kernel else read
        last_reader |= dict.fromkeys(read, number)
    freed_after: Counter[int] = Counter()
    for number, node in graph.nodes.items():
        if node.kernel:
            freed_after[last_reader.get(number, number)] += node.kernel.output_bytes
    live = peak = total = 0
    for number, node in graph.nodes.items():
        if node.kernel:
            live += node.kernel.output_bytes
            total += node.kernel.output_bytes
            peak = max(peak, live)
        live -= freed_after[number]
    return peak, total


def _node(kind: str, call: str, details: list[str], weights: set[str]) -> Node:
    kind = kind.removeprefix("PrimFunc_")
    arguments = _arguments(call)
    if kind == "UpdateState":
        values: list[str] = []
    elif kind == "Depend":
        values = arguments[:1]
    else:
        values = arguments
    reads = frozenset(int(number) for value in values for number in re.findall(r"%(\d+)\b", value))
    if kind in _ROUTING:
        return Node(None, reads)
    scope = next((found["scope"] for line in details if (found := _SCOPE.search(line))), "")
    if kind.startswith("call @"):
        kind = re.sub(r"-op\d+$", "", scope.rpartition("/")[2])
    elif kind == "Custom" and (custom := _CUSTOM_FUNCTION.search(call)):
        kind = f"Custom:{custom['name'].rpartition(':')[2]}"  # AOT functions are named as <library>:<symbol>
    # Optimizers and assignments write into their first arguments; MindSpore prints results for them all the same.
    in_place = "side_effect_mem: Bool(1)" in call and arguments[:1] and arguments[0] in weights
    return Node(Kernel(kind, scope, 0 if in_place else _output_bytes(details)), reads)


def _arguments(call: str) -> list[str]:
    """Splits ``a, (b, c)) {attrs}`` at the commas of the call's own level."""
    depth, start, found = 0, 0, []
    for position, character in enumerate(call):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            if depth == 0:
                return [*found, call[start:position].strip()]
            depth -= 1
        elif character == "," and depth == 0:
            found.append(call[start:position].strip())
            start = position + 1
    raise ValueError(f"maam_ops.graph: unreadable node in MindSpore's graph: {call[:200]!r}")


def _output_bytes(details: list[str]) -> int:
    line = next((line for line in details if "xDefaultFormat" in line), "")
    return sum(_tensor_bytes(tensor) for tensor in _DEVICE_TENSOR.finditer(line.rpartition(" -> ")[2]))


def _tensor_bytes(tensor: re.Match[str]) -> int:
    extents = [int(extent) for extent in tensor["shape"].split(",") if extent.strip()]
    if tensor["dtype"] not in _DTYPE_BYTES or any(extent < 0 for extent in extents):
        raise ValueError(
            f"maam_ops.graph: tensor {tensor[0][:200]!r}: expected a known dtype and a shape fixed when compiling; "
            "compile for one shape (no set_inputs with None)"
        )
    return _DTYPE_BYTES[tensor["dtype"]] * math.prod(extents)
