"""Fused multi-agent aggregation operators for MindSpore."""

import warnings

# `python -m maam_ops.info` and `.compare` run modules that this package has imported for its functions of those names.
warnings.filterwarnings("ignore", message="'maam_ops.* found in sys.modules", category=RuntimeWarning)

# Before anything runs: MindSpore's oneDNN can only be capped before it runs its first primitive.
from maam_ops import runtime  # noqa: E402

runtime.tune()

from maam_ops import functional, graph, reference  # noqa: E402
from maam_ops._cell import names_kept  # noqa: E402
from maam_ops.adam import FusedAdam, FusedAdamWeightDecay  # noqa: E402
from maam_ops.agent_block import FusedAgentBlock  # noqa: E402
from maam_ops.aggregate import FusedAgentAggregate  # noqa: E402
from maam_ops.aggregate_reduce import FusedAggregateReduce  # noqa: E402
from maam_ops.compare import compare  # noqa: E402
from maam_ops.conv_block import FusedConvBlock  # noqa: E402
from maam_ops.cross_entropy import FusedCrossEntropy  # noqa: E402
from maam_ops.dense import FusedDense  # noqa: E402
from maam_ops.explain import explain  # noqa: E402
from maam_ops.fusion import FuseReport, fuse  # noqa: E402
from maam_ops.info import info  # noqa: E402
from maam_ops.maam import FusedMAAM  # noqa: E402
from maam_ops.maam_mix import FusedMix  # noqa: E402
from maam_ops.predictor import Predictor  # noqa: E402
from maam_ops.quantize import QuantizedClassifier, quantize  # noqa: E402
from maam_ops.reduce import FusedReduce  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "FuseReport",
    "FusedAdam",
    "FusedAdamWeightDecay",
    "FusedAgentAggregate",
    "FusedAgentBlock",
    "FusedAggregateReduce",
    "FusedConvBlock",
    "FusedCrossEntropy",
    "FusedDense",
    "FusedMAAM",
    "FusedMix",
    "FusedReduce",
    "Predictor",
    "QuantizedClassifier",
    "compare",
    "explain",
    "functional",
    "fuse",
    "graph",
    "info",
    "names_kept",
    "quantize",
    "reference",
    "runtime",
]
