"""The C++ operators of the whole module and their gradients; :mod:`maam_ops.maam` has the definition and the Cell."""

from __future__ import annotations

import mindspore as ms
from mindspore import Tensor, ops
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter, MaxPoolGrad
from mindspore.ops.primitive import constexpr

from maam_ops import _native, _select
from maam_ops._check import MAX_BRANCHES, MIN_BRANCHES, is_single
from maam_ops._pool import pool

SYMBOLS = ("MaamInference", "AggregateReduceInferenceBackward")
_TRAINING_SYMBOLS = ("MaamTraining", "MaamBackward", "MaamInputGradient")
MAX_TRAINING_TAPS = 147  # kMaxTrainingTaps of csrc/maam/training.h


def why_not_training(in_channels, kernel_sizes):
    """Why branches of these sizes have no native training, or None where they have."""
    taps = in_channels * max(kernel_sizes) ** 2
    if taps <= MAX_TRAINING_TAPS:
        return _native.missing_reason(_TRAINING_SYMBOLS)
    return (
        f"{in_channels} input channels and kernels of size {max(kernel_sizes)} make patches of {taps} values, native "
        f"training takes at most {MAX_TRAINING_TAPS}"
    )


@constexpr
def chosen(op, impl, shape, training, kernels):
    """The implementation for one call of ``maam`` or ``maam_mix``; ``kernels``: the shapes of the branches' weights."""
    choice = _select.choose(op, impl, shape, training)
    reason = why_not_training(kernels[0][1], [kernel[2] for kernel in kernels]) if training else None
    if choice.impl != "native" or reason is None:
        return choice.impl
    if _select.is_explicit(impl):
        raise RuntimeError(f"maam_ops.{op}: impl=native: not available: {reason}. Use impl='reference'")
    return "reference"


@constexpr
def constants_of(eps, momentum=()):
    """As the small float64 tensor in which they reach the kernels."""
    return Tensor([*eps, *momentum], ms.float64)


def agent_of(x, operands, eps, training=False, momentum=0.9):
    """One branch by its definition, and in training its new running statistics."""
    column = (1, -1, 1, 1)
    weight, gamma, beta, mean, variance = [tensor.astype(ms.float32) for tensor in operands]
    # Buffers, old and new: as in the kernels, no gradient passes through them.
    mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance)
    z = ops.conv2d(x, weight, pad_mode="same")
    statistics = ()
    if training:
        old_mean, old_variance = mean, variance
        elements = z.shape[0] * z.shape[2] * z.shape[3]
        mean = z.mean((0, 2, 3))
        variance = ops.square(z - mean.reshape(column)).mean((0, 2, 3))
        unbiased = variance * (elements / (elements - 1))
        statistics = (
            ops.stop_gradient(momentum * old_mean + (1 - momentum) * mean),
            ops.stop_gradient(momentum * old_variance + (1 - momentum) * unbiased),
        )
    scale = gamma * ops.rsqrt(variance + eps)
    y = (z - mean.reshape(column)) * scale.reshape(column) + beta.reshape(column)
    return pool(ops.relu(y)), statistics


# The CPU's kernels of inference read half images and half convolution weights themselves.
_READS_HALVES = _native.LIBRARY.target == "CPU"


def wide(tensor):
    return tensor if tensor.dtype == ms.float32 else tensor.astype(ms.float32)


def run_native(x, alpha, branches, last, training, momentum, eps):
    """F, or F and the new running statistics, from the operators; arguments as ``maam_ops.functional.maam``."""
    halves = _READS_HALVES and not training
    operands = []
    for group in (*branches, last):
        operands.append(group[0] if halves and is_single(group[0].dtype) else wide(group[0]))
        for tensor in group[1:]:
            operands.append(wide(tensor))
    count = len(branches)
    if training:
        result = _TRAINING[count](wide(x), constants_of(eps, momentum), wide(alpha), *operands)
        f = result[0]
        return (f if f.dtype == x.dtype else f.astype(x.dtype)), result[_SAVED:]
    f = _INFERENCE[count](x if halves else wide(x), constants_of(eps), wide(alpha), *operands)
    return f if f.dtype == x.dtype else f.astype(x.dtype)


def branch_gradients(x, operands, eps, agent, dagent):
    """dX and the gradients of one branch's weight, gamma and beta; zeros for its statistics, which are buffers."""
    weight, gamma, beta, mean, variance = operands
    column = (1, -1, 1, 1)
    rstd = ops.rsqrt(variance + eps)
    normal = (ops.conv2d(x, weight, pad_mode="same") - mean.reshape(column)) * rstd.reshape(column)
    y = normal * gamma.reshape(column) + beta.reshape(column)
    dy = MaxPoolGrad(2, 2, "valid")(ops.relu(y), agent, dagent) * (y > 0)
    dz = dy * (gamma * rstd).reshape(column)
    channels, kernel = weight.shape[0], weight.shape[2]
    dx = ops.Conv2DBackpropInput(channels, kernel, pad_mode="same")(dz, weight, x.shape)
    dweight = Conv2DBackpropFilter(channels, kernel, pad_mode="same")(dz, x, weight.shape)
    none = ops.zeros_like(gamma)
    return dx, (dweight, (dy * normal).sum((0, 2, 3)), dy.sum((0, 2, 3)), none, none)


def _inference_gradients(backward, x, eps, alpha, branches, last, df):
    """The gradients in the order of the operator's inputs. The branches are computed anew, by their definition."""
    dtypes = (x.dtype, last[0].dtype)
    halves = tuple(branch[0].dtype for branch in branches)
    x, df = wide(x), wide(df)
    branches = tuple((wide(branch[0]), *branch[1:]) for branch in branches)
    last = (wide(last[0]), *last[1:])
    values = ops.split(eps, 1)
    agents = []
    for i in range(len(branches)):
        agents.append(agent_of(x, branches[i], values[i].astype(ms.float32))[0])
    constants = ops.concat((values[len(branches)], values[len(branches)]))
    tail = backward(alpha, constants, *last, df, *agents)
    dx = ops.zeros_like(x)
    gradients = ()
    for i in range(len(branches)):
        by_x, by_operands = branch_gradients(x, branches[i], values[i].astype(ms.float32), agents[i], tail[4 + i])
        dx = dx + by_x
        gradients = (*gradients, by_operands[0].astype(halves[i]), *by_operands[1:])
    none = ops.zeros_like(last[1])
    dlast = tail[1].astype(dtypes[1])
    return (dx.astype(dtypes[0]), ops.zeros_like(eps), tail[0], *gradients, dlast, tail[2], tail[3], none, none)


def _training_gradients(backward, input_gradient, arguments, out, df):
    """The gradients in the order of the operator's inputs; zeros for constants and statistics, which are buffers."""
    x, constants, alpha = arguments[:3]
    groups = arguments[3:]
    parameters = ()
    for i in range(len(groups) // 5):
        parameters = parameters + groups[5 * i : 5 * i + 3]
    grads = backward(x, constants, alpha, *parameters, *out[1:_SAVED], df)
    by_norm = ()
    for i in range(len(groups) // 5 - 1):
        by_norm = by_norm + grads[3 * i + 2 : 3 * i + 4]
    # An operator of its own, that a graph drops where nobody asks for dX.
    dx = input_gradient(x, constants, alpha, *parameters, out[5], out[6], grads[len(grads) - 1], *by_norm)
    result = (dx, ops.zeros_like(constants), grads[0])
    for i in range(len(groups) // 5):
        none = ops.zeros_like(groups[5 * i + 1])
        result = result + grads[3 * i + 1 : 3 * i + 4] + (none, none)
    return result


PARAMETERS = ("weight", "gamma", "beta")
STATISTICS = ("mean", "variance")
_RESULTS = ("f", "g", "z", "mean", "rstd", "moments", "pixel")
_SAVED = len(_RESULTS)


def names_of(names, parts):
    return [f"{name}{part}" for part in parts for name in names]


def _inference_op(count):
    parts = (*range(count), "_last")
    groups = [names_of(PARAMETERS + STATISTICS, [part]) for part in parts]
    arguments = ["x", "constants", "alpha", *(name for group in groups for name in group)]
    packed = ", ".join(f"({', '.join(group)})" for group in groups[:-1])
    agents = [f"a{k}" for k in range(count)]
    backward = _native.custom_op(
        "AggregateReduceInferenceBackward",
        ["alpha", "constants", *PARAMETERS, *STATISTICS, "df", *agents],
        ["dalpha", "dweight", "dgamma", "dbeta", *(f"d{name}" for name in agents)],
    )
    bprop = _native.bprop_of(
        arguments,
        f"gradients(backward, x, constants, alpha, ({packed}), ({', '.join(groups[-1])}), dout)",
        gradients=_inference_gradients,
        backward=backward,
    )
    return _native.custom_op("MaamInference", arguments, ["f"], bprop)


def _training_op(count):
    parts = (*range(count), "_last")
    parameters = names_of(PARAMETERS, parts)
    first = ["x", "constants", "alpha"]
    gradients = [f"d{name}" for name in ("alpha", *parameters)]
    backward = _native.custom_op("MaamBackward", [*first, *parameters, *_RESULTS[1:], "df"], [*gradients, "dg"])
    input_gradient = _native.custom_op(
        "MaamInputGradient",
        [*first, *parameters, "moments", "pixel", "dg", *names_of(("dgamma", "dbeta"), range(count))],
        ["dx"],
    )
    arguments = [*first, *names_of(PARAMETERS + STATISTICS, parts)]
    bprop = _native.bprop_of(
        arguments,
        f"gradients(backward, input_gradient, ({', '.join(arguments)}), out, dout[0])",
        gradients=_training_gradients,
        backward=backward,
        input_gradient=input_gradient,
    )
    return _native.custom_op(
        "MaamTraining", arguments, [*_RESULTS, *names_of(("new_mean", "new_variance"), parts)], bprop
    )


def _by_count(make, symbols):
    """By number of branches. Built on import: the graph compiler cannot call a cache."""
    built = _native.missing_reason(symbols) is None
    return tuple(make(count) if built and count >= MIN_BRANCHES else None for count in range(MAX_BRANCHES + 1))


_INFERENCE = _by_count(_inference_op, SYMBOLS)
_TRAINING = _by_count(_training_op, _TRAINING_SYMBOLS)
