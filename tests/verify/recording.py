"""Calls of entry points, kept so that they can be repeated without their oracle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.maam_ops import native
from tests.maam_ops.native import Array


@dataclass
class Recording:
    """What was launched: entry point, inputs, results; and what operands that it updates held before and after."""

    calls: list[tuple[str, list[Array], list[Array]]] = field(default_factory=list)
    updates: dict[int, list[tuple[Array, bytes, bytes]]] = field(default_factory=dict)

    @property
    def functions(self) -> set[str]:
        return {function for function, _, _ in self.calls}

    def bits(self) -> list[bytes]:
        bits = []
        for i, (_, _, outputs) in enumerate(self.calls):
            bits += [array.data.tobytes() for array in outputs]
            bits += [after for _, _, after in self.updates.get(i, ())]
        return bits

    def again(self) -> list[bytes]:
        """The bits of the same results, computed anew."""
        bits = []
        for i, (function, inputs, outputs) in enumerate(self.calls):
            fresh = [Array.poisoned(array.data.shape, array.dtype) for array in outputs]
            for array, before, _ in self.updates.get(i, ()):
                array.data[...] = np.frombuffer(before, array.data.dtype).reshape(array.data.shape)
            native.launch(function, inputs, fresh)
            bits += [array.data.tobytes() for array in fresh]
            bits += [array.data.tobytes() for array, _, _ in self.updates.get(i, ())]
        return bits

    def without_oracles(self) -> Recording:
        kept = [i for i, call in enumerate(self.calls) if not call[0].endswith("Reference")]
        updates = {new: self.updates[old] for new, old in enumerate(kept) if old in self.updates}
        return Recording([self.calls[i] for i in kept], updates)


@contextlib.contextmanager
def recorded() -> Iterator[Recording]:
    recording = Recording()

    def wrap(launch: native.Launch) -> native.Launch:
        def record(function, inputs, outputs):
            before = {id(array): array.data.tobytes() for array in inputs if array.updated}
            launch(function, inputs, outputs)
            updates = [(array, before[id(array)], array.data.tobytes()) for array in inputs if array.updated]
            if updates:
                recording.updates[len(recording.calls)] = updates
            recording.calls.append((function, list(inputs), list(outputs)))

        return record

    with native.launching(wrap):
        yield recording


def record(run: Callable[[], object]) -> Recording:
    """The launches of one run."""
    with recorded() as recording:
        run()
    return recording
