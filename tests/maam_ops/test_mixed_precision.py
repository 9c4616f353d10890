"""`mindspore.amp` on fused Cells: it puts Cells around normalisations, whose parameters they go on reading."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

import maam_ops
from maam_ops.explain import kernels_run

from .cells import assert_near, branch, images, names, randomised


def fused_features():
    """As a VGG begins, fused by `maam_ops.fuse`."""
    net = nn.SequentialCell(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2, 2)),
        *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
    )
    report = maam_ops.fuse(net, probe=images(2, 3, 8, 8))
    assert str(report).count("FusedConvBlock") == 2, str(report)
    return net


CELLS = {
    "conv_block": (lambda: maam_ops.FusedConvBlock(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), impl="native"), "conv_block"),
    "mix": (lambda: maam_ops.FusedMix([branch(), branch(kernel=5)], impl="native"), "maam_mix"),
    "fused net": (fused_features, "conv_block"),
}


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16], ids=str)
@pytest.mark.parametrize("make, kernel", CELLS.values(), ids=CELLS)
def test_level_o2(mode, make, kernel, dtype):
    """Training moves the statistics and gives gradients in the kernels, evaluation follows."""
    net, x = randomised(make()), images(4, 3, 8, 8)
    expected = net.set_train(False)(x)
    mixed = ms.amp.auto_mixed_precision(net, "O2", dtype)
    results = []
    ran = names(kernels_run(lambda: results.append(mixed.set_train(False)(x)) or results[0]))
    assert any(name.startswith(kernel) for name in ran)
    assert_near(results[0], expected, 0.05)
    statistics = [p for p in net.get_parameters() if "moving" in p.name]
    before = [p.asnumpy().copy() for p in statistics]

    def loss(data):
        return (mixed(data).astype(ms.float32) ** 2).sum()

    mixed.set_train()
    _, gradients = ms.value_and_grad(loss, None, net.trainable_params())(x)
    assert all(np.isfinite(gradient.asnumpy()).all() for gradient in gradients)
    for parameter, old in zip(statistics, before, strict=True):
        assert parameter.dtype == ms.float32 and not np.array_equal(parameter.asnumpy(), old)
