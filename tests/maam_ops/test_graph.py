"""Kernel counts and memory from MindSpore's own graph."""

from __future__ import annotations

import os

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from maam_ops import _ir, graph

from .fuse_nets import PublicMAAM

IMAGES = Tensor(np.random.default_rng(0).random((2, 3, 8, 8), np.float32))
LABELS = Tensor(np.array([1, 2], np.int32))


@pytest.fixture
def public_net():
    return PublicMAAM(channels=4, out_channels=8, side=8, hidden=16)


class Chain(nn.Cell):
    """Four float32 tensors of 1 KiB and one of 4 bytes; three of them alive at the widest point."""

    def construct(self, x):
        a = ops.sin(x)
        b = ops.cos(a)
        c = ops.exp(b)
        return ops.reduce_sum(a * c)


def test_public_net_has_the_known_number_of_kernels_in_inference(public_net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [parameter.name for parameter in public_net.get_parameters()]
    before = {name: ms.get_context(name) for name in ("mode", "save_graphs")}
    count = graph.count_kernels(public_net.set_train(False), IMAGES)
    assert count.total == 30
    assert count.by_type == {
        "ReLU": 5, "Conv2D": 4, "BatchNorm": 4, "StridedSlice": 3, "MaxPool": 3, "Mul": 3, "Add": 2, "MatMul": 2,
        "BiasAdd": 2, "Softmax": 1, "Flatten": 1,
    }  # fmt: skip
    assert [kernel.type for kernel in count.kernels][-1] == "BiasAdd"
    assert str(count).startswith("30 kernels: 5 ReLU")
    assert {name: ms.get_context(name) for name in before} == before
    assert [parameter.name for parameter in public_net.get_parameters()] == names
    assert os.listdir(tmp_path) == []


def test_train_step_is_counted_with_its_optimizer_and_not_run(public_net):
    optimizer = nn.Adam(public_net.set_train().trainable_params(), 1e-3, weight_decay=1e-4)
    loss = nn.CrossEntropyLoss()

    def forward(x, y):
        return loss(public_net(x), y)

    forward_backward = ms.value_and_grad(forward, None, optimizer.parameters)

    def step(x, y):
        value, gradients = forward_backward(x, y)
        return ops.depend(value, optimizer(gradients))

    before = {parameter.name: parameter.asnumpy().copy() for parameter in public_net.get_parameters()}
    count = graph.count_kernels(step, IMAGES, LABELS)
    total = {"2.7": 174, "2.8": 175}.get(ms.__version__[:3], 173)
    assert (count.total, count.by_type["Adam"]) == (total, 17)
    for parameter in public_net.get_parameters():
        np.testing.assert_array_equal(parameter.asnumpy(), before[parameter.name])


@pytest.mark.parametrize("mode", ["graph"], indirect=True)
def test_profiler_launches_what_the_graph_says(public_net, mode):
    public_net.set_train(False)
    launched = graph.profile_kernels(lambda: public_net(IMAGES).asnumpy(), steps=2)
    # Flatten is a kernel of the graph that only passes its input on: the runtime launches nothing.
    assert launched.total == 29 and "Flatten" not in launched.by_type
    assert launched.by_type["Conv2D"] == 4


def test_memory_plan_frees_each_tensor_after_its_last_reader():
    plan = graph.memory_plan(Chain(), Tensor(np.ones((16, 16), np.float32)))
    assert plan.input_bytes == 1024 and plan.parameter_bytes == 0
    assert plan.total_bytes == 4 * 1024 + 4
    # a, b and c while exp runs; then a, c and their product.
    assert plan.peak_bytes == 3 * 1024


def test_both_arms_of_a_branch_are_counted():
    def branch(x):
        if ops.reduce_sum(x) > 0:
            return ops.sin(x)
        return ops.cos(x)

    assert graph.count_kernels(branch, IMAGES).by_type == {"ReduceSum": 1, "Greater": 1, "Sin": 1, "Cos": 1}


def test_in_place_kernels_own_no_memory():
    class Counter(nn.Cell):
        def __init__(self):
            super().__init__()
            self.total = Parameter(ops.zeros((16, 16), ms.float32), requires_grad=False)

        def construct(self, x):
            return ops.depend(x * 2, ops.assign_add(self.total, x))

    plan = graph.memory_plan(Counter(), Tensor(np.ones((16, 16), np.float32)))
    assert (plan.total_bytes, plan.parameter_bytes) == (1024, 1024)


FUSED_AND_CUSTOM = """\
%para1_x: <Tensor[BFloat16], (2, 3)> : [2, 3]  :  <BFloat16xDefaultFormat[const vector]{2, 3}>  :  IsWeight: false
subgraph @inner_1(%para2_p) {
  %0(CNode_1) = PrimFunc_Add(%para2_p, %para2_p) cnode_attrs: {}
      : (<Tensor[BFloat16], (2, 3)>) -> (<Tensor[BFloat16], (2, 3)>)
      # Fullname with scope: (Default/Add-op0)
  Return(%0)
}
subgraph @kernel_graph0() {
  %0(CNode_2) = call @inner_1(%para1_x)
      : (<Tensor[BFloat16], (2, 3)>) -> (<Tensor[BFloat16], (2, 3)>)
      : (<BFloat16xDefaultFormat[const vector]{2, 3}>) -> (<BFloat16xDefaultFormat[const vector]{2, 3}>)
      : (Tensor) -> (Tensor)
      # Fullname with scope: (Default/GraphKernel_Add_fusion-op0)
  %1(CNode_3) = Custom(%0, Tensor(shape=[2], dtype=Float32, value=
[1, 2])) primitive_attrs: {func_name: "/lib/libops.so:forward", func_type: "aot"}
      : (<Tensor[BFloat16], (2, 3)>) -> (<Tensor[Float32], (2, 3)>)
      : (<BFloat16xDefaultFormat[const vector]{2, 3}>) -> (<Float32xDefaultFormat[const vector]{2, 3}>)
      : (Tensor) -> (Tensor)
      # Fullname with scope: (Default/Custom-op0)
  Return(%1)
}
"""


def test_parser_names_fused_and_custom_kernels():
    (parsed,) = _ir.parse(FUSED_AND_CUSTOM)
    assert [(kernel.type, kernel.output_bytes) for kernel in parsed.kernels] == [
        ("GraphKernel_Add_fusion", 12),
        ("Custom:forward", 24),
    ]
    assert parsed.input_bytes == 12
    assert _ir.activation_bytes(parsed) == (36, 36)


def test_parser_names_a_tensor_it_cannot_size():
    with pytest.raises(ValueError, match=r"\{-1, 3\}.*shape fixed when compiling"):
        _ir.parse(FUSED_AND_CUSTOM.replace("{2, 3}", "{-1, 3}"))


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="net_or_fn: got int, expected a Cell or a function"):
        graph.count_kernels(3)
    with pytest.raises(ValueError, match="steps: got 0, expected 1 or more"):
        graph.profile_kernels(lambda: None, steps=0)
