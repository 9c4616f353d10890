"""Tensors of the recorded graph, and built programs that run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Var:
    """An extent known at run time."""

    name: str


Extent = int | Var


@dataclass(eq=False)
class Tensor:
    """A node: a placeholder, or the result of an instruction on other nodes."""

    shape: tuple[Extent, ...]
    dtype: str
    name: str
    inputs: tuple[Tensor, ...] = ()
    evaluate: Callable[..., np.ndarray] | None = None  # of the inputs' values and the extents

    def placeholders(self) -> set[Tensor]:
        if not self.inputs:
            return {self}
        return set().union(*(tensor.placeholders() for tensor in self.inputs))


@dataclass
class Program:
    """One built kernel."""

    name: str
    placeholders: list[Tensor]
    results: list[Tensor]

    def run(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """The results for inputs in the order of the tensor list; extents are taken from the inputs."""
        if len(arrays) != len(self.placeholders):
            raise ValueError(f"{self.name}: {len(arrays)} inputs, expected {len(self.placeholders)}")
        extents: dict[Var, int] = {}
        values: dict[Tensor, np.ndarray] = {}
        for tensor, array in zip(self.placeholders, arrays, strict=True):
            bind(tensor, array, extents)
            values[tensor] = array
        return [evaluate(result, values, extents) for result in self.results]


@dataclass
class Registry:
    programs: list[Program] = field(default_factory=list)


BUILT = Registry()


def bind(tensor: Tensor, array: np.ndarray, extents: dict[Var, int]) -> None:
    """Check an input against its placeholder and note the extents it decides."""
    if array.dtype != np.dtype(tensor.dtype) or array.ndim != len(tensor.shape):
        raise ValueError(f"{tensor.name}: got {array.dtype}{array.shape}, expected {tensor.dtype}{tensor.shape}")
    for extent, actual in zip(tensor.shape, array.shape, strict=True):
        expected = extents.setdefault(extent, actual) if isinstance(extent, Var) else extent
        if expected != actual:
            raise ValueError(f"{tensor.name}: got shape {array.shape}, expected {expected} for {extent}")


def evaluate(tensor: Tensor, values: dict[Tensor, np.ndarray], extents: dict[Var, int]) -> np.ndarray:
    if tensor not in values:
        operands = [evaluate(operand, values, extents) for operand in tensor.inputs]
        values[tensor] = np.asarray(tensor.evaluate(*operands, extents=extents)).astype(tensor.dtype)
    return values[tensor]


def build(name: str, tensors: Sequence[Tensor], scheduled: Sequence[Tensor]) -> Program:
    """Check a tensor list against the schedule's results and the graph behind them."""
    inputs = [tensor for tensor in tensors if not tensor.inputs]
    results = [tensor for tensor in tensors if tensor.inputs]
    if list(tensors) != inputs + results:
        raise RuntimeError(f"{name}: tensor_list: results come after all placeholders")
    if set(results) != set(scheduled):
        raise RuntimeError(f"{name}: tensor_list and schedule have different results")
    used = set().union(*(result.placeholders() for result in results))
    for tensor in inputs:
        if tensor not in used:
            raise RuntimeError(f"{name}: placeholder {tensor.name} is never used")
    for tensor in used:
        if tensor not in inputs:
            raise RuntimeError(f"{name}: placeholder {tensor.name} is not in tensor_list")
    program = Program(name, inputs, results)
    BUILT.programs.append(program)
    return program
