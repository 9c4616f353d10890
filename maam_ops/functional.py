"""The operators as functions."""

from maam_ops.aggregate import agent_aggregate

__all__ = ["agent_aggregate"]
