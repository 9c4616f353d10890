"""Adam as one operator that updates every parameter of a net in place, with either kind of weight decay.

    FusedAdam                                               FusedAdamWeightDecay
    g = (gradient + decay w) / loss scale                   g = gradient
    m = beta1 m + (1 - beta1) g                             m = beta1 m + (1 - beta1) g
    v = beta2 v + (1 - beta2) g^2                           v = beta2 v + (1 - beta2) g^2
    w = w - rate m / (sqrt(v) + eps)                        w = w - lr (m / (sqrt(v) + eps) + decay w)
    rate = lr sqrt(1 - beta2^t) / (1 - beta1^t)

``nn.Adam`` spends two kernels a parameter on its weight decay, each with a pass over memory, and one on the update;
``nn.AdamWeightDecay`` one a parameter, which takes four times as long as reading and writing the numbers once, or more.
Here one kernel does just that for all parameters.

The operators write their inputs, as MindSpore's own optimizers do: the parameters are marked as written
(``sig_rw.RW_WRITE``) and the operator as one with a side effect on memory, so that in both modes reads before it see
the old values and reads after it the new ones.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.ops import signature as sig
from mindspore.ops.primitive import constexpr

from maam_ops import _native, _select
from maam_ops._check import _same_shape

OP = "adam"
_SYMBOLS = ("AdamUpdate", "AdamWeightDecay")


class _FusedOptimizer:
    """What both optimizers share; a base beside MindSpore's, which has the parameters, the states and the reference.

    Subclasses have `_plain`, the name of MindSpore's, `_moments`, and `_prepare`, which makes `_constants` and the
    operator `_update`.
    """

    def __init__(self, params: Any, *args: Any, impl: str = "auto", **kwargs: Any) -> None:
        super().__init__(params, *args, **kwargs)
        self.choice = _select.choose(OP, impl, (sum(parameter.size for parameter in self._parameters),))
        reason = self._why_not_fused()
        if self.choice.impl == _select.NATIVE and reason:
            if _select.is_explicit(impl):
                raise RuntimeError(
                    f"maam_ops.Fused{self._plain}: impl=native: not available: {reason}. Available: reference"
                )
            self.choice = _select.Choice(OP, _select.REFERENCE, f"native cannot: {reason}", {_select.NATIVE: reason})
        self.impl, self.automatic = self.choice.impl, False
        if self.impl == _select.NATIVE:
            decays = self.weight_decay if self.is_group else [self.weight_decay] * self.param_length
            self._decay = Tensor(
                [decay.asnumpy().item() if on else 0.0 for decay, on in zip(decays, self.decay_flags, strict=True)],
                ms.float32,
            )
            self._names = tuple(parameter.name for parameter in self._parameters)
            self._shapes = tuple(tuple(parameter.shape) for parameter in self._parameters)
            self._prepare()

    def _not_covered(self) -> list[tuple[bool, str]]:
        """Whether each thing that only MindSpore's optimizer does is asked for, and what it is."""
        return [
            (self.is_group_lr, "learning rates by group"),
            (self.dynamic_weight_decay, "weight decay that changes from step to step"),
            (self.is_group and any(self.grad_centralization_flags), "centred gradients"),
            (self.use_parallel, "the parallel optimizer"),
        ]

    def _why_not_fused(self) -> str | None:
        for asked, what in self._not_covered():
            if asked:
                return f"{what}: only nn.{self._plain} has it"
        for parameter in self._parameters:
            if parameter.dtype != ms.float32:
                return f"parameter {parameter.name} is {parameter.dtype}, the kernel takes float32"
        return None

    def __call__(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """One step.

        Raises:
            TypeError, ValueError: the kernel runs and gradients are missing, too many, or of other shapes than the
                parameters.
            RuntimeError: in PYNATIVE mode, where a parameter shows part of another tensor, or one transposed: the
                kernel would get a copy.
        """
        if self.impl == _select.NATIVE and ms.get_context("mode") == ms.PYNATIVE_MODE:
            for parameter in (*self._parameters, *self._moments):
                if not parameter.is_contiguous():
                    raise RuntimeError(
                        f"maam_ops.Fused{self._plain}: params: got {parameter.name} as a view of another tensor, "
                        f"expected memory of its own; give it {parameter.name}.set_data(value.copy())"
                    )
        return super().__call__(gradients)


class FusedAdam(_FusedOptimizer, nn.Adam):
    """``nn.Adam`` in one kernel: the same arguments, states, state names and checkpoints, in float32.

    What the kernel does not do is done by ``nn.Adam`` itself, and ``choice`` (``maam_ops.explain``) says why: AMSGrad,
    the lazy and the offloaded form, learning rates by group, weight decay that changes from step to step, centred
    gradients, parameters of another dtype. Gradients must be dense.

    Args:
        params: as ``nn.Adam``; groups may differ in weight decay.
        *args, **kwargs: as ``nn.Adam``.
        impl: "auto", "native" or "reference", which is ``nn.Adam``.

    Raises:
        RuntimeError: ``impl`` is "native" and the kernel cannot do what was asked for.
    """

    _plain = "Adam"

    def _prepare(self) -> None:
        self._constants = _floats(self.beta1, self.beta2, self.eps, self.reciprocal_scale, float(self.use_nesterov))
        self._update = _operator("AdamUpdate", ("beta1_power", "beta2_power"), self.param_length)

    @property
    def _moments(self) -> tuple[Parameter, ...]:
        return (*self.moment1, *self.moment2)

    def _not_covered(self) -> list[tuple[bool, str]]:
        return [
            (self.use_amsgrad, "AMSGrad"),
            (self.use_lazy, "the lazy form"),
            (self.use_offload, "the offloaded form"),
            *super()._not_covered(),
        ]

    def construct(self, gradients):
        if self.impl == "reference":
            return super().construct(gradients)
        _check_gradients(f"Fused{self._plain}", self._names, self._shapes, _shapes(gradients))
        return self._update(
            self._constants,
            self._decay,
            self.get_lr(),
            self.beta1_power,
            self.beta2_power,
            self.global_step,
            *self._parameters,
            *self.moment1,
            *self.moment2,
            *_as_float(gradients),
        )


class FusedAdamWeightDecay(_FusedOptimizer, nn.AdamWeightDecay):
    """``nn.AdamWeightDecay`` (decoupled decay) in one kernel: the same arguments, states, state names and checkpoints.

    As MindSpore's, and unlike AdamW elsewhere, it does not correct the bias of young moments: the first steps are up to
    three times as long, so it wants a warm-up of the learning rate. Gradients are taken as they are, whatever loss they
    were scaled by. What the kernel does not do is done by ``nn.AdamWeightDecay`` itself, and ``choice``
    (``maam_ops.explain``) says why: learning rates by group, weight decay that changes from step to step, centred
    gradients, parameters of another dtype than float32. Gradients must be dense.

    Args:
        params: as ``nn.AdamWeightDecay``; groups may differ in weight decay.
        *args, **kwargs: as ``nn.AdamWeightDecay``.
        impl: "auto", "native" or "reference", which is ``nn.AdamWeightDecay``.

    Raises:
        RuntimeError: ``impl`` is "native" and the kernel cannot do what was asked for.
    """

    _plain = "AdamWeightDecay"

    def _prepare(self) -> None:
        self._constants = _floats(self.beta1, self.beta2, self.eps)
        self._update = _operator("AdamWeightDecay", (), self.param_length)

    @property
    def _moments(self) -> tuple[Parameter, ...]:
        return (*self.moments1, *self.moments2)

    def construct(self, gradients):
        if self.impl == "reference":
            return super().construct(gradients)
        _check_gradients(f"Fused{self._plain}", self._names, self._shapes, _shapes(gradients))
        return self._update(
            self._constants,
            self._decay,
            self.get_lr(),
            self.global_step,
            *self._parameters,
            *self.moments1,
            *self.moments2,
            *_as_float(gradients),
        )


def _floats(*values: Tensor | float) -> Tensor:
    return Tensor([value.asnumpy().item() if isinstance(value, Tensor) else value for value in values], ms.float32)


def _shapes(gradients):
    """The shapes of a tuple of gradients; None where it is none, or for one that is missing."""
    if not isinstance(gradients, (tuple, list)):
        return None
    shapes = ()
    for gradient in gradients:
        shapes += (None if gradient is None else gradient.shape,)
    return shapes


@constexpr
def _check_gradients(op, names, shapes, got):
    """Raise unless there is one gradient for each parameter, of its shape: the kernel goes by numbers of elements."""
    if got is None:
        raise TypeError(f"maam_ops.{op}: gradients: got no tuple, expected a tuple of {len(names)} Tensors")
    if len(got) != len(names):
        raise ValueError(
            f"maam_ops.{op}: gradients: got {len(got)}, expected {len(names)}, one for each parameter in their order"
        )
    for name, expected, shape in zip(names, shapes, got, strict=True):
        if shape is None:
            raise TypeError(f"maam_ops.{op}: gradients: got None for {name}, expected a Tensor of shape {expected}")
        if not _same_shape(tuple(shape), expected):
            raise ValueError(
                f"maam_ops.{op}: gradients: got shape {tuple(shape)} for {name}, expected {expected} as it has itself"
            )
    return True


def _as_float(gradients):
    wide = ()
    for gradient in gradients:
        wide += (gradient if gradient.dtype == ms.float32 else gradient.astype(ms.float32),)
    return wide


def _operator(symbol: str, powers: tuple[str, ...], count: int) -> ops.Custom:
    """The update of ``count`` parameters; ``powers`` are states of the optimizer that are written besides."""
    states = [f"{state}{i}" for state in ("value", "moment1_", "moment2_") for i in range(count)]
    written = {*powers, "global_step", *states}
    gradients = [f"gradient{i}" for i in range(count)]
    names = ["constants", "decay", "learning_rate", *powers, "global_step", *states, *gradients]
    operator = _native.custom_op(symbol, names, ["rate"])
    write, read = sig.sig_rw.RW_WRITE, sig.sig_rw.RW_READ
    operator.set_signatures(tuple(sig.make_sig(name, write if name in written else read) for name in names))
    operator.add_prim_attr("side_effect_mem", True)
    return operator


_select.register(OP, _SYMBOLS)
