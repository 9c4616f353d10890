"""The README's examples run as printed, and the documents name only things that exist."""

import re
from pathlib import Path

import pytest

from maam.reproduce import report, settings

ROOT = Path(__file__).resolve().parents[1]


def test_the_readme_examples_run(pynative, capsys):
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
    path = Path("readme_example.py")
    path.write_text(code)  # a file, because the graph compiler reads sources
    exec(compile(code, str(path), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "(8, 128, 32, 32)" in printed
    assert "passed" in printed


DOCUMENTS = [
    path.relative_to(ROOT) for folder in (".", "docs", "results") for path in sorted((ROOT / folder).glob("*.md"))
]


def anchors(path: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", path.read_text()):
        there = path.parent / target if target else path
        assert there.exists(), f"{document} links to {target}"
        assert not anchor or anchor in anchors(there), f"{document} links to {target}#{anchor}"


def test_every_environment_variable_is_in_the_table():
    used = set()
    for pattern in ("setup.py", "maam_ops/**/*.py", "maam/**/*.py", "csrc/**/*.*"):
        for path in ROOT.glob(pattern):
            if path.suffix in (".py", ".cc", ".h", ".cu"):
                used |= set(re.findall(r"[\"'](MAAM_[A-Z_0-9]+)[\"']", path.read_text()))
    documented = set(re.findall(r"^\| `(MAAM_[A-Z_0-9]+)`", (ROOT / "docs/design.md").read_text(), flags=re.MULTILINE))
    assert used == documented


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory) -> str:
    """The report as the committed results give it."""
    folder = tmp_path_factory.mktemp("report")
    report.write(ROOT / "results", folder, settings.load_runs())
    return (folder / "report.md").read_text()


def test_the_committed_report_is_that_of_the_committed_results(rebuilt):
    assert rebuilt == (ROOT / "results/report.md").read_text()


def test_the_readme_shows_the_rows_of_the_report(rebuilt):
    readme = (ROOT / "README.md").read_text()
    section = re.search(r"\n## The paper's numbers\n(.*?)\n## ", readme, flags=re.DOTALL)[1]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert sum("---" in row for row in rows) == 2  # the two tables
    assert set(rows) <= set(rebuilt.splitlines())


def test_the_readme_quotes_the_verification():
    readme, document = (
        re.search(r"<!-- results -->(.*)<!-- end of results -->", (ROOT / name).read_text(), flags=re.DOTALL)[1]
        for name in ("README.md", "docs/verification.md")
    )
    assert readme == document and "| exactness |" in readme
