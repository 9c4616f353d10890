"""PyTorch: inference in float32 and bfloat16, and the training step, eager and compiled. Needs torch and NumPy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import _dynamo, nn
from torch._inductor import config as inductor
from torch.nn import functional

from ..cases import MOMENTUM, Arrays, StoredInference, StoredStep
from ..sides import Candidate, Prepared
from . import weights
from .weights import ALPHA, HIDDEN, OUTPUT, REDUCE, Folded, Layer

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4


def prepare(case: StoredInference | StoredStep, inputs: Arrays) -> Prepared:
    """Eager and compiled, in channels_last; the fastest stands for PyTorch."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if isinstance(case, StoredStep):
        compiled_step = _first_call_ms(lambda: _step(inputs, compiled=True))
        forms = {"eager": _step(inputs, compiled=False), "compiled": _step(inputs, compiled=True)}
        return Prepared(forms, {"first_call_ms": compiled_step})
    if case.precision == "int8":
        raise NotImplementedError("PyTorch's int8 needs a quantised model of another library (torchao)")
    # Weights become constants of the compiled code, laid out once.
    inductor.freezing = True
    dtype = torch.bfloat16 if case.precision == "bfloat16" else torch.float32
    model = weights.fold(inputs)
    forms = {
        f"{'compiled' if compiled else 'eager'}, {name}": _inference(model, inputs, dtype, together, compiled)
        for name, together in (("branches apart", False), ("first convolutions as one", True))
        for compiled in (False, True)
    }
    first_call = _first_call_ms(lambda: _inference(model, inputs, dtype, True, compiled=True))
    return Prepared(forms, {"first_call_ms": first_call})


def _first_call_ms(build: Callable[[], Candidate]) -> Callable[[], float]:
    """From the weights to the first result of the compiled form, nothing of it compiled before."""

    def fact() -> float:
        _dynamo.reset()
        inductor.force_disable_caches = True
        before = time.perf_counter()
        build().run()
        inductor.force_disable_caches = False
        return 1e3 * (time.perf_counter() - before)

    return fact


def _constant(layer: Layer, dtype: torch.dtype) -> tuple[nn.Parameter, nn.Parameter]:
    weight, bias = torch.from_numpy(layer.weight).to(dtype), torch.from_numpy(layer.bias).to(dtype)
    if weight.ndim == 4:
        weight = weight.to(memory_format=torch.channels_last)
    return nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)


class _Dense(nn.Module):
    """A folded layer on the last dimension, or a convolution on an image."""

    def __init__(self, layer: Layer, dtype: torch.dtype) -> None:
        super().__init__()
        self.padding = layer.padding
        self.weight, self.bias = _constant(layer, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight.ndim == 2:
            return functional.linear(x, self.weight, self.bias)
        return functional.conv2d(x, self.weight, self.bias, padding=self.padding)


class _Inference(nn.Module):
    """The folded model, its hidden layer in the order of channels_last, which spares turning F around."""

    def __init__(self, model: Folded, dtype: torch.dtype, together: bool) -> None:
        super().__init__()
        self.first = _Dense(model.concatenated(), dtype) if together else None
        branches = [branch[1:] if together else branch for branch in model.branches]
        self.branches = nn.ModuleList(nn.ModuleList(_Dense(layer, dtype) for layer in branch) for branch in branches)
        self.reduce, self.output = _Dense(model.reduce, dtype), _Dense(model.output, dtype)
        channels, width = len(model.reduce.bias), len(model.hidden.bias)
        turned = model.hidden.weight.reshape(width, channels, -1).transpose(0, 2, 1).reshape(width, -1)
        self.hidden = _Dense(Layer(np.ascontiguousarray(turned), model.hidden.bias), dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = len(self.branches)
        if self.first is None:
            parts = [x] * count
        else:
            x = functional.relu(self.first(x))
            if not len(self.branches[0]):
                x = functional.max_pool2d(x, 2)
            parts = x.chunk(count, 1)
        results = []
        for part, branch in zip(parts, self.branches, strict=True):
            for layer in branch:
                part = functional.relu(layer(part))
            results.append(functional.max_pool2d(part, 2) if len(branch) else part)
        mixed = results[0]
        for result in results[1:]:
            mixed = mixed + result
        features = functional.relu(self.reduce(mixed)).permute(0, 2, 3, 1).flatten(1)
        return self.output(functional.relu(self.hidden(features)))


def _inference(model: Folded, inputs: Arrays, dtype: torch.dtype, together: bool, compiled: bool) -> Candidate:
    net = _Inference(model, dtype, together).eval()
    images = torch.from_numpy(inputs["images"]).to(dtype).to(memory_format=torch.channels_last)
    forward = torch.compile(net, dynamic=False) if compiled else net

    def run() -> Arrays:
        with torch.inference_mode():
            return {"logits": forward(images).float().numpy()}

    return Candidate(run)


class _Training(nn.Module):
    """The model as it is trained; parameters hold the values that the case has for MindSpore's."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__()
        self.names: dict[str, torch.Tensor] = {}
        self.branches = nn.ModuleList()
        for names in weights.branches_of(arrays):
            cells = [cell for conv, norm in names for cell in (*self._pair(arrays, conv, norm), nn.ReLU())]
            self.branches.append(nn.Sequential(*cells, nn.MaxPool2d(2)))
        self.alpha = nn.Parameter(torch.from_numpy(arrays[ALPHA].copy()))
        self.names[ALPHA] = self.alpha
        self.reduce = nn.Sequential(*self._pair(arrays, f"{REDUCE}.0", f"{REDUCE}.1"), nn.ReLU())
        hidden, output = self._linear(arrays, HIDDEN), self._linear(arrays, OUTPUT)
        self.classifier = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), output)

    def _pair(self, arrays: Arrays, conv: str, norm: str) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        width, channels, kernel, _ = arrays[f"{conv}.weight"].shape
        convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
        # MindSpore's momentum weighs the old value, PyTorch's the new one.
        normalisation = nn.BatchNorm2d(width, momentum=1 - MOMENTUM)
        self._adopt(arrays, conv, weight=convolution.weight)
        self._adopt(arrays, norm, gamma=normalisation.weight, beta=normalisation.bias)
        statistics = {"moving_mean": normalisation.running_mean, "moving_variance": normalisation.running_var}
        self._adopt(arrays, norm, **statistics)
        return convolution, normalisation

    def _linear(self, arrays: Arrays, name: str) -> nn.Linear:
        width, length = arrays[f"{name}.weight"].shape
        layer = nn.Linear(length, width)
        self._adopt(arrays, name, weight=layer.weight, bias=layer.bias)
        return layer

    def _adopt(self, arrays: Arrays, place: str, **tensors: torch.Tensor) -> None:
        for name, tensor in tensors.items():
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(arrays[f"{place}.{name}"]))
            self.names[f"{place}.{name}"] = tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares = torch.softmax(self.alpha, 0)
        mixed = shares[0] * self.branches[0](x)
        for i in range(1, len(self.branches)):
            mixed = mixed + shares[i] * self.branches[i](x)
        return self.classifier(self.reduce(mixed))


def _step(inputs: Arrays, compiled: bool) -> Candidate:
    """Forward, loss, backward and Adam; as in MindSpore, normalisation is not decayed."""
    net = _Training(inputs).train()
    # In place, so that the names keep their tensors.
    net.to(memory_format=torch.channels_last)
    images = torch.from_numpy(inputs["images"]).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(inputs["labels"]).long()
    normed = {id(p) for module in net.modules() if isinstance(module, nn.BatchNorm2d) for p in module.parameters()}
    groups = [
        {"params": [p for p in net.parameters() if id(p) not in normed], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in net.parameters() if id(p) in normed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.Adam(groups, LEARNING_RATE, fused=True)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = net(x)
        return functional.cross_entropy(logits, y), logits

    forward = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        optimizer.zero_grad(set_to_none=True)
        loss, logits = forward(images, labels)
        loss.backward()
        optimizer.step()
        return loss, logits

    def run() -> Arrays:
        return {"loss": step()[0].detach().numpy()}

    def verify() -> Arrays:
        loss, logits = (tensor.detach().numpy() for tensor in step())
        results = {"loss": loss, "logits": logits}
        for name, tensor in net.names.items():
            if tensor in optimizer.state:
                results[f"moment1.{name}"] = optimizer.state[tensor]["exp_avg"].numpy().copy()
            else:
                results[name] = tensor.numpy().copy()
        return results

    return Candidate(run, verify)
