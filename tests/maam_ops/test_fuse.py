"""fuse on nets it has never seen: what it swaps, and that nothing but the operators changes."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from maam_ops import FusedAgentAggregate, FusedAggregateReduce, FusedDense, FusedReduce, _select
from maam_ops.fusion import Rule, fuse

from . import fuse_nets as nets
from . import fuse_odd_nets as odd

pytestmark = pytest.mark.usefixtures("pynative")
IMAGES = Tensor(np.random.default_rng(0).normal(size=(2, 3, 8, 8)), ms.float32)
FEATURES = Tensor(np.random.default_rng(0).normal(size=(3, 6)), ms.float32)


def small_public_net() -> nets.PublicMAAM:
    return nets.PublicMAAM(channels=4, out_channels=8, side=8, hidden=16)


def fuse_uncounted(net: nn.Cell, rules=None, probe=IMAGES):
    """The probe comes from set_inputs, and no kernels are counted: two compilations less."""
    net.set_inputs(probe)
    report = fuse(net, rules, impl="reference")
    assert report.probe == f"from set_inputs {probe.shape} Float32"
    return report


def names_and_objects(net: nn.Cell) -> list[tuple[str, int]]:
    return [(parameter.name, id(parameter)) for parameter in net.get_parameters()]


def patterns(report) -> list[tuple[str, str]]:
    return [(swap.path, swap.pattern) for swap in report.swaps]


CLASSIFIER = [("classifier.1", "dense"), ("classifier.3", "dense")]
BRANCHES = [(f"maam.agent{i}.block.1", "conv_block") for i in (1, 2, 3)]

OTHER_NETS = {
    "indexed, one by one": (
        lambda: nets.Branches(nets.IndexedFusion(), 3, as_list=False), [("fusion", "agent_aggregate")]
    ),
    "unpacked, (N, 1)": (
        lambda: nets.Branches(nets.UnpackedFusion(), 2, as_list=False), [("fusion", "agent_aggregate")]
    ),
    "stacked, four": (
        lambda: nets.Branches(nets.StackedFusion(), 4, as_list=True), [("fusion", "agent_aggregate")]
    ),
    "zip and sum, five": (
        lambda: nets.Branches(nets.ZipSumFusion(5), 5, as_list=True), [("fusion", "agent_aggregate")]
    ),
    "softmax and sum by hand": (
        lambda: nets.Branches(nets.ByHandFusion(), 3, as_list=True), [("fusion", "agent_aggregate")]
    ),
    "dense branches, (1, N), loop, tuple, eight": (
        nets.DenseExperts, [("mix", "agent_aggregate"), *((f"experts.{i}", "dense") for i in range(8))],
    ),
    "dense layers, one followed by two, one with a ReLU of its own": (
        nets.DenseRows, [("first", "dense"), ("fork", "dense"), ("rest.0", "dense"), ("rest.2", "dense")],
    ),
    "bottleneck with one ReLU for all": (nets.Bottleneck, [("bn1", "reduce"), ("bn2", "conv_block")]),
    "residual block": (nets.BasicBlock, [("bn1", "conv_block")]),
    "plain stages": (nets.Stages, [(f"stages.{i}", "conv_block") for i in (1, 5, 9)]),
    "3x3 in a list, vouched for": (
        lambda: odd.LoopedCells(3), [("layers.1", "conv_block")], {"layers": "conv_block"},
    ),
    "nested calls, BN declared first": (nets.BnDeclaredFirst, [("squeeze", "reduce")]),
    "across nested SequentialCells": (nets.NestedSequential, [("pointwise.norm", "reduce")]),
    "two sums, two reduces": (
        nets.TwoScales,
        [("coarse", "agent_aggregate"), ("coarse_reduce.1", "reduce"), ("fine_reduce.1", "aggregate_reduce")],
    ),
    "a row in a list, vouched for": (
        odd.LoopedCells, [("layers.1", "reduce")], {"layers": "reduce"},
    ),
    "switchable sum, vouched for": (
        lambda: nets.Branches(odd.SwitchableFusion(), 3, as_list=False),
        [("fusion", "agent_aggregate")],
        {"fusion": "agent_aggregate"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_NETS.values(), ids=OTHER_NETS)
def test_other_nets(case):
    build, expected, *rules = case
    net = build()
    probe = FEATURES if isinstance(net, (nets.DenseExperts, nets.DenseRows)) else IMAGES
    before = names_and_objects(net)
    output = net(probe).asnumpy()
    report = fuse(net, *rules, probe=probe, impl="reference")
    assert sorted(patterns(report)) == sorted(expected), report
    assert names_and_objects(net) == before
    # The names MindSpore would derive from the structure, whenever the net is wrapped, are the old ones too.
    assert [name for name, _ in net.parameters_and_names()] == [name for name, _ in before]
    np.testing.assert_allclose(net(probe).asnumpy(), output, rtol=1e-4, atol=1e-5)
    assert report.largest_error < 1e-3
    assert report.kernels_before > 0 and report.kernels_after > 0


def test_public_maam_form_becomes_one_operator():
    net = small_public_net()
    report = fuse(net, probe=IMAGES, impl="reference")
    assert sorted(patterns(report)) == [*CLASSIFIER, *BRANCHES, ("maam.reduce.1", "aggregate_reduce")]
    replaced = {swap.path: swap.replaces for swap in report.swaps}
    assert replaced["classifier.1"] == ("classifier.1", "classifier.2")
    assert net.classifier[1].relu and not net.classifier[3].relu
    assert replaced["maam.reduce.1"] == ("maam.fusion", "maam.reduce.0", "maam.reduce.1", "maam.reduce.2")
    assert isinstance(net.maam.reduce[1], FusedAggregateReduce)
    assert net.maam.reduce[1].alpha is net.maam.fusion.attn_weights
    assert report.kernels_before == 30
    text = str(report)
    assert "maam.reduce.1: FusedAggregateReduce(num_agents=3" in text
    assert "executed kernels in inference: 30 ->" in text
    assert replaced["maam.agent2.block.1"] == tuple(f"maam.agent2.block.{i}" for i in range(4))


@pytest.mark.skipif(
    any(_select.choose(op).impl != "native" for op in _select.operators()), reason="needs the compiled kernels"
)
def test_public_maam_form_runs_the_native_kernel():
    net = small_public_net()
    report = fuse(net, probe=IMAGES)
    assert net.maam.reduce[1].impl == "native"
    # Softmax, three slices, three products, two sums, convolution, normalisation and ReLU are one kernel now;
    # two matrix products with their biases and a ReLU are two; each branch of four layers is one.
    assert (report.kernels_before, report.kernels_after) == (30, 7)
    assert report.largest_error < 1e-3


def test_probe_is_guessed_and_kernels_are_then_not_counted():
    net = nets.PublicMAAM(channels=4, out_channels=8, side=28, hidden=16)
    report = fuse(net, impl="reference")
    assert report.probe == "guessed (2, 3, 28, 28) Float32"
    assert len(report.swaps) == 6
    assert report.kernels_before is None and "kernels" not in str(report)


def test_values_training_state_and_mode_stay():
    net = small_public_net().set_train()
    net.maam.reduce[1].set_train(False)
    before = {p.name: p.asnumpy().copy() for p in net.get_parameters()}
    mode = ms.get_context("mode")
    fuse_uncounted(net, {"maam.fusion": "keep"})
    assert ms.get_context("mode") == mode
    assert isinstance(net.maam.reduce[1], FusedReduce) and not net.maam.reduce[1].training
    assert net.maam.agent1.block[1].training and net.training
    for parameter in net.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), before[parameter.name])


def test_a_net_compiled_before_runs_the_fused_cells_afterwards(graph):
    net = nets.Branches(nets.IndexedFusion(), 3, as_list=False)
    before = net(IMAGES).asnumpy()
    fuse_uncounted(net)
    assert isinstance(net.fusion, FusedAgentAggregate)
    np.testing.assert_allclose(net(IMAGES).asnumpy(), before, rtol=1e-4, atol=1e-5)
    # Only a graph of the fused Cell follows its number of branches.
    net.fusion.num_agents = 2
    net.compile_cache.clear()
    with pytest.raises(ValueError, match="FusedAgentAggregate"):
        net(IMAGES).asnumpy()


def train(net: nn.Cell, steps: int) -> None:
    net.set_train()
    optimizer = nn.Adam(net.trainable_params(), 1e-2)
    loss = nn.CrossEntropyLoss()
    labels = Tensor([1, 2], ms.int32)

    def forward(x):
        return loss(net(x), labels)

    step = ms.value_and_grad(forward, None, optimizer.parameters)
    for _ in range(steps):
        optimizer(step(IMAGES)[1])
    net.set_train(False)


def test_trained_checkpoint_loads_both_ways(tmp_path):
    plain, fused = small_public_net(), small_public_net()
    fuse_uncounted(fused)
    for source, target, file in ((plain, fused, "plain.ckpt"), (fused, plain, "fused.ckpt")):
        train(source, 3)
        ms.save_checkpoint(source, str(tmp_path / file))
        missing, unexpected = ms.load_param_into_net(target, ms.load_checkpoint(str(tmp_path / file)), strict_load=True)
        assert missing == [] and unexpected == []
        np.testing.assert_allclose(
            target.set_train(False)(IMAGES).asnumpy(), source(IMAGES).asnumpy(), rtol=1e-3, atol=1e-5
        )


def test_a_trained_net_is_fused_with_what_it_learned():
    net = small_public_net()
    train(net, 3)
    before = net(IMAGES).asnumpy()
    statistics = net.maam.reduce[1].moving_variance.asnumpy().copy()
    fuse_uncounted(net)
    np.testing.assert_array_equal(net.maam.reduce[1].moving_variance.asnumpy(), statistics)
    np.testing.assert_allclose(net(IMAGES).asnumpy(), before, rtol=1e-3, atol=1e-5)


def test_names_stay_when_the_fused_net_is_wrapped():
    class Outer(nn.Cell):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def construct(self, x):
            return self.inner(x)

    plain, fused = small_public_net(), small_public_net()
    fuse_uncounted(fused)
    assert [p.name for p in Outer(fused).get_parameters()] == [p.name for p in Outer(plain).get_parameters()]


def test_fusing_twice_changes_nothing_more():
    net = small_public_net()
    fuse_uncounted(net)
    cells = [id(cell) for _, cell in net.cells_and_names()]
    assert patterns(fuse_uncounted(net)) == []
    assert [id(cell) for _, cell in net.cells_and_names()] == cells


def test_rules_can_be_objects_and_keep_what_they_name():
    net = small_public_net()
    report = fuse_uncounted(net, [Rule("maam.reduce", "keep")])
    assert sorted(patterns(report)) == [*CLASSIFIER, *BRANCHES, ("maam.fusion", "agent_aggregate")]
    assert isinstance(net.maam.reduce[1], nn.BatchNorm2d)


def test_which_pool_a_convolution_takes_over():
    net = nets.Stages()
    replaced = {swap.path: swap.replaces for swap in fuse_uncounted(net).swaps}
    taken = {path: "pool" if len(cells) == 4 else "relu" if len(cells) == 3 else "" for path, cells in replaced.items()}
    # The second pool is none of 2x2, and the ReLU of the third stage is that of the second.
    assert taken == {"stages.1": "pool", "stages.5": "", "stages.9": ""}


def test_which_relu_a_dense_layer_takes_over():
    net = nets.DenseRows()
    fuse_uncounted(net, probe=FEATURES)
    taken = {name: cell.relu for name, cell in net.cells_and_names() if isinstance(cell, FusedDense)}
    # The output of `fork` has two readers, and the ReLU behind `rest.0` is that behind `rest.2` as well.
    assert taken == {"first": True, "fork": False, "rest.0": False, "rest.2": False}


@pytest.mark.parametrize(
    "layer, reason",
    [
        (nn.Dense(6, 5, activation="sigmoid"), "activation Sigmoid, expected ReLU or none"),
        (nn.Dense(6, 5, dtype=ms.float16), "the weight is Float16, expected Float32"),
    ],
)
def test_dense_layers_left_alone(layer, reason):
    report = fuse(nn.SequentialCell(layer), probe=FEATURES.astype(layer.weight.dtype))
    assert not report.swaps and [refusal.pattern for refusal in report.refusals] == ["dense"]
    assert reason in report.refusals[0].reason


def test_bad_arguments_are_named():
    net = small_public_net()
    with pytest.raises(TypeError, match=r"net: got int, expected a mindspore\.nn\.Cell"):
        fuse(3)
    with pytest.raises(ValueError, match=r"got path 'maam.fuzion', expected .* such as 'maam.fusion'"):
        fuse(net, {"maam.fuzion": "agent_aggregate"}, probe=IMAGES)
    with pytest.raises(
        ValueError, match="got pattern 'sum', expected one of agent_aggregate, reduce, conv_block, keep"
    ):
        fuse(net, {"maam.fusion": "sum"}, probe=IMAGES)
    with pytest.raises(TypeError, match=r"rules: got a Tensor, .*; pass a batch as probe="):
        fuse(net, IMAGES)
    with pytest.raises(TypeError, match="rules: got 'w', expected patterns by path, or Rules"):
        fuse(net, "w", probe=IMAGES)
    with pytest.raises(TypeError, match=r"rules: got \('w', 'keep'\), expected a Rule such as"):
        fuse(net, [("w", "keep")], probe=IMAGES)
    with pytest.raises(TypeError, match="probe: got str, expected a Tensor"):
        fuse(net, probe="batch")
    with pytest.raises(RuntimeError, match=r"probe: the net does not run on it \(given \(2, 3, 10, 10\)"):
        fuse(net, probe=Tensor(np.zeros((2, 3, 10, 10)), ms.float32))
    with pytest.raises(ValueError, match="impl"):
        fuse(net, probe=IMAGES, impl="fastest")
