"""The probe batch: finding one, and comparing the net before and after on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

try:
    from mindspore.graph.api import _pynative_executor
except ImportError:  # where older releases have it
    from mindspore.common.api import _pynative_executor

from maam_ops._rounding import FACTOR, MOVES, as_double, moved
from maam_ops.fusion.trace import tensors

_FLOATS = (ms.float16, ms.bfloat16, ms.float32, ms.float64)
# Largest difference of outputs, and of gradients, which a normalisation over a small batch amplifies.
_TOLERANCE = {ms.float64: (1e-8, 1e-6), ms.float32: (2e-4, 2e-3), ms.float16: (2e-2, 5e-2), ms.bfloat16: (1e-1, 2e-1)}
_IMAGE_SIDES = (32, 28, 64, 96, 128, 224)


@dataclass(frozen=True)
class Probe:
    """Inputs for one call of the net, and where they come from."""

    inputs: tuple[Any, ...]
    origin: str

    def __str__(self) -> str:
        shapes = ", ".join(f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors(self.inputs))
        return f"{self.origin} {shapes}"


def find_probe(net: nn.Cell, given: Any) -> Probe | None:
    """The user's batch, or one shaped as ``net.set_inputs`` says, or a guess from the first layer that runs, or None.

    Raises:
        TypeError: what the user gave has no Tensor in it.
    """
    if given is not None:
        inputs = tuple(given) if isinstance(given, (list, tuple)) else (given,)
        if not any(True for _ in tensors(inputs)):
            raise TypeError(
                f"maam_ops.fuse: probe: got {type(given).__name__}, expected a Tensor, or a tuple of the net's inputs"
            )
        return Probe(inputs, "given")
    for origin, shapes in _guesses(net):
        rng = np.random.default_rng(0)
        inputs = tuple(Tensor(rng.normal(size=shape), dtype) for shape, dtype in shapes)
        if _runs(net, inputs):
            return Probe(inputs, origin)
    return None


def _guesses(net: nn.Cell) -> Iterator[tuple[str, list[tuple[tuple[int, ...], Any]]]]:
    declared = [tensor for tensor in net.get_inputs() or () if isinstance(tensor, Tensor)]
    if declared:
        yield "from set_inputs", [(_fixed(tensor.shape), tensor.dtype) for tensor in declared]
    for _, cell in net.cells_and_names():
        if isinstance(cell, nn.Conv2d):
            for side in _IMAGE_SIDES:
                yield "guessed", [((2, cell.in_channels, side, side), ms.float32)]
            return
        if isinstance(cell, nn.Dense):
            yield "guessed", [((2, cell.in_channels), ms.float32)]
            return


def _fixed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(extent if extent > 0 else (32 if axis else 2) for axis, extent in enumerate(shape))


def _runs(net: nn.Cell, inputs: tuple[Any, ...]) -> bool:
    with state_kept(net):
        net.set_train(False)
        try:
            for tensor in tensors(net(*inputs)):
                tensor.asnumpy()
        except Exception:  # whatever a stranger's net raises on inputs it is not made for
            return False
    return True


@contextmanager
def state_kept(net: nn.Cell) -> Iterator[None]:
    """Restores training flags and untrained Parameters, such as running statistics."""
    training = [(cell, cell.training) for _, cell in net.cells_and_names()]
    values = [(parameter, parameter.value().copy()) for parameter in _untrained(net)]
    try:
        yield
    finally:
        for cell, mode in training:
            cell.add_flags(training=mode)
        for parameter, value in values:
            parameter.set_data(value)


@dataclass(frozen=True)
class Measured:
    """An array of the net's, how far from it another run may be, and the least scale to measure that against."""

    value: np.ndarray
    tolerance: float
    least_scale: float = 1e-6

    def error(self, other: np.ndarray) -> float:
        """Largest difference, relative to the largest element. NaN equals NaN; infinite for another shape."""
        if other.shape != self.value.shape:
            return float("inf")
        scale = max(np.nanmax(np.abs(self.value), initial=0.0), self.least_scale)
        difference = np.where(np.isnan(self.value) & np.isnan(other), 0.0, other - self.value)
        error = np.abs(difference).max(initial=0.0) / scale
        return float("inf") if np.isnan(error) else float(error)


def observe(net: nn.Cell, probe: Probe) -> dict[str, Measured]:
    """Outputs, gradients and running statistics in evaluation and in training; the net's state stays as it was.

    Cells named Dropout rest, as their results cannot be compared.
    """
    measured: dict[str, Measured] = {}
    for training, label in ((False, "evaluation"), (True, "training")):
        with state_kept(net):
            net.set_train(training)
            for _, cell in net.cells_and_names():
                if "Dropout" in type(cell).__name__:
                    cell.set_train(False)
            measured |= _observe_once(net, probe, label)
    return measured


def loosened(net: nn.Cell, probe: Probe, measured: dict[str, Measured]) -> dict[str, Measured]:
    """The same, with wider tolerances where the net itself is no steadier when its inputs move by rounding."""
    others = [observe(net, Probe(tuple(moved(probe.inputs, seed)), probe.origin)) for seed in range(MOVES)]
    return {
        name: replace(this, tolerance=max(this.tolerance, *(FACTOR * this.error(run[name].value) for run in others)))
        for name, this in measured.items()
    }


def _observe_once(net: nn.Cell, probe: Probe, label: str) -> dict[str, Measured]:
    outputs, gradients = _outputs_and_gradients(net, probe.inputs)
    dtype = next((output.dtype for output in outputs if output.dtype in _FLOATS), ms.float32)
    near, far = _TOLERANCE[dtype]
    measured = {f"output {i} in {label}": Measured(as_double(output), near) for i, output in enumerate(outputs)}
    arrays = {name: as_double(gradient) for name, gradient in gradients.items()}
    # A gradient that is zero in theory, as before a normalisation, is rounding noise next to the others.
    least = 1e-2 * max((np.abs(array).max(initial=0.0) for array in arrays.values()), default=0.0)
    measured |= {
        f"gradient of {name} in {label}": Measured(array, far, max(least, 1e-6)) for name, array in arrays.items()
    }
    statistics = {parameter.name: as_double(parameter) for parameter in _untrained(net)}
    return measured | {f"{name} after {label}": Measured(array, near) for name, array in statistics.items()}


def largest_error(before: dict[str, Measured], after: dict[str, Measured]) -> tuple[float, str | None]:
    """Largest relative error, and what exceeds its tolerance most, or None where all is within."""
    if before.keys() != after.keys():
        return float("inf"), f"results appear or vanish: {sorted(before.keys() ^ after.keys())}"
    errors = {name: measured.error(after[name].value) for name, measured in before.items()}
    worst = max(errors, key=lambda name: errors[name] / before[name].tolerance)
    excess = None
    if errors[worst] > before[worst].tolerance:
        excess = f"{worst}: relative error {errors[worst]:.1e}, tolerance {before[worst].tolerance:.0e}"
    return max(errors.values()), excess


def _outputs_and_gradients(net: nn.Cell, inputs: tuple[Any, ...]) -> tuple[list[Tensor], dict[str, Tensor]]:
    rng = np.random.default_rng(1)
    outputs: list[Tensor] = []

    def scalar(*given: Any) -> Tensor:
        outputs.extend(tensors(net(*given)))
        total = Tensor(0.0, ms.float32)
        for output in outputs:
            if output.dtype in _FLOATS:
                total = total + ops.reduce_sum(
                    output.astype(ms.float32) * Tensor(rng.normal(size=output.shape), ms.float32)
                )
        return total

    parameters = net.trainable_params()
    if not parameters:
        scalar(*inputs)
        return outputs, {}
    gradients = differentiate(scalar, None, parameters, inputs)
    return outputs, {parameter.name: gradient for parameter, gradient in zip(parameters, gradients, strict=True)}


def differentiate(function: Callable[..., Tensor], positions: Any, parameters: Any, inputs: tuple[Any, ...]) -> Any:
    """``ms.grad`` in PYNATIVE mode that may fail: MindSpore by itself would stay in its recording state for good."""
    try:
        return ms.grad(function, positions, parameters)(*inputs)
    except Exception:
        _pynative_executor.clear_res()
        raise


def _untrained(net: nn.Cell) -> list[Parameter]:
    return [parameter for parameter in net.get_parameters() if not parameter.requires_grad]
