"""An AgentBlock in training: random operands, and forward and backward in float64 NumPy, written from the equations."""

from __future__ import annotations

import numpy as np

from . import oracle
from .maam_case import EPS, conv_same
from .native import Array, launch

MOMENTUM = (0.9, 0.7)
BLOCK = 32  # channels of z2 that stand together

# Of the root mean square of each result; F(4x4, 3x3) rounds about twice as much as a direct sum.
RMS_BOUND = 3e-6
MAX_BOUND = 4e-5
SUM_BOUND = 1e-5  # of gamma and beta: a few numbers, sums over every pixel in which most cancels


def _column(values):
    return values.reshape(1, -1, 1, 1)


def _normalise(z):
    mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3))
    rstd = 1 / np.sqrt(variance + EPS)
    return (z - _column(mean)) * _column(rstd), mean, variance, rstd


def _norm_gradient(dy, normal, gamma, rstd):
    """dZ, d gamma, d beta of y = gamma normal + beta."""
    dgamma, dbeta = (dy * normal).sum((0, 2, 3)), dy.sum((0, 2, 3))
    pixels = dy.size / dy.shape[1]
    dz = _column(gamma * rstd) * (dy - _column(dbeta) / pixels - normal * _column(dgamma) / pixels)
    return dz, dgamma, dbeta


def _conv_gradients(x, weight, dz):
    """dX and dW of conv_same."""
    kernel, (height, width) = weight.shape[2], x.shape[2:]
    edge = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    dweight = np.zeros_like(weight)
    for y in range(kernel):
        for z in range(kernel):
            dweight[:, :, y, z] = oracle.channel_products(dz, padded[:, :, y : y + height, z : z + width])
    return conv_same(dz, weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]), dweight


def windows_of(values):
    batch, channels, height, width = values.shape
    even = values[:, :, : height // 2 * 2, : width // 2 * 2]
    even = even.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return even.transpose(0, 1, 2, 4, 3, 5).reshape(batch, channels, height // 2, width // 2, 4)


def _unpool(picked, shape):
    """The inverse of _windows, zeros elsewhere."""
    batch, channels, height, width = shape
    values = np.zeros(shape)
    part = picked.reshape(batch, channels, height // 2, width // 2, 2, 2).transpose(0, 1, 2, 4, 3, 5)
    values[:, :, : height // 2 * 2, : width // 2 * 2] = part.reshape(batch, channels, height // 2 * 2, width // 2 * 2)
    return values


class AgentBlockCase:
    """Images (B, Cin, H, W), parameters with scales of either sign, and dA."""

    gradients = ("dW1", "dgamma1", "dbeta1", "dW2", "dgamma2", "dbeta2", "dX")

    def __init__(self, images, middle=8, channels=10, kernel=3, *, offset=0, seed=0, mean=0.0):
        rng = np.random.default_rng([seed, *images, middle, channels, kernel])
        self.offset, self.middle, self.channels = offset, middle, channels
        batch, inputs, height, width = images
        self.x = self.array(rng.standard_normal(images) + mean)
        self.constants = Array(np.array([EPS, EPS, *MOMENTUM]), "float64")
        self.first = self._conv_norm(rng, middle, inputs, kernel)
        self.second = self._conv_norm(rng, channels, middle, 3)
        self.da = self.array(rng.standard_normal((batch, channels, height // 2, width // 2)))
        self.saved = None

    def array(self, values):
        return Array(values, "float32", self.offset)

    def _conv_norm(self, rng, outputs, inputs, kernel):
        weight = rng.standard_normal((outputs, inputs, kernel, kernel)) / np.sqrt(inputs * kernel * kernel)
        gamma = rng.uniform(0.5, 1.5, outputs) * rng.choice([-1, 1], outputs)
        vectors = [gamma, *rng.standard_normal((2, outputs)), rng.uniform(0.5, 1.5, outputs)]
        return [self.array(values) for values in (weight, *vectors)]

    def mirrored(self):
        """Images and weights become their own mirror images, so that windows astride the middle hold pairs that only
        rounding tells apart."""
        x, first, second = (a.values + a.values[..., ::-1] for a in (self.x, self.first[0], self.second[0]))
        self.x = self.array(x + 1e-7 * np.random.default_rng(3).standard_normal(x.shape))
        self.first[0], self.second[0] = self.array(first), self.array(second)
        return self

    def forward(self):
        batch, _, height, width = self.x.data.shape
        blocks, taps = -(-self.channels // BLOCK), self.first[0].data[0].size
        a = Array.poisoned(self.da.data.shape, "float32", self.offset)
        self.saved = [
            Array.poisoned((batch, blocks, height, width, BLOCK), "float32", self.offset),
            Array.poisoned((batch, blocks, height // 2, width // 2, BLOCK), "float32", self.offset),
            Array.poisoned((2, self.middle), "float64"),
            Array.poisoned((2, self.channels), "float64"),
            Array.poisoned((taps, self.middle + 1), "float64"),
        ]
        new = [Array.poisoned((n,), "float32", self.offset) for n in (self.middle,) * 2 + (self.channels,) * 2]
        launch("AgentBlockForward", [self.x, self.constants, *self.first, *self.second], [a, *self.saved, *new])
        return [a, *new]

    def backward(self):
        parameters = [*self.first[:3], *self.second[:3]]
        gradients = [Array.poisoned(p.data.shape, "float32", self.offset) for p in parameters]
        # A result has no guard that says it was not written since.
        saved = [Array(a.values, a.dtype, self.offset if a.dtype == "float32" else 0) for a in self.saved]
        inputs = [self.x, self.constants, *parameters, *saved, self.da]
        launch("AgentBlockBackward", inputs, gradients)
        norms = [Array(gradients[i].values, "float32", self.offset) for i in (1, 2, 4, 5)]
        dx = Array.poisoned(self.x.data.shape, "float32", self.offset)
        launch("AgentBlockInputGradient", [*inputs, *norms], [dx])
        return [*gradients, dx]

    def windows(self):
        """ReLU(y2) in windows of the pooling, and which pixel of each is the first maximum."""
        x = self.x.values
        for weight, gamma, beta, *_ in (self.first, self.second):
            normal = _normalise(conv_same(x, weight.values))[0]
            x = np.maximum(normal * _column(gamma.values) + _column(beta.values), 0)
        values = windows_of(x)
        return values, np.arange(4) == values.argmax(-1)[..., None]

    def taken(self, fused_multiply_add):
        """Which pixel of each window the backward takes, from the z2 that the forward has left."""
        z, _, _, (mean, rstd), _ = (array.values for array in self.saved)
        batch, blocks, height, width, _ = z.shape
        z = z.transpose(0, 1, 4, 2, 3).reshape(batch, blocks * BLOCK, height, width)[:, : self.channels]
        gamma, beta = self.second[1].values, self.second[2].values
        scale = (gamma * rstd).astype(np.float32).astype(np.float64)
        shift = (beta - mean * gamma * rstd).astype(np.float32).astype(np.float64)
        product = z * _column(scale)
        if not fused_multiply_add:
            product = product.astype(np.float32)
        windows = windows_of((product + _column(shift)).astype(np.float32))
        return np.arange(4) == windows.argmax(-1)[..., None]

    def expected(self, first=None):
        """Results of forward and backward, each a list of arrays; ``first``: the pixels that count as maxima."""
        x, da = self.x.values, self.da.values
        w1, g1, b1, mm1, mv1 = (a.values for a in self.first)
        w2, g2, b2, mm2, mv2 = (a.values for a in self.second)
        normal1, mean1, variance1, rstd1 = _normalise(conv_same(x, w1))
        y1 = normal1 * _column(g1) + _column(b1)
        a1 = np.where(y1 > 0, y1, 0)
        normal2, mean2, variance2, rstd2 = _normalise(conv_same(a1, w2))
        y2 = normal2 * _column(g2) + _column(b2)
        windows = windows_of(np.where(y2 > 0, y2, 0))
        a = windows.max(-1)
        pixels = x.size / x.shape[1]

        def moved(momentum, old, new):
            return momentum * old + (1 - momentum) * new

        unbiased = pixels / (pixels - 1)
        forward = [
            a,
            moved(MOMENTUM[0], mm1, mean1),
            moved(MOMENTUM[0], mv1, variance1 * unbiased),
            moved(MOMENTUM[1], mm2, mean2),
            moved(MOMENTUM[1], mv2, variance2 * unbiased),
        ]
        if first is None:
            first = np.arange(4) == windows.argmax(-1)[..., None]
        dy2 = _unpool(np.where(first & (windows > 0), da[..., None], 0), y2.shape)
        dz2, dg2, db2 = _norm_gradient(dy2, normal2, g2, rstd2)
        da1, dw2 = _conv_gradients(a1, w2, dz2)
        dz1, dg1, db1 = _norm_gradient(np.where(y1 > 0, da1, 0), normal1, g1, rstd1)
        dx, dw1 = _conv_gradients(x, w1, dz1)
        return forward, [dw1, dg1, db1, dw2, dg2, db2, dx]

    def check(self, scale=1.0):
        forward, backward = self.expected()
        names = ["A", "moving_mean 1", "moving_variance 1", "moving_mean 2", "moving_variance 2", *self.gradients]
        worst = {}
        for name, got, expected in zip(names, self.forward() + self.backward(), forward + backward, strict=True):
            error, unit = got.values - expected, np.sqrt((expected**2).mean())
            assert np.isfinite(got.values).all(), name
            worst[name] = (np.sqrt((error**2).mean()) / unit, np.abs(error).max() / unit)
            rms_bound = SUM_BOUND if name.startswith(("dgamma", "dbeta")) else RMS_BOUND
            assert worst[name][0] <= scale * rms_bound and worst[name][1] <= scale * MAX_BOUND, (name, worst[name])
        return worst
