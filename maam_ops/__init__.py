"""Fused multi-agent aggregation operators for MindSpore."""

# First: MindSpore's oneDNN can only be capped before it runs its first primitive.
from maam_ops import runtime

runtime.tune()

from maam_ops import functional, reference  # noqa: E402
from maam_ops.aggregate import FusedAgentAggregate  # noqa: E402
from maam_ops.aggregate_reduce import FusedAggregateReduce  # noqa: E402
from maam_ops.reduce import FusedReduce  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "FusedAgentAggregate",
    "FusedAggregateReduce",
    "FusedReduce",
    "functional",
    "reference",
    "runtime",
]
