"""Names of Parameters that fused Cells share with a net's own layers: checkpoints load both ways."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

import maam_ops

pytestmark = pytest.mark.usefixtures("pynative")


def images(*shape):
    return Tensor(np.random.default_rng(0).standard_normal(shape), ms.float32)


def branch():
    return nn.SequentialCell(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, 2))


def alpha(count):
    return Parameter(images(count), name="alpha")


class Plain(nn.Cell):
    def __init__(self):
        super().__init__()
        self.branches = nn.CellList([branch(), branch()])
        self.conv, self.bn = nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
        self.dense = nn.Dense(5, 2)
        self.w = alpha(2)

    def construct(self, x):
        w = ops.softmax(self.w, 0)
        y = w[0] * self.branches[0](x) + w[1] * self.branches[1](x)
        return self.dense(ops.relu(self.bn(self.conv(y))).mean((2, 3)))


class Fused(Plain):
    def __init__(self):
        super().__init__()
        with maam_ops.names_kept(self):
            self.module = maam_ops.FusedMAAM.from_cells(self.branches, self.w, self.conv, self.bn)
            self.classifier = maam_ops.FusedDense.from_cell(self.dense)

    def construct(self, x):
        return self.classifier(self.module(x).mean((2, 3)))


class Outer(nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def construct(self, x):
        return self.net(x)


def names(net):
    return [parameter.name for parameter in net.get_parameters()]


@pytest.mark.parametrize("around", [lambda net: net, Outer], ids=["the net", "inside another"])
def test_checkpoints_load_both_ways(around, tmp_path):
    file = str(tmp_path / "net.ckpt")
    for source, target in ((Plain, Fused), (Fused, Plain)):
        trained, loaded = (around(kind()).set_train(False) for kind in (source, target))
        assert names(trained) == names(loaded)
        ms.save_checkpoint(trained, file)
        assert ms.load_param_into_net(loaded, ms.load_checkpoint(file), strict_load=True) == ([], [])
        x = images(2, 3, 6, 6)
        np.testing.assert_allclose(loaded(x).asnumpy(), trained(x).asnumpy(), rtol=1e-4, atol=1e-5)
        assert names(trained) == names(loaded)


def test_names_are_put_back_where_the_assignment_raises():
    net = Plain()
    before = names(net)
    with pytest.raises(ValueError, match="branches: got 1"), maam_ops.names_kept(net):
        net.reduce = maam_ops.FusedReduce.from_cells(net.conv, net.bn)
        net.module = maam_ops.FusedMAAM.from_cells(net.branches[:1], net.w, net.conv, net.bn)
    assert names(net) == before


@pytest.mark.parametrize(
    "build, count",
    [
        (lambda: maam_ops.FusedMix([branch(), branch(), branch()], alpha(3)), 16),
        (lambda: maam_ops.FusedMAAM.from_cells([branch()] * 2, alpha(2), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)), 11),
        (
            lambda: maam_ops.FusedMAAM.from_cells(
                [branch(), branch()], alpha(2), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
            ),
            16,
        ),
    ],
    ids=["mix", "one branch twice", "module"],
)
def test_layers_that_nobody_named_have_names_of_their_own(build, count, tmp_path):
    net = build()
    assert len(set(names(net))) == count and "alpha" in names(net)
    before = names(net)
    maam_ops.FusedAdam(net.trainable_params())
    file = str(tmp_path / "net.ckpt")
    ms.save_checkpoint(net, file)
    assert len(ms.load_checkpoint(file)) == count
    net(images(2, 3, 6, 6))
    assert names(net) == before
