"""Whole classifiers in MindSpore, with the fused operators and without."""

from __future__ import annotations

import time
from dataclasses import replace

import mindspore as ms
from mindspore import Tensor, nn

import maam_ops
import maam_ops.graph

from ...config import TrainConfig
from ...evaluate import make_forward
from ...models import create_model, quantize, store_as
from ...models.config import PRESETS
from ...train import GraphStep, make_optimizer, make_step
from .. import cases
from ..cases import Arrays, Case
from . import Candidate, Prepared, mindspore

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4


def prepare(case: Case, inputs: Arrays, *, fused: bool, graph_kernel: bool = False) -> Prepared:
    """The model of the case from one seed: the same weights on every side."""
    mindspore.configure(graph_kernel=graph_kernel)
    impl = "native" if fused else "reference"
    net = _loaded(case.preset, inputs, impl)
    images, labels = Tensor(inputs["images"]), Tensor(inputs["labels"])
    prepared = _inference(net, images) if isinstance(case, cases.ModelInference) else _step(net, images, labels, impl)

    def first_call_ms() -> float:
        again = prepare(case, inputs, fused=fused, graph_kernel=graph_kernel)
        before = time.perf_counter()
        again.candidates[""].run()
        return 1e3 * (time.perf_counter() - before)

    return replace(prepared, facts={**prepared.facts, "first_call_ms": first_call_ms})


def prepare_reduced(case: cases.ModelInference, inputs: Arrays, *, precision: str) -> Prepared:
    """The same classifier on bytes, calibrated on the case's calibration images, or stored in bfloat16."""
    mindspore.configure(graph_kernel=False)
    return _inference(_native(case, inputs, precision), Tensor(inputs["images"]))


def prepare_predictor(case: cases.ModelInference, inputs: Arrays, *, precision: str = "float32") -> Prepared:
    """The same classifier in a ``maam_ops.Predictor``."""
    mindspore.configure(graph_kernel=False)
    images = inputs["images"]
    predictor = maam_ops.Predictor(_native(case, inputs, precision), images.shape[1:])
    return Prepared({"": Candidate(lambda: {"logits": predictor(images)})})


def _native(case: cases.ModelInference, inputs: Arrays, precision: str) -> nn.Cell:
    net = _loaded(case.preset, inputs, "native")
    return quantize(net, inputs["calibration"], impl="native") if precision == "int8" else store_as(net, precision)


def _loaded(preset: str, inputs: Arrays, impl: str) -> nn.Cell:
    ms.set_seed(0)
    net = create_model(preset, impl=impl)
    for parameter in net.get_parameters():
        if parameter.name in inputs:
            parameter.set_data(Tensor(inputs[parameter.name]))
    return net


def _inference(net: nn.Cell, images: Tensor) -> Prepared:
    net.set_train(False)
    forward = make_forward(net)

    def run() -> Arrays:
        return {"logits": forward(images).asnumpy()}

    return Prepared({"": Candidate(run)}, _facts(run, net, images))


def _step(net: nn.Cell, images: Tensor, labels: Tensor, impl: str) -> Prepared:
    """Forward, loss, backward and Adam with weight decay, as `maam train` runs it."""
    net.set_train(True)
    config = TrainConfig(learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, impl=impl)
    optimizer = make_optimizer(net.trainable_params(), config)
    step = make_step(net, optimizer, impl=impl)
    compiled = GraphStep(step)

    def run() -> Arrays:
        return {"loss": compiled(images, labels)[0].asnumpy()}

    def verify() -> Arrays:
        loss, logits = compiled(images, labels)
        results = {"loss": loss.asnumpy(), "logits": logits.asnumpy()}
        # From zero, one step leaves a tenth of each gradient (weight decay included) in Adam's first moment.
        results |= {parameter.name: parameter.asnumpy() for parameter in optimizer.moment1}
        return results | {p.name: p.asnumpy() for p in net.untrainable_params()}

    return Prepared({"": Candidate(run, verify)}, _facts(run, step, images, labels))


def _facts(run, target, *inputs: Tensor):
    """Kernels by the compiled graph and by the profiler, and memory by the compiled graph."""
    return {
        "kernels": lambda: maam_ops.graph.count_kernels(target, *inputs).total,
        "profiled_kernels": lambda: maam_ops.graph.profile_kernels(run).total,
        "plan_peak_bytes": lambda: maam_ops.graph.memory_plan(target, *inputs).peak_bytes,
        "plan_total_bytes": lambda: maam_ops.graph.memory_plan(target, *inputs).total_bytes,
    }


def replaced_stage(case: cases.ModelStep, inputs: Arrays) -> Prepared:
    """What the fused operators replace, forward and backward, at the model's shapes: all that they could save."""
    config = PRESETS[case.preset]
    stage = cases.AggregateReduceTraining(
        case.batch, config.channels[-1], config.reduce_channels, config.grid, config.num_agents
    )
    prepared = mindspore.prepare(stage, stage.inputs(), fused=False)
    # The model writes the weighted sum this way.
    return Prepared({"": prepared.candidates["indexed"]})
