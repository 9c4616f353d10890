"""The aggregate's Ascend C operators on NumPy arrays, their float64 oracle and the error it allows."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.ascend import emulated
from tests.ascend.emulated import Moved, Report, pointer

FOLDER = emulated.CSRC / "aggregate" / "ascend"
MAX_BRANCHES = 8


class Tiling(ctypes.Structure):
    """AgentAggregateTiling."""

    _fields_ = (
        ("size", ctypes.c_uint64),
        ("units_per_core", ctypes.c_uint64),
        ("extra_units", ctypes.c_uint32),
        ("unit", ctypes.c_uint32),
        ("tile", ctypes.c_uint32),
        ("branches", ctypes.c_uint32),
        ("cores", ctypes.c_uint32),
    )

    def elements(self) -> np.ndarray:
        """Elements of each core."""
        units = self.units_per_core + (np.arange(self.cores) < self.extra_units)
        ends = np.minimum(np.cumsum(units) * self.unit, self.size)
        return np.diff(ends, prepend=0)


class Call(ctypes.Structure):
    _fields_ = (
        ("backward", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
        ("branches", ctypes.c_int32),
        ("alpha_size", ctypes.c_int32),
        ("cores", ctypes.c_int32),
        ("ub_bytes", ctypes.c_int32),
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("alpha", ctypes.c_void_p),
        ("dg", ctypes.c_void_p),
        ("a", ctypes.c_void_p * MAX_BRANCHES),
        ("g", ctypes.c_void_p),
        ("dalpha", ctypes.c_void_p),
        ("da", ctypes.c_void_p * MAX_BRANCHES),
    )


@dataclass
class Operands:
    """Stored operands of one case, in `dtype`; alpha is float32."""

    dtype: str
    alpha: np.ndarray
    a: list[np.ndarray]
    dg: np.ndarray

    @staticmethod
    def random(branches: int, size: int, dtype: str, seed: int = 0) -> Operands:
        rng = np.random.default_rng([seed, branches, size])
        stored = [emulated.to_bits(rng.standard_normal(size), dtype) for _ in range(branches + 1)]
        return Operands(dtype, rng.standard_normal(branches).astype(np.float32), stored[1:], stored[0])

    def weights(self) -> np.ndarray:
        e = np.exp(self.alpha.astype(np.float64) - self.alpha.max())
        return e / e.sum()

    def wide(self) -> tuple[np.ndarray, np.ndarray]:
        """A (branches, size) and dG (size,) in float64."""
        a = np.stack([emulated.to_float64(x, self.dtype) for x in self.a])
        return a, emulated.to_float64(self.dg, self.dtype)

    def rounding(self) -> float:
        """Relative error of a weighted sum: the weight, each product and sum, and the rounding when it is stored."""
        return emulated.FLOAT32_EPSILON * (len(self.a) + 4) + 0.5 * emulated.STORAGE_EPSILON[self.dtype]


class Aggregate:
    """The operators built from `folder`."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.library = emulated.build("aggregate_harness.cc", folder)

    def _run(self, operands: Operands, cores: int, ub_bytes: int, **outputs: np.ndarray | list[np.ndarray]) -> Moved:
        call = Call(
            backward=int("dalpha" in outputs),
            dtype=emulated.DTYPE_CODES[operands.dtype],
            branches=len(operands.a),
            alpha_size=operands.alpha.size,
            cores=cores,
            ub_bytes=ub_bytes,
            rows=1,
            columns=operands.dg.size,
            alpha=pointer(operands.alpha),
            dg=pointer(operands.dg),
            g=pointer(outputs.get("g")),
            dalpha=pointer(outputs.get("dalpha")),
        )
        call.a[: len(operands.a)] = [pointer(x) for x in operands.a]
        call.da[: len(operands.a)] = [pointer(x) for x in outputs.get("da", [None] * len(operands.a))]
        report = Report()
        return emulated.checked(self.library.run_aggregate(ctypes.byref(call), ctypes.byref(report)), report)

    def forward(
        self, operands: Operands, cores: int = emulated.CORES, ub_bytes: int = emulated.UB_BYTES
    ) -> tuple[np.ndarray, Moved]:
        """G as stored, and what was moved."""
        g = emulated.poisoned(operands.dg.shape, operands.dtype)
        return g, self._run(operands, cores, ub_bytes, g=g)

    def backward(
        self, operands: Operands, cores: int = emulated.CORES, ub_bytes: int = emulated.UB_BYTES
    ) -> tuple[np.ndarray, list[np.ndarray], Moved]:
        """d alpha, dA_i as stored, and what was moved."""
        dalpha = emulated.poisoned(operands.alpha.shape, "float32")
        da = [emulated.poisoned(operands.dg.shape, operands.dtype) for _ in operands.a]
        return dalpha, da, self._run(operands, cores, ub_bytes, dalpha=dalpha, da=da)

    def plan(
        self,
        size: int,
        *,
        backward: bool,
        element_bytes: int,
        branches: int = 3,
        cores: int = emulated.CORES,
        ub_bytes: int = emulated.UB_BYTES,
    ) -> Tiling:
        tiling = Tiling()
        self.library.plan_aggregate(
            int(backward), element_bytes, ctypes.c_uint64(size), branches, cores, ub_bytes, ctypes.byref(tiling)
        )
        return tiling

    def inference_errors(self, *, backward: bool, branches: int) -> int:
        return self.library.infer_aggregate(int(backward), branches)


def assert_forward(operands: Operands, g: np.ndarray) -> None:
    a, _ = operands.wide()
    w = operands.weights()
    bound = operands.rounding() * (w @ np.abs(a)) + emulated.SMALLEST_STEP[operands.dtype]
    error = np.abs(emulated.to_float64(g, operands.dtype) - w @ a)
    assert np.all(error <= bound), f"G: error {np.nanmax(error / bound)} times the bound"


def assert_backward(operands: Operands, dalpha: np.ndarray, da: list[np.ndarray]) -> None:
    a, dg = operands.wide()
    w = operands.weights()
    step = emulated.SMALLEST_STEP[operands.dtype]
    for k, stored in enumerate(da):
        error = np.abs(emulated.to_float64(stored, operands.dtype) - w[k] * dg)
        assert np.all(error <= operands.rounding() * np.abs(w[k] * dg) + step), f"dA_{k}"
    dots = a @ dg
    magnitude = (np.abs(a) @ np.abs(dg)).max(initial=0)
    bound = emulated.FLOAT32_EPSILON * (np.sqrt(min(dg.size, 16384)) + len(a) + 8) * magnitude
    error = np.abs(dalpha - w * (dots - w @ dots))
    assert np.all(error <= bound), f"d alpha: error {error}, bound {bound}"
