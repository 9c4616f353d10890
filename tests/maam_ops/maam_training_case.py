"""A training step of the whole module: random operands, and float64 NumPy from the equations, forward and backward."""

from __future__ import annotations

import numpy as np

from . import oracle
from .layers import BatchNorm, conv_input_gradient, conv_same, conv_weight_gradient, first_largest, scatter
from .maam_case import MaamCase
from .native import EPSILON, Array, assert_close, launch


class MaamTrainingCase(MaamCase):
    """A :class:`MaamCase`, dF, and everything that the three training operators read and write."""

    KEEP = 0.75

    def __init__(self, images, channels=8, outputs=12, kernels=(3, 3, 3), *, offset=0, seed=0):
        super().__init__(images, channels, outputs, kernels, offset=offset, seed=seed)
        count = len(kernels)
        self.constants = Array(np.concatenate([self.eps.values, np.full(count + 1, self.KEEP)]), "float64")
        self.df = self.array(np.random.default_rng(seed).standard_normal(self.result_shape))
        self.feature_shape = (images[0], channels, images[2] // 2, images[3] // 2)

    @property
    def parameters(self):
        """alpha, then weight, gamma and beta of every convolution."""
        return [self.alpha, *(array for group in (*self.branches, self.reduce) for array in group[:3])]

    def _result(self, shape, dtype="float32"):
        return Array.poisoned(shape, dtype, self.offset)

    def forward(self):
        taps = self.x.data.shape[1] * max(self.kernels) ** 2
        channels = self.result_shape[1]
        shapes = [self.result_shape, self.feature_shape, self.result_shape, (channels,), (channels,)]
        self.saved = [self._result(shape) for shape in shapes]
        self.saved.append(self._result((taps + 1, taps + 1), "float64"))
        self.saved.append(self._result((len(self.kernels), *self.feature_shape), "uint8"))
        self.moving = [self._result(group[3].data.shape) for group in (*self.branches, self.reduce) for _ in range(2)]
        launch("MaamTraining", [self.x, self.constants, *self.inputs[2:]], [*self.saved, *self.moving])
        return self

    def backward(self):
        self.gradients = [self._result(array.data.shape) for array in self.parameters]
        self.dg = self._result(self.feature_shape)
        operands = [self.x, self.constants, *self.parameters, *(array.frozen() for array in self.saved[1:]), self.df]
        launch("MaamBackward", operands, [*self.gradients, self.dg])
        by_norm = [array for k in range(len(self.kernels)) for array in self.gradients[3 * k + 2 : 3 * k + 4]]
        self.dx = self._result(self.x.data.shape)
        by_norm = [array.frozen() for array in by_norm]
        operands = [self.x, self.constants, *self.parameters, *self.saved[5:], self.dg.frozen(), *by_norm]
        launch("MaamInputGradient", operands, [self.dx])
        return self

    def run(self):
        return self.forward().backward()

    def results(self):
        """Every result of the three operators, by name."""
        names = ["F", "G", "Z", "mean", "rstd", "moments", "pixel"]
        named = dict(zip(names, self.saved, strict=True))
        named |= {f"moving {i}": array for i, array in enumerate(self.moving)}
        named |= {f"gradient {i}": array for i, array in enumerate(self.gradients)}
        return named | {"dG": self.dg, "dX": self.dx}

    def expected(self):
        """The same names and values from the equations, less the moments."""
        eps, x = self.eps.values, self.x.values
        mix = oracle.softmax(self.alpha.values)
        norms, agents, pixels, moving = [], [], [], []
        for k, group in enumerate(self.branches):
            weight, gamma, beta, mean, variance = (array.values for array in group)
            norms.append(BatchNorm(conv_same(x, weight), gamma, beta, eps[k]))
            moving += norms[k].moving(mean, variance, self.KEEP)
            agent, pixel = first_largest(norms[k].y)
            agents.append(agent)
            pixels.append(pixel)
        g = sum(w * agent for w, agent in zip(mix, agents, strict=True))
        weight, gamma, beta, mean, variance = (array.values for array in self.reduce)
        z = conv_same(g, weight)
        last = BatchNorm(z, gamma, beta, eps[-1])
        moving += last.moving(mean, variance, self.KEEP)

        dz, dgamma, dbeta = last.backward(np.where(last.y > 0, self.df.values, 0))
        dg = conv_input_gradient(weight, dz)
        tail = [oracle.channel_products(dz, g)[:, :, None, None], dgamma, dbeta]
        dots = np.array([(dg * agent).sum() for agent in agents])
        gradients, dx = [mix * (dots - mix @ dots)], np.zeros_like(x)
        for k, norm in enumerate(norms):
            dc, dgamma, dbeta = norm.backward(scatter(mix[k] * dg, pixels[k], norm.y.shape))
            weight = self.branches[k][0].values
            gradients += [conv_weight_gradient(x, dc, weight.shape[2]), dgamma, dbeta]
            dx += conv_input_gradient(weight, dc)
        named = {"F": np.where(last.y > 0, last.y, 0), "G": g, "Z": z, "mean": last.mean, "rstd": last.rstd}
        named["pixel"] = np.stack(pixels)
        named |= {f"moving {i}": value for i, value in enumerate(moving)}
        named |= {f"gradient {i}": value for i, value in enumerate([*gradients, *tail])}
        return named | {"dG": dg, "dX": dx}

    def check(self, steps=32):
        """Every result within `steps` roundings of the largest element of its array; of a sum over the pixels, within
        those of the sum of magnitudes where terms cancel."""
        results, expected = self.run().results(), self.expected()
        summed = np.abs(expected["dG"]).sum((0, 2, 3)).max()
        for name, values in expected.items():
            largest = np.abs(values).max()
            scale = max(largest, summed) if name.startswith("gradient") else largest
            bound = 0 if name == "pixel" else steps * EPSILON["float32"] * scale
            assert_close(results[name].values, values, bound, name)
