"""Inference by ONNX Runtime: float32, and int8 by its own static quantisation. Needs onnx, onnxruntime and NumPy."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime import quantization

from ..cases import Arrays, StoredInference
from ..sides import Candidate, Prepared
from . import onnx_model, weights


def prepare(case: StoredInference, inputs: Arrays) -> Prepared:
    """Every form of the model that ONNX Runtime has kernels for in the case's precision."""
    if case.precision == "bfloat16":
        raise NotImplementedError("ONNX Runtime has no bfloat16 convolution on x86 CPUs")
    models = onnx_model.forms(weights.fold(inputs), case.batch)
    if case.precision == "int8":
        small = onnx_model.forms(weights.fold(inputs), 1)
        models = {name: _quantised(small[name], model, inputs) for name, model in models.items()}
    first = next(iter(models.values()))
    facts = {"kernels": lambda: float(_kernels(first)), "first_call_ms": lambda: _first_call_ms(first, inputs)}
    return Prepared({name: _candidate(model, inputs) for name, model in models.items()}, facts)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # The CPUs of this process; threads spin for work, which is the default.
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return options


def _session(model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _candidate(model: onnx.ModelProto, inputs: Arrays) -> Candidate:
    session, feed = _session(model, _options()), {onnx_model.INPUT: inputs["images"]}
    return Candidate(lambda: {"logits": session.run([onnx_model.OUTPUT], feed)[0]})


class _Calibration(quantization.CalibrationDataReader):
    """The calibration images one by one, for a model of batch 1."""

    def __init__(self, inputs: Arrays) -> None:
        self._images: Iterator = iter(inputs["calibration"])

    def get_next(self) -> dict | None:
        image = next(self._images, None)
        return None if image is None else {onnx_model.INPUT: image[None]}


def _quantised(calibrated: onnx.ModelProto, model: onnx.ModelProto, inputs: Arrays) -> onnx.ModelProto:
    """The model with int8 weights, one scale a channel, and uint8 activations.

    Scales come from the same model at batch 1: they do not depend on the batch.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(calibrated, source)
        quantization.quantize_static(
            source,
            target,
            _Calibration(inputs),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        quantised = onnx.load(target)
    for end in ("input", "output"):
        for tensor, original in zip(getattr(quantised.graph, end), getattr(model.graph, end), strict=True):
            tensor.CopyFrom(original)
    del quantised.graph.value_info[:]
    return quantised


def _kernels(model: onnx.ModelProto) -> int:
    """Nodes left when ONNX Runtime has fused what it can."""
    with tempfile.TemporaryDirectory() as folder:
        options = _options()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        # Its own kernels are not valid elsewhere, which it warns of; the file is only counted.
        options.log_severity_level = 3
        _session(model, options)
        return len(onnx.load(options.optimized_model_filepath).graph.node)


def _first_call_ms(model: onnx.ModelProto, inputs: Arrays) -> float:
    """From the model to the first result."""
    before = time.perf_counter()
    _candidate(model, inputs).run()
    return 1e3 * (time.perf_counter() - before)
