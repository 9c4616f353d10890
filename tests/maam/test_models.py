"""Presets, parameter names, options, and the agreement of the implementations."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

import maam
from maam.errors import MaamError
from maam.models import MaamConfig
from maam_ops.explain import kernels_run

from .conftest import TINY

AUTHORS_NAMES = [
    *(
        f"maam.agent{agent}.block.{entry}"
        for agent in (1, 2, 3)
        for entry in ("0.weight", "1.moving_mean", "1.moving_variance", "1.gamma", "1.beta")
    ),
    "maam.fusion.attn_weights",
    *(f"maam.reduce.{entry}" for entry in ("0.weight", "1.moving_mean", "1.moving_variance", "1.gamma", "1.beta")),
    *(f"classifier.{entry}" for entry in ("1.weight", "1.bias", "3.weight", "3.bias")),
]


def count(net: nn.Cell) -> int:
    return sum(parameter.size for parameter in net.trainable_params())


def values(net: nn.Cell) -> dict[str, np.ndarray]:
    # Copies: asnumpy() may show the parameter's own memory, which training changes.
    return {parameter.name: parameter.asnumpy().copy() for parameter in net.get_parameters()}


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("authors", 8_405_453),
        ("deep", 8_635_597),
        ("2.3m", 2_342_029),
        ("best", 1_616_588),
        ("multi-scale", 64 * 3 * (9 + 25 + 49) + 3 * 128 + 3 + 64 * 128 + 256 + (128 * 64 * 256 + 256) + 2570),
        ("no-attention", 8_405_453 - 3),
        ("no-reduce", 3 * (1728 + 128) + 3 + (64 * 256 * 256 + 256) + 2570),
        ("plain-cnn", 8_405_453 - 3 - 2 * (1728 + 128)),
    ],
)
def test_parameter_count(preset: str, expected: int) -> None:
    assert count(maam.create_model(preset, impl="reference")) == expected


@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_parameter_names_are_those_of_the_public_code(impl: str) -> None:
    net = maam.create_model("authors", impl=impl)
    assert [parameter.name for parameter in net.get_parameters()] == AUTHORS_NAMES
    assert net.maam.fusion.attn_weights.shape == (3, 1, 1, 1)
    np.testing.assert_array_equal(net.maam.fusion.attn_weights.asnumpy().ravel(), 1)


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        *((preset, TINY) for preset in ("authors", "no-attention", "no-reduce", "plain-cnn")),
        ("best", {"channels": (4, 5, "pool", "res", 6, "pool", "res"), "reduce_channels": 8, "hidden": 8}),
        ("multi-scale", TINY),
        ("authors", {**TINY, "channels": (4, 5, 6), "kernel_size": (3, 5, 3), "stride": (1, 1, 2), "attention": False}),
    ],
)
def test_implementations_share_initial_values_and_results(preset: str, options: dict, rng: np.random.Generator) -> None:
    images = Tensor(rng.random((4, 3, 32, 32), np.float32))
    outputs, states = {}, {}
    for impl in ("reference", "auto"):
        ms.set_seed(11)
        net = maam.create_model(preset, impl=impl, **options)
        initial = values(net)
        net.set_train(True)
        outputs[impl] = [net(images).asnumpy()]
        net.set_train(False)
        outputs[impl].append(net(images).asnumpy())
        states[impl] = (initial, values(net))
    for one, other in zip(outputs["reference"], outputs["auto"], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)
    for one, other, tolerance in zip(states["reference"], states["auto"], (0.0, 1e-5), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(other[name], one[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_branches_of_many_layers_run_as_operators(rng: np.random.Generator) -> None:
    options = {"channels": (4, 5, "pool", "res", 6, "pool", "res"), "reduce_channels": 8, "hidden": 8}
    net = maam.create_model("best", impl="native", **options)
    images = Tensor(rng.random((4, 3, 32, 32), np.float32))
    ran = {name.split("/")[0] for name in kernels_run(lambda: net.set_train()(images))}
    assert {"agent_block_forward", "conv_block_forward", "aggregate_reduce_training"} <= ran
    ran = {name.split("/")[0] for name in kernels_run(lambda: net.set_train(False)(images))}
    assert {"conv_block_inference", "aggregate_reduce_inference"} <= ran and "agent_block_forward" not in ran


def test_fused_net_registers_its_operator_for_training_mode() -> None:
    net = maam.create_model("authors", impl="auto", **TINY)
    assert isinstance(net.maam.fused, nn.Cell)
    for training in (True, False):
        net.set_train(training)
        assert net.maam.fused.training is training


def test_checkpoint_of_either_implementation_loads_into_the_other(tmp_path) -> None:
    nets = {}
    for seed, impl in enumerate(("reference", "auto")):
        ms.set_seed(seed)
        nets[impl] = maam.create_model("authors", impl=impl, **TINY)
        ms.save_checkpoint(nets[impl], str(tmp_path / f"{impl}.ckpt"))
    for source, target in (("reference", "auto"), ("auto", "reference")):
        ms.set_seed(99)
        net = maam.create_model("authors", impl=target, **TINY)
        missing, unexpected = ms.load_param_into_net(net, ms.load_checkpoint(str(tmp_path / f"{source}.ckpt")))
        assert not missing and not unexpected
        for name, value in values(nets[source]).items():
            np.testing.assert_array_equal(values(net)[name], value, err_msg=name)


@pytest.mark.parametrize("preset", ["cnn", "cnn-small", "mlp", "rnn", "rnn-plain", "plain-cnn"])
def test_baselines_give_logits(preset: str, rng: np.random.Generator) -> None:
    net = maam.create_model(preset, num_classes=7, hidden=8)
    assert net(Tensor(rng.random((2, 3, 32, 32), np.float32))).shape == (2, 7)


def test_branches_of_their_own_kernel_and_pool_meet_on_the_smallest_grid(rng: np.random.Generator) -> None:
    options = {"kernel_size": (1, 3, 5), "pool": (1, 2, 4), "channels": (4, 6), "reduce_channels": 5, "hidden": 8}
    net = maam.create_model("authors", impl="reference", **options)
    images = Tensor(rng.random((2, 3, 32, 32), np.float32))
    branches = [agent(images) for agent in (net.maam.agent1, net.maam.agent2, net.maam.agent3)]
    assert [branch.shape for branch in branches] == [(2, 6, 32, 32), (2, 6, 16, 16), (2, 6, 8, 8)]
    pooled = [
        branch.asnumpy().reshape(2, 6, 8, factor, 8, factor).mean((3, 5))
        for branch, factor in zip(branches, (4, 2, 1), strict=True)
    ]
    mixed = Tensor(np.mean(pooled, axis=0))
    np.testing.assert_allclose(net.maam(images).asnumpy(), net.maam.reduce(mixed).asnumpy(), rtol=1e-4, atol=1e-5)


def test_residual_block_adds_its_input(rng: np.random.Generator) -> None:
    net = maam.create_model("best", impl="reference", channels=(4, "pool", 6, "res"), hidden=8)
    block = net.maam.agent2.block
    images = Tensor(rng.random((2, 3, 32, 32), np.float32))
    before = images
    for cell in block[:7]:
        before = cell(before)
    inner = block[7].block(before)
    assert before.shape == (2, 6, 16, 16)
    np.testing.assert_allclose(block[7](before).asnumpy(), (before + inner).asnumpy(), rtol=1e-6)
    assert net.maam.agent2(images).shape == (2, 6, 8, 8) and net(images).shape == (2, 10)


@pytest.mark.parametrize("num_agents", [2, 8])
def test_number_of_agents(num_agents: int, rng: np.random.Generator) -> None:
    net = maam.create_model("authors", num_agents=num_agents, **TINY)
    assert net.maam.fusion.attn_weights.size == num_agents
    assert net(Tensor(rng.random((2, 3, 32, 32), np.float32))).shape == (2, 10)


def test_no_attention_is_the_mean_of_the_branches(rng: np.random.Generator) -> None:
    net = maam.create_model("no-attention", impl="reference", **TINY)
    images = Tensor(rng.random((2, 3, 32, 32), np.float32))
    agents = (net.maam.agent1, net.maam.agent2, net.maam.agent3)
    mean = np.mean([agent(images).asnumpy() for agent in agents], axis=0)
    np.testing.assert_allclose(
        net.maam(images).asnumpy(), net.maam.reduce(Tensor(mean)).asnumpy(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "nothing"}, r"unknown preset 'nothing'; the presets are authors, deep, 2\.3m"),
        ({"impl": "fast"}, r"impl must be one of auto, native, reference, got 'fast'"),
        ({"preset": "mlp", "impl": "native"}, r"'mlp' has no fused operator"),
        ({"num_classes": 1}, r"num_classes must be an integer of at least 2, got 1"),
        ({"num_agents": 9}, r"num_agents must be 2 to 8 .* got 9"),
        ({"num_agents": 1}, r"num_agents must be 2 to 8 .* got 1"),
        ({"kernel_size": (3, 3)}, r"kernel_size must be one value or one per branch \(3\), got 2"),
        ({"kernel_size": 4}, r"kernel_size must be odd"),
        ({"channels": ()}, r"channels must name at least one convolution"),
        ({"channels": (8, 0)}, r"channels must be a positive integer, got 0"),
        ({"pool": 64}, r"each must be at least 1"),
        ({"attention": 1}, r"attention must be True or False, got 1"),
        ({"depth": 3}, r"unknown option 'depth'; the options are num_agents, channels"),
        ({"preset": "cnn", "channels": 3}, r"unknown option 'channels'; the options are hidden"),
        ({"preset": "cnn", "image_size": 3}, r"needs image_size of at least 4, got 3"),
    ],
)
def test_bad_options_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(maam.MaamError, match=message):
        maam.create_model(**arguments)


def test_config_reports_its_geometry() -> None:
    config = MaamConfig(image_size=33, stride=(1, 2, 1), pool=(2, 2, 3))
    assert config.branch_sizes == (16, 8, 11)
    assert config.grid == 8
    assert config.features == 128 * 64


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("cnn-small", "expected a MAAM classifier"),
        ("no-attention", "without attention or reduction"),
        ("multi-scale", r"branch 0 .* run this classifier in float32"),
    ],
)
def test_what_cannot_run_on_bytes_is_refused(preset: str, message: str) -> None:
    with pytest.raises(MaamError, match=message):
        maam.quantize(maam.create_model(preset, impl="reference"), np.zeros((1, 3, 32, 32), np.float32))


@pytest.mark.parametrize("impl", ["reference", "auto"])
def test_both_forms_of_a_classifier_are_quantised_alike(pynative: None, impl: str) -> None:
    net = maam.create_model("deep", impl=impl, channels=(4, 6), hidden=8, image_size=8)
    images = np.random.default_rng(0).random((8, 3, 8, 8), np.float32)
    logits = maam.quantize(net.set_train(False), images, rule="max")(Tensor(images)).asnumpy()
    expected = net(Tensor(images)).asnumpy()
    assert np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("preset", ["authors", "deep"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_change_the_logits_by_a_rounding(preset: str, dtype: str) -> None:
    images = Tensor(np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32))
    logits = {}
    for stored in ("float32", dtype):
        ms.set_seed(0)
        net = maam.create_model(preset, dtype=stored, channels=(4, 6)[: 1 + (preset == "deep")], in_channels=1,
                                image_size=8, hidden=16, reduce_channels=8).set_train(False)  # fmt: skip
        logits[stored] = net(images)
    assert {str(p.dtype) for p in net.get_parameters()} == {"Float32", dtype.replace("f", "F").replace("b", "B")}
    assert net.maam.fusion.attn_weights.dtype == logits[dtype].dtype == ms.float32
    got, expected = (logits[name].asnumpy() for name in (dtype, "float32"))
    assert 0 < np.abs(got - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize(
    "preset, options, message",
    [
        ("authors", {"dtype": "float64"}, "dtype must be one of float32, float16, bfloat16, got 'float64'"),
        ("authors", {"dtype": "float16", "impl": "reference"}, "do not run as one compiled operator"),
        ("authors", {"dtype": "float16", "stride": 2}, "do not run as one compiled operator"),
        ("mlp", {"dtype": "bfloat16"}, "has no fused operators, expected float32"),
    ],
)
def test_a_half_type_that_a_model_has_no_form_for_is_refused(preset: str, options: dict, message: str) -> None:
    with pytest.raises(maam.MaamError, match=message):
        maam.create_model(preset, **options)
