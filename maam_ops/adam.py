"""Adam as one operator that updates every parameter of a net in place.

    g = (gradient + decay w) / loss scale
    m = beta1 m + (1 - beta1) g
    v = beta2 v + (1 - beta2) g^2
    w = w - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)

``nn.Adam`` spends two kernels a parameter on its weight decay, each with a pass over memory, and one on the update;
here one kernel reads and writes every element once.

The operator writes its inputs, as MindSpore's own optimizers do: the parameters are marked as written
(``sig_rw.RW_WRITE``) and the operator as one with a side effect on memory, so that in both modes reads before it see
the old values and reads after it the new ones.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops import signature as sig

from maam_ops import _native, _select

OP = "adam"
_SYMBOLS = ("AdamUpdate",)
_WRITTEN = ("beta1_power", "beta2_power", "global_step")


class FusedAdam(nn.Adam):
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

    def __init__(self, params: Any, *args: Any, impl: str = "auto", **kwargs: Any) -> None:
        super().__init__(params, *args, **kwargs)
        self.choice = _select.choose(OP, impl, (sum(parameter.size for parameter in self._parameters),))
        reason = self._why_not_fused()
        if self.choice.impl == _select.NATIVE and reason:
            if _select.is_explicit(impl):
                raise RuntimeError(f"maam_ops.FusedAdam: impl=native: not available: {reason}. Available: reference")
            self.choice = _select.Choice(OP, _select.REFERENCE, f"native cannot: {reason}", {_select.NATIVE: reason})
        self.impl, self.automatic = self.choice.impl, False
        if self.impl == _select.NATIVE:
            self._prepare()

    def _why_not_fused(self) -> str | None:
        for asked, what in (
            (self.use_amsgrad, "AMSGrad"),
            (self.use_lazy, "the lazy form"),
            (self.use_offload, "the offloaded form"),
            (self.is_group_lr, "learning rates by group"),
            (self.dynamic_weight_decay, "weight decay that changes from step to step"),
            (self.is_group and any(self.grad_centralization_flags), "centred gradients"),
            (self.use_parallel, "the parallel optimizer"),
        ):
            if asked:
                return f"{what}: only nn.Adam has it"
        for parameter in self._parameters:
            if parameter.dtype != ms.float32:
                return f"parameter {parameter.name} is {parameter.dtype}, the kernel takes float32"
        return None

    def _prepare(self) -> None:
        decays = self.weight_decay if self.is_group else [self.weight_decay] * self.param_length
        self._decay = Tensor(
            [float(decay.asnumpy()) if on else 0.0 for decay, on in zip(decays, self.decay_flags, strict=True)],
            ms.float32,
        )
        constants = [self.beta1, self.beta2, self.eps, self.reciprocal_scale]
        self._constants = Tensor([float(c.asnumpy()) for c in constants] + [float(self.use_nesterov)], ms.float32)
        self._update = _operator(self.param_length)

    def __call__(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """One step.

        Raises:
            RuntimeError: in PYNATIVE mode, where a parameter shows part of another tensor, or one transposed: the
                kernel would get a copy.
        """
        if self.impl == _select.NATIVE and ms.get_context("mode") == ms.PYNATIVE_MODE:
            for parameter in (*self._parameters, *self.moment1, *self.moment2):
                if not parameter.is_contiguous():
                    raise RuntimeError(
                        f"maam_ops.FusedAdam: params: got {parameter.name} as a view of another tensor, expected "
                        f"memory of its own; give it {parameter.name}.set_data(value.copy())"
                    )
        return super().__call__(gradients)

    def construct(self, gradients):
        if self.impl == "reference":
            return super().construct(gradients)
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


def _as_float(gradients):
    wide = ()
    for gradient in gradients:
        wide += (gradient if gradient.dtype == ms.float32 else gradient.astype(ms.float32),)
    return wide


def _operator(count: int) -> ops.Custom:
    """The update of ``count`` parameters."""
    written = [*_WRITTEN, *(f"{state}{i}" for state in ("value", "moment1_", "moment2_") for i in range(count))]
    names = ["constants", "decay", "learning_rate", *written, *(f"gradient{i}" for i in range(count))]
    operator = _native.custom_op("AdamUpdate", names, ["rate"])
    write, read = sig.sig_rw.RW_WRITE, sig.sig_rw.RW_READ
    operator.set_signatures(tuple(sig.make_sig(name, write if name in written else read) for name in names))
    operator.add_prim_attr("side_effect_mem", True)
    return operator


_select.register(OP, _SYMBOLS)
