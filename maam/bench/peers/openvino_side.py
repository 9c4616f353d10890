"""Inference by OpenVINO: float32, bfloat16, and int8 by NNCF. Needs onnx, openvino, NumPy; nncf for int8."""

from __future__ import annotations

import functools
import os
import time

import numpy as np
import onnx
import openvino

from ..cases import Arrays, StoredInference
from ..sides import Candidate, Prepared
from . import onnx_model, weights

# What the runtime's graph lists besides kernels.
_NOT_KERNELS = ("Input", "Output", "Const")


def prepare(case: StoredInference, inputs: Arrays) -> Prepared:
    """Every form of the model in the case's precision; int8 is calibrated on the case's calibration images."""
    core = openvino.Core()
    hint = "bf16" if case.precision == "bfloat16" else "f32"
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotImplementedError("this CPU has no bfloat16 instructions that OpenVINO uses")
    models = {name: _read(core, model) for name, model in onnx_model.forms(weights.fold(inputs), case.batch).items()}
    if case.precision == "int8":
        models = {name: _quantised(model, inputs) for name, model in models.items()}
    first = next(iter(models.values()))

    def compiled(model: openvino.Model) -> openvino.CompiledModel:
        return core.compile_model(model, "CPU", _settings(hint))

    def first_call_ms() -> float:
        before = time.perf_counter()
        _candidate(compiled(first), inputs).run()
        return 1e3 * (time.perf_counter() - before)

    facts = {"kernels": lambda: float(_kernels(compiled(first))), "first_call_ms": first_call_ms}
    return Prepared({name: _candidate(compiled(model), inputs) for name, model in models.items()}, facts)


def _settings(hint: str) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
    }


def _read(core: openvino.Core, model: onnx.ModelProto) -> openvino.Model:
    return core.read_model(model.SerializeToString())


def _candidate(compiled: openvino.CompiledModel, inputs: Arrays) -> Candidate:
    request, images = compiled.create_infer_request(), inputs["images"]
    # Shared, not copied: the input is ready.
    request.set_input_tensor(openvino.Tensor(images, shared_memory=True))
    return Candidate(functools.partial(_infer, request, images))


def _infer(request: openvino.InferRequest, images: np.ndarray) -> Arrays:
    """One inference; takes the images along because the request does not keep their memory alive."""
    request.infer()
    return {"logits": np.asarray(request.get_output_tensor().data)}


def _quantised(model: openvino.Model, inputs: Arrays) -> openvino.Model:
    import nncf

    batch, images = model.input().shape[0], inputs["calibration"]
    # The model takes whole batches: a large one is filled with the images again from the start.
    count = max(batch, len(images) // batch * batch)
    filled = np.resize(images, (count, *images.shape[1:]))
    batches = [filled[start : start + batch] for start in range(0, count, batch)]
    return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))


def _kernels(compiled: openvino.CompiledModel) -> int:
    """Kernels of the graph that OpenVINO runs."""
    kinds = [node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ordered_ops()]
    return sum(kind not in _NOT_KERNELS for kind in kinds)
