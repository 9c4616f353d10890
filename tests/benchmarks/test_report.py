"""Tables, Markdown and plots from results, and what happens to bad ones."""

import json

import pytest

from maam.bench import plots, report
from maam.errors import MaamError


def figure(name, unit, value, goal=None, verdict="", **fields):
    base = {"name": name, "unit": unit, "at_least": goal, "at_most": None, "value": value, "verdict": verdict}
    return {**base, "low": value, "high": value, **fields}


def row(benchmark, group, figures, sides=None, facts=None):
    return {
        "benchmark": benchmark,
        "group": group,
        "label": "batch 64",
        "profile": "quick",
        "rounds": 5 if sides else 0,
        "block_seconds": 0.15,
        "disturbance": 0.0,
        "figures": figures,
        "sides": sides or {},
        "facts": facts or {},
    }


def timed(milliseconds, rate, flops):
    return {
        "form": "best",
        "milliseconds": milliseconds,
        "gigabytes_per_second": rate,
        "gigaflops": flops,
        "onednn": "capped",
        "isa": "avx2",
    }


@pytest.fixture
def data():
    sides = {"kernel": timed(0.5, 40.0, 100.0), "bandwidth": timed(0.4, 50.0, 1.0), "fma": timed(0.2, 1.0, 250.0)}
    share = figure("share of the ceiling", "%", 0.8, 0.85, "missed", low=0.7, high=0.9)
    gain = figure("faster", "x", 0.5, 0.97, "missed", low=0.4, high=30.0)
    lost = {"name": "faster than graph kernel", "unit": "x", "at_least": 1.1, "at_most": None, "value": None}
    lost |= {"verdict": "not measured", "reason": "needs sympy"}
    overhead = figure("above the kernel", "ms", 0.1, None, "reached") | {"at_most": 0.15}
    saved = figure("executed kernels", "%", 0.37, 0.3, "reached")
    results = [
        row("reduce 64", "reduce", [share, gain], sides, {"kernel: scratch_bytes": 2.0**20}),
        row("model kernels 64", "model", [saved, figure("memory", "%", -0.002)], None, {"fused: kernels": 19.0}),
        row("reduce 512", "reduce", [lost, overhead], sides),
    ]
    machine = {"cpu_model": "A CPU", "threads": 2, "l3_bytes": 2**25, "commit": "abc123", "maam-ops": "1"}
    machine |= {"mindspore": "2", "numpy": "1", "python": "3"}
    return {
        "machine_info": machine,
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": [{"name": one["benchmark"], "extra_info": one} for one in results],
    }


def test_figure_table_keeps_groups_together(data):
    head, *lines = report.figure_table(data)
    assert head == ["group", "size", "figure", "goal", "reached", "quartiles", "verdict"]
    assert [line[0] for line in lines] == ["reduce"] * 4 + ["model"] * 2
    assert lines[0][2:] == ["share of the ceiling", "≥ 85 %", "80 %", "70 % to 90 %", "missed"]
    assert lines[1][2:] == ["faster", "≥ 0.97x", "0.50x", "0.40x to 30.00x", "missed"]
    assert lines[2][2:] == ["faster than graph kernel", "≥ 1.10x", "-", "needs sympy", "not measured"]
    assert lines[3][2:] == ["above the kernel", "≤ 0.15 ms", "0.10 ms", "", "reached"]
    assert lines[5][4] == "0 %"


def test_limits_have_one_rate(data):
    lines = {line[2]: line[3:6] for line in report.time_table(data)[1:4]}
    assert lines == {
        "kernel": ["0.500", "40", "100"],
        "bandwidth": ["0.400", "50", ""],
        "fma": ["0.200", "", "250"],
    }


def test_facts_in_their_units(data):
    assert [line[2:] for line in report.fact_table(data)[1:]] == [
        ["kernel: scratch_bytes", "1.0 MiB"],
        ["fused: kernels", "19"],
    ]


def test_missed_goals_are_named(data):
    assert report.missed(data) == ["reduce 64: share of the ceiling", "reduce 64: faster"]
    assert "2 goals missed:" in report.summary(data)


def test_a_goal_that_two_figures_missed_is_named_once(data):
    figures = data["benchmarks"][0]["extra_info"]["figures"]
    for one in figures:
        one["shared"] = "goal"
    assert report.missed(data) == ["reduce 64: share of the ceiling"]


def test_says_how_the_figures_came_about(data):
    text = report.obtained(data)
    for part in (
        "A CPU, 2 threads",
        "avx2",
        "oneDNN: capped",
        "commit abc123",
        "2026-01-02",
        "5 rounds, blocks of 0.15",
    ):
        assert part in text
    assert "not to be trusted" not in text
    data["benchmarks"][0]["extra_info"]["disturbance"] = 0.5
    assert "reduce 64; those figures are not to be trusted" in report.obtained(data)


def test_writes_json_markdown_and_plots(data, tmp_path):
    paths = report.write(data, tmp_path / "new" / "folder")
    names = {path.name for path in paths}
    assert names == {"benchmarks.json", "benchmarks.md", "ceiling.png", "speedup.png", "savings.png", "roofline.png"}
    assert {path.name for path in paths[0].parent.iterdir()} == names
    assert report.read(paths[0]) == data
    text = paths[1].read_text()
    assert "| reduce | batch 64 | share of the ceiling | ≥ 85 % | 80 % | 70 % to 90 % | missed |" in text
    for path in paths[2:]:
        assert f"]({path.name})" in text
        image = path.read_bytes()
        assert image.startswith(b"\x89PNG")
        width, height = (int.from_bytes(image[start : start + 4], "big") for start in (16, 20))
        assert width > 1000 and height > 200


def test_a_plot_that_fails_leaves_the_json_and_no_parts(data, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(plots, "draw", fail)
    with pytest.raises(MaamError, match=r"--out .*disk full"):
        report.write(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks.json"]


def test_output_folder_that_cannot_be(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MaamError, match="--out"):
        report.write(data, tmp_path / "file")


@pytest.mark.parametrize("content", ["", "[]", '{"benchmarks": [{"extra_info": {}}], "machine_info": {}}', "{}"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(MaamError, match=r"x\.json"):
        report.read(path)
    with pytest.raises(MaamError, match="nowhere"):
        report.read(tmp_path / "nowhere.json")


def test_reads_what_pytest_benchmark_adds(data, tmp_path):
    path = tmp_path / "pytest.json"
    data["benchmarks"][0]["stats"] = {"mean": 1.0}
    path.write_text(json.dumps({**data, "version": "5"}))
    assert report.figure_table(report.read(path))[1][4] == "80 %"
