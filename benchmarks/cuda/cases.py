"""What is measured: sides that compute the same, a check that they do, and the bytes none of them can do without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from benchmarks.cuda.library import prepared
from benchmarks.cuda.timing import Side

EPS, MOMENTUM = 1e-5, 0.9
AGENTS = 3
OURS = "maam_ops"


@dataclass
class Case:
    """One line of the report.

    Attributes:
        sides: by name; each returns or fills what `results` reads.
        results: of each side, the tensors that must agree with `expected`.
        bytes: read and written at least.
        share: target for the share of the copy bandwidth, or None.
        targets: by side, how many times faster we want to be.
    """

    name: str
    sides: dict[str, Side]
    results: dict[str, Callable[[], list[torch.Tensor]]]
    expected: list[torch.Tensor]
    tolerance: float
    bytes: int
    share: float | None = None
    targets: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Raise AssertionError, naming the side, unless all sides compute the same."""
        for name, side in self.sides.items():
            side()
            torch.cuda.synchronize()
            for got, expected in zip(self.results[name](), self.expected, strict=True):
                error = (got.double() - expected).abs().max().item()
                limit = self.tolerance * expected.abs().max().item()
                assert error <= limit, f"{self.name}: {name}: error {error:.3g} exceeds {limit:.3g}"


class _Returned:
    """A side whose result is what it returned last."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call, self._last = call, None

    def __call__(self) -> None:
        self._last = self._call()

    def results(self) -> list[torch.Tensor]:
        return list(self._last) if isinstance(self._last, (tuple, list)) else [self._last]


def _mixed(alpha: torch.Tensor, a: list[torch.Tensor]) -> torch.Tensor:
    w = torch.softmax(alpha, 0)
    total = w[0] * a[0].to(alpha.dtype)
    for k in range(1, len(a)):
        total = total + w[k] * a[k].to(alpha.dtype)
    return total.to(a[0].dtype)


def _tolerance(dtype: torch.dtype) -> float:
    return {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]


def _case(name, ours, ours_results, returned, expected, tolerance, size, share=None, targets=None) -> Case:
    sides: dict[str, Side] = {OURS: ours}
    results = {OURS: ours_results}
    for other, call in returned.items():
        side = _Returned(call)
        sides[other], results[other] = side, side.results
    return Case(name, sides, results, expected, tolerance, size, share, targets or {})


def aggregate_forward(mebibytes: int, dtype: torch.dtype) -> Case:
    size = (mebibytes << 20) // torch.empty((), dtype=dtype).element_size()
    alpha = torch.randn(AGENTS, device="cuda")
    a = [torch.randn(size, device="cuda").to(dtype) for _ in range(AGENTS)]
    g, g_triton = torch.empty_like(a[0]), torch.empty_like(a[0])
    returned = {"eager": lambda: _mixed(alpha, a), "torch.compile": lambda: compiled(alpha, a)}
    compiled = torch.compile(_mixed, dynamic=False)
    triton = _triton()
    if triton is not None:
        returned["triton"] = lambda: (triton.forward(alpha, a, g_triton), g_triton)[1:]
    expected = sum(w * x.double() for w, x in zip(torch.softmax(alpha.double(), 0), a, strict=True))
    return _case(
        f"aggregate forward, {AGENTS} x {mebibytes} MiB {str(dtype)[6:]}",
        prepared("AggregateForward", [alpha, *a, g]),
        lambda: [g],
        returned,
        [expected],
        _tolerance(dtype),
        (AGENTS + 1) * size * g.element_size(),
        0.92 if mebibytes >= 64 else None,
        {"torch.compile": 0.97, "triton": 0.97},
    )


def aggregate_backward(mebibytes: int, dtype: torch.dtype) -> Case:
    size = (mebibytes << 20) // torch.empty((), dtype=dtype).element_size()
    alpha = torch.randn(AGENTS, device="cuda")
    a = [torch.randn(size, device="cuda").to(dtype) for _ in range(AGENTS)]
    dg = torch.randn(size, device="cuda").to(dtype)
    da, da_triton = ([torch.empty_like(dg) for _ in a] for _ in range(2))
    dalpha = torch.empty_like(alpha)

    def gradients(alpha, dg, *a):
        w, d = torch.softmax(alpha, 0), dg.float()
        dots = torch.stack([(d * x.float()).sum() for x in a])
        return w * (dots - (w * dots).sum()), *((w[k] * d).to(dg.dtype) for k in range(AGENTS))

    compiled = torch.compile(gradients, dynamic=False)
    returned = {"eager": lambda: gradients(alpha, dg, *a), "torch.compile": lambda: compiled(alpha, dg, *a)}
    triton = _triton()
    if triton is not None:
        returned["triton"] = lambda: (triton.backward(alpha, dg, a, da_triton), *da_triton)
    w = torch.softmax(alpha.double(), 0)
    dots = torch.stack([torch.dot(dg.double(), x.double()) for x in a])
    return _case(
        f"aggregate backward, {AGENTS} x {mebibytes} MiB {str(dtype)[6:]}",
        prepared("AggregateBackward", [alpha, dg, *a, dalpha, *da]),
        lambda: [dalpha, *da],
        returned,
        [w * (dots - w @ dots), *(w[k] * dg.double() for k in range(AGENTS))],
        max(1e-3, _tolerance(dtype)),  # d alpha is a difference of sums in which most cancels
        (2 * AGENTS + 1) * size * dg.element_size(),
        0.92 if mebibytes >= 64 else None,
        {"torch.compile": 0.97, "triton": 0.97},
    )


def aggregate_reduce(preset: str, batch: int, dtype: torch.dtype) -> Case:
    """Inference; `authors` mixes 64 channels, `deep` 128."""
    channels, outputs, grid = {"authors": (64, 128, 16), "deep": (128, 128, 16)}[preset]
    shape = (batch, channels, grid, grid)
    alpha = torch.randn(AGENTS, device="cuda")
    a = [torch.randn(shape, device="cuda").to(dtype) for _ in range(AGENTS)]
    weight = (torch.randn(outputs, channels, 1, 1, device="cuda") / channels**0.5).to(dtype)
    gamma, variance = (torch.rand(outputs, device="cuda") + 0.5 for _ in range(2))
    beta, mean = (torch.randn(outputs, device="cuda") for _ in range(2))
    constants = torch.tensor([EPS, MOMENTUM], dtype=torch.float64, device="cuda")
    f = torch.empty((batch, outputs, grid, grid), dtype=dtype, device="cuda")

    def unfused(alpha, a):
        z = F.conv2d(_mixed(alpha, a), weight)
        return F.relu(F.batch_norm(z, mean, variance, gamma, beta, eps=EPS))

    # cuDNN's fused convolution, bias and ReLU, with the normalisation folded into the weight beforehand.
    scale = gamma / torch.sqrt(variance + EPS)
    folded, bias = (weight.float() * scale.view(-1, 1, 1, 1)).to(dtype), (beta - mean * scale).to(dtype)
    compiled = torch.compile(unfused, dynamic=False)
    double = [x.double() for x in a]
    z = F.conv2d(_mixed(alpha.double(), double), weight.double())
    expected = F.relu(F.batch_norm(z, mean.double(), variance.double(), gamma.double(), beta.double(), eps=EPS))
    return _case(
        f"aggregate_reduce, {preset}, batch {batch}, {str(dtype)[6:]}",
        prepared("AggregateReduceInference", [alpha, constants, weight, gamma, beta, mean, variance, *a, f]),
        lambda: [f],
        {
            "eager": lambda: unfused(alpha, a),
            "torch.compile": lambda: compiled(alpha, a),
            "mix, then cuDNN": lambda: torch.cudnn_convolution_relu(
                _mixed(alpha, a), folded, bias, (1, 1), (0, 0), (1, 1), 1
            ),
        },
        [expected],
        _tolerance(dtype),
        (AGENTS * channels + outputs) * batch * grid * grid * f.element_size(),
        None,
        {"torch.compile": 1.3},
    )


def maam(batch: int) -> Case:
    """The whole module of `authors` in inference, float32."""
    images = torch.rand(batch, 3, 32, 32, device="cuda")
    alpha = torch.randn(AGENTS, device="cuda")

    def conv_norm(outputs, inputs, kernel):
        weight = torch.randn(outputs, inputs, kernel, kernel, device="cuda") / (inputs * kernel * kernel) ** 0.5
        gamma, variance = (torch.rand(outputs, device="cuda") + 0.5 for _ in range(2))
        beta, mean = (torch.randn(outputs, device="cuda") for _ in range(2))
        return [weight, gamma, beta, mean, variance]

    branches = [conv_norm(64, 3, 3) for _ in range(AGENTS)]
    last = conv_norm(128, 64, 1)
    eps = torch.full((AGENTS + 1,), EPS, dtype=torch.float64, device="cuda")
    f = torch.empty((batch, 128, 16, 16), device="cuda")

    def module(images, alpha, branches, last):
        def block(x, weight, gamma, beta, mean, variance):
            z = F.conv2d(x, weight, padding=weight.shape[2] // 2)
            return F.relu(F.batch_norm(z, mean, variance, gamma, beta, eps=EPS))

        agents = [F.max_pool2d(block(images, *branch), 2) for branch in branches]
        return block(_mixed(alpha, agents), *last)

    best = torch.compile(module, dynamic=False, mode="max-autotune")
    double = [[t.double() for t in group] for group in (*branches, last)]
    return _case(
        f"whole module, authors, batch {batch}, float32",
        prepared("MaamInference", [images, eps, alpha, *(t for group in (*branches, last) for t in group), f]),
        lambda: [f],
        {
            "eager": lambda: module(images, alpha, branches, last),
            "torch.compile max-autotune": lambda: best(images, alpha, branches, last),
        },
        [module(images.double(), alpha.double(), double[:-1], double[-1])],
        1e-4,
        (images.numel() + f.numel()) * 4,
        None,
        {"torch.compile max-autotune": 1.5},
    )


def _triton():
    try:
        from benchmarks.cuda import triton_aggregate
    except ImportError:
        return None
    return triton_aggregate
