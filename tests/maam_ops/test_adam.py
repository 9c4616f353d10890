"""FusedAdam beside nn.Adam: the same steps, states and checkpoints, whatever else reads the parameters."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

import maam_ops
from maam_ops.explain import kernels_run

SHAPES = {"a.weight": (30, 40), "a.gamma": (40,), "b.weight": (30, 40)}


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


class Net(nn.Cell):
    """Its gradients are other parameters' values: what is updated too early shows."""

    def __init__(self):
        super().__init__()
        values = [Tensor(random(*shape, seed=i)) for i, shape in enumerate(SHAPES.values())]
        self.first, self.gain, self.second = (Parameter(v, name=n) for v, n in zip(values, SHAPES, strict=True))

    def construct(self, x):
        return (self.first * self.second).sum() + (self.gain * self.gain).sum() + (self.first * x).sum()


class Step(nn.Cell):
    """A step that reads parameters before and after the update."""

    def __init__(self, net, optimizer):
        super().__init__(auto_prefix=False)
        self.net, self.optimizer = net, optimizer
        self.gradient = ms.value_and_grad(net, None, optimizer.parameters)

    def construct(self, x):
        before = self.net.first * 1.0
        loss, gradients = self.gradient(x)
        self.optimizer(gradients)
        return loss, before, gradients[0], gradients[2], (self.net.first * x).sum(), self.net.second * 1.0


def train(optimizer_class, steps=3, groups=False, **options):
    net = Net()
    parameters = net.trainable_params()
    if groups:
        parameters = [{"params": parameters[:1], "weight_decay": 0.1}, {"params": parameters[1:]}]
    optimizer = optimizer_class(parameters, **{"learning_rate": 1e-2, "weight_decay": 1e-2, **options})
    step = Step(net, optimizer)
    x = Tensor(random(30, 40, seed=9))
    seen = [[value.asnumpy().copy() for value in step(x)] for _ in range(steps)]
    state = {p.name: p.asnumpy().copy() for p in (*net.get_parameters(), *optimizer.get_parameters())}
    return optimizer, seen, state


def assert_equal(fused, plain):
    for got, expected in zip(fused[1], plain[1], strict=True):
        for left, right in zip(got, expected, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=2e-6)
    assert list(fused[2]) == list(plain[2])
    for name, value in plain[2].items():
        np.testing.assert_allclose(fused[2][name], value, rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_nesterov": True, "loss_scale": 8.0},
        {"learning_rate": [1e-2, 1e-3, 1e-4, 1e-5]},
        {"groups": True, "weight_decay": 0.0},
    ],
    ids=["plain", "nesterov and loss scale", "rate of each step", "decay of each group"],
)
def test_steps_are_those_of_the_framework(mode, options):
    fused = {}
    ran = kernels_run(lambda: fused.update(result=train(maam_ops.FusedAdam, impl="native", **options)))
    assert_equal(fused["result"], train(nn.Adam, **options))
    assert sum(ran.values()) == 3 and all(name.startswith("adam_update/") for name in ran)


def test_reference_is_the_framework(mode):
    assert_equal(train(maam_ops.FusedAdam, impl="reference"), train(nn.Adam))


def test_checkpoints_are_interchangeable(pynative, tmp_path):
    for source, target in ((nn.Adam, maam_ops.FusedAdam), (maam_ops.FusedAdam, nn.Adam)):
        optimizer, _, state = train(source)
        ms.save_checkpoint(optimizer, str(tmp_path / "state.ckpt"))
        other = target(Net().trainable_params(), 1e-2, weight_decay=1e-2)
        missing, unexpected = ms.load_param_into_net(other, ms.load_checkpoint(str(tmp_path / "state.ckpt")))
        assert not missing and not unexpected
        for parameter in other.get_parameters():
            np.testing.assert_array_equal(parameter.asnumpy(), state[parameter.name])


def test_half_gradients_are_taken(pynative):
    parameter = Parameter(Tensor(np.zeros(3, np.float32)), name="p")
    maam_ops.FusedAdam([parameter], 1.0, impl="native")((Tensor([1, -1, 1], ms.float16),)).asnumpy()
    np.testing.assert_allclose(parameter.asnumpy(), [-1, 1, -1], rtol=1e-5)


def test_a_view_is_refused_where_its_update_would_be_lost(pynative):
    parameter = Parameter(Tensor(np.zeros((4, 3), np.float32)), name="p")
    parameter.set_data(Tensor(random(3, 4)).T)
    optimizer = maam_ops.FusedAdam([parameter], impl="native")
    with pytest.raises(RuntimeError, match=r"params: got p as a view of another tensor.*set_data\(value\.copy\(\)\)"):
        optimizer((Tensor(random(4, 3)),))


@pytest.mark.parametrize(
    "options, reason",
    [({"use_amsgrad": True}, "AMSGrad"), ({"use_lazy": True}, "the lazy form"), ({"half": True}, "p is Float16")],
)
def test_what_the_kernel_does_not_do_is_done_by_the_framework(pynative, options, reason):
    dtype = ms.float16 if options.pop("half", False) else ms.float32
    parameters = [Parameter(Tensor(random(3)).astype(dtype), name="p")]
    optimizer = maam_ops.FusedAdam(parameters, **options)
    assert optimizer.impl == "reference" and reason in str(maam_ops.explain(optimizer))
    with pytest.raises(RuntimeError, match=f"impl=native: not available: .*{reason}"):
        maam_ops.FusedAdam(parameters, impl="native", **options)
