"""Model presets: the MAAM classifier in three sizes, its ablations and the baselines it is compared with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mindspore import nn

from ..errors import MaamError
from .baselines import BASELINES, BaselineConfig
from .config import PRESETS, MaamConfig, check_known
from .network import DTYPES, Maam
from .quantized import quantize

__all__ = [
    "DTYPES",
    "IMPLEMENTATIONS",
    "MaamConfig",
    "check_options",
    "create_model",
    "list_presets",
    "quantize",
    "store_as",
]

IMPLEMENTATIONS = ("auto", "native", "reference")


def list_presets() -> tuple[str, ...]:
    """Names accepted by :func:`create_model`."""
    return (*PRESETS, *BASELINES)


def check_options(preset: str, names: Iterable[Any]) -> None:
    """Raise :class:`MaamError` for an unknown preset, or a name that is no option of its models."""
    check_known(_config_of(preset), names)


def _config_of(preset: str) -> MaamConfig | BaselineConfig:
    if preset in PRESETS:
        return PRESETS[preset]
    if preset in BASELINES:
        return BASELINES[preset][1]
    raise MaamError(f"create_model: unknown preset {preset!r}; the presets are {', '.join(list_presets())}")


def store_as(net: nn.Cell, dtype: str) -> nn.Cell:
    """The model with weights and feature maps in ``dtype``, for inference, see :meth:`Maam.store_as`.

    Raises:
        MaamError: another dtype than "float32", "float16" and "bfloat16", or a model that has no half form.
    """
    if isinstance(net, Maam):
        return net.store_as(dtype)
    if dtype not in DTYPES:
        raise MaamError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if dtype != "float32":
        raise MaamError(f"dtype {dtype}: {type(net).__name__} has no fused operators, expected float32")
    return net


def create_model(
    preset: str = "authors", num_classes: int = 10, impl: str = "auto", dtype: str = "float32", **overrides: Any
) -> nn.Cell:
    """Build a classifier: images (B, in_channels, image_size, image_size) float32 -> logits (B, num_classes).

    Args:
        preset: "authors" (8,405,453 parameters), "deep" (8.64 M), "2.3m", "best", "multi-scale"; ablations
            "no-attention", "no-reduce", "plain-cnn"; baselines "cnn", "cnn-small", "mlp", "rnn", "rnn-plain".
        num_classes: number of logits.
        impl: "auto" uses the fused operators and lets them choose their implementation, "native" insists on their
            compiled kernels, "reference" builds the same net from plain MindSpore cells. Parameter names, initial
            values for one `mindspore.set_seed` and checkpoints are the same for all three. The baselines have no
            fused operator: for them "native" is refused.
        dtype: "float32"; or "float16" or "bfloat16" for inference in half the memory: weights and feature maps are
            stored so, arithmetic and logits stay float32. Checkpoints are float32: load one first, and then
            ``maam.models.store_as(net, dtype)``. To train in mixed precision: ``mindspore.amp``, or
            ``maam train --amp``.
        **overrides: fields of :class:`MaamConfig` (``num_agents=5``, ``kernel_size=(1, 3, 5)`` ...); of the
            baselines ``hidden``, ``in_channels``, ``image_size``.

    Raises:
        MaamError: unknown preset, option or implementation, or an option outside its range.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise MaamError(f"create_model: num_classes must be an integer of at least 2, got {num_classes!r}")
    if impl not in IMPLEMENTATIONS:
        raise MaamError(f"create_model: impl must be one of {', '.join(IMPLEMENTATIONS)}, got {impl!r}")
    config = _config_of(preset).replace(**overrides)
    if isinstance(config, MaamConfig):
        return store_as(Maam(config, num_classes, impl), dtype)
    if impl == "native":
        raise MaamError(f"create_model: preset {preset!r} has no fused operator; use impl='auto' or 'reference'")
    return store_as(BASELINES[preset][0](config, num_classes), dtype)
