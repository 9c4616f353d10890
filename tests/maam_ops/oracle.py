"""Float64 NumPy oracles of the operators, written from the equations and independent of MindSpore and of the C++."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np


def softmax(alpha: np.ndarray) -> np.ndarray:
    e = np.exp(alpha - alpha.max())
    return e / e.sum()


def aggregate(alpha: np.ndarray, branches: Sequence[np.ndarray]) -> np.ndarray:
    """Eq. 9."""
    return sum(w * a for w, a in zip(softmax(alpha.ravel()), branches, strict=True))


def aggregate_gradients(
    alpha: np.ndarray, branches: Sequence[np.ndarray], dg: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """d alpha and the dA_i of Eq. 9."""
    w = softmax(alpha.ravel())
    dots = np.array([(dg * a).sum() for a in branches])
    return w * (dots - w @ dots), [weight * dg for weight in w]


def normalise_relu(z, mean, variance, gamma, beta, eps):
    column = (1, -1, 1, 1)
    scaled = (z - mean.reshape(column)) * (gamma / np.sqrt(variance + eps)).reshape(column)
    return np.maximum(scaled + beta.reshape(column), 0)


def channels(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """sum_c weight[o, c] x[b, c, ...]."""
    return np.matmul(weight, _pixels(x)).reshape(x.shape[0], weight.shape[0], *x.shape[2:])


def channel_products(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """sum_bp y[b, o, p] x[b, c, p]: the gradient of the weight of :func:`channels`."""
    return np.matmul(_pixels(y), _pixels(x).swapaxes(1, 2)).sum(0)


def _pixels(x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def conv1x1(g, weight):
    return channels(weight.reshape(weight.shape[0], -1), g)


def reduce_inference(g, weight, gamma, beta, moving_mean, moving_variance, eps=1e-5):
    """Eq. 3 with running statistics."""
    return normalise_relu(conv1x1(g, weight), moving_mean, moving_variance, gamma, beta, eps)


def reduce_training(g, weight, gamma, beta, moving_mean, moving_variance, eps=1e-5, momentum=0.9):
    """Eq. 3 with batch statistics: F and the updated running mean and (unbiased) variance."""
    z = conv1x1(g, weight)
    mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3))
    count = z.size // z.shape[1]
    f = normalise_relu(z, mean, variance, gamma, beta, eps)
    new_mean = momentum * moving_mean + (1 - momentum) * mean
    new_variance = momentum * moving_variance + (1 - momentum) * variance * count / (count - 1)
    return f, new_mean, new_variance


def numeric_gradient(f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Central differences of a scalar function, element by element."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + step
        above = f(x)
        x[i] = kept - step
        gradient[i] = (above - f(x)) / (2 * step)
        x[i] = kept
    return gradient
