"""The operators as functions."""

from maam_ops.agent_block import agent_block
from maam_ops.aggregate import agent_aggregate
from maam_ops.aggregate_reduce import aggregate_reduce
from maam_ops.conv_block import conv_block
from maam_ops.cross_entropy import cross_entropy
from maam_ops.dense import dense
from maam_ops.dense_int8 import dense_int8
from maam_ops.maam import maam
from maam_ops.maam_deep import maam_deep
from maam_ops.maam_deep_int8 import maam_deep_int8
from maam_ops.maam_int8 import maam_int8
from maam_ops.maam_mix import maam_mix
from maam_ops.reduce import reduce

__all__ = [
    "agent_aggregate",
    "agent_block",
    "aggregate_reduce",
    "conv_block",
    "cross_entropy",
    "dense",
    "dense_int8",
    "maam",
    "maam_deep",
    "maam_deep_int8",
    "maam_int8",
    "maam_mix",
    "reduce",
]
