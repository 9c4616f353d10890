"""Cells in a SequentialCell are a row only where the net never runs one of them by itself, whatever the probe ran."""

import re

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from maam_ops import FusedConvBlock
from maam_ops.fusion import fuse

pytestmark = pytest.mark.usefixtures("pynative")
IMAGES = Tensor(np.random.default_rng(0).normal(size=(2, 4, 6, 6)), ms.float32)


def row(*more):
    return nn.SequentialCell(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *more)


class Body(nn.Cell):
    def __init__(self, body=None):
        super().__init__()
        self.body = body or row()
        self.extra = False


class Indexed(Body):
    def construct(self, x):
        y = self.body(x)
        if self.extra:
            y = y + self.body[0](x)
        return y


class Sliced(Body):
    def construct(self, x):
        return self.body[:2](x) if self.extra else self.body(x)


class Iterated(Body):
    def construct(self, x):
        y = self.body(x)
        if self.extra:
            for cell in self.body:
                y = cell(y)
        return y


class HandedOn(Body):
    def construct(self, x):
        body = self.body
        return body[1](x) if self.extra else body(x)


class InsideAnother(Body):
    def __init__(self):
        super().__init__(nn.SequentialCell(row()))

    def construct(self, x):
        return self.body[0][0](x) if self.extra else self.body(x)


class Listed(nn.Cell):
    def __init__(self):
        super().__init__()
        self.extra = False
        self.blocks = nn.CellList([row(), row()])

    def construct(self, x):
        for block in self.blocks:
            x = block[1](x) if self.extra else block(x)
        return x


class OwnMethod(nn.SequentialCell):
    def features(self, x):
        return self[0](x)


class Activation(nn.Cell):
    """Its ReLU runs once more in code that the probe does not reach."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = row()
        self.extra = False

    def construct(self, x):
        y = self.relu(self.bn(self.conv(x)))
        if self.extra:
            y = self.relu(y - 1)
        return y


OPENED = {
    "index": (Indexed, r"Indexed opens self.body in 'self.body\[0\]'"),
    "slice": (Sliced, r"opens self.body in 'self.body\[:2\]'"),
    "iteration": (Iterated, "opens self.body in 'for cell in self.body"),
    "handed on": (HandedOn, "opens self.body in 'body = self.body'"),
    "index of an index": (InsideAnother, r"opens self.body in 'self.body\[0\]'"),
    "loop over a list": (Listed, r"opens self.blocks in 'block\[1\]'"),
    "method of a subclass": (lambda: Plain(OwnMethod(*row())), "OwnMethod has methods of its own, features"),
}


@pytest.mark.parametrize("case", OPENED.values(), ids=OPENED)
def test_a_container_that_is_opened_proves_nothing(case):
    build, reason = case
    report = fuse(build(), probe=IMAGES, impl="reference")
    assert not report.swaps
    assert all(re.search(reason, refusal.reason) for refusal in report.refusals), report


@pytest.mark.parametrize("build", [Indexed, Sliced, Iterated, HandedOn, InsideAnother, Listed, Activation])
def test_what_the_probe_did_not_run_stays_the_same(build):
    ms.set_seed(0)
    plain = build().set_train(False)
    ms.set_seed(0)
    fused = build().set_train(False)
    fuse(fused, probe=IMAGES, impl="reference")
    plain.extra = fused.extra = True
    np.testing.assert_allclose(fused(IMAGES).asnumpy(), plain(IMAGES).asnumpy(), rtol=1e-4, atol=1e-5)


class Plain(Body):
    def construct(self, x):
        return self.body(x)


class Built(nn.SequentialCell):
    """A subclass that only makes its Cells is as good as a SequentialCell."""

    def __init__(self):
        super().__init__(*row())


class Enumerated(Listed):
    def construct(self, x):
        for i, block in enumerate(self.blocks):
            x = block(x) * (i + 1)
        return x


class Indices(Listed):
    def construct(self, x):
        for i in range(len(self.blocks)):
            x = self.blocks[i](x)
        return x


class Comprehension(Listed):
    def construct(self, x):
        a, b = [block(x) for block in self.blocks]
        return a + b


class Stages(nn.Cell):
    def __init__(self):
        super().__init__()
        self.stages = nn.CellList([nn.CellList([row()]), nn.CellList([row()])])

    def construct(self, x):
        for stage in self.stages:
            for block in stage:
                x = block(x)
        return x


class MadeByAMethod(nn.Cell):
    def __init__(self):
        super().__init__()
        self.make()

    def make(self):
        self.body = nn.SequentialCell(row(), row())

    def construct(self, x):
        return self.body(x)


@pytest.mark.parametrize(
    "build, count",
    [
        (Plain, 1),
        (lambda: Plain(Built()), 1),
        (lambda: Plain(nn.SequentialCell(nn.SequentialCell(row()), row())), 2),
        (lambda: nn.SequentialCell(row()), 1),
        (Enumerated, 2),
        (Indices, 2),
        (Comprehension, 2),
        (Stages, 2),
        (MadeByAMethod, 2),
    ],
    ids=["called", "subclass", "nested", "the net itself", "enumerate", "indices", "list", "stages", "made later"],
)
def test_a_container_that_is_only_called_is_a_row(build, count):
    net = build()
    report = fuse(net, probe=IMAGES, impl="reference")
    assert [swap.pattern for swap in report.swaps] == ["conv_block"] * count, report
    assert sum(isinstance(cell, FusedConvBlock) for _, cell in net.cells_and_names()) == count
