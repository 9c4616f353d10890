"""Security: which libraries are loaded, from where, and what may open them; known flaws of the dependencies."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels import needs_this_process

pytestmark = needs_this_process
ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "maam_ops"


def python(code, **environment):
    """Output of a fresh interpreter."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MAAM_OPS_QUIET": "1"} | environment
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def native():
    pytest.importorskip("mindspore")
    from maam_ops import _native

    return _native


@pytest.fixture
def copies(native, tmp_path):
    """Copies of both libraries in a folder of their own."""
    module = Path(native.core().__file__)
    files = [Path(shutil.copy(path, tmp_path / path.name)) for path in (native.LIBRARY.path, module)]
    native.check_libraries(*files)
    return files


def test_libraries_that_were_not_built_together_are_refused(native, copies):
    content = copies[0].read_bytes()
    build = native._IDENTITY.search(content)[1]
    copies[0].write_bytes(content.replace(build, b"0" * len(build)))
    with pytest.raises(ImportError, match="were not built together"):
        native.check_libraries(*copies)
    copies[0].write_bytes(b"\x7fELF")
    with pytest.raises(ImportError, match="were not built together"):
        native.check_libraries(*copies)


def test_a_library_everybody_may_write_is_refused(native, copies):
    for path in copies:
        path.chmod(0o646)
        with pytest.raises(ImportError, match=f"{path} can be written by every user"):
            native.check_libraries(*copies)
        path.chmod(0o644)
    native.check_libraries(*copies)


def test_a_cuda_library_everybody_may_write_is_refused(native, tmp_path):
    from maam_ops._library import Library, exported

    path = tmp_path / "libmaam_ops_cuda.so"
    path.write_bytes(b"\x7fELF")
    library = Library("GPU", "CUDA kernels", path, "", exported(path), "")
    path.chmod(0o646)
    assert f"{path} can be written by every user" in library.missing_reason(())
    path.chmod(0o644)
    assert "file too short" in library.missing_reason(())  # which the loader says


def test_a_module_from_elsewhere_is_refused(native, copies, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(ImportError, match="where alone kernels are loaded from"):
        native.check_libraries(copies[0], Path(shutil.copy(copies[1], elsewhere)))


def test_the_loader_is_not_led_elsewhere(tmp_path):
    """Not by LD_LIBRARY_PATH, nor by the working directory."""
    shutil.copy(PACKAGE / "libmaam_ops.so", tmp_path)
    code = (
        "from tests.kernels import core; core.functions(); "
        "print({line.split()[-1] for line in open('/proc/self/maps') if 'libmaam_ops' in line})"
    )
    assert python(code, LD_LIBRARY_PATH=str(tmp_path)) == f"{{'{PACKAGE / 'libmaam_ops.so'}'}}\n"


@pytest.mark.parametrize("allowed, impl", [("own", "native"), ("parent", "native"), ("other", "reference")])
def test_the_white_list_of_mindspore(allowed, impl, tmp_path):
    pytest.importorskip("mindspore")
    folder = {"own": PACKAGE, "parent": ROOT, "other": tmp_path}[allowed]
    code = "import maam_ops; print(maam_ops.FusedAgentAggregate(3).choice)"
    said = python(code, MS_CUSTOM_AOT_WHITE_LIST=str(folder))
    assert f"agent_aggregate: {impl}" in said
    assert ("MS_CUSTOM_AOT_WHITE_LIST allows libraries in" in said) == (allowed == "other")


def test_no_file_of_the_package_is_open_to_all():
    for folder in ("maam_ops", "maam"):
        for path in (ROOT / folder).rglob("*"):
            assert not path.lstat().st_mode & 0o002 or path.is_symlink(), path


def test_dependencies_have_no_known_flaw(full, tmp_path):
    if not full:
        pytest.skip("asks a service: make verify, or make audit")
    if shutil.which("pip-audit", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("needs pip-audit: pip install 'maam-ops[verify]'")
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if "dependencies" not in done.stdout:
        pytest.skip(f"the service of pip-audit cannot be reached: {done.stderr.strip().splitlines()[-1:]}")
    flaws = {
        d["name"]: [v["id"] for v in d["vulns"]] for d in json.loads(done.stdout)["dependencies"] if d.get("vulns")
    }
    assert not flaws
