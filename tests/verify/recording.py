"""Calls of entry points, kept so that they can be repeated without their oracle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.maam_ops import native
from tests.maam_ops.native import Array


@dataclass
class Recording:
    """What was launched: entry point, inputs, results."""

    calls: list[tuple[str, list[Array], list[Array]]] = field(default_factory=list)

    @property
    def functions(self) -> set[str]:
        return {function for function, _, _ in self.calls}

    def bits(self) -> list[bytes]:
        return [array.data.tobytes() for _, _, outputs in self.calls for array in outputs]

    def again(self) -> list[bytes]:
        """The bits of the same results, computed anew."""
        bits = []
        for function, inputs, outputs in self.calls:
            fresh = [Array.poisoned(array.data.shape, array.dtype) for array in outputs]
            native.launch(function, inputs, fresh)
            bits += [array.data.tobytes() for array in fresh]
        return bits

    def without_oracles(self) -> Recording:
        return Recording([call for call in self.calls if not call[0].endswith("Reference")])


@contextlib.contextmanager
def recorded() -> Iterator[Recording]:
    recording = Recording()

    def wrap(launch: native.Launch) -> native.Launch:
        def record(function, inputs, outputs):
            launch(function, inputs, outputs)
            recording.calls.append((function, list(inputs), list(outputs)))

        return record

    with native.launching(wrap):
        yield recording


def record(run: Callable[[], object]) -> Recording:
    """The launches of one run."""
    with recorded() as recording:
        run()
    return recording
