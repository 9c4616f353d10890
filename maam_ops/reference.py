"""The definition of each operator in pure MindSpore ops, with the signatures of ``maam_ops.functional``."""

from maam_ops.agent_block import reference as agent_block
from maam_ops.aggregate import reference as agent_aggregate
from maam_ops.aggregate_reduce import reference as aggregate_reduce
from maam_ops.conv_block import reference as conv_block
from maam_ops.cross_entropy import reference as cross_entropy
from maam_ops.dense import reference as dense
from maam_ops.dense_int8 import reference as dense_int8
from maam_ops.maam import reference as maam
from maam_ops.maam_deep import reference as maam_deep
from maam_ops.maam_deep_int8 import reference as maam_deep_int8
from maam_ops.maam_int8 import reference as maam_int8
from maam_ops.maam_mix import reference as maam_mix
from maam_ops.reduce import reference as reduce

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
