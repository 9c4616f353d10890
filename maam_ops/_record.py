"""What a net of this package's operators computes in inference, found by calling it in PYNATIVE mode.

The net is called twice, with different numbers of images. What its operators read is then either the same in both
calls, a constant, or it is traced to the images or to an earlier result.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from maam_ops import _native
from maam_ops._arrays import HALVES, Array

# Not 1, which any dimension could be.
_BATCHES = (2, 3)
IMAGES = -1
REMEDY = (
    "what stands between must be this package's operators: maam_ops.explain(net) says what runs, maam_ops.fuse(net) "
    "swaps them in"
)


@dataclass(frozen=True)
class Data:
    """What depends on the images: result `index` of step `step`, or the images themselves (step IMAGES).

    Attributes:
        dtypes: its own, then those it is cast to one after the other.
        shape: that of one image's part.
    """

    step: int
    index: int
    dtypes: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One operator."""

    symbol: str
    inputs: tuple[Data | Array, ...]
    outputs: tuple[Data, ...]


@dataclass(frozen=True)
class _Call:
    """One call of the net, its tensors kept alive: they are told apart by identity."""

    images: Tensor
    calls: list[_native.Call]
    result: Tensor


@contextmanager
def in_inference(net: nn.Cell) -> Iterator[None]:
    """The net in evaluation and the process in PYNATIVE mode; both are put back at the end."""
    mode = ms.get_context("mode")
    before = [(cell, cell.training, cell.phase) for _, cell in net.cells_and_names()]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net.set_train(False)
    try:
        yield
    finally:
        for cell, training, phase in before:
            cell.add_flags(training=training)
            cell.phase = phase
        ms.set_context(mode=mode)


def trace(net: nn.Cell, image_shape: Sequence[int]) -> tuple[list[Step], Data]:
    """The operators in their order and the net's result; call it within :func:`in_inference`.

    Raises:
        ValueError: the net is not made of this package's native operators alone.
    """
    rng = np.random.default_rng(0)
    # Numbers below zero too, or a ReLU of the images would pass for the images.
    batches = [rng.standard_normal((batch, *image_shape)).astype(np.float32) for batch in _BATCHES]
    return _Tracer([_record(net, Tensor(images)) for images in batches]).trace()


def _record(net: nn.Cell, images: Tensor) -> _Call:
    with _native.recorded() as calls:
        result = net(images)
    if not isinstance(result, Tensor):
        raise ValueError(f"maam_ops.Predictor: net: got a {type(result).__name__} from its call, expected one Tensor")
    if not calls:
        raise ValueError(
            "maam_ops.Predictor: net: no native operator of this package ran in it, it runs on MindSpore's own ops; "
            + REMEDY
        )
    return _Call(images, calls, result)


class _Tracer:
    def __init__(self, calls: list[_Call]) -> None:
        self._calls = calls
        # By (step, index) what depends on the images so far, in both calls.
        self._known: dict[tuple[int, int], list[tuple[Tensor, Array]]] = {}
        self._add((IMAGES, 0), [call.images for call in calls])

    def trace(self) -> tuple[list[Step], Data]:
        both = [call.calls for call in self._calls]
        if len({tuple((one.symbol, len(one.inputs)) for one in calls) for calls in both}) > 1:
            raise ValueError(
                f"maam_ops.Predictor: net: runs other operators for {_BATCHES[0]} images than for {_BATCHES[1]}, "
                "expected the same for any batch"
            )
        steps: list[Step] = []
        for number, pair in enumerate(zip(*both, strict=True)):
            place = f"operator {number} ({pair[0].symbol})"
            inputs = tuple(
                self._find(tensors, f"input {position} of {place}")
                for position, tensors in enumerate(zip(*(one.inputs for one in pair), strict=True))
            )
            # What is made of constants is a constant where it is read.
            if any(isinstance(part, Data) for part in inputs):
                results = zip(*(one.outputs for one in pair), strict=True)
                outputs = [self._output((len(steps), index), tensors, place) for index, tensors in enumerate(results)]
                steps.append(Step(pair[0].symbol, inputs, tuple(outputs)))
        result = self._find([call.result for call in self._calls], "the net's result")
        if isinstance(result, Array) or result.step == IMAGES:
            raise ValueError(
                "maam_ops.Predictor: net: got a result that no operator made from the images, expected that of the "
                f"last operator; {REMEDY}"
            )
        return steps, replace(result, dtypes=(*result.dtypes, "float32")) if result.dtypes[-1] in HALVES else result

    def _add(self, place: tuple[int, int], tensors: Sequence[Tensor]) -> None:
        self._known[place] = [(tensor, Array.of(tensor)) for tensor in tensors]

    def _output(self, place: tuple[int, int], tensors: Sequence[Tensor], what: str) -> Data:
        shape = _shape_of_one([tensor.shape for tensor in tensors])
        if shape is None:
            raise ValueError(
                f"maam_ops.Predictor: net: result {place[1]} of {what}: got shape {tensors[0].shape} for {_BATCHES[0]} "
                f"images and {tensors[1].shape} for {_BATCHES[1]}, expected their number in front and nowhere else"
            )
        self._add(place, tensors)
        return Data(*place, (self._known[place][0][1].dtype,), shape)

    def _find(self, tensors: Sequence[Tensor], what: str) -> Data | Array:
        if tensors[0] is tensors[1]:  # a Parameter
            return Array.of(tensors[0]).copy()
        arrays = [Array.of(tensor) for tensor in tensors]
        if arrays[0].shape == arrays[1].shape and arrays[0].same(arrays[1]):
            return arrays[0].copy()
        shape = _shape_of_one([array.shape for array in arrays])
        found = [
            (place, (arrays[0].dtype,))
            for place, known in self._known.items()
            if all(tensor is seen for tensor, (seen, _) in zip(tensors, known, strict=True))
        ] or [
            (place, dtypes)
            for place, known in self._known.items()
            if (dtypes := _casts([seen for _, seen in known], arrays)) is not None
        ]
        if len(found) > 1:
            raise ValueError(
                f"maam_ops.Predictor: net: {what}: got elements that several results have, such as zeros alone, "
                "expected those of one; hand it that result itself, without a reshape or a cast in between"
            )
        if not found or shape is None:
            raise ValueError(
                f"maam_ops.Predictor: net: {what}: got what is neither the images, nor the result of an earlier "
                f"operator, nor a constant, nor a cast or a reshape of one that keeps the batch in front; {REMEDY}"
            )
        place, dtypes = found[0]
        return Data(*place, dtypes, shape)


def _casts(sources: Sequence[Array], targets: Sequence[Array]) -> tuple[str, ...] | None:
    """The dtypes by which these arrays become those, from their own on; None where no casts do it."""
    wanted = targets[0].dtype
    # A model stored in a half type rounds its images to it; an operator that reads float32 alone widens them again.
    for between in ((), *((half,) for half in HALVES)):
        dtypes = tuple(dict.fromkeys((*between, wanted)))
        cast = [functools.reduce(Array.cast, dtypes, source) for source in sources]
        if all(one.same(target) for one, target in zip(cast, targets, strict=True)):
            own = sources[0].dtype
            return dtypes if dtypes[0] == own else (own, *dtypes)
    return None


def _shape_of_one(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape behind the batch, or None where the numbers of images are not in front and nowhere else."""
    fits = all(shape[:1] == (batch,) for shape, batch in zip(shapes, _BATCHES, strict=True))
    return tuple(shapes[0][1:]) if fits and shapes[0][1:] == shapes[1][1:] else None
