"""Finds the patterns that ``maam_ops`` has operators for in a net of the user's, and swaps the operators in."""

from maam_ops.fusion.api import Rule, fuse
from maam_ops.fusion.report import FuseReport, Refusal, Swap

__all__ = ["FuseReport", "Refusal", "Rule", "Swap", "fuse"]
