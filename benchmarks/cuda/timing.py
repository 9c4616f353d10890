"""Times on the device: CUDA events around single calls, the L2 cache flushed before each, sides in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

import torch

ROUNDS = 41
WARM_UP = 5

Side = Callable[[], object]


class Flush:
    """Writes twice the L2 cache, so that no side finds its operands there."""

    def __init__(self) -> None:
        size = torch.cuda.get_device_properties(0).L2_cache_size
        self._buffer = torch.empty(2 * max(size, 32 << 20), dtype=torch.uint8, device="cuda")

    def __call__(self) -> None:
        self._buffer.zero_()


def race(sides: Mapping[str, Side], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Milliseconds of each side, round by round; all sides run in every round, each first in turn."""
    flush = Flush()
    for side in sides.values():
        for _ in range(WARM_UP):
            side()
    torch.cuda.synchronize()
    times: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            flush()
            # Keeps the device busy while the host queues the call: launch costs of a side with several kernels show,
            # the time Python takes to reach its first one does not.
            torch.cuda._sleep(200_000)
            start.record()
            sides[name]()
            end.record()
            torch.cuda.synchronize()
            times[name].append(start.elapsed_time(end))
    return times


def ratio(times: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """How many times faster `fast` is, the median over rounds."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def copy_bandwidth() -> float:
    """Bytes a second of the device's own copy of 1 GiB, read and written bytes counted."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    times = race({"copy": lambda: target.copy_(source)})["copy"]
    return 2 * source.numel() / (statistics.median(times) * 1e-3)
