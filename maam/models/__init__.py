"""Model presets: the MAAM classifier in three sizes, its ablations and the baselines it is compared with."""

from __future__ import annotations

from typing import Any

from mindspore import nn

from ..errors import MaamError
from .baselines import BASELINES
from .config import PRESETS, MaamConfig
from .network import Maam
from .quantized import quantize

__all__ = ["IMPLEMENTATIONS", "MaamConfig", "create_model", "list_presets", "quantize"]

IMPLEMENTATIONS = ("auto", "native", "reference")


def list_presets() -> tuple[str, ...]:
    """Names accepted by :func:`create_model`."""
    return (*PRESETS, *BASELINES)


def create_model(preset: str = "authors", num_classes: int = 10, impl: str = "auto", **overrides: Any) -> nn.Cell:
    """Build a classifier: images (B, in_channels, image_size, image_size) float32 -> logits (B, num_classes).

    Args:
        preset: "authors" (8,405,453 parameters), "deep" (8.64 M), "2.3m", "best", "multi-scale"; ablations
            "no-attention", "no-reduce", "plain-cnn"; baselines "cnn", "cnn-small", "mlp", "rnn", "rnn-plain".
        num_classes: number of logits.
        impl: "auto" uses the fused operators and lets them choose their implementation, "native" insists on their
            compiled kernels, "reference" builds the same net from plain MindSpore cells. Parameter names, initial
            values for one `mindspore.set_seed` and checkpoints are the same for all three. The baselines have no
            fused operator: for them "native" is refused.
        **overrides: fields of :class:`MaamConfig` (``num_agents=5``, ``kernel_size=(1, 3, 5)`` ...); of the
            baselines ``hidden``, ``in_channels``, ``image_size``.

    Raises:
        MaamError: unknown preset, option or implementation, or an option outside its range.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
        raise MaamError(f"create_model: num_classes must be an integer of at least 2, got {num_classes!r}")
    if impl not in IMPLEMENTATIONS:
        raise MaamError(f"create_model: impl must be one of {', '.join(IMPLEMENTATIONS)}, got {impl!r}")
    if preset in PRESETS:
        return Maam(PRESETS[preset].replace(**overrides), num_classes, impl)
    if preset in BASELINES:
        if impl == "native":
            raise MaamError(f"create_model: preset {preset!r} has no fused operator; use impl='auto' or 'reference'")
        cell_class, config = BASELINES[preset]
        return cell_class(config.replace(**overrides), num_classes)
    raise MaamError(f"create_model: unknown preset {preset!r}; the presets are {', '.join(list_presets())}")
