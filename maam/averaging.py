"""A running average of a net's weights, evaluated instead of the weights themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
from mindspore import Parameter, Tensor

# Entries of a checkpoint that hold the average.
PREFIX = "ema."
# An update reads every weight (10 ms for 8 M of them), so it is made once for so many steps.
EVERY = 8


class WeightAverage:
    """average <- decay^8 average + (1 - decay^8) weights, every eighth step; running statistics included.

    Args:
        parameters: all parameters of the net.
        decay: of the average per step, 0 to 1. Early on it is lower, so that the initial weights are soon forgotten.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = decay**EVERY
        self._values = [parameter.asnumpy().copy() for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Take the weights in, as they are after `step` steps of the run."""
        if step % EVERY:
            return
        count = step // EVERY
        share = np.float32(1 - min(self._decay, count / (count + 9)))
        for value, parameter in zip(self._values, self._parameters, strict=True):
            value += share * (parameter.asnumpy() - value)

    def entries(self) -> list[Parameter]:
        """The average as entries of a checkpoint."""
        return [
            Parameter(Tensor(value), name=PREFIX + parameter.name)
            for value, parameter in zip(self._values, self._parameters, strict=True)
        ]

    def restore(self, entries: Iterable[Parameter]) -> None:
        """Continue from what :meth:`entries` gave, with the values of a checkpoint loaded into it."""
        self._values = [entry.asnumpy().copy() for entry in entries]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The net has the averaged weights inside."""
        kept = [parameter.asnumpy().copy() for parameter in self._parameters]
        self._put(self._values)
        try:
            yield
        finally:
            self._put(kept)

    def _put(self, values: Iterable[np.ndarray]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.set_data(Tensor(value))
