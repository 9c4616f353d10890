"""The peers' forms compute the same as the plain model, rows name their goals, and a failing peer leaves the rest."""

import json

import numpy as np
import pytest

from maam.bench import cases
from maam.bench.figures import BY_ANOTHER, AgainstBest, NotBuilt
from maam.bench.measure import Measurement
from maam.bench.peers import kernels, report, rows, weights
from maam.bench.race import Crew
from maam.bench.suite import Benchmark, Profile
from maam.errors import MaamError
from tests.benchmarks.fake_sides import registered, side

CASE = cases.AggregateForward(batch=1, channels=2, agents=2, grid=2)


def arrays_of(depth, agents=3, classes=10):
    """A small classifier for 8x8 images by MindSpore's names."""
    rng = np.random.default_rng(depth)
    arrays = {"maam.fusion.attn_weights": rng.uniform(-1, 1, (agents, 1, 1, 1)).astype(np.float32)}

    def add(name, *shape):
        arrays[f"{name}.weight"] = rng.standard_normal(shape).astype(np.float32)

    def norm(name, width):
        for field in ("gamma", "beta", "moving_mean", "moving_variance"):
            arrays[f"{name}.{field}"] = rng.uniform(0.5, 1.5, width).astype(np.float32)

    widths = (3, 4, 6)[: depth + 1]
    for agent in range(1, agents + 1):
        for layer in range(depth):
            add(f"maam.agent{agent}.block.{3 * layer}", widths[layer + 1], widths[layer], 3, 3)
            norm(f"maam.agent{agent}.block.{3 * layer + 1}", widths[layer + 1])
    add("maam.reduce.0", 5, widths[-1], 1, 1)
    norm("maam.reduce.1", 5)
    add("classifier.1", 7, 5 * 16)
    add("classifier.3", classes, 7)
    arrays["classifier.1.bias"] = rng.standard_normal(7).astype(np.float32)
    arrays["classifier.3.bias"] = rng.standard_normal(classes).astype(np.float32)
    images = rng.random((2, 3, 8, 8), np.float32)
    return {**arrays, "images": images, "calibration": images, "labels": np.array([1, 2], np.int32)}


def conv(x, weight):
    pad = weight.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    return np.einsum("bchwij,ocij->bohw", windows, weight.astype(np.float64))


def unfolded(a):
    """The classifier as it is defined, in float64."""

    def norm(x, name):
        column = {key: a[f"{name}.{key}"].astype(np.float64).reshape(1, -1, 1, 1) for key in
                  ("gamma", "beta", "moving_mean", "moving_variance")}  # fmt: skip
        scale = column["gamma"] / np.sqrt(column["moving_variance"] + cases.EPS)
        return np.maximum((x - column["moving_mean"]) * scale + column["beta"], 0)

    mixed = 0
    for share, names in zip(cases.softmax(a["maam.fusion.attn_weights"].ravel()), weights.branches_of(a), strict=True):
        x = a["images"].astype(np.float64)
        for name, normed in names:
            x = norm(conv(x, a[f"{name}.weight"]), normed)
        mixed = mixed + share * x.reshape(*x.shape[:2], 4, 2, 4, 2).max((3, 5))
    x = norm(conv(mixed, a["maam.reduce.0.weight"]), "maam.reduce.1").reshape(2, -1)
    x = np.maximum(x @ a["classifier.1.weight"].T + a["classifier.1.bias"], 0)
    return x @ a["classifier.3.weight"].T + a["classifier.3.bias"]


def folded(a):
    """The same from the folded layers."""
    model = weights.fold(a)
    mixed = 0
    for branch in model.branches:
        x = a["images"]
        for layer in branch:
            x = np.maximum(conv(x, layer.weight) + layer.bias.reshape(1, -1, 1, 1), 0)
        mixed = mixed + x.reshape(*x.shape[:2], 4, 2, 4, 2).max((3, 5))
    x = np.maximum(conv(mixed, model.reduce.weight) + model.reduce.bias.reshape(1, -1, 1, 1), 0).reshape(2, -1)
    return np.maximum(x @ model.hidden.weight.T + model.hidden.bias, 0) @ model.output.weight.T + model.output.bias


@pytest.mark.parametrize("depth", [1, 2])
def test_the_folded_model_is_the_model(depth):
    arrays = arrays_of(depth)
    np.testing.assert_allclose(folded(arrays), unfolded(arrays), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    ("peer", "modules"),
    [("onnxruntime", ("onnx", "onnxruntime")), ("openvino", ("onnx", "openvino")), ("torch", ("torch",))],
)
def test_every_form_of_a_peer(peer, modules, depth, tmp_path):
    for module in modules:
        pytest.importorskip(module)
    import importlib

    prepare = importlib.import_module(f"maam.bench.peers.{peer}_side").prepare
    arrays = arrays_of(depth)
    np.savez(tmp_path / "arrays.npz", **arrays)
    case = cases.StoredInference(2, "authors", str(tmp_path / "arrays.npz"))
    truth = unfolded(arrays)
    for name, form in prepare(case, case.inputs()).candidates.items():
        error = np.abs(form.run()["logits"] - truth).max() / np.abs(truth).max()
        assert error <= case.tolerance[""], name


def test_stored_cases_take_the_first_images(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays_of(1))
    case = cases.from_json(cases.to_json(cases.StoredInference(1, "authors", str(tmp_path / "a.npz"), "int8")))
    assert case.tolerance == {"": 0.2} and case.label == "int8, batch 1"
    inputs = case.inputs()
    assert len(inputs["images"]) == len(inputs["labels"]) == 1 and len(inputs["calibration"]) == 2


def test_the_best_of_those_that_could_be_measured():
    figure = AgainstBest("faster", at_least=2.0, fast="ours", others=("a", "b", "c"))
    assert figure.without({"ours"}) is None and figure.without({"a", "b", "c"}) is None
    rounds = [{"ours": 1.0, "a": 1.0, "b": 1.5, "c": 3.0}, {"ours": 1.0, "a": 9.0, "b": 1.5, "c": 3.0}]
    record = figure.without({"c"}).record(rounds, {})
    assert (record["value"], record["against"], record["verdict"]) == (1.5, "b", "missed")


def test_a_failing_peer_leaves_the_others(tmp_path):
    figures = (
        AgainstBest("best", fast="ours", others=("fine", "broken", "wrong")),
        NotBuilt("later", at_least=1.2, others=("fine",), reason="no kernels"),
    )
    row = Benchmark("row", "rows", CASE, figures, "ours", truth="truth", optional=("fine", "broken", "wrong"))
    row = Benchmark(**{**row.__dict__, "figures": (*figures, AgainstBest("t", fast="ours", others=("truth",)))})
    sides = [side("broken", "raising"), side("wrong", "honest", options={"offset": 1.0})]
    sides += [side(name, "honest") for name in ("ours", "fine", "truth")]
    with registered(*sides), Crew(1) as crew, Measurement(row, crew, Profile("test", 2, 0.01)) as measurement:
        for _ in range(measurement.rounds):
            measurement.round()
        result = measurement.finish()
    assert set(result["left_out"]) == {"broken", "wrong"}
    assert "this side cannot" in result["left_out"]["broken"] and "error" in result["left_out"]["wrong"]
    best, later, _ = result["figures"]
    assert best["against"] == "fine" and best["value"] > 0
    assert later["value"] is None and later["verdict"] == "not measured" and later["at_least"] == 1.2


def test_rows_have_the_goals_and_our_side_of_their_precision():
    by_name = {row.name: row for row in rows.rows({})}
    assert len(by_name) == 2 * (3 * 3 + 1)
    assert by_name["deep inference float32 64"].figures[0].at_least == 2.5
    assert by_name["authors training 64"].figures[1].at_least == 5.0
    for name, row in by_name.items():
        assert rows.OURS in row.sides
        for precision, ours in rows.REDUCED.items():
            assert (ours in row.sides) == (precision in name)
        for precision, predictor in rows.PREDICTORS.items():
            assert (predictor in row.sides) == (precision in name)
        if "inference" in name:
            through_mindspore, alone = row.figures[:2]
            assert (through_mindspore.at_least, through_mindspore.shared) == (alone.at_least, alone.shared)
            assert alone.name == "Predictor: times as fast as the best peer" and alone.shared
            assert through_mindspore.fast == row.subject and alone.fast in rows.PREDICTORS.values()


@pytest.mark.parametrize("item", ["tensorflow=/usr/bin/python3", "openvino", "openvino=/no/such/file"])
def test_a_wrong_interpreter_is_named(item):
    with pytest.raises(MaamError, match="--python: got"):
        rows.use_pythons([item])


def test_flops_of_the_definition():
    flops = kernels.flops("authors", 2)
    convolutions = 3 * 2.0 * 3 * 64 * 9 * 2 * 32 * 32
    assert flops["agent_block_forward"] == convolutions
    assert flops["dense_forward"] == 2.0 * 2 * (32768 * 256 + 256 * 10)
    assert flops["maam_inference"] == convolutions + 2.0 * 2 * 256 * 64 * (3 + 128)


def test_the_report_of_results(tmp_path):
    pytest.importorskip("matplotlib")
    figure = {"name": "best: openvino", "unit": "x", "at_least": 1.4, "at_most": None, "value": 1.2}
    figure |= {"low": 1.1, "high": 1.3, "verdict": BY_ANOTHER}
    timed = {"description": "", "form": "eager", "milliseconds": 1.5, "largest_error": 1e-6, "versions": "torch 2"}
    row = {"benchmark": "row", "group": "authors", "label": "batch 64", "profile": "quick", "rounds": 5}
    row |= {"block_seconds": 0.1, "disturbance": 0.0, "figures": [figure], "left_out": {"onnxruntime": "needs onnx"}}
    row |= {
        "sides": {"PyTorch": timed, "int8 Predictor": timed, "Predictor": timed},
        "facts": {"fused model: first_call_ms": 480.0},
    }
    measured = {"calls": 1, "seconds": 0.01, "bytes_moved": 1e8, "flops": 1e9}
    one = {"gigabytes_per_second": 40.0, "gigaflops": 250.0, "batch": 64, "kernels": {"training: a": measured}}
    one["step"] = {"a": 9.0, "between kernels": 1.0}
    machine = {"cpu_model": "A CPU", "threads": 2, "l3_bytes": 2**25, "commit": "abc", "maam-ops": "1"}
    machine |= {"mindspore": "2", "numpy": "1", "python": "3"}
    data = {"machine_info": machine, "datetime": "2026-01-02T03:04:05", "data": "digits", "peers": {}}
    data |= {"benchmarks": [{"extra_info": row}], "kernels": {"authors": one}}
    paths = report.write(data, tmp_path)
    assert {path.name for path in paths} == {
        "peers.json", "peers.md", "peers.png", "peers-roofline.png", "step-authors.png",
    }  # fmt: skip
    assert report.read(tmp_path / "peers.json") == json.loads(json.dumps(data))
    written = (tmp_path / "peers.md").read_text()
    assert "| authors | batch 64 | onnxruntime | - | - | needs onnx |" in written
    assert "| authors | batch 64 | maam_ops Predictor int8 | 1.500 |" in written
    assert "| authors | batch 64 | maam_ops Predictor | 1.500 |" in written
    assert "| authors | training: a | 1 | 10.00 | 100.0 | 10.0 | 100 | 40 % |" in written
    assert "| authors | a | 9.00 | 90 % |" in written
    assert "| authors | batch 64 | maam_ops: first call | 480 ms |" in written
