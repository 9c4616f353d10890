"""Random cases of the operators on bytes."""

from __future__ import annotations

from tests.maam_ops.int8_case import DenseInt8Case, MaamDeepInt8Case, MaamInt8Case

from .draw import Draw


class DenseInt8Both(DenseInt8Case):
    """With both kinds of results."""

    def check(self):
        outputs = len(self.weight)
        for self.floats in (True, False):
            self.result_shape = (self.result_shape[0], outputs if self.floats else -(-outputs // 4) * 4)
            super().check()


def dense(draw: Draw, dtype: str) -> DenseInt8Both:
    long = draw.rng.random() < 0.1
    return DenseInt8Both(draw.size(70), draw.size(10_000 if long else 300), draw.size(70), offset=draw.offset(),
                         seed=draw.seed)  # fmt: skip


def _images(draw: Draw, batch: int, inputs: int, pixels: int) -> tuple[int, int, int, int]:
    height, width = draw.image(pixels)
    return draw.size(batch), draw.size(inputs), max(2, height), max(2, width)


def maam(draw: Draw, dtype: str) -> MaamInt8Case:
    kernels = [draw.pick((1, 3, 3, 5, 7)) for _ in range(draw.pick((2, 3, 3, 4, 8)))]
    return MaamInt8Case(_images(draw, 4, 6, 600), draw.size(40), draw.size(40), kernels, zero=draw.pick((0, 64, 127)),
                        offset=draw.offset(), seed=draw.seed)  # fmt: skip


def maam_deep(draw: Draw, dtype: str) -> MaamDeepInt8Case:
    kernels = [draw.pick((1, 3, 3, 5)) for _ in range(draw.pick((2, 3, 3, 4)))]
    return MaamDeepInt8Case(_images(draw, 3, 4, 400), draw.size(40), draw.size(40), draw.size(20), kernels,
                            zero=draw.pick((0, 64, 127)), offset=draw.offset(), seed=draw.seed)  # fmt: skip
