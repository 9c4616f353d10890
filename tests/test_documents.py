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


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{document} links to {target}"


def test_every_environment_variable_is_in_the_table():
    used = set()
    for folder, pattern in (("maam_ops", "*.py"), ("maam", "*.py"), ("csrc", "*.cc")):
        for path in (ROOT / folder).rglob(pattern):
            used |= set(re.findall(r"\b(MAAM(?:_OPS)?_[A-Z_]+)\b", path.read_text()))
    used -= {"MAAM_OPS_VERSION"}
    macros = set(re.findall(r"#define (MAAM_[A-Z_0-9]+)", "".join(p.read_text() for p in (ROOT / "csrc").rglob("*.h"))))
    documented = set(re.findall(r"^\| `(MAAM_[A-Z_]+)`", (ROOT / "docs/design.md").read_text(), flags=re.MULTILINE))
    environment = {name for name in used - macros if not re.match(r"MAAM_(AOT|EXPORT|KERNEL|ISA|X86)$", name)}
    assert environment == documented


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
