"""The MAAM classifier as NumPy arrays, from the parameters by their MindSpore names. Needs NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cases import EPS, Arrays, softmax

ALPHA, REDUCE = "maam.fusion.attn_weights", "maam.reduce"
HIDDEN, OUTPUT = "classifier.1", "classifier.3"


@dataclass(frozen=True)
class Layer:
    """A convolution (O, C, k, k) or dense layer (O, K) and its bias."""

    weight: np.ndarray
    bias: np.ndarray

    @property
    def padding(self) -> int:
        return self.weight.shape[-1] // 2


@dataclass(frozen=True)
class Folded:
    """The model in inference, nothing left to compute from constants.

    Batch normalisation is part of the convolutions. The weights of the mix, being positive, pass through ReLU and
    max-pool, so that they are part of each branch's last convolution: G is the plain sum of the branches.

    Attributes:
        branches: convolutions of each branch, all followed by ReLU; then max-pool 2x2.
        reduce: the 1x1 convolution, followed by ReLU.
        hidden: dense, followed by ReLU.
        output: dense.
    """

    branches: tuple[tuple[Layer, ...], ...]
    reduce: Layer
    hidden: Layer
    output: Layer

    def concatenated(self) -> Layer:
        """The first convolution of all branches as one."""
        first = [branch[0] for branch in self.branches]
        return Layer(np.concatenate([layer.weight for layer in first]), np.concatenate([layer.bias for layer in first]))

    def reduce_of_all(self) -> Layer:
        """The 1x1 convolution on the concatenated branches instead of their sum."""
        return Layer(np.tile(self.reduce.weight, (1, len(self.branches), 1, 1)), self.reduce.bias)


def branches_of(arrays: Arrays) -> list[list[tuple[str, str]]]:
    """Names of (convolution, normalisation) of each branch, in order."""
    agents = range(1, arrays[ALPHA].size + 1)
    places = [(f"maam.agent{i}.block", position) for i in agents for position in (0, 3)]
    found: dict[str, list[tuple[str, str]]] = {}
    for block, position in places:
        if f"{block}.{position}.weight" in arrays:
            found.setdefault(block, []).append((f"{block}.{position}", f"{block}.{position + 1}"))
    return list(found.values())


def fold(arrays: Arrays) -> Folded:
    """The model in inference, computed in float64 and kept in float32."""
    branches = []
    for share, names in zip(softmax(arrays[ALPHA].ravel()), branches_of(arrays), strict=True):
        layers = [_convolution(arrays, conv, norm, share if (conv, norm) == names[-1] else 1.0) for conv, norm in names]
        branches.append(tuple(layers))
    return Folded(
        tuple(branches),
        _convolution(arrays, f"{REDUCE}.0", f"{REDUCE}.1", 1.0),
        *(Layer(arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in (HIDDEN, OUTPUT)),
    )


def _convolution(arrays: Arrays, conv: str, norm: str, factor: float) -> Layer:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (arrays[f"{norm}.{name}"].astype(np.float64) for name in names)
    scale = gamma / np.sqrt(variance + EPS)
    weight = arrays[f"{conv}.weight"].astype(np.float64) * (factor * scale).reshape(-1, 1, 1, 1)
    return Layer(weight.astype(np.float32), (factor * (beta - mean * scale)).astype(np.float32))
