"""Shared by all tests: quiet runtime, MindSpore's droppings kept out of the checkout, context restored."""

import contextlib
import os
import sys

os.environ.setdefault("MAAM_OPS_QUIET", "1")
os.environ.setdefault("GLOG_v", "3")

import pytest

# MindSpore is imported where it is needed: tests of the kernels run without it.


@pytest.fixture(scope="session", autouse=True)
def _scratch_directory(tmp_path_factory):
    """MindSpore writes rank_0/ and kernel caches into the working directory."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def _runner_ends_well():
    """A sanitizer that watches over the kernels in another process reports leaks at its end."""
    yield
    if os.environ.get("MAAM_OPS_TEST_RUNNER"):
        from tests.kernels import core

        core.close()


def _mode():
    """MindSpore's, or None where it has not been imported."""
    mindspore = sys.modules.get("mindspore")
    return None if mindspore is None else mindspore.get_context("mode")


@pytest.fixture(autouse=True)
def _mode_stays():
    """The mode is the process's: one left behind decides what the tests after it show."""
    before = _mode()
    yield
    if before is not None and _mode() != before:
        left = _mode()
        sys.modules["mindspore"].set_context(mode=before)
        pytest.fail(f"left mode {left}, came in mode {before}: take the fixture mode, pynative or graph")


@contextlib.contextmanager
def _in_mode(name):
    import mindspore as ms

    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE if name == "pynative" else ms.GRAPH_MODE)
    ms.set_seed(0)  # of the initial weights of layers, so that a test that fails once fails again
    yield name
    ms.set_context(mode=before)


@pytest.fixture(params=["pynative", "graph"])
def mode(request):
    """Run the test in both modes."""
    with _in_mode(request.param) as name:
        yield name


@pytest.fixture
def pynative():
    with _in_mode("pynative"):
        yield


@pytest.fixture
def graph():
    with _in_mode("graph"):
        yield
