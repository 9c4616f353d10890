"""Fused multi-agent aggregation operators for MindSpore."""

from maam_ops import functional, reference
from maam_ops.aggregate import FusedAgentAggregate

__version__ = "0.1.0"
__all__ = ["FusedAgentAggregate", "functional", "reference"]
