"""What the report says around its tables."""

from __future__ import annotations

from pathlib import Path

from .command_line import one_line_error
from .result_files import from_results, write_result, write_runs

SEARCH = {"group": "search", "paper": None}


def texts(folder: Path) -> tuple[str, str]:
    """The report on the results of `folder`, as Markdown and as HTML, each in one line."""
    result = from_results(folder)
    assert result.exit_code == 0, result.output
    markdown, html = (" ".join((folder / "out" / name).read_text().split()) for name in ("report.md", "report.html"))
    return markdown, html


def test_rows_on_held_out_images_that_were_not_run_are_one_line(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", maam={}, narrow={**SEARCH, "title": "Narrow"}, wide=SEARCH, deep=SEARCH)
    write_result(tmp_path / "results")
    for text in texts(tmp_path):
        assert "Not run: deep, narrow, wide." in text
        assert "the test set played no part" not in text and "held out</th>" not in text
        assert "that choice did not come from it" not in text
    write_result(tmp_path / "results", "narrow", evaluated_on="held-out training images")
    markdown, html = texts(tmp_path)
    assert "| Narrow | 75.0 |" in markdown and "<td>Narrow</td>" in html
    for text in (markdown, html):
        assert "Not run: deep, wide." in text and "that choice did not come from it" in text


def test_numbers_of_images_are_those_of_the_results(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", maam={}, other={}, deep=SEARCH)
    write_result(tmp_path / "results", test_images=2000)
    write_result(tmp_path / "results", "deep", test_images=300, evaluated_on="held-out training images")
    for text in texts(tmp_path):
        assert "on the 2,000 test images after" in text and "on the last 300 training images" in text
        assert "hours of training, without evaluation" in text and "minutes of training, without evaluation" in text
    write_result(tmp_path / "results", "other")
    assert all("on the 40 to 2,000 test images after" in text for text in texts(tmp_path))


def test_no_results_leave_the_report_there_is(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", maam={})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.md").write_text("a full one")
    error = one_line_error(from_results(tmp_path))
    assert f"--results {tmp_path / 'results'}: got no finished run, expected RUN/seedK/result.json in it" in error
    assert (tmp_path / "out" / "report.md").read_text() == "a full one"
