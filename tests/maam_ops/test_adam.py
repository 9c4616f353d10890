"""The fused optimizers beside MindSpore's: same steps, states and checkpoints, whatever else reads the parameters."""

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


ADAM, DECOUPLED = (nn.Adam, maam_ops.FusedAdam), (nn.AdamWeightDecay, maam_ops.FusedAdamWeightDecay)
both = pytest.mark.parametrize("plain, fused", [ADAM, DECOUPLED], ids=["Adam", "AdamWeightDecay"])


@both
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
def test_steps_are_those_of_the_framework(mode, plain, fused, options):
    if plain is nn.AdamWeightDecay and "use_nesterov" in options:
        pytest.skip("nn.AdamWeightDecay has neither")
    got = {}
    ran = kernels_run(lambda: got.update(result=train(fused, impl="native", **options)))
    assert_equal(got["result"], train(plain, **options))
    assert sum(ran.values()) == 3 and all(name.startswith("adam_update/") for name in ran)


@both
def test_reference_is_the_framework(mode, plain, fused):
    assert_equal(train(fused, impl="reference"), train(plain))


@both
def test_checkpoints_are_interchangeable(pynative, tmp_path, plain, fused):
    for source, target in ((plain, fused), (fused, plain)):
        optimizer, _, state = train(source)
        ms.save_checkpoint(optimizer, str(tmp_path / "state.ckpt"))
        other = target(Net().trainable_params(), 1e-2, weight_decay=1e-2)
        missing, unexpected = ms.load_param_into_net(other, ms.load_checkpoint(str(tmp_path / "state.ckpt")))
        assert not missing and not unexpected
        for parameter in other.get_parameters():
            np.testing.assert_array_equal(parameter.asnumpy(), state[parameter.name])


@both
def test_half_gradients_are_taken(pynative, plain, fused):
    parameter = Parameter(Tensor(np.zeros(3, np.float32)), name="p")
    fused([parameter], 1.0, impl="native")((Tensor([1, -1, 1], ms.float16),)).asnumpy()
    # Without correction of the bias the first step is 0.1 / sqrt(0.001) long.
    length = 1 if plain is nn.Adam else 10**0.5
    np.testing.assert_allclose(parameter.asnumpy(), [-length, length, -length], rtol=1e-4)


@both
def test_a_view_is_refused_where_its_update_would_be_lost(pynative, plain, fused):
    parameter = Parameter(Tensor(np.zeros((4, 3), np.float32)), name="p")
    parameter.set_data(Tensor(random(3, 4)).T)
    optimizer = fused([parameter], impl="native")
    with pytest.raises(RuntimeError, match=r"params: got p as a view of another tensor.*set_data\(value\.copy\(\)\)"):
        optimizer((Tensor(random(4, 3)),))


class Update(nn.Cell):
    """A step of given gradients, inside a graph where the mode has one."""

    def __init__(self, optimizer):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer

    def construct(self, *gradients):
        return self.optimizer(gradients)


@both
@pytest.mark.parametrize(
    "shapes, message",
    [
        ([(4, 3), (4,)], r"got shape \(4, 3\) for w, expected \(3, 4\) as it has itself"),
        ([(3, 4), (1,)], r"got shape \(1,\) for b, expected \(4,\)"),
        ([(3, 4)], "got 1, expected 2, one for each parameter in their order"),
        ([(3, 4), (4,), (4,)], "got 3, expected 2"),
    ],
    ids=["transposed", "scalar", "too few", "too many"],
)
def test_gradients_of_other_parameters_are_refused(mode, plain, fused, shapes, message):
    parameters = [Parameter(Tensor(random(*shape)), name=name) for name, shape in (("w", (3, 4)), ("b", (4,)))]
    with pytest.raises(ValueError, match=f"maam_ops.{fused.__name__}: gradients: {message}"):
        Update(fused(parameters, impl="native"))(*(Tensor(random(*shape)) for shape in shapes))
    np.testing.assert_array_equal(parameters[0].asnumpy(), random(3, 4))


@both
def test_what_is_no_tuple_of_gradients_is_refused(pynative, plain, fused):
    optimizer = fused([Parameter(Tensor(random(3)), name="w")], impl="native")
    with pytest.raises(TypeError, match=r"gradients: got None for w, expected a Tensor of shape \(3,\)"):
        optimizer((None,))
    with pytest.raises(TypeError, match="gradients: got no tuple, expected a tuple of 1 Tensors"):
        optimizer(Tensor(random(3)))


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


class Decay(nn.Cell):
    def construct(self, step):
        return 0.1 / (step + 1)


@both
@pytest.mark.parametrize(
    "change, reason",
    [
        ({"lr": 0.1}, "learning rates by group"),
        ({"weight_decay": Decay()}, "weight decay that changes from step to step"),
        ({"grad_centralization": True}, "centred gradients"),
    ],
    ids=["lr", "decay", "centred"],
)
def test_groups_that_the_kernel_does_not_do_are_the_framework_s(pynative, plain, fused, change, reason):
    def groups():
        first, second = (Parameter(Tensor(random(3, 4, seed=i)), name=f"p{i}") for i in range(2))
        return [first, second], [{"params": [first], **change}, {"params": [second]}]

    gradients = (Tensor(random(3, 4, seed=5)), Tensor(random(3, 4, seed=6)))
    values = []
    for optimizer_class in (plain, fused):
        parameters, grouped = groups()
        optimizer = optimizer_class(grouped, 1e-2)
        optimizer(gradients)
        values.append([parameter.asnumpy() for parameter in parameters])
    np.testing.assert_array_equal(*values)
    assert optimizer.impl == "reference" and f"only nn.{plain.__name__} has it" in str(optimizer.choice)
    assert reason in str(maam_ops.explain(optimizer))
