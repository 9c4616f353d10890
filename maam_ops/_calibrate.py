"""What the activations of a classifier are, over images: the float32 side of :mod:`maam_ops.quantize`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maam_ops import _int8

_PERCENT = 99.99
_CHUNK = 16  # images at a time


@dataclass(frozen=True)
class Layer:
    """A convolution (O, C, k, k) or dense layer (O, K) in float64, normalisation and factor folded in."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Net:
    """The layers of a classifier in evaluation."""

    branches: list[list[Layer]]
    reduce: Layer
    layers: list[Layer]


class Seen:
    """The values of each activation over the images, in histograms, and the logits.

    Attributes:
        low, high: of the images, 0 included.
        middle: for each branch that has a second convolution, what goes into it.
        g, f: as in the equations.
        hidden: what each dense layer but the last gives.
    """

    def __init__(self, net: Net, images: np.ndarray) -> None:
        self.low, self.high = min(0.0, float(images.min())), max(0.0, float(images.max()))
        deep = len(net.branches[0]) == 2
        self.middle = [Histogram() for _ in net.branches if deep]
        self.g, self.f = Histogram(), Histogram()
        self.hidden = [Histogram() for _ in net.layers[:-1]]
        logits = []
        for start in range(0, len(images), _CHUNK):
            x = images[start : start + _CHUNK].transpose(0, 2, 3, 1)
            g = 0.0
            for k, branch in enumerate(net.branches):
                y = x
                for i, layer in enumerate(branch):
                    y = np.maximum(_convolve(y, layer), 0)
                    if i < len(branch) - 1:
                        self.middle[k].add(y)
                g = g + _pool(y)
            self.g.add(g)
            f = np.maximum(_convolve(g, net.reduce), 0)
            self.f.add(f)
            y = f.transpose(0, 3, 1, 2).reshape(len(f), -1)
            for i, layer in enumerate(net.layers):
                y = y @ layer.weight.T.astype(np.float32) + layer.bias.astype(np.float32)
                if i < len(net.layers) - 1:
                    y = np.maximum(y, 0)
                    self.hidden[i].add(y)
            logits.append(y)
        self.logits = np.concatenate(logits)


def _convolve(x: np.ndarray, layer: Layer) -> np.ndarray:
    """(B, H, W, C) -> (B, H, W, O), zeros around."""
    kernel = layer.weight.shape[2]
    edge = kernel // 2
    batch, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    taps = [padded[:, y : y + height, z : z + width] for y in range(kernel) for z in range(kernel)]
    patches = np.stack(taps, -2).reshape(batch * height * width, -1)
    weight = layer.weight.transpose(2, 3, 1, 0).reshape(-1, len(layer.bias)).astype(np.float32)
    return (patches @ weight + layer.bias.astype(np.float32)).reshape(batch, height, width, -1)


def _pool(x: np.ndarray) -> np.ndarray:
    batch, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


class Histogram:
    """Counts of values from 0 on, in bins whose width doubles when a larger value comes."""

    BINS = 4096

    def __init__(self) -> None:
        self.counts = np.zeros(self.BINS)
        self.top = 2.0**-20  # upper edge of the last bin
        self.largest = 0.0

    def add(self, values: np.ndarray) -> None:
        largest = float(values.max(initial=0))
        self.largest = max(self.largest, largest)
        while self.top < largest:
            self.top *= 2
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([pairs, np.zeros(self.BINS // 2)])
        bins = np.minimum((values.ravel() * np.float32(self.BINS / self.top)).astype(np.int64), self.BINS - 1)
        self.counts += np.bincount(bins, minlength=self.BINS)

    def scale(self, rule: str) -> float:
        """Of a byte: the limit by the rule, over the largest byte."""
        if self.largest == 0:
            return 1.0
        return _LIMITS[rule](self) / _int8.MAX_ACTIVATION

    def centres(self) -> np.ndarray:
        return (np.arange(self.BINS) + 0.5) * (self.top / self.BINS)

    def percentile(self) -> float:
        seen = np.cumsum(self.counts)
        bin_ = int(np.searchsorted(seen, _PERCENT / 100 * seen[-1]))
        return min(self.largest, (bin_ + 1) * self.top / self.BINS)

    def least_error(self) -> float:
        centres = self.centres()
        limits = self.largest * np.linspace(0.2, 1, 81)
        errors = []
        for limit in limits:
            step = limit / _int8.MAX_ACTIVATION
            rounded = np.minimum(np.rint(centres / step), _int8.MAX_ACTIVATION) * step
            # Within a bin values are spread evenly; zeros, many behind a ReLU, are exact.
            errors.append(float(self.counts[1:] @ np.square(centres - rounded)[1:]))
        return float(limits[int(np.argmin(errors))])


_LIMITS: dict[str, Callable[[Histogram], float]] = {
    "max": lambda histogram: histogram.largest,
    "percentile": Histogram.percentile,
    "mse": Histogram.least_error,
}
