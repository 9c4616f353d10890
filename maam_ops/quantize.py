"""A trained MAAM classifier on bytes: ``maam_ops.quantize``.

A real number is scale times byte: activations 0 to 127, one scale a tensor, weights -127 to 127, one scale an output
channel. Normalisations and softmax(alpha) are folded into the weights before these are rounded. The branches of a
channel share their unit, so that their sums can be added as whole numbers. The largest activations come from images to
calibrate on, by one of three rules:

    max         the largest value seen
    percentile  what 99.99 % of the values do not exceed
    mse         the limit with the least mean square error of the values, rounded and cut
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import Parameter, Tensor, nn

from maam_ops import _branch, _int8
from maam_ops._calibrate import Layer, Net, Seen
from maam_ops._cell import parameter_of
from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES
from maam_ops.aggregate import FusedAgentAggregate
from maam_ops.dense import FusedDense
from maam_ops.dense_int8 import DenseInt8
from maam_ops.maam_deep_int8 import MAX_MIDDLE, MaamDeepInt8
from maam_ops.maam_int8 import MaamInt8
from maam_ops.reduce import check_bn, check_conv

RULES = ("max", "percentile", "mse")
BEST = "best"
# Largest bias in units of its sum: that of all branches and the products fit 32 bits together.
_MAX_BIAS = 2.0**27


class QuantizedClassifier(nn.Cell):
    """A MAAM classifier on bytes, images to logits: what :func:`quantize` returns.

    Its parameters are int8, int32 and float32, made once: a classifier that is trained further, or loads other weights,
    has to be quantised again.

    Attributes:
        rule: how the limits of its activations were found.
        losses: by rule, the mean square error of the logits on the images it was calibrated on.

    Inputs:
        X (B, Cin, H, W); float32, float16 or bfloat16.

    Outputs:
        logits, float32 (B, K).
    """

    def __init__(self, module: nn.Cell, layers: Sequence[DenseInt8], rule: str) -> None:
        super().__init__()
        self.module, self.flatten = module, nn.Flatten()
        self.classifier = nn.CellList(list(layers))
        self.rule, self.losses = rule, {}

    def construct(self, x):
        y = self.flatten(self.module(x))
        for layer in self.classifier:
            y = layer(y)
        return y


def quantize(
    branches: Sequence[nn.Cell],
    alpha: Parameter | FusedAgentAggregate,
    conv: nn.Conv2d,
    bn: nn.BatchNorm2d,
    classifier: Sequence[nn.Cell],
    images: np.ndarray | Tensor,
    *,
    rule: str = BEST,
    impl: str = "auto",
) -> QuantizedClassifier:
    """A MAAM classifier in evaluation on bytes, calibrated on images.

    What is quantised is dense(...ReLU(dense(flatten(F)))), F = ReLU(bn(conv(mix([branch(X) for branch in branches])))).
    All parameters are read now and copied: the result does not follow them.

    Args:
        branches: N Cells (2 to 8) as :class:`maam_ops.FusedMAAM` takes for one operator.
        alpha: their learned weights, or the Cell that holds them.
        conv, bn: the 1x1 convolution without bias and its normalisation.
        classifier: dense layers, ``nn.Dense`` or ``maam_ops.FusedDense``; ReLU is between them, whether they have it
            themselves or not, and nothing behind the last.
        images: (B, Cin, H, W), some hundreds of those it will see, as the branches take them.
        rule: "max", "percentile" or "mse" (see the module's description); "best" tries all three and keeps the one
            whose logits are nearest to those in float32 on ``images``.
        impl: "auto", "native" or "reference"; native and reference give the same bits.

    Raises:
        TypeError: parts that are something else.
        ValueError: branches that have no operator on bytes, images or layers that do not fit, or another activation.
        RuntimeError: the implementation asked for is not available here.
    """
    if rule not in (*RULES, BEST):
        raise ValueError(f"maam_ops.quantize: rule: got {rule!r}, expected one of {', '.join((BEST, *RULES))}")
    weights = parameter_of("quantize", alpha, FusedAgentAggregate)
    net = _read(branches, weights, conv, bn, classifier)
    data = np.asarray(images.float().asnumpy() if isinstance(images, Tensor) else images, np.float32)
    inputs = net.branches[0][0].weight.shape[1]
    if data.ndim != 4 or len(data) < 1 or data.shape[1] != inputs or min(data.shape[2:]) < 2:
        raise ValueError(
            f"maam_ops.quantize: images: got shape {data.shape}, expected (B, {inputs}, H, W), B at least 1, H and W "
            "at least 2"
        )
    features = net.layers[0].weight.shape[1]
    if (data.shape[2] // 2) * (data.shape[3] // 2) * len(net.reduce.bias) != features:
        raise ValueError(
            f"maam_ops.quantize: images: got shape {data.shape}, whose F has not the {features} elements that the "
            "first dense layer takes"
        )
    if not np.isfinite(data).all():
        raise ValueError("maam_ops.quantize: images: got NaN or infinity, expected finite values to calibrate on")
    seen = Seen(net, data)
    made: dict[str, QuantizedClassifier] = {}
    losses = {}
    for name in RULES if rule == BEST else (rule,):
        made[name] = _build(net, seen, name, impl)
        got = [made[name](Tensor(data[i : i + 64])).asnumpy() for i in range(0, len(data), 64)]
        losses[name] = float(np.mean(np.square(np.concatenate(got) - seen.logits)))
    best = min(losses, key=losses.get)
    made[best].losses = losses
    return made[best]


def _read(branches, alpha, conv, bn, classifier) -> Net:
    """The classifier's layers; TypeError or ValueError where it is none that runs on bytes."""
    if len(branches) != alpha.size:
        raise ValueError(
            f"maam_ops.quantize: branches: got {len(branches)}, expected {alpha.size}, as alpha has elements"
        )
    if not MIN_BRANCHES <= alpha.size <= MAX_BRANCHES:
        raise ValueError(f"maam_ops.quantize: branches: got {alpha.size}, expected {MIN_BRANCHES} to {MAX_BRANCHES}")
    check_conv("quantize", conv)
    check_bn("quantize", bn, conv.out_channels)
    depth = _branch.convolutions_of(branches[0])
    channels = conv.in_channels
    for i, branch in enumerate(branches):
        reason = _why_not(branch, depth, channels, branches[0])
        if reason is not None:
            raise ValueError(
                f"maam_ops.quantize: branch {i} {reason}. It has no operator on bytes: run this classifier in float32, "
                "float16 or bfloat16"
            )
    _check_classifier(list(classifier))
    mix = alpha.asnumpy().astype(np.float64).ravel()
    mix = np.exp(mix - mix.max())
    mix /= mix.sum()
    read = []
    for share, branch in zip(mix, branches, strict=True):
        cells = list(branch)
        # softmax(alpha) > 0 passes through ReLU and max-pool.
        read.append([_fold(cells[3 * i], cells[3 * i + 1], share if i == depth - 1 else 1) for i in range(depth)])
    layers = []
    for layer in classifier:
        weight = _numbers(layer.weight)
        layers.append(Layer(weight, np.zeros(len(weight)) if layer.bias is None else _numbers(layer.bias)))
    return Net(read, _fold(conv, bn, 1), layers)


def _check_classifier(layers: Sequence[nn.Cell]) -> None:
    """Raise TypeError or ValueError unless these are dense layers, each for the next, that ReLU may stand between."""
    if not layers:
        raise ValueError("maam_ops.quantize: classifier: got no dense layer, expected at least one")
    for i, layer in enumerate(layers):
        if type(layer) not in (nn.Dense, FusedDense):
            raise TypeError(
                f"maam_ops.quantize: classifier: layer {i}: got a {type(layer).__name__}, expected nn.Dense or "
                "FusedDense; the ReLU between them is understood"
            )
        last = i == len(layers) - 1
        activation = _activation(layer)
        if activation is not None and (last or activation != "ReLU"):
            expected = "none behind the last" if last else "ReLU or none"
            raise ValueError(
                f"maam_ops.quantize: classifier: layer {i}: got activation {activation}, expected {expected}"
            )
        if i and layer.weight.shape[1] != layers[i - 1].weight.shape[0]:
            raise ValueError(
                f"maam_ops.quantize: classifier: layer {i}: got {layer.weight.shape[1]} inputs, expected the "
                f"{layers[i - 1].weight.shape[0]} outputs of layer {i - 1}"
            )


def _activation(layer: nn.Dense | FusedDense) -> str | None:
    """What the layer does behind its sum."""
    if isinstance(layer, FusedDense):
        return "ReLU" if layer.relu else None
    return None if layer.activation is None else type(layer.activation).__name__


def _why_not(branch: nn.Cell, depth: int, channels: int, first: nn.Cell) -> str | None:
    if depth not in (1, 2) or _branch.convolutions_of(branch) != depth:
        return (
            f"is {_branch.kinds_of(branch)}, not a SequentialCell of Conv2d, BatchNorm2d, ReLU, once or twice in all "
            "branches, and MaxPool2d"
        )
    conv, bn = branch[0], branch[1]
    if conv.in_channels != first[0].in_channels:
        return f"has {conv.in_channels} input channels, not {first[0].in_channels} as branch 0"
    middle = channels if depth == 1 else first[0].out_channels
    reason = _branch.why_not_conv(conv, bn, middle)
    if middle > MAX_MIDDLE and depth == 2:
        return f"has {middle} channels between its convolutions, more than {MAX_MIDDLE}"
    if depth == 2:
        reason = reason or _branch.why_not_conv(branch[3], branch[4], channels, (3,))
    return reason or _branch.why_not_pool(branch[-1])


def _numbers(parameter: Parameter) -> np.ndarray:
    return parameter.float().asnumpy().astype(np.float64)


def _fold(conv: nn.Conv2d, bn: nn.BatchNorm2d, factor: float) -> Layer:
    gamma, beta, mean, variance = map(_numbers, (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance))
    scale = factor * gamma / np.sqrt(variance + bn.eps)
    return Layer(_numbers(conv.weight) * scale.reshape(-1, 1, 1, 1), factor * beta - mean * scale)


def _build(net: Net, seen: Seen, rule: str, impl: str) -> QuantizedClassifier:
    step = (seen.high - seen.low) / _int8.MAX_ACTIVATION or 1.0
    zero = round(-seen.low / step)
    input_ = (1 / step, zero)
    g, f = seen.g.scale(rule), seen.f.scale(rule)
    reduce, reduce_unit = _whole([net.reduce], [g])
    last = (*reduce[0], reduce_unit / f)
    firsts = [branch[0] for branch in net.branches]
    if not seen.middle:
        branches, unit = _whole(firsts, [step] * len(firsts))
        module = MaamInt8(input_, [_less_zero(branch, zero) for branch in branches], unit / g, *last, impl=impl)
    else:
        middles = [histogram.scale(rule) for histogram in seen.middle]
        branches = []
        for layer, middle in zip(firsts, middles, strict=True):
            (whole,), unit = _whole([layer], [step])
            branches.append((*_less_zero(whole, zero), unit / middle))
        seconds, unit = _whole([branch[1] for branch in net.branches], middles)
        pairs = [(*first, *second) for first, second in zip(branches, seconds, strict=True)]
        module = MaamDeepInt8(input_, pairs, unit / g, *last, impl=impl)
    scales = [f, *(histogram.scale(rule) for histogram in seen.hidden)]
    layers = []
    for i, layer in enumerate(net.layers):
        reordered = _channels_last(layer, len(net.reduce.bias)) if i == 0 else _padded(layer)
        ((weight, bias),), unit = _whole([reordered], [scales[i]])
        relu = i < len(net.layers) - 1
        layers.append(DenseInt8(weight, bias, unit / scales[i + 1] if relu else unit, relu=relu, impl=impl))
    return QuantizedClassifier(module, layers, rule).set_train(False)


def _whole(layers: Sequence[Layer], scales: Sequence[float]) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Weights and biases of layers whose sums are added up, as whole numbers of one unit for each output.

    Args:
        layers: of the same number of outputs.
        scales: of what goes into each.
    """
    rows = [layer.weight.reshape(len(layer.bias), -1) * scale for layer, scale in zip(layers, scales, strict=True)]
    unit = np.max([np.abs(row).max(1) for row in rows], 0) / _int8.MAX_WEIGHT
    unit = np.maximum(unit, np.max([np.abs(layer.bias) for layer in layers], 0) / _MAX_BIAS)
    unit = np.where(unit > 0, unit, 1.0)
    whole = []
    for layer, row in zip(layers, rows, strict=True):
        weight = np.rint(row / unit[:, None]).astype(np.int64).reshape(layer.weight.shape)
        whole.append((weight, np.rint(layer.bias / unit).astype(np.int64)))
    return whole, unit


def _less_zero(layer: tuple[np.ndarray, np.ndarray], zero: int) -> tuple[np.ndarray, np.ndarray]:
    """The bias takes back what `zero` adds to every byte."""
    weight, bias = layer
    return weight, bias - zero * weight.reshape(len(bias), -1).sum(1)


def _channels_last(layer: Layer, channels: int) -> Layer:
    """A dense layer behind F flattened (O, H, W), for F as (H, W, O rounded up)."""
    weight = layer.weight.reshape(len(layer.bias), channels, -1).transpose(0, 2, 1)
    missing = -channels % _int8.QUAD
    return Layer(np.pad(weight, ((0, 0), (0, 0), (0, missing))).reshape(len(layer.bias), -1), layer.bias)


def _padded(layer: Layer) -> Layer:
    return Layer(np.pad(layer.weight, ((0, 0), (0, -layer.weight.shape[1] % _int8.QUAD))), layer.bias)
