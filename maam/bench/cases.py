"""The work that is measured: inputs, what must come out of them, and what it costs at least.

Needs NumPy alone, so that a side with another framework can load it. Oracles compute in float64.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

Arrays = dict[str, np.ndarray]
EPS, MOMENTUM = 1e-5, 0.9


@dataclass(frozen=True)
class Traffic:
    """What a case cannot do without: streams of `size` float32 read and written once, and float32 FLOPs."""

    reads: int
    writes: int
    size: int
    flops: float

    @property
    def bytes(self) -> int:
        return 4 * self.size * (self.reads + self.writes)


@dataclass(frozen=True)
class Case:
    """One piece of work; subclasses add the sizes.

    Attributes:
        tolerance: largest error allowed for each result, relative to the largest magnitude in it; "" for all others.
    """

    tolerance: ClassVar[dict[str, float]] = {"": 1e-5}

    @property
    def label(self) -> str:
        """The sizes for people."""
        raise NotImplementedError

    def inputs(self) -> Arrays:
        """The same arrays in every process."""
        raise NotImplementedError

    def expected(self, inputs: Arrays) -> Arrays | None:
        """Results in float64; None where another side's results are the truth."""
        raise NotImplementedError

    @property
    def traffic(self) -> Traffic | None:
        """None where no simple bound is known."""
        return None


def to_json(case: Case) -> dict[str, Any]:
    return {"kind": type(case).__name__, **asdict(case)}


def from_json(data: dict[str, Any]) -> Case:
    kinds = {kind.__name__: kind for kind in _kinds(Case)}
    return kinds[data["kind"]](**{name: value for name, value in data.items() if name != "kind"})


def _kinds(base: type[Case]) -> list[type[Case]]:
    return [kind for sub in base.__subclasses__() for kind in [sub, *_kinds(sub)]]


def softmax(alpha: np.ndarray) -> np.ndarray:
    e = np.exp(alpha.astype(np.float64) - alpha.max())
    return e / e.sum()


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


@dataclass(frozen=True)
class _Aggregate(Case):
    batch: int
    channels: int = 128
    agents: int = 3
    grid: int = 16

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.channels, self.grid, self.grid)

    @property
    def size(self) -> int:
        return self.batch * self.channels * self.grid**2

    @property
    def label(self) -> str:
        return f"{self.agents} x {'x'.join(map(str, self.shape))}"

    def branches(self, arrays: Arrays) -> list[np.ndarray]:
        return [arrays[f"a{i}"] for i in range(self.agents)]

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(self.batch)
        alpha = rng.uniform(-1, 1, self.agents).astype(np.float32)
        return {"alpha": alpha, **{f"a{i}": _random(rng, self.shape) for i in range(self.agents)}}


@dataclass(frozen=True)
class AggregateForward(_Aggregate):
    """alpha, A_1..A_N -> G"""

    def expected(self, inputs: Arrays) -> Arrays:
        weights = softmax(inputs["alpha"])
        return {"g": _weighted_sum(weights, self.branches(inputs))}

    @property
    def traffic(self) -> Traffic:
        return Traffic(self.agents, 1, self.size, (2.0 * self.agents - 1) * self.size)


@dataclass(frozen=True)
class AggregateBackward(_Aggregate):
    """alpha, A_1..A_N, dG -> d alpha, dA_1..dA_N"""

    # d alpha is a difference of sums over every element, in which most of it cancels.
    tolerance: ClassVar = {"": 1e-5, "dalpha": 2e-3}

    def inputs(self) -> Arrays:
        return {**super().inputs(), "dg": _random(np.random.default_rng(self.batch + 1), self.shape)}

    def expected(self, inputs: Arrays) -> Arrays:
        return _aggregate_backward(softmax(inputs["alpha"]), self.branches(inputs), inputs["dg"])

    @property
    def traffic(self) -> Traffic:
        return Traffic(self.agents + 1, self.agents, self.size, 3.0 * self.agents * self.size)


@dataclass(frozen=True)
class _Reduce(Case):
    batch: int
    channels: int = 64
    out_channels: int = 128
    grid: int = 16

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, self.channels, self.grid, self.grid)

    @property
    def label(self) -> str:
        return f"{'x'.join(map(str, self.shape))} -> {self.out_channels}"

    @property
    def size(self) -> int:
        return self.batch * self.channels * self.grid**2

    @property
    def flops(self) -> float:
        return 2.0 * self.size * self.out_channels

    def small_inputs(self) -> Arrays:
        """Weight, normalisation and running statistics."""
        rng = np.random.default_rng(7)
        width = self.out_channels
        weight = _random(rng, (width, self.channels, 1, 1)) / np.float32(np.sqrt(self.channels))
        vectors = {name: rng.uniform(0.5, 1.5, width).astype(np.float32) for name in ("gamma", "moving_variance")}
        vectors |= {name: _random(rng, (width,)) for name in ("beta", "moving_mean")}
        return {"weight": weight, **vectors}

    def inputs(self) -> Arrays:
        return {**self.small_inputs(), "g": _random(np.random.default_rng(self.batch), self.shape)}


@dataclass(frozen=True)
class ReduceInference(_Reduce):
    """G -> F by running statistics"""

    def expected(self, inputs: Arrays) -> Arrays:
        return {"f": _reduce_inference(inputs["g"].astype(np.float64), inputs)}

    @property
    def traffic(self) -> Traffic:
        return Traffic(1, self.out_channels // self.channels, self.size, self.flops)


_TRAINING_TOLERANCE = {"": 1e-4, "dweight": 1e-3, "dgamma": 1e-3, "dbeta": 1e-3, "dalpha": 5e-3}


@dataclass(frozen=True)
class ReduceTraining(_Reduce):
    """G, dF -> dG, dW, d gamma, d beta, and updated running statistics"""

    tolerance: ClassVar = _TRAINING_TOLERANCE

    def inputs(self) -> Arrays:
        arrays = super().inputs()
        return {**arrays, "df": _away_from_kink(arrays["g"], arrays)}

    def expected(self, inputs: Arrays) -> Arrays:
        return _reduce_training(inputs["g"].astype(np.float64), inputs)


@dataclass(frozen=True)
class _AggregateReduce(_Reduce):
    agents: int = 3

    @property
    def label(self) -> str:
        return f"{self.agents} x {super().label}"

    def branches(self, arrays: Arrays) -> list[np.ndarray]:
        return [arrays[f"a{i}"] for i in range(self.agents)]

    def inputs(self) -> Arrays:
        return {**self.small_inputs(), **AggregateForward(self.batch, self.channels, self.agents, self.grid).inputs()}


@dataclass(frozen=True)
class AggregateReduceInference(_AggregateReduce):
    """alpha, A_1..A_N -> F by running statistics"""

    def expected(self, inputs: Arrays) -> Arrays:
        return {"f": _reduce_inference(_weighted_sum(softmax(inputs["alpha"]), self.branches(inputs)), inputs)}

    @property
    def traffic(self) -> Traffic:
        flops = self.flops + 2.0 * self.agents * self.size
        return Traffic(self.agents, self.out_channels // self.channels, self.size, flops)


@dataclass(frozen=True)
class AggregateReduceTraining(_AggregateReduce):
    """alpha, A_1..A_N, dF -> d alpha, dA_1..dA_N, dW, d gamma, d beta, and updated running statistics"""

    tolerance: ClassVar = _TRAINING_TOLERANCE

    def inputs(self) -> Arrays:
        arrays = super().inputs()
        g = _weighted_sum(softmax(arrays["alpha"]), self.branches(arrays))
        return {**arrays, "df": _away_from_kink(g, arrays)}

    def expected(self, inputs: Arrays) -> Arrays:
        weights, branches = softmax(inputs["alpha"]), self.branches(inputs)
        results = _reduce_training(_weighted_sum(weights, branches), inputs)
        dg = results.pop("dg")
        return results | _aggregate_backward(weights, branches, dg)


@dataclass(frozen=True)
class _Dense(Case):
    batch: int
    features: int = 32768
    outputs: int = 256

    @property
    def label(self) -> str:
        return f"{self.batch}x{self.features} -> {self.outputs}"

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(self.batch)
        weight = _random(rng, (self.outputs, self.features)) / np.float32(np.sqrt(self.features))
        return {
            "x": _random(rng, (self.batch, self.features)),
            "weight": weight,
            "bias": _random(rng, (self.outputs,)),
        }

    @property
    def flops(self) -> float:
        return 2.0 * self.batch * self.features * self.outputs


@dataclass(frozen=True)
class DenseForward(_Dense):
    """x, W, b -> y"""

    def expected(self, inputs: Arrays) -> Arrays:
        x, weight, bias = (inputs[name].astype(np.float64) for name in ("x", "weight", "bias"))
        return {"y": x @ weight.T + bias}

    @property
    def traffic(self) -> Traffic:
        return Traffic(1, 1, self.batch * self.features, self.flops)


@dataclass(frozen=True)
class DenseBackward(_Dense):
    """x, W, dy -> dx, dW, db"""

    def inputs(self) -> Arrays:
        return {**super().inputs(), "dy": _random(np.random.default_rng(self.batch + 1), (self.batch, self.outputs))}

    def expected(self, inputs: Arrays) -> Arrays:
        x, weight, dy = (inputs[name].astype(np.float64) for name in ("x", "weight", "dy"))
        return {"dx": dy @ weight, "dweight": dy.T @ x, "dbias": dy.sum(0)}

    @property
    def traffic(self) -> Traffic:
        return Traffic(1, 1, self.batch * self.features, 2 * self.flops)


@dataclass(frozen=True)
class Operator(Case):
    """One operator's Cell at the sizes of the classifier; the reference is the truth

    Attributes:
        op: as ``maam_ops.info()`` has it.
        batch: images; for "adam" thousands of elements.
        call: "inference", "training" (gradients of parameters and inputs) or "both" one after the other.
    """

    op: str
    batch: int
    call: str

    # Gradients cancel, and ReLU and max-pool turn a rounding into another path.
    tolerance: ClassVar = {"": 2e-2}
    SHAPES: ClassVar = {
        "agent_aggregate": ((128, 16, 16),) * 3,
        "reduce": ((64, 16, 16),),
        "aggregate_reduce": ((64, 16, 16),) * 3,
        "maam": ((3, 32, 32),),
        "maam_deep": ((3, 32, 32),),
        "maam_mix": ((3, 32, 32),),
        "agent_block": ((3, 32, 32),),
        "conv_block": ((64, 16, 16),),
        "dense": ((32768,),),
        "cross_entropy": ((10,),),
        "adam": ((1000,), (1000,)),
    }

    @property
    def label(self) -> str:
        return f"batch {self.batch}, {self.call}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first operand."""
        return (self.batch, *self.SHAPES[self.op][0])

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(self.batch)
        arrays = {f"x{i}": _random(rng, (self.batch, *shape)) for i, shape in enumerate(self.SHAPES[self.op])}
        if self.op == "cross_entropy":
            arrays["labels"] = rng.integers(0, 10, self.batch).astype(np.int32)
        return arrays

    def expected(self, inputs: Arrays) -> None:
        return None


@dataclass(frozen=True)
class OptimizerStep(Case):
    """values, gradients -> values after the first step of Adam

    Attributes:
        decay: "l2" or "decoupled", as :class:`maam.TrainConfig` has it.
        size: elements, by default about those of the preset authors.
    """

    decay: str
    size: int = 8_400_000

    # Less than a thousandth of a step.
    tolerance: ClassVar = {"": 1e-6}
    BETAS: ClassVar = (0.9, 0.999)
    LEARNING_RATE: ClassVar = 1e-2
    WEIGHT_DECAY: ClassVar = 1e-2
    EPS: ClassVar = 1e-8

    @property
    def label(self) -> str:
        return f"{self.size:,} elements, {self.decay} decay"

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(0)
        return {name: _random(rng, (self.size,)) for name in ("values", "gradients")}

    def expected(self, inputs: Arrays) -> Arrays:
        values, g = (inputs[name].astype(np.float64) for name in ("values", "gradients"))
        beta1, beta2 = self.BETAS
        if self.decay == "l2":
            g += self.WEIGHT_DECAY * values
            # From moments of zero, the correction of their bias makes them the gradient and its square.
            return {"value": values - self.LEARNING_RATE * g / (np.abs(g) + self.EPS / np.sqrt(1 - beta2))}
        direction = (1 - beta1) * g / (np.sqrt(1 - beta2) * np.abs(g) + self.EPS)
        return {"value": values - self.LEARNING_RATE * (direction + self.WEIGHT_DECAY * values)}


@dataclass(frozen=True)
class _Model(Case):
    batch: int
    preset: str = "authors"

    @property
    def label(self) -> str:
        return f"batch {self.batch}"

    def inputs(self) -> Arrays:
        rng = np.random.default_rng(self.batch)
        images = rng.random((self.batch, 3, 32, 32), dtype=np.float32)
        return {"images": images, "labels": rng.integers(0, 10, self.batch).astype(np.int32)}

    def expected(self, inputs: Arrays) -> None:
        """The plain MindSpore side is the truth: there is no second implementation of the whole model."""
        return None


@dataclass(frozen=True)
class ModelInference(_Model):
    """images -> logits"""

    tolerance: ClassVar = {"": 1e-4}


@dataclass(frozen=True)
class ModelInferenceInt8(ModelInference):
    """As :class:`ModelInference`, on bytes, calibrated on images of the same kind"""

    tolerance: ClassVar = {"": 2e-1}

    def inputs(self) -> Arrays:
        images = np.random.default_rng(0).random((64, 3, 32, 32), dtype=np.float32)
        return {**super().inputs(), "calibration": images}


@dataclass(frozen=True)
class ModelStep(_Model):
    """images, labels -> loss; checked: loss, logits, and every gradient as Adam's first moment holds it"""

    tolerance: ClassVar = {"": 1e-3, "logits": 1e-4, "loss": 1e-5}


@dataclass(frozen=True)
class DeepModelStep(ModelStep):
    """As :class:`ModelStep`, with two convolutions a branch"""

    preset: str = "deep"
    # Of two million pooling windows a branch, a few have their largest pixels within a rounding of each other. There
    # the sides take different paths, which changes the gradients of one channel by up to two hundredths of the largest;
    # all other channels agree to 3e-6. Either gradient is the exact one of its path.
    tolerance: ClassVar = {"": 5e-2, "logits": 1e-4, "loss": 1e-5}


class _Stored:
    """Images, labels and weights of a model from a file, for sides of other frameworks to work on the same.

    Attributes:
        path: .npz of images, labels, calibration images, and each parameter by the name MindSpore has for it.
    """

    path: str
    batch: int

    def inputs(self) -> Arrays:
        with np.load(self.path) as stored:
            arrays = dict(stored)
        return arrays | {name: arrays[name][: self.batch] for name in ("images", "labels")}


@dataclass(frozen=True)
class StoredInference(_Stored, ModelInference):
    """images -> logits, computed in `precision`; the truth is always that of float32"""

    path: str = ""
    precision: str = "float32"

    # What a change of arithmetic may cost, relative to the largest logit.
    TOLERANCES: ClassVar = {"float32": 1e-4, "bfloat16": 5e-2, "int8": 2e-1}

    @property
    def tolerance(self) -> dict[str, float]:
        return {"": self.TOLERANCES[self.precision]}

    @property
    def label(self) -> str:
        return f"{self.precision}, batch {self.batch}"


@dataclass(frozen=True)
class StoredStep(_Stored, ModelStep):
    """As :class:`ModelStep`"""

    path: str = ""
    # A rounding turns ReLU and max-pool in the flat parts of real images, many pixels at once: measured, that moves one
    # normalisation's gradient by 1.1e-2 in MindSpore, where PyTorch and the fused operators agree to 2e-4.
    tolerance: ClassVar = {"": 3e-2, "logits": 1e-4, "loss": 1e-5}


@dataclass(frozen=True)
class ModelLosses(_Model):
    """images, labels -> losses of the first optimisation steps, which no wrong gradient or optimizer would give

    The initial weights come from :meth:`weight`, so that another framework can start from them.
    """

    tolerance: ClassVar = {"": 1e-3}
    STEPS: ClassVar = 3

    @staticmethod
    def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The same values for a name everywhere: uniform, as wide as He et al. have it for ReLU."""
        rng = np.random.default_rng(list(name.encode()))
        limit = np.sqrt(6 / max(int(np.prod(shape[1:])), 1))
        return rng.uniform(-limit, limit, shape).astype(np.float32)


@dataclass(frozen=True)
class ModelLossesHalf(ModelLosses):
    """As :class:`ModelLosses`, computed in half precision."""

    tolerance: ClassVar = {"": 5e-2}


def _weighted_sum(weights: np.ndarray, branches: list[np.ndarray]) -> np.ndarray:
    total = weights[0] * branches[0].astype(np.float64)
    for weight, branch in zip(weights[1:], branches[1:], strict=True):
        # A float64 scalar times a float32 array would be float32.
        total += weight * branch.astype(np.float64)
    return total


def _aggregate_backward(weights: np.ndarray, branches: list[np.ndarray], dg: np.ndarray) -> Arrays:
    dg = dg.astype(np.float64)
    dots = np.array([np.vdot(dg, branch.astype(np.float64)) for branch in branches])
    results = {"dalpha": weights * (dots - weights @ dots)}
    return results | {f"da{i}": weight * dg for i, weight in enumerate(weights)}


def _column(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float64).reshape(1, -1, 1, 1)


def _conv1x1(g: np.ndarray, weight: np.ndarray) -> np.ndarray:
    matrix = weight.reshape(weight.shape[0], -1).astype(np.float64)
    return np.matmul(matrix, g.reshape(*g.shape[:2], -1)).reshape(g.shape[0], -1, *g.shape[2:])


def _reduce_inference(g: np.ndarray, small: Arrays) -> np.ndarray:
    scale = _column(small["gamma"]) / np.sqrt(_column(small["moving_variance"]) + EPS)
    z = _conv1x1(g, small["weight"])
    return np.maximum((z - _column(small["moving_mean"])) * scale + _column(small["beta"]), 0)


def _normalised(g: np.ndarray, small: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Batch-normalised convolution, before scale and shift; 1 / deviation; mean; biased variance."""
    z = _conv1x1(g.astype(np.float64), small["weight"])
    mean, variance = z.mean((0, 2, 3)), z.var((0, 2, 3))
    inverse = 1 / np.sqrt(variance + EPS)
    return (z - _column(mean)) * _column(inverse), inverse, mean, variance


def _away_from_kink(g: np.ndarray, small: Arrays) -> np.ndarray:
    """A random dF, zero where ReLU's input is so near zero that rounding would decide about the gradient."""
    x, *_ = _normalised(g, small)
    near = np.abs(x * _column(small["gamma"]) + _column(small["beta"])) < 1e-3
    return np.where(near, np.float32(0), _random(np.random.default_rng(11), x.shape))


def _reduce_training(g: np.ndarray, inputs: Arrays) -> Arrays:
    x, inverse, mean, variance = _normalised(g, inputs)
    gamma = inputs["gamma"].astype(np.float64)
    dy = np.where(x * _column(gamma) + _column(inputs["beta"]) > 0, inputs["df"].astype(np.float64), 0)
    count = x.size // x.shape[1]
    dbeta, dgamma = dy.sum((0, 2, 3)), (dy * x).sum((0, 2, 3))
    dz = _column(gamma * inverse) * (dy - _column(dbeta) / count - x * _column(dgamma) / count)
    weight = inputs["weight"].astype(np.float64)
    dweight = np.einsum("bop,bcp->oc", dz.reshape(*dz.shape[:2], -1), g.reshape(*g.shape[:2], -1), optimize=True)
    return {
        "dg": _conv1x1(dz, weight.reshape(weight.shape[0], -1).T),
        "dweight": dweight.reshape(weight.shape),
        "dgamma": dgamma,
        "dbeta": dbeta,
        "moving_mean": MOMENTUM * inputs["moving_mean"].astype(np.float64) + (1 - MOMENTUM) * mean,
        "moving_variance": MOMENTUM * inputs["moving_variance"].astype(np.float64)
        + (1 - MOMENTUM) * variance * count / (count - 1),
    }
