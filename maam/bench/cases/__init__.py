"""The work that is measured: inputs, what must come out of them, and what it costs at least.

Needs NumPy alone, so that a side with another framework can load it. Oracles compute in float64.
"""

from .aggregate import AggregateBackward, AggregateForward, softmax
from .aggregate_reduce import AggregateReduceInference, AggregateReduceTraining
from .base import Arrays, Case, Traffic, from_json, to_json
from .branch import BranchTraining
from .dense import DenseBackward, DenseForward
from .model import (
    DeepModelStep,
    Model,
    ModelInference,
    ModelInferenceInt8,
    ModelLosses,
    ModelLossesHalf,
    ModelStep,
    StoredInference,
    StoredStep,
)
from .operator import Operator
from .optimizer import OptimizerStep
from .reduce import EPS, MOMENTUM, ReduceInference, ReduceTraining

__all__ = [
    "EPS",
    "MOMENTUM",
    "AggregateBackward",
    "AggregateForward",
    "AggregateReduceInference",
    "AggregateReduceTraining",
    "Arrays",
    "BranchTraining",
    "Case",
    "DeepModelStep",
    "DenseBackward",
    "DenseForward",
    "Model",
    "ModelInference",
    "ModelInferenceInt8",
    "ModelLosses",
    "ModelLossesHalf",
    "ModelStep",
    "Operator",
    "OptimizerStep",
    "ReduceInference",
    "ReduceTraining",
    "StoredInference",
    "StoredStep",
    "Traffic",
    "from_json",
    "softmax",
    "to_json",
]
