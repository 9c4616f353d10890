"""The classifier in MindSpore with any part of it fused, in either mode and any precision."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

import maam_ops
import maam_ops.graph

from ...bench.cases import Arrays, ModelInference, ModelLosses
from ...bench.sides import Candidate, Prepared
from ...config import TrainConfig
from ...models import create_model
from ...models.network import MultiAgentModule
from ...train import GraphStep, make_optimizer, make_step


def prepare(
    case: ModelLosses | ModelInference, inputs: Arrays, *, fusion: str | None, mode: str = "graph", amp: str = "O0"
) -> Prepared:
    """One side: `fusion` names what is fused, None nothing, "all" everything."""
    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    ms.set_seed(0)
    net = create_model(case.preset, impl="native" if fusion == "all" else "reference")
    for parameter in net.trainable_params():
        if parameter.name.endswith(("weight", "bias")):
            parameter.set_data(Tensor(ModelLosses.weight(parameter.name, parameter.shape)))
    # After that: a fused Cell renames the parameters it shares.
    if fusion not in (None, "all"):
        fuse_only(net.maam, fusion)
    if amp != "O0":
        net = ms.amp.auto_mixed_precision(net, amp)
    images, labels = Tensor(inputs["images"]), Tensor(inputs["labels"])
    if isinstance(case, ModelInference):
        return _inference(net, images)
    return _step(net, images, labels, mode, TrainConfig(amp=amp, impl="auto" if fusion == "all" else "reference"))


def fuse_only(module: MultiAgentModule, what: str) -> None:
    """Run one operator of the module fused and leave the rest in plain cells."""
    alpha, conv, bn = module.fusion.attn_weights, module.reduce[0], module.reduce[1]
    if what == "aggregate":
        module.fused = maam_ops.FusedAgentAggregate.from_parameter(alpha, impl="native")
        module._stages = (module.fused, module.reduce)
    elif what == "reduce":
        module.fused = maam_ops.FusedReduce.from_cells(conv, bn, impl="native")
        module._stages = (module.fusion, module.fused)
    else:
        module.fused = maam_ops.FusedAggregateReduce.from_cells(alpha, conv, bn, impl="native")
        module._stages = (module.fused, nn.Identity())


def _inference(net: nn.Cell, images: Tensor) -> Prepared:
    net.set_train(False)

    def run() -> Arrays:
        return {"logits": net(images).asnumpy()}

    return Prepared({"": Candidate(run)}, {"kernels": lambda: maam_ops.graph.count_kernels(net, images).total})


def _step(net: nn.Cell, images: Tensor, labels: Tensor, mode: str, config: TrainConfig) -> Prepared:
    """Forward, loss, backward and Adam with weight decay."""
    net.set_train(True)
    step = make_step(net, make_optimizer(net.trainable_params(), config), impl=config.impl)
    compiled = GraphStep(step) if mode == "graph" else step

    def run() -> Arrays:
        return {"loss": compiled(images, labels)[0].asnumpy()}

    def verify() -> Arrays:
        return {"losses": np.array([float(run()["loss"]) for _ in range(ModelLosses.STEPS)])}

    return Prepared(
        {"": Candidate(run, verify)}, {"kernels": lambda: maam_ops.graph.count_kernels(step, images, labels).total}
    )
