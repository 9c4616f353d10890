"""The definition of each operator in pure MindSpore ops, with the signatures of ``maam_ops.functional``."""

from maam_ops.aggregate import reference as agent_aggregate

__all__ = ["agent_aggregate"]
