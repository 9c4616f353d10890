"""An AgentBlock in training: random operands, and forward and backward in float64 NumPy, written from the equations."""

from __future__ import annotations

import numpy as np

from .layers import (
    EPS,
    BatchNorm,
    column,
    conv_input_gradient,
    conv_same,
    conv_weight_gradient,
    drawn_conv_norm,
    pool_windows,
    unpool,
)
from .native import Array, launch

MOMENTUM = (0.9, 0.7)
BLOCK = 32  # channels of z2 that stand together

# Of the root mean square of each result; F(4x4, 3x3) rounds about twice as much as a direct sum.
RMS_BOUND = 3e-6
MAX_BOUND = 4e-5
SUM_BOUND = 1e-5  # of gamma and beta: a few numbers, sums over every pixel in which most cancels


class AgentBlockCase:
    """Images (B, Cin, H, W), parameters with scales of either sign, and dA."""

    gradients = ("dW1", "dgamma1", "dbeta1", "dW2", "dgamma2", "dbeta2", "dX")

    def __init__(self, images, middle=8, channels=10, kernel=3, *, offset=0, seed=0, mean=0.0):
        rng = np.random.default_rng([seed, *images, middle, channels, kernel])
        self.offset, self.middle, self.channels = offset, middle, channels
        batch, inputs, height, width = images
        self.x = self.array(rng.standard_normal(images) + mean)
        self.constants = Array(np.array([EPS, EPS, *MOMENTUM]), "float64")
        self.first = [*map(self.array, drawn_conv_norm(rng, middle, inputs, kernel))]
        self.second = [*map(self.array, drawn_conv_norm(rng, channels, middle, 3))]
        self.da = self.array(rng.standard_normal((batch, channels, height // 2, width // 2)))
        self.saved = None

    def array(self, values):
        return Array(values, "float32", self.offset)

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
            x = np.maximum(BatchNorm(conv_same(x, weight.values), gamma.values, beta.values).y, 0)
        values = pool_windows(x)
        return values, np.arange(4) == values.argmax(-1)[..., None]

    def taken(self, fused_multiply_add):
        """Which pixel of each window the backward takes, from the z2 that the forward has left."""
        z, _, _, (mean, rstd), _ = (array.values for array in self.saved)
        batch, blocks, height, width, _ = z.shape
        z = z.transpose(0, 1, 4, 2, 3).reshape(batch, blocks * BLOCK, height, width)[:, : self.channels]
        gamma, beta = self.second[1].values, self.second[2].values
        scale = (gamma * rstd).astype(np.float32).astype(np.float64)
        shift = (beta - mean * gamma * rstd).astype(np.float32).astype(np.float64)
        product = z * column(scale)
        if not fused_multiply_add:
            product = product.astype(np.float32)
        windows = pool_windows((product + column(shift)).astype(np.float32))
        return np.arange(4) == windows.argmax(-1)[..., None]

    def expected(self, first=None):
        """Results of forward and backward, each a list of arrays; ``first``: the pixels that count as maxima."""
        x, da = self.x.values, self.da.values
        w1, g1, b1, mm1, mv1 = (a.values for a in self.first)
        w2, g2, b2, mm2, mv2 = (a.values for a in self.second)
        norm1 = BatchNorm(conv_same(x, w1), g1, b1)
        a1 = np.where(norm1.y > 0, norm1.y, 0)
        norm2 = BatchNorm(conv_same(a1, w2), g2, b2)
        windows = pool_windows(np.where(norm2.y > 0, norm2.y, 0))
        moved = norm1.moving(mm1, mv1, MOMENTUM[0]) + norm2.moving(mm2, mv2, MOMENTUM[1])
        forward = [windows.max(-1), *moved]
        if first is None:
            first = np.arange(4) == windows.argmax(-1)[..., None]
        dz2, dg2, db2 = norm2.backward(unpool(np.where(first & (windows > 0), da[..., None], 0), norm2.y.shape))
        dz1, dg1, db1 = norm1.backward(np.where(norm1.y > 0, conv_input_gradient(w2, dz2), 0))
        dw1, dw2 = conv_weight_gradient(x, dz1, w1.shape[2]), conv_weight_gradient(a1, dz2, 3)
        return forward, [dw1, dg1, db1, dw2, dg2, db2, conv_input_gradient(w1, dz1)]

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
