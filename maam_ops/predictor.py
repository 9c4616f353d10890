"""A net in inference from NumPy to NumPy: the kernels of its operators in turn, without MindSpore's runtime.

A call of a compiled graph costs MindSpore up to 2 ms beside the kernels once their data has pushed its code out of the
caches, as much as a whole classifier takes for one image. :mod:`maam_ops._record` finds what runs here instead.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mindspore import Tensor, nn

from maam_ops import _native
from maam_ops._arrays import Array
from maam_ops._record import IMAGES, REMEDY, Data, in_inference, trace

# By image of a batch that checks what was recorded: an operation that changes only large or small values shows.
_SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)


# From, to; from the images where None.
_Casts = list[tuple[Array | None, Array]]


class _Launch(NamedTuple):
    """One operator ready for a batch: only the images, if it reads them, and casts are missing."""

    symbol: str
    inputs: list[np.ndarray | None]
    outputs: list[np.ndarray]
    dtypes: list[str]
    images_at: list[tuple[int, tuple[int, ...]]]  # position, shape
    casts: _Casts


class _Plan(NamedTuple):
    """All operators for a batch, with memory for their results that every call uses anew."""

    launches: list[_Launch]
    casts: _Casts  # of the result
    result: np.ndarray


class _PerThread(threading.local):
    batch = 0
    plan: _Plan | None = None


class Predictor:
    """A net of this package's operators in inference: float32 images in NumPy to float32 results in NumPy.

    Bitwise the results of the net. Weights are copied once: a Predictor does not follow a net that is trained further
    or loads a checkpoint; make another one. It may be called from several threads at a time, each of which keeps memory
    for the results of its last batch size. Making one calls the net in PYNATIVE mode, which is the process's: no other
    thread should use MindSpore meanwhile. The net's train flags and the mode are put back.

    Args:
        net: a Cell of one input and one output whose work is all done by native operators of this package: a classifier
            of ``maam.create_model`` with the presets "authors", "deep", "2.3m", "no-attention", "no-reduce" or
            "plain-cnn", in a half type too; one of ``maam.quantize`` or ``maam_ops.quantize``; or a Cell of your own
            from ``FusedMAAM``, ``FusedDense`` and so on. Casts between float32 and a half type may stand between the
            operators, and changes of shape that keep the batch in front. Where ``impl="auto"`` leaves some sizes to
            the reference by its table, the kernels run here all the same; a net where these are the sizes of two to
            five images is refused.
        image_shape: shape of one image, such as (3, 32, 32).

    Raises:
        TypeError: ``net`` is no Cell, or ``image_shape`` no sequence of whole numbers.
        ValueError: a net that does anything else between its operators, runs other operators for other batches, or
            whose result is not one row an image; extents in ``image_shape`` below 1.
        ImportError: there are no compiled kernels.
    """

    def __init__(self, net: nn.Cell, image_shape: Sequence[int]) -> None:
        if not isinstance(net, nn.Cell):
            raise TypeError(f"maam_ops.Predictor: net: got {type(net).__name__}, expected a Cell")
        try:
            self.image_shape = tuple(operator.index(extent) for extent in image_shape)
        except TypeError:
            raise TypeError(
                f"maam_ops.Predictor: image_shape: got {image_shape!r}, expected whole numbers such as (3, 32, 32)"
            ) from None
        if min(self.image_shape, default=1) < 1:
            raise ValueError(f"maam_ops.Predictor: image_shape: got {self.image_shape}, expected extents of at least 1")
        self._launch = _native.core().launch
        self._local = _PerThread()
        with in_inference(net):
            self._steps, self._result = trace(net, self.image_shape)
            self._check(net)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The net's results.

        Args:
            images: float32 (B, *image_shape), B at least 1, C-contiguous.

        Returns:
            What the net returns for these images, in an array of its own; half types as float32.

        Raises:
            TypeError: ``images`` is no array of float32.
            ValueError: images of another shape, or strided.
        """
        self._check_images(images)
        batch = len(images)
        local = self._local
        if local.batch != batch:
            local.plan, local.batch = self._plan(batch), batch
        launches, last_casts, result = local.plan
        for symbol, inputs, outputs, dtypes, images_at, casts in launches:
            if images_at:
                inputs = inputs.copy()  # the plan must not keep the caller's images alive
                for position, shape in images_at:
                    inputs[position] = images.reshape(shape)
            for source, target in casts:
                (source or Array(images.reshape(target.shape), "float32")).cast_into(target)
            self._launch(symbol, inputs, outputs, dtypes)
        for source, target in last_casts:
            source.cast_into(target)
        return result.copy()

    def __repr__(self) -> str:
        chain = " -> ".join(step.symbol for step in self._steps)
        return f"Predictor(image_shape={self.image_shape}: {chain})"

    def _check_images(self, images: np.ndarray) -> None:
        if not isinstance(images, np.ndarray) or images.dtype != np.float32:
            got = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
            raise TypeError(f"maam_ops.Predictor: images: got {got}, expected a NumPy array of float32")
        if images.ndim < 1 or images.shape[1:] != self.image_shape or len(images) < 1:
            expected = ", ".join(("B", *map(str, self.image_shape)))
            raise ValueError(
                f"maam_ops.Predictor: images: got shape {images.shape}, expected ({expected}), B at least 1"
            )
        if not images.flags.c_contiguous:
            raise ValueError(
                f"maam_ops.Predictor: images: got strides {images.strides}, expected a C-contiguous array: "
                "numpy.ascontiguousarray(images)"
            )

    def _plan(self, batch: int) -> _Plan:
        results = [[Array.empty((batch, *part.shape), part.dtypes[0]) for part in step.outputs] for step in self._steps]
        launches = []
        for step, outputs in zip(self._steps, results, strict=True):
            casts: _Casts = []
            inputs = [part if isinstance(part, Array) else _bind(part, batch, results, casts) for part in step.inputs]
            images_at = [(i, (batch, *step.inputs[i].shape)) for i, array in enumerate(inputs) if array is None]
            dtypes = ["float32" if array is None else array.dtype for array in (*inputs, *outputs)]
            arrays = [[array and array.data for array in group] for group in (inputs, outputs)]
            launches.append(_Launch(step.symbol, *arrays, dtypes, images_at, casts))
        casts = []
        return _Plan(launches, casts, _bind(self._result, batch, results, casts).data)

    def _check(self, net: nn.Cell) -> None:
        """That the kernels give the net's results for other images, and other numbers of them, than those recorded."""
        rng = np.random.default_rng(1)
        scales = np.array(_SCALES).reshape(-1, *(1 for _ in self.image_shape))
        images = (scales * rng.standard_normal((len(scales), *self.image_shape))).astype(np.float32)
        expected, got = Array.of(net(Tensor(images))).cast(self._result.dtypes[-1]).data, self(images)
        nan = np.isnan(expected)
        if (
            got.shape != expected.shape
            or not np.array_equal(np.isnan(got), nan)
            or got[~nan].tobytes() != expected[~nan].tobytes()
        ):
            raise ValueError(
                "maam_ops.Predictor: net: got other results from it for some images than from its operators alone, "
                f"expected the same; {REMEDY}"
            )


def _bind(part: Data, batch: int, results: Sequence[Sequence[Array]], casts: _Casts) -> Array | None:
    """Where an operator reads this, None for the images as they are; the casts that bring it there are added."""
    shape = (batch, *part.shape)
    array = None if part.step == IMAGES else results[part.step][part.index].reshape(shape)
    for dtype in part.dtypes[1:]:
        target = Array.empty(shape, dtype)
        casts.append((array, target))
        array = target
    return array
