"""MAAM: a small multi-agent image classifier for MindSpore, trained with the fused operators of ``maam_ops``.

    import maam
    net = maam.create_model("authors", num_classes=10)      # nn.Cell: images (B, 3, 32, 32) -> logits (B, 10)

The command line does the rest: ``maam train``, ``maam eval``, ``maam compare``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import MaamError

if TYPE_CHECKING:
    from .models import create_model, list_presets, quantize

__all__ = ["MaamError", "create_model", "list_presets", "quantize"]


def __getattr__(name: str) -> Any:
    # Importing MindSpore takes seconds; `maam --help` and the data readers must not wait for it.
    if name in ("create_model", "list_presets", "quantize"):
        from . import models

        return getattr(models, name)
    raise AttributeError(f"module 'maam' has no attribute {name!r}")
