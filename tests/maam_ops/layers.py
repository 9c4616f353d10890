"""Layers in float64 NumPy and their gradients, written from the equations, for the cases to put together."""

from __future__ import annotations

import numpy as np

from . import oracle

EPS = 1e-5
NO_PIXEL = 4


def drawn_conv_norm(rng: np.random.Generator, outputs: int, inputs: int, kernel: int) -> list[np.ndarray]:
    """Weight, gamma of either sign, beta, and moving mean and variance."""
    weight = rng.standard_normal((outputs, inputs, kernel, kernel)) / np.sqrt(inputs * kernel * kernel)
    gamma = rng.uniform(0.5, 1.5, outputs) * rng.choice([-1, 1], outputs)
    return [weight, gamma, *rng.standard_normal((2, outputs)), rng.uniform(0.5, 1.5, outputs)]


def column(values: np.ndarray) -> np.ndarray:
    """One value a channel, beside (B, C, H, W)."""
    return values.reshape(1, -1, 1, 1)


def _windows_around(x: np.ndarray, kernel: int) -> list[np.ndarray]:
    """What each tap of a convolution sees, zeros outside of the image."""
    height, width = x.shape[2:]
    edge = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    return [padded[:, :, y : y + height, z : z + width] for y in range(kernel) for z in range(kernel)]


def conv_same(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Stride 1, zeros around that keep the size."""
    taps = weight.reshape(*weight.shape[:2], -1)
    return sum(oracle.channels(taps[:, :, t], window) for t, window in enumerate(_windows_around(x, weight.shape[2])))


def conv_input_gradient(weight: np.ndarray, dc: np.ndarray) -> np.ndarray:
    """d x of `conv_same`."""
    return conv_same(dc, weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1])


def conv_weight_gradient(x: np.ndarray, dc: np.ndarray, kernel: int) -> np.ndarray:
    """d weight of `conv_same`."""
    taps = [oracle.channel_products(dc, window) for window in _windows_around(x, kernel)]
    return np.stack(taps, -1).reshape(*taps[0].shape, kernel, kernel)


def pool_windows(x: np.ndarray) -> np.ndarray:
    """The four pixels of each 2x2 window, stride 2, rounded down: (B, C, H / 2, W / 2, 4)."""
    batch, channels, height, width = x.shape
    even = x[:, :, : height // 2 * 2, : width // 2 * 2].reshape(batch, channels, height // 2, 2, width // 2, 2)
    return even.transpose(0, 1, 2, 4, 3, 5).reshape(batch, channels, height // 2, width // 2, 4)


def max_pool(x: np.ndarray) -> np.ndarray:
    """2x2, stride 2, rounded down."""
    return pool_windows(x).max(-1)


def first_largest(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """2x2 max-pool of ReLU(y), and the pixel it came from; NO_PIXEL where none is above 0."""
    windows = pool_windows(np.where(y > 0, y, 0))
    return windows.max(-1), np.where(windows.max(-1) > 0, windows.argmax(-1), NO_PIXEL)


def unpool(windows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pool_windows`, zeros in what it leaves out."""
    batch, channels, height, width, _ = windows.shape
    even = windows.reshape(batch, channels, height, width, 2, 2).transpose(0, 1, 2, 4, 3, 5)
    result = np.zeros(shape)
    result[:, :, : 2 * height, : 2 * width] = even.reshape(batch, channels, 2 * height, 2 * width)
    return result


def scatter(gradient: np.ndarray, pixel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of `first_largest`'s argument."""
    return unpool(np.where(pixel[..., None] == np.arange(4), gradient[..., None], 0.0), shape)


class BatchNorm:
    """Batch normalisation of z by the statistics of the batch, biased; `keep` is the weight of old statistics."""

    def __init__(self, z: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float = EPS) -> None:
        self.gamma, self.count = gamma, z.size // z.shape[1]
        self.mean, self.variance = z.mean((0, 2, 3)), z.var((0, 2, 3))
        self.rstd = 1 / np.sqrt(self.variance + eps)
        self.normal = (z - column(self.mean)) * column(self.rstd)
        self.y = self.normal * column(gamma) + column(beta)

    def moving(self, mean: np.ndarray, variance: np.ndarray, keep: float) -> tuple[np.ndarray, np.ndarray]:
        unbiased = self.variance * self.count / (self.count - 1)
        return keep * mean + (1 - keep) * self.mean, keep * variance + (1 - keep) * unbiased

    def backward(self, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dz, d gamma, d beta."""
        dgamma, dbeta = (dy * self.normal).sum((0, 2, 3)), dy.sum((0, 2, 3))
        centered = dy - column(dbeta / self.count) - self.normal * column(dgamma / self.count)
        return centered * column(self.gamma * self.rstd), dgamma, dbeta
